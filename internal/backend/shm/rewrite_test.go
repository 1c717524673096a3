//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Values survive restarts, unless Fresh is set and nobody has the file open.
func TestFresh(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	fresh := func() *Options { return &Options{Fresh: true, AnyFileSystem: true} }
	expect := func(when string, o *Options, want Outcome) {
		t.Helper()
		if got, err := Peek(path, o); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", when, got, err, want)
		}
	}
	expect("no file", fresh(), Create)
	a := open(t, path, fresh())
	cells(t, a, requests, `code="1",method=""`)[0].Add(1)
	expect("in use", fresh(), Resume)
	b := open(t, path, fresh())
	cells(t, b, requests, `code="1",method=""`)[0].Add(1)
	if got := walk(t, a); !slices.Equal(got, []string{`requests_total{code="1",method=""} 2`}) {
		t.Errorf("got %q", got)
	}
	a.Close(t.Context())
	die(b) // b is killed
	expect("nobody alive", &Options{AnyFileSystem: true}, Resume)
	expect("nobody alive, fresh", fresh(), StartAfresh)
	if got := walk(t, open(t, path, nil)); !slices.Equal(got, []string{`requests_total{code="1",method=""} 2`}) {
		t.Errorf("resumed: got %q", got)
	}
}

func TestStartAfresh(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a := open(t, path, &Options{Limit: 1 << 20})
	cells(t, a, requests, `code="1",method=""`)[0].Add(1)
	a.Close(t.Context())
	b := open(t, path, &Options{Fresh: true, Limit: 2 << 20})
	if got := walk(t, b); len(got) != 0 || b.limit != 2<<20 {
		t.Errorf("got %q, limit %d", got, b.limit)
	}
	if got := walk(t, open(t, path, &Options{Fresh: true})); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

// Many instances open the file, some with Fresh, while others close it: each counts in the file
// that has the name.
func TestReplacedWhileOpened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	done := make(chan error)
	for g := range 4 {
		go func() {
			for range 50 {
				b, err := Open(path, &Options{Fresh: g%2 == 0, AnyFileSystem: true, Limit: 1 << 20})
				if err != nil {
					done <- err
					return
				}
				if w, err := b.Cells(requests, `code="1",method=""`); err != nil {
					done <- err
				} else if w[0].Add(1); !isAt(b.file, b.Path()) {
					done <- errors.New("it counts in a file that is no longer there")
				}
				b.Close(context.Background())
				unmap(b.mem)
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if list, _ := filepath.Glob(path + "*"); len(list) != 1 {
		t.Errorf("left: %q", list)
	}
}

// Deleted series are removed when the file is opened while nobody else has it open; others stay as
// they are.
func TestRewrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	busy := &backend.Family{Name: "busy", Help: "Busy.", Kind: backend.Gauge, Mode: backend.Sum}
	lat := &backend.Family{Name: "latency_seconds", Help: "Latency.", Kind: backend.Histogram, Buckets: []float64{1, 2}}
	newer := *requests
	newer.Help = "Better."
	b := open(t, path, nil)
	cells(t, b, busy, "")[0].Store(1)
	cells(t, b, lat, "")[backend.HistogramBuckets+1].Add(5)
	const series = 6000
	for i := range series {
		cells(t, b, requests, fmt.Sprintf(`code="%04d",method=""`, i))[0].Add(uint64(i))
	}
	cells(t, b, &newer, `code="0000",method=""`)
	if n, err := b.Delete(requests, func(labels string) bool { return labels >= `code="0100"` }); n != series-100 || err != nil {
		t.Fatal(n, err)
	}
	large, _ := os.Stat(path + Suffix)
	want := walk(t, b)
	if got := walk(t, open(t, path, nil)); len(got) != len(want) {
		t.Fatalf("%d and %d series", len(got), len(want))
	}
	b.Close(t.Context())
	// Another instance still has it open.
	if now, _ := os.Stat(path + Suffix); now.Size() != large.Size() {
		t.Error("rewritten while in use")
	}
	tickets := b.mem.u64(offTickets).Load()

	path2 := filepath.Join(t.TempDir(), "copy") // as if nobody had it open
	p, _ := os.ReadFile(path + Suffix)
	os.WriteFile(path2+Suffix, p, 0o600)
	c := open(t, path2, &Options{Limit: 4 << 20})
	if small, _ := os.Stat(path2 + Suffix); small.Size() > large.Size()/3 || c.limit != 4<<20 {
		t.Errorf("%d bytes, %d before; limit %d", small.Size(), large.Size(), c.limit)
	}
	got := walk(t, c)
	live := slices.DeleteFunc(slices.Clone(want), func(s string) bool {
		return strings.Contains(s, fmt.Sprint(uint64(backend.SealedInt))) || strings.HasPrefix(s, "busy")
	})
	if !slices.Equal(got, live) || len(got) != 101 {
		// the values of busy do not outlive their process
		t.Errorf("got %d: %q\nwant %d: %q", len(got), got[:3], len(live), live[:3])
	}
	for _, g := range c.Walk() {
		if g.Family.Name == requests.Name && g.Family.Help != newer.Help || g.Family.Name == lat.Name && g.Series[0].Words[backend.HistogramBuckets+1].Load() != 5 {
			t.Errorf("%+v", g)
		}
	}
	if now := c.mem.u64(offTickets).Load(); now <= tickets {
		t.Errorf("tickets went from %d to %d", tickets, now)
	}
	checkFileNow(t, c.Path())
}

// Records with valid checksums whose sizes do not fit their family are reported. They crash neither
// the check nor a rewrite, which does not touch a damaged file. The file is so large that it is not
// checked when it is opened.
func TestWrongWords(t *testing.T) {
	t.Parallel()
	stateful := &backend.Family{Name: "busy", Help: "Busy.", Kind: backend.Gauge, Mode: backend.Sum}
	for words := range uint32(3) {
		dir := t.TempDir()
		path := filepath.Join(dir, "shop")
		b := open(t, path, nil)
		cells(t, b, requests, `code="1",method=""`)[0].Add(7)
		for _, f := range []*backend.Family{requests, stateful} {
			ref, err := b.declare(f)
			if err != nil {
				t.Fatal(err)
			}
			labels := `code="2",method=""`
			if len(f.Labels) == 0 {
				labels = ""
			}
			r, err := b.findOrCreate(&record{typ: typeSeries, family: ref, text: labels, words: words}, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := b.findOrCreate(&record{typ: typePart, family: uint32(r.off / align), text: fmt.Sprint(b.slot), words: words}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if words > 0 {
				b.mem.words(p.wordsAt, words)[words-1].Store(b.id)
			}
		}
		if r, err := Inspect(b.Path()); err != nil || len(r.Problems) == 0 {
			t.Errorf("%d words: %v, %v", words, r, err)
		}
		if err := b.grow(checkedAlways + 1); err != nil {
			t.Fatal(err)
		}
		b.Close(t.Context())
		c := open(t, path, &Options{Limit: 1 << 20})
		if n := c.Notices(); len(n) != 1 || !strings.Contains(n[0], "could not be rewritten") {
			t.Errorf("%d words: %q", words, n)
		}
		if got := cells(t, c, requests, `code="1",method=""`)[0].Load(); got != 7 {
			t.Errorf("%d words: %d counted", words, got)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("%d words: %v", words, list)
		}
	}
}
