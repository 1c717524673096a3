//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

var requests = &backend.Family{Name: "requests_total", Help: "Requests.", Kind: backend.Counter, Labels: []string{"code", "method"}}

// open opens the file for path until the end of the test. Another Backend is as good as another
// process: it has its own descriptor and therefore its own locks.
func open(t testing.TB, path string, o *Options) *Backend {
	t.Helper()
	if o == nil {
		o = new(Options)
	}
	o.AnyFileSystem = true
	if o.Limit == 0 {
		// tests open more files at once than a 32-bit address space takes at the default
		o.Limit = 8 << 20
	}
	b, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close(context.Background())
		unmap(b.mem)
	})
	return b
}

func cells(t testing.TB, b *Backend, f *backend.Family, labels string) backend.Words {
	t.Helper()
	w, err := b.Cells(f, labels)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// walk returns all series with their first word.
func walk(t testing.TB, b *Backend) []string {
	t.Helper()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range b.Walk() {
		if len(g.Series) == 0 {
			all = append(all, g.Family.Name)
		}
		for i, s := range g.Series {
			if g.Parts != nil {
				all = append(all, fmt.Sprintf("%s{%s} %d parts", g.Family.Name, s.Labels, len(g.Parts[i].List())))
				continue
			}
			if !g.Exists(i) { // other instances may never have known of it
				continue
			}
			all = append(all, fmt.Sprintf("%s{%s} %d", g.Family.Name, s.Labels, s.Words[0].Load()))
		}
	}
	return all
}

// die releases the locks of b, as the death of its process does.
func die(b *Backend) { setLock(b.file, syscall.F_UNLCK, lockByte+1, 0) }

func TestSharing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a, b := open(t, path, nil), open(t, path, nil)

	cells(t, a, requests, `code="200",method="GET"`)[0].Add(1)
	equal := *requests // another process has its own definition
	cells(t, b, &equal, `code="200",method="GET"`)[0].Add(2)
	cells(t, b, &equal, `code="404",method="GET"`)[0].Add(5)
	if err := b.Declare(&backend.Family{Name: "empty", Help: "No series.", Kind: backend.Gauge}); err != nil {
		t.Fatal(err)
	}
	want := []string{"empty", `requests_total{code="200",method="GET"} 3`, `requests_total{code="404",method="GET"} 5`}
	for _, b := range []*Backend{a, b, open(t, path, nil)} {
		if got := walk(t, b); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	// Values outlive the last process.
	a.Close(t.Context())
	b.Close(t.Context())
	if got := walk(t, open(t, path, nil)); !slices.Equal(got, want) {
		t.Errorf("after reopening: got %q, want %q", got, want)
	}
	// Words can be used after Close.
	cells(t, open(t, path, nil), requests, `code="200",method="GET"`)[0].Add(1)
	if _, err := a.Cells(requests, `code="500",method="GET"`); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("Cells after Close: %v", err)
	}
	st, err := os.Stat(path + Suffix)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, &Options{Limit: 400 << 10})
	var err error
	n := 0
	for ; err == nil; n++ {
		var w backend.Words
		if w, err = b.Cells(requests, fmt.Sprintf(`code="%06d",method=""`, n)); err == nil {
			w[0].Add(1)
		}
	}
	if !errors.Is(err, backend.ErrFull) || !strings.Contains(err.Error(), "409600") || n < 1000 {
		t.Errorf("after %d series: %v", n, err)
	}
	cells(t, b, requests, `code="000000",method=""`)[0].Add(1)
	if got := walk(t, open(t, path, nil)); len(got) != n-1 || got[0] != `requests_total{code="000000",method=""} 2` {
		t.Errorf("%d series, first %q", len(got), got[0])
	}
	if st, err := os.Stat(path + Suffix); err != nil || st.Size() > 400<<10 {
		t.Errorf("size %d, %v", st.Size(), err)
	}
	if end := b.mem.u64(offTail).Load(); end > 400<<10 {
		t.Errorf("records end at %d", end)
	}
	if _, err := b.Cells(requests, strings.Repeat("x", maxText+1)); !errors.Is(err, backend.ErrFull) {
		t.Errorf("huge label: %v", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a, b := open(t, path, nil), open(t, path, nil)
	newer := *requests
	newer.Help = "Requests, better."
	cells(t, a, requests, `code="1",method=""`)
	cells(t, b, &newer, `code="1",method=""`)[0].Add(1)
	end := b.mem.u64(offTail).Load()
	for range 10 { // alternating builds
		b := open(t, path, nil)
		cells(t, b, requests, `code="1",method=""`)
		f := newer
		cells(t, b, &f, `code="1",method=""`)
	}
	if grown := b.mem.u64(offTail).Load(); grown != end {
		t.Errorf("the file grew from %d to %d", end, grown)
	}
	walk(t, a)
	if g := a.Walk(); len(g) != 1 || g[0].Family.Help != newer.Help || len(g[0].Series) != 1 {
		t.Errorf("got %+v", g)
	}
}

// Families from a later version and records of unknown types are skipped.
func TestLaterVersion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, nil)
	later, err := b.findOrCreate(&record{typ: typeFamily, text: requests.Schema() + "\xc8\x01x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*record{
		{typ: typeSeries, family: uint32(later.off / align), text: `a="b"`, words: 40},
		{typ: 77, text: "who knows", extra: "what", words: 3},
	} {
		if _, err := b.findOrCreate(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	cells(t, b, requests, `code="1",method=""`)
	if got, want := walk(t, open(t, path, nil)), []string{`requests_total{code="1",method=""} 0`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a, b := open(t, path, nil), open(t, path, nil)
	alive := func(b *Backend) (n, dead int) {
		for _, i := range b.Instances() {
			if i.PID != os.Getpid() || i.ID == 0 || i.Start.IsZero() {
				t.Errorf("bad instance %+v", i)
			}
			if i.Alive {
				n++
			} else {
				dead++
			}
		}
		return n, dead
	}
	if n, dead := alive(a); n != 2 || dead != 0 {
		t.Errorf("%d alive, %d dead", n, dead)
	}
	b.Close(t.Context())
	if n, dead := alive(a); n != 1 || dead != 0 {
		t.Errorf("after Close: %d alive, %d dead", n, dead)
	}
	// A process that dies loses its lock, but cannot clear its slot.
	c := open(t, path, nil)
	die(c)
	if n, dead := alive(a); n != 1 || dead != 1 {
		t.Errorf("after a death: %d alive, %d dead", n, dead)
	}
	open(t, path, nil)
	if n, dead := alive(a); n != 2 || dead != 0 {
		t.Errorf("after the slot was taken over: %d alive, %d dead", n, dead)
	}
}

// Sync reports that the file was removed or replaced, since new processes do not see what this one
// counts, and goes on reading it. That the path leads nowhere proves nothing.
func TestRemoved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(dir string) error
		lost   bool
	}{
		"file removed":        {func(dir string) error { return os.Remove(dir + "/shop" + Suffix) }, true},
		"file renamed":        {func(dir string) error { return os.Rename(dir+"/shop"+Suffix, dir+"/other") }, true},
		"file replaced":       {func(dir string) error { return exchange(dir+"/shop"+Suffix, "another") }, true},
		"directory removed":   {os.RemoveAll, true},
		"directory renamed":   {func(dir string) error { return os.Rename(dir, dir+"-old") }, false},
		"directory is a file": {func(dir string) error { return exchange(dir, "") }, false},
		"directory replaced":  {func(dir string) error { return errors.Join(os.Rename(dir, dir+"-old"), os.Mkdir(dir, 0o700)) }, false},
		"and has another file": {func(dir string) error {
			return errors.Join(os.Rename(dir, dir+"-old"), os.Mkdir(dir, 0o700), exchange(dir+"/shop"+Suffix, ""))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "dir")
			os.Mkdir(dir, 0o700)
			b, peer := open(t, dir+"/shop", nil), open(t, dir+"/shop", nil)
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			cells(t, peer, requests, `code="1",method=""`)[0].Add(1)
			if err := b.Sync(t.Context()); c.lost != (err != nil && strings.Contains(err.Error(), "was removed")) || !c.lost && err != nil {
				t.Errorf("got %v", err)
			}
			if groups := b.Walk(); len(groups) != 1 || len(groups[0].Series) != 1 {
				t.Errorf("the peer's series was not read: %v", groups)
			}
			cells(t, b, requests, `code="1",method=""`)[0].Add(1)
		})
	}
}

// exchange renames what has a name, and puts a file there.
func exchange(name, content string) error {
	err := os.Rename(name, name+"-old")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.WriteFile(name, []byte(content), 0o600))
}

func TestURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Options{
		"shm:///dev/shm/shop":                       {},
		"shm:///dev/shm/shop?limit=1000":            {Limit: 1000},
		"shm:///dev/shm/shop?limit=64MiB&fs=any":    {Limit: 64 << 20, AnyFileSystem: true},
		"shm:///dev/shm/shop?limit=1GiB&limit=2KiB": {Limit: 2048},
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if path, o, err := parseURL(u); err != nil || path != "/dev/shm/shop" || *o != want {
			t.Errorf("%s: %q %+v %v", raw, path, o, err)
		}
	}
	for _, raw := range []string{"shm:", "shm:shop", "shm://host/shop", "shm:///a?limit=-1", "shm:///a?limit=1MB", "shm:///a?limit=9999999999GiB", "shm:///a?limt=1", "shm:///a?fs=nfs", "shm:///a?limit=64MiB;fs=any", "shm:///a#b", "shm:///", "shm:///dev/shm/"} {
		if _, _, err := ParseURL(raw); err == nil || !strings.Contains(err.Error(), "shm:") {
			t.Errorf("%s: got %v", raw, err)
		}
	}
}

// Damage to the index of a mapped file hides only the records that it led to.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(b *Backend, r *record){
		"circle": func(b *Backend, r *record) { b.mem.u32(r.off + recNext).Store(uint32(r.off / align)) },
		"wrong bucket": func(b *Backend, r *record) {
			b.mem.u32(offIndex + 4*((r.hash+1)&uint64(b.buckets-1))).Store(uint32(r.off / align))
		},
		"behind the file": func(b *Backend, r *record) { b.mem.u32(r.off + recNext).Store(1 << 31) },
		"in the header":   func(b *Backend, r *record) { b.mem.u32(r.off + recNext).Store(3) },
		"damaged record":  func(b *Backend, r *record) { b.mem[r.textAt] ^= 1 },
		"no such family":  func(b *Backend, r *record) { b.mem.u32(r.off + recFamily).Store(uint32(r.off / align)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "shop")
			b := open(t, path, nil)
			cells(t, b, requests, `code="1",method=""`)
			other := &backend.Family{Name: "other", Help: "O.", Kind: backend.Gauge}
			cells(t, b, other, "")
			r, err := b.findOrCreate(&record{typ: typeSeries, family: b.declared[requests], text: `code="1",method=""`, words: uint32(requests.Words())}, nil)
			if err != nil {
				t.Fatal(err)
			}
			damage(b, r)
			next := open(t, path, nil)
			if err := next.Sync(t.Context()); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) {
				t.Errorf("Sync: %v", err)
			}
			shown := 0
			for _, g := range next.Walk() {
				shown += len(g.Series)
			}
			if shown < 1 || shown > 2 {
				t.Errorf("%d series", shown)
			}
			cells(t, next, other, "")
			next.Cells(requests, `code="1",method=""`)
			next.Cells(requests, `code="2",method=""`)
		})
	}
}
