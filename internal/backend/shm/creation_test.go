//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestConcurrentCreation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	backends := []*Backend{open(t, path, nil), open(t, path, nil), open(t, path, nil)}
	const series, goroutines = 200, 6
	var wait sync.WaitGroup
	for g := range goroutines {
		wait.Add(1)
		go func() {
			defer wait.Done()
			b := backends[g%len(backends)]
			for i := range series {
				labels := fmt.Sprintf(`code="%03d",method="GET"`, i)
				w, err := b.Cells(requests, labels)
				if err != nil {
					t.Error(err)
					return
				}
				w[0].Add(1)
			}
		}()
	}
	wait.Wait()
	for _, b := range backends {
		got := walk(t, b)
		if len(got) != series {
			t.Fatalf("%d series, want %d", len(got), series)
		}
		for i, s := range got {
			if want := fmt.Sprintf(`requests_total{code="%03d",method="GET"} %d`, i, goroutines); s != want {
				t.Fatalf("got %s, want %s", s, want)
			}
		}
	}
}

// newRecord returns a series of requests as it is when a creator has just reserved space for it.
func newRecord(t testing.TB, b *Backend, labels string) *record {
	t.Helper()
	r := &record{typ: typeSeries, family: b.declared[requests], text: labels, words: uint32(requests.Words())}
	r.hash = b.hashOf(r.typ, r.family, r.text)
	if err := b.reserve(r, b.limit); err != nil {
		t.Fatal(err)
	}
	return r
}

func link(b *Backend, r *record) {
	b.mem.u32(r.off + recNext).Store(b.bucket(r.hash).Load())
	b.bucket(r.hash).Store(uint32(r.off / align))
}

// A creator can die between any two of segment's steps, with or without the lock.
func TestCreatorDies(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(b *Backend, r *record){
		"after taking space": func(b *Backend, r *record) {},
		"while writing": func(b *Backend, r *record) {
			b.mem.put(r, 1)
			for i := r.off + 8; i < r.off+r.size; i++ {
				b.mem[i] = 0xa5
			}
		},
		"before linking": func(b *Backend, r *record) { b.mem.put(r, 1) },
		"after linking": func(b *Backend, r *record) {
			b.mem.put(r, 1)
			link(b, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "shop")
			b := open(t, path, nil)
			cells(t, b, requests, `code="1",method=""`)[0].Add(1)
			labels := `code="2",method=""`
			die(b, newRecord(t, b, labels))

			next := open(t, path, nil)
			cells(t, next, requests, `code="3",method=""`)[0].Add(3)
			cells(t, next, requests, labels)[0].Add(2)
			cells(t, b, requests, labels)[0].Add(2)
			want := []string{`requests_total{code="1",method=""} 1`, `requests_total{code="2",method=""} 4`, `requests_total{code="3",method=""} 3`}
			for _, b := range []*Backend{b, next} {
				if got := walk(t, b); !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// A process that is stopped while it holds the lock, or after it reserved space, keeps no other
// process from opening the file or creating series. When it continues, it finds what others
// created.
func TestStoppedCreator(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	stopped := open(t, path, nil)
	cells(t, stopped, requests, `code="1",method=""`)
	_, release := stopped.takeTurn()
	r := newRecord(t, stopped, `code="2",method=""`)

	b := open(t, path, nil)
	for _, code := range []string{"1", "2", "3"} {
		cells(t, b, requests, `code="`+code+`",method=""`)[0].Add(1)
	}
	want := []string{`requests_total{code="1",method=""} 1`, `requests_total{code="2",method=""} 1`, `requests_total{code="3",method=""} 1`}
	if got := walk(t, b); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stopped.mem.put(r, 1)
	release()
	cells(t, stopped, requests, `code="2",method=""`)[0].Add(1)
	want[1] = `requests_total{code="2",method=""} 2`
	if got := walk(t, stopped); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Without the lock, several creators of the same series meet at the bucket: one wins, the others
// use its record and give their space back.
func TestCreatorsWithoutLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	holder := open(t, path, nil)
	_, release := holder.takeTurn()
	defer release()
	const series, creators = 300, 6
	var wait sync.WaitGroup
	for range creators {
		b := open(t, path, nil)
		b.lockSkippedUntil.Store(1 << 62)
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range series {
				w, err := b.Cells(requests, fmt.Sprintf(`code="%03d",method="GET"`, i))
				if err != nil {
					t.Error(err)
					return
				}
				w[0].Add(1)
			}
		}()
	}
	wait.Wait()
	got := walk(t, holder)
	if len(got) != series {
		t.Fatalf("%d series, want %d", len(got), series)
	}
	for i, s := range got {
		if want := fmt.Sprintf(`requests_total{code="%03d",method="GET"} %d`, i, creators); s != want {
			t.Fatalf("got %s, want %s", s, want)
		}
	}
}

// With the lock, no space is wasted, however many processes create the same series.
func TestNoWaste(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one := open(t, filepath.Join(dir, "one"), nil)
	for i := range 200 {
		cells(t, one, requests, fmt.Sprintf(`code="%03d",method="GET"`, i))
	}
	many := open(t, filepath.Join(dir, "many"), nil)
	var wait sync.WaitGroup
	for range 6 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range 200 {
				if _, err := many.Cells(requests, fmt.Sprintf(`code="%03d",method="GET"`, i)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wait.Wait()
	if a, b := one.mem.u64(offTail).Load(), many.mem.u64(offTail).Load(); a != b {
		t.Errorf("one creator: %d bytes, six: %d", a, b)
	}
}
