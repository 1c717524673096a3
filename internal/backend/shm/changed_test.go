//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// What others write over texts of a mapped file, after they were read, does not get onto pages.
func TestTextsChangeAfterReading(t *testing.T) {
	t.Parallel()
	b := open(t, filepath.Join(t.TempDir(), "shop"), nil)
	for i := range 3 {
		cells(t, b, requests, fmt.Sprintf(`code="%d",method="GET"`, i))[0].Add(uint64(i))
	}
	cells(t, b, smallLatency, "")
	text := func() string {
		if err := b.Sync(t.Context()); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		log := quiet()
		p := page.New(page.Options{Log: &log})
		defer p.Release()
		p.AddGroups(&page.Source{Groups: b.Walk()})
		p.Sort()
		var out bytes.Buffer
		if _, err := p.Write(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	before := text()
	size, err := sizeOf(b.file)
	if err != nil {
		t.Fatal(err)
	}
	intact := bytes.Clone(b.mem[:size])
	for _, was := range []string{`code="1`, `method="GET`, requests.Help, requests.Name, smallLatency.Name, smallLatency.Help} {
		for _, evil := range []string{"\n", `"`, `\`, "\x00", "\xff", "\"} 1\nx 5\n", "a"} {
			for at := range was {
				found := 0
				for from := int(b.recordsAt); ; found++ {
					n := bytes.Index(b.mem[from:size], []byte(was))
					if n < 0 {
						break
					}
					copy(b.mem[from+n+at:], evil)
					from += n + at + len(evil)
				}
				now := text()
				copy(b.mem[:size], intact)
				if found == 0 {
					t.Fatalf("%q is not in the file", was)
				}
				if err := pagetest.CheckText(now); err != nil {
					t.Fatalf("%q at byte %d of %q: %v", evil, at, was, err)
				}
				for line := range strings.Lines(now) {
					if !strings.Contains(before, line) {
						t.Fatalf("%q at byte %d of %q: the page has a new line %q", evil, at, was, line)
					}
				}
			}
		}
	}
}

// A process knows up to where the file is in use: if the tail is damaged, new series must not
// overwrite others, whether they are refused or not.
func TestTailGoesBack(t *testing.T) {
	t.Parallel()
	for bit := range 64 {
		t.Run(fmt.Sprint("bit ", bit), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "shop")
			a := open(t, path, &Options{Limit: 1 << 20})
			b := open(t, path, nil)
			labels := func(i int) string { return fmt.Sprintf(`code="%d",method="GET"`, i) }
			const old, more = 200, 100
			for i := range old {
				cells(t, a, requests, labels(i))[0].Add(uint64(i) + 1)
			}
			if err := b.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			tail := a.mem.u64(offTail)
			tail.Store(tail.Load() ^ 1<<bit)
			for i := range more {
				for _, who := range []*Backend{a, b} { // b has only read
					if w, err := who.Cells(requests, labels(old+i)); err == nil {
						w[0].Add(1)
					}
				}
			}
			for i := range old {
				if got := cells(t, a, requests, labels(i))[0].Load(); got != uint64(i)+1 {
					t.Fatalf("series %d of %d was %d and is %d", i, old, i+1, got)
				}
			}
			if err := b.Sync(t.Context()); err != nil {
				t.Logf("it says %v", err)
			}
			found := 0
			for _, line := range walkAnyhow(b) {
				for i := range old {
					if line == fmt.Sprintf("requests_total{%s} %d", labels(i), i+1) {
						found++
					}
				}
			}
			if found != old {
				t.Fatalf("%d of %d series are still there", found, old)
			}
		})
	}
}

func walkAnyhow(b *Backend) (list []string) {
	for _, g := range b.Walk() {
		for _, s := range g.Series {
			list = append(list, fmt.Sprintf("%s{%s} %d", g.Family.Name, s.Labels, s.Words[0].Load()))
		}
	}
	return list
}

// A cycle through all records costs no more than the file is large, although every bucket leads
// into it.
func TestCycleThroughAllRecords(t *testing.T) {
	path := filepath.Join(quickDir(t), "shop")
	b := open(t, path, nil)
	const series = 20000
	for i := range series {
		cells(t, b, requests, fmt.Sprintf(`code="%d",method="GET"`, i))
	}
	intact := open(t, path, nil)
	began := time.Now()
	if err := intact.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	usual := time.Since(began)
	file, err := os.ReadFile(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	c, err := examine(append(newMemory(0), file...))
	if err != nil {
		t.Fatal(err)
	}
	var all []uint64
	for _, r := range c.records {
		all = append(all, r.off)
	}
	for i, off := range all {
		b.mem.u32(off + recNext).Store(uint32(all[(i+1)%len(all)] / align))
	}
	most := 50*usual + time.Second
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	began = time.Now()
	err = open(t, path, nil).Sync(ctx)
	took := time.Since(began)
	t.Logf("%d records: %v, with the cycle %v, %v", len(all), usual, took, err)
	if !errors.Is(err, ErrFormat) || took > most {
		t.Errorf("a page takes %v instead of %v, and the error is %v", took, usual, err)
	}
	began = time.Now() // whoever has read the file before has to find a label set that is new
	b.Cells(requests, `code="new",method="GET"`)
	if took := time.Since(began); took > most {
		t.Errorf("a new series takes %v", took)
	}
}

// A process that has found a series may make a part of it when the series was deleted meanwhile,
// and taken out of its chain. If all die then, the file is intact: the next one to open it, which
// checks it, keeps the values.
func TestPartOfReclaimedSeries(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a, b := open(t, path, nil), open(t, path, nil)
	cells(t, a, requests, `code="1",method="GET"`)[0].Add(7)
	cells(t, b, smallBusy, `x="1"`)
	found, err := a.findOrCreate(&record{typ: typeSeries, family: b.declared[smallBusy], text: `x="1"`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Delete(smallBusy, func(string) bool { return true }); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.Reclaim(func([]backend.Retired) {})
	if b.mem.u64(offTicket).Load() == 0 {
		t.Fatal("the series is still in its chain")
	}
	if w, err := a.ownPart(smallBusy, found, false); w != nil || err != nil {
		t.Fatalf("a part of a series that was deleted: %v, %v", w, err)
	}
	die(a)
	die(b)
	if r, err := Inspect(path + Suffix); err != nil || len(r.Problems) > 0 {
		t.Errorf("%v: %+v", err, r)
	}
	next := open(t, path, nil)
	if got, want := walk(t, next), fmt.Sprintf("%s{%s} 7", requests.Name, `code="1",method="GET"`); len(got) == 0 || got[len(got)-1] != want {
		t.Errorf("got %q and %q, want %q", got, next.Notices(), want)
	}
}
