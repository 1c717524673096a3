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

// made returns the bytes of a file with one series at 7, and of another version.
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

// What cannot be a file of ours is set aside under another name, and counting goes on in a new file.
func TestSetAside(t *testing.T) {
	t.Parallel()
	good, _ := made(t)
	boot := make([]byte, 16) // of another run of the machine
	recordsAt := offIndex + 4*numBuckets + numInstances*instanceSize
	for name, c := range map[string]struct {
		content []byte
		notice  string
	}{
		"foreign":           {[]byte("#!/bin/sh\necho this is something else, and longer than the header's first bytes\n"), "does not begin with"},
		"short":             {[]byte("hi"), "does not begin with"},
		"damaged header":    {change(good, offLimit, 0xff), "checksum"},
		"no byte order":     {change(good, offOrder, 1, 2, 3, 4, 5, 6, 7, 0), "no byte order"},
		"truncated":         {good[:5000], "has 5000 bytes"},
		"header only":       {good[:100], "does not begin with"},
		"half written":      {change(good, 0, make([]byte, 8)...), "does not begin with"},
		"power failure":     {change(change(good, offBoot, boot...), recordsAt+recHeader, 0xff), "wrong checksum"},
		"lost end":          {change(good[:recordsAt+100], offBoot, boot...), "set aside"},
		"tickets at an end": {change(good, offTickets, bytes.Repeat([]byte{0xff}, 8)...), "tickets were given out"},
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
				t.Error("what was set aside was changed")
			}
		})
	}
}

// A file that others use is never set aside, whatever is in it, nor is one of another version.
func TestNotSetAside(t *testing.T) {
	t.Parallel()
	good, later := made(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "later")
	os.WriteFile(path+Suffix, later, 0o600)
	_, err := Open(path, &Options{AnyFileSystem: true})
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "has format version 2, this program reads version 1") {
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
		file("everybody", 0o606):         "may be written by everybody",
		file("group", 0o660):             "may be written by its group",
	} {
		before, _ := os.ReadDir(dir)
		if _, err := Peek(path, &Options{AnyFileSystem: true}); err == nil {
			t.Errorf("%s: Peek sees nothing in the way", path)
		}
		if _, err := Open(path, &Options{AnyFileSystem: true}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
		if after, _ := os.ReadDir(dir); len(after) != len(before) {
			t.Errorf("%s: something was made", path)
		}
	}
	if _, err := Open(file("private", 0o600), &Options{AnyFileSystem: true, Group: true}); err == nil || !strings.Contains(err.Error(), "not open to its group") {
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

// Values survive restarts, unless they are to begin from zero and nobody has the file open.
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

// Many open, some of them afresh, while others close: whoever has the file open counts in the one that is
// there.
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

// What is deleted goes when the file is opened and nobody else has it open; what exists stays as it is.
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
	// The other one is still there.
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
	if !slices.Equal(got, live) || len(got) != 101 { // busy has nothing that outlives its process
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

// Records whose sizes do not fit their family, though their checksums are right, are reported; they crash
// neither the check nor a rewrite, which leaves a file alone that is not whole.
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
			r, err := b.findOrCreate(&record{typ: typeSeries, family: ref, text: labels, words: words})
			if err != nil {
				t.Fatal(err)
			}
			p, err := b.findOrCreate(&record{typ: typePart, family: uint32(r.off / align), text: fmt.Sprint(b.slot), words: words})
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

// Numbers that only go up begin again at zero nowhere, as far as anybody can count: what is near an end was damaged,
// and what is far from one is used like any other.
func TestEndsOfNumbers(t *testing.T) {
	t.Parallel()
	latest := &backend.Family{Name: "latest", Help: "Latest.", Kind: backend.Gauge, Mode: backend.Latest}
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, nil)
	tickets := b.mem.u64(offTickets)
	tickets.Store(1 << 61)
	c := open(t, path, nil) // with an id for whose lock there must be a byte
	if c.id != 1<<61+1 || !b.alive(c.id) || b.alive(c.id+1) {
		t.Errorf("id %d", c.id)
	}
	counter, histogram, gauge := cells(t, c, requests, `code="1",method=""`), cells(t, c, smallLatency, ""), cells(t, c, latest, "")
	family, err := c.declare(latest)
	if err != nil {
		t.Fatal(err)
	}
	declared, err := c.findOrCreate(&record{typ: typeDeclared, family: family, words: declaredSlots})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.findOrCreate(&record{typ: typeSeries, family: family})
	if err == nil {
		part, err = c.findOrCreate(&record{typ: typePart, family: uint32(part.off / align), text: fmt.Sprint(c.slot), words: uint32(latest.Words()) + 1})
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
				// Nobody takes an id that wraps, not even who looked at the header before.
				if _, _, err := b.join(); !errors.Is(err, ErrFormat) {
					t.Errorf("with %d tickets: joined: %v", v, err)
				}
			}
		}
		w.Store(old)
	}
	checkFileNow(t, c.Path())
}

// checkFileNow fails unless everything in the file is right.
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
