//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// made returns the bytes of a file with one series at 7, and of the same file in another version.
func made(t testing.TB) (good, later []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made")
	b := open(t, path, nil)
	cells(t, b, requests, `code="1",method=""`)[0].Add(7)
	b.Close(context.Background())
	good, err := os.ReadFile(path + Suffix)
	if err != nil {
		t.Fatal(err)
	}
	later = slices.Clone(good)
	order.PutUint32(later[offMajor:], major+1)
	fixed := slices.Clone(later[:offSum])
	clear(fixed[:8])
	sum := sha256.Sum256(fixed)
	copy(later[offSum:], sum[:8])
	return good, later
}

func change(p []byte, off int, b ...byte) []byte {
	p = slices.Clone(p)
	copy(p[off:], b)
	return p
}

// An unusable file is set aside under another name, and counting goes on in a new file.
func TestSetAside(t *testing.T) {
	t.Parallel()
	good, _ := made(t)
	boot := make([]byte, 16) // from before a reboot
	recordsAt := offIndex + 4*numBuckets + numInstances*instanceSize
	for name, c := range map[string]struct {
		content []byte
		notice  string
	}{
		"foreign":           {[]byte("#!/bin/sh\necho this is something else, and longer than the header's first bytes\n"), "does not begin with"},
		"short":             {[]byte("hi"), "does not begin with"},
		"damaged header":    {change(good, offLimit, 0xff), "checksum"},
		"no byte order":     {change(good, offOrder, 1, 2, 3, 4, 5, 6, 7, 0), "byte order mark is invalid"},
		"truncated":         {good[:5000], "has 5000 bytes"},
		"header only":       {good[:100], "does not begin with"},
		"half written":      {change(good, 0, make([]byte, 8)...), "does not begin with"},
		"power failure":     {change(change(good, offBoot, boot...), recordsAt+recHeader, 0xff), "wrong checksum"},
		"lost end":          {change(good[:recordsAt+100], offBoot, boot...), "set aside"},
		"tickets at an end": {change(good, offTickets, bytes.Repeat([]byte{0xff}, 8)...), "the number of tickets is"},
		"empty":             {nil, ""},
		"healthy, old":      {change(good, offBoot, boot...), ""},
		"healthy, current":  {good, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "shop")
			if err := os.WriteFile(path+Suffix, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			healthy := strings.HasPrefix(name, "healthy")
			want := map[bool]Outcome{true: Resume, false: Replace}[healthy]
			if got, err := Peek(path, &Options{AnyFileSystem: true}); got != want || err != nil {
				t.Errorf("Peek: %v, %v, want %v", got, err, want)
			}
			b := open(t, path, nil)
			n := cells(t, b, requests, `code="1",method=""`)[0].Add(1)
			if n != map[bool]uint64{true: 8, false: 1}[healthy] {
				t.Errorf("counts from %d", n-1)
			}
			aside, _ := filepath.Glob(path + Suffix + ".damaged-*")
			if c.notice == "" {
				if len(aside) != 0 || len(b.Notices()) != 0 {
					t.Errorf("set aside as %q: %q", aside, b.Notices())
				}
				return
			}
			if len(aside) != 1 || len(b.Notices()) != 1 || !strings.Contains(b.Notices()[0], c.notice) || !strings.Contains(b.Notices()[0], aside[0]) {
				t.Fatalf("set aside as %q: %q, want %q", aside, b.Notices(), c.notice)
			}
			if now, _ := os.ReadFile(aside[0]); !bytes.Equal(now, c.content) {
				t.Error("the file that was set aside has changed")
			}
		})
	}
}

// A file that other processes use is never set aside, whatever its contents, nor is one of another
// version.
func TestNotSetAside(t *testing.T) {
	t.Parallel()
	good, later := made(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "later")
	os.WriteFile(path+Suffix, later, 0o600)
	_, err := Open(path, &Options{AnyFileSystem: true})
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "has format version 3, this program reads version 2") {
		t.Errorf("another version: %v", err)
	}
	path = filepath.Join(dir, "order")
	os.WriteFile(path+Suffix, change(good, offOrder, 1, 2, 3, 4, 5, 6, 7, 8), 0o600)
	if order.Uint16([]byte{1, 0}) == 1 {
		if _, err := Open(path, &Options{AnyFileSystem: true}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "another byte order") {
			t.Errorf("another byte order: %v", err)
		}
	}

	path = filepath.Join(dir, "used")
	b := open(t, path, nil)
	w := cells(t, b, requests, `code="1",method=""`)
	old := make([]byte, 8)
	b.file.ReadAt(old, offSum)
	b.file.WriteAt([]byte("damaged!"), offSum)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = OpenContext(ctx, path, &Options{AnyFileSystem: true})
	if !errors.Is(err, ErrFormat) || !errors.Is(err, backend.ErrBusy) || !strings.Contains(err.Error(), "other processes have it open") {
		t.Errorf("damaged and in use: %v", err)
	}
	w[0].Add(1)
	b.file.WriteAt(old, offSum)
	if got := walk(t, open(t, path, nil)); !slices.Equal(got, []string{`requests_total{code="1",method=""} 1`}) {
		t.Errorf("got %q", got)
	}
	if list, _ := os.ReadDir(dir); len(list) != 3 {
		t.Errorf("%v", list)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	good, _ := made(t)
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+Suffix, good, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path+Suffix, mode)
		return path
	}
	os.Symlink(file("target", 0o600)+Suffix, filepath.Join(dir, "link"+Suffix))
	os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling"+Suffix))
	os.Mkdir(filepath.Join(dir, "dir"+Suffix), 0o700)
	syscall.Mkfifo(filepath.Join(dir, "pipe"+Suffix), 0o600)
	if s, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); err != nil {
		t.Fatal(err)
	} else if err := syscall.Bind(s, &syscall.SockaddrUnix{Name: filepath.Join(dir, "socket"+Suffix)}); err != nil {
		t.Fatal(err)
	} else {
		syscall.Close(s)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "link"):       "symbolic link",
		filepath.Join(dir, "dangling"):   "symbolic link",
		filepath.Join(dir, "dir"):        "not a regular file (d",
		filepath.Join(dir, "socket"):     "not a regular file (S",
		filepath.Join(dir, "pipe"):       "not a regular file",
		filepath.Join(dir, "no", "file"): "no such file",
		file("everybody", 0o606):         "is writable by everybody",
		file("group", 0o660):             "is writable by its group",
	} {
		before, _ := os.ReadDir(dir)
		if _, err := Peek(path, &Options{AnyFileSystem: true}); err == nil {
			t.Errorf("%s: Peek returns no error", path)
		}
		if _, err := Open(path, &Options{AnyFileSystem: true}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
		if after, _ := os.ReadDir(dir); len(after) != len(before) {
			t.Errorf("%s: a file was created", path)
		}
	}
	if _, err := Open(file("private", 0o600), &Options{AnyFileSystem: true, Group: true}); err == nil || !strings.Contains(err.Error(), "not accessible to its group") {
		t.Errorf("a private file for a group: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "small"), &Options{AnyFileSystem: true, Limit: 1000}); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("tiny limit: %v", err)
	}
	if _, err := Open("/proc/gotheus", nil); err == nil {
		t.Error("a file in /proc was opened")
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, &Options{Group: true})
	cells(t, b, requests, `code="1",method=""`)[0].Add(1)
	if st, err := os.Stat(path + Suffix); err != nil || st.Mode() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if got := walk(t, open(t, path, &Options{Group: true})); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// Counters never wrap: a value near the maximum counts as damage, and any other is used as usual.
func TestEndsOfNumbers(t *testing.T) {
	t.Parallel()
	latest := &backend.Family{Name: "latest", Help: "Latest.", Kind: backend.Gauge, Mode: backend.Latest}
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, nil)
	tickets := b.mem.u64(offTickets)
	tickets.Store(1 << 61)
	c := open(t, path, nil) // its id must still have a lock byte
	if c.id != 1<<61+1 || !b.alive(c.id) || b.alive(c.id+1) {
		t.Errorf("id %d", c.id)
	}
	counter, histogram, gauge := cells(t, c, requests, `code="1",method=""`), cells(t, c, smallLatency, ""), cells(t, c, latest, "")
	family, err := c.declare(latest)
	if err != nil {
		t.Fatal(err)
	}
	declared, err := c.findOrCreate(&record{typ: typeDeclared, family: family, words: declaredSlots}, nil)
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.findOrCreate(&record{typ: typeSeries, family: family}, nil)
	if err == nil {
		part, err = c.findOrCreate(&record{typ: typePart, family: uint32(part.off / align), text: fmt.Sprint(c.slot), words: uint32(latest.Words()) + 1}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	owner := &c.mem.words(part.wordsAt, part.words)[latest.Words()]
	checkFileNow(t, c.Path())
	for name, w := range map[string]*atomic.Uint64{
		"ticket of an update":     &gauge[backend.GaugeTicket],
		"owner of a part":         owner,
		"ticket of a declaration": &c.mem.words(declared.wordsAt, declaredSlots)[7],
		"count of a counter":      &counter[backend.CounterInt],
		"count in a bucket":       &histogram[backend.HistogramBuckets+2],
		"sealed, nearly open":     &histogram[backend.HistogramBuckets],
		"tickets":                 tickets,
	} {
		old := w.Load()
		for _, v := range []uint64{1 << 62, 1<<63 - 1, ^uint64(0)} {
			if v == 1<<62 && strings.Contains(name, "count") || v < 1<<63 && strings.Contains(name, "sealed") {
				v = maxCount
			}
			w.Store(v)
			r, err := Inspect(c.Path())
			if (err == nil) == (w == tickets) || w == tickets != errors.Is(err, ErrFormat) || err == nil && len(r.Problems) != 1 {
				t.Errorf("%s is %d: %v, %v", name, v, r, err)
			}
			if w == tickets {
				// Nobody takes an id that overflows, even after reading the header
				// while it was intact.
				if _, _, err := b.join(); !errors.Is(err, ErrFormat) {
					t.Errorf("with %d tickets: joined: %v", v, err)
				}
			}
		}
		w.Store(old)
	}
	checkFileNow(t, c.Path())
}

// checkFileNow fails the test unless the whole file is intact.
func checkFileNow(t testing.TB, name string) *Report {
	t.Helper()
	r, err := Inspect(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Error(p)
	}
	return r
}

// A process may open and close a file any number of times: it stays mapped once. The file system
// gives the number of a removed file to the next one, which must not be taken for it.
func TestOneMapping(t *testing.T) { // not parallel: it counts mappings
	const limit, rounds = 64 << 20, 5000 // 32-bit processes have addresses for some fifty
	mapped := func() int {
		text, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), Suffix)
	}
	before := mapped()
	path := filepath.Join(t.TempDir(), "shop")
	opened := func() *Backend {
		b, err := Open(path, &Options{Limit: limit, AnyFileSystem: true})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := opened()
	kept := cells(t, first, requests, `code="1",method=""`)
	kept[0].Add(1)
	for range rounds {
		b := opened()
		cells(t, b, requests, `code="1",method=""`)[0].Add(1)
		b.Close(t.Context())
	}
	first.Close(t.Context())
	if got, n := kept[0].Add(1), mapped()-before; got != rounds+2 || n != 1 {
		t.Errorf("%d counted, %d mappings", got, n)
	}
	for i := range 10 {
		os.Remove(path + Suffix)
		b := opened()
		if got := cells(t, b, requests, `code="1",method=""`)[0].Add(1); got != 1 {
			t.Errorf("a new file begins at %d", got)
		}
		if n := mapped() - before; n != i+2 {
			t.Errorf("%d files, %d mappings", i+2, n)
		}
		b.Close(t.Context())
	}
	if got := kept[0].Load(); got != rounds+2 {
		t.Errorf("the first file has %d", got)
	}
}

// Damage that a process finds is a reason for the next opening to check the file, however large it
// is, and to set it aside; damage of a small file is found by that opening itself.
func TestDamageIsSetAsideLater(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{checkedAlways - 1, checkedAlways + 1} {
		for _, found := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "shop")
			b := open(t, path, nil)
			cells(t, b, requests, `code="1",method=""`)[0].Add(7)
			if err := b.grow(size); err != nil {
				t.Fatal(err)
			}
			r, err := b.search(&record{typ: typeSeries, family: b.declared[requests], text: `code="1",method=""`, words: uint32(requests.Words())}, nil)
			if err != nil {
				t.Fatal(err)
			}
			b.mem[r.textAt] ^= 1
			if found {
				other := open(t, path, nil)
				if err := other.Sync(t.Context()); !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				other.Close(t.Context())
			}
			b.Close(t.Context())
			next := open(t, path, nil)
			aside := len(next.Notices()) == 1 && strings.Contains(next.Notices()[0], "it was set aside as")
			if want := found || size <= checkedAlways; aside != want {
				t.Errorf("%d bytes, found before: %v: set aside: %v; %q", size, found, aside, next.Notices())
			}
		}
	}
}
