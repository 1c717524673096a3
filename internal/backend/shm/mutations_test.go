//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/pagetest"
	"github.com/gotheus/gotheus/internal/report"
)

var (
	mutations = flag.Int("mutations", 3000, "how many damaged files TestMutations checks, opens and uses")
	mutation  = flag.Int("mutation", -1, "the number of the only one that TestMutations makes")
)

// Each damaged file is generated from its number: important fields get extreme values, records are
// moved, swapped or torn, the file is cut or extended. Often the checksums are corrected, so that
// the code behind them is reached. Each file is checked, opened, read, written to and closed; most
// are damaged between two pages. Nothing may panic, access unmapped memory, or loop forever, and
// all pages must be valid. If the checker finds a file intact, reading must agree with the checker,
// and the file must still be intact in the end.
//
// The long run: go test ./internal/backend/shm -run TestMutations -mutations 10000000 -timeout 2h
// -v
func TestMutations(t *testing.T) {
	t.Parallel()
	good := smallFile(t)
	var next atomic.Int64
	var wait sync.WaitGroup
	var total tally
	var mu sync.Mutex
	stop := make(chan struct{})
	defer close(stop)
	from, to := 0, *mutations
	if *mutation >= 0 {
		from, to = *mutation, *mutation+1
	}
	next.Store(int64(from))
	for range min(runtime.GOMAXPROCS(0), to-from) {
		m := &mutator{TB: t, good: good, path: filepath.Join(quickDir(t), "f"), mem: newMemory(len(good) + maxLonger), log: quiet()}
		go m.watch(stop)
		wait.Go(func() {
			debug.SetPanicOnFault(true)
			for !t.Failed() {
				n := int(next.Add(1)) - 1
				if n >= to {
					break
				}
				m.run(n)
			}
			mu.Lock()
			defer mu.Unlock()
			total.whole += m.whole
			total.opened += m.opened
			total.replaced += m.replaced
			total.refused += m.refused
			total.pages += m.pages
		})
	}
	wait.Wait()
	made := total.opened + total.refused // fewer than requested if one has failed
	t.Logf("%d damaged files: %d opened, %d of them replaced, %d refused; %d intact according to the checker; %d pages",
		made, total.opened, total.replaced, total.refused, total.whole, total.pages)
	if !t.Failed() && to-from >= 1000 && (total.whole == 0 || total.replaced == 0 || total.refused == 0 || total.opened-total.replaced < made/2) {
		t.Error("the generated files are too similar")
	}
}

// quickDir returns a directory in memory if there is one, since thousands of files are created.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "gotheus-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func quiet() report.Log { return report.Log{Default: slog.New(slog.DiscardHandler)} }

const maxLonger = 4096 // bytes that a file is extended by

type tally struct{ whole, opened, replaced, refused, pages int }

type mutator struct {
	testing.TB
	*rand.Rand
	tally
	good  []byte
	path  string
	mem   memory
	dirty bool   // the directory contains more than the file
	what  string // names the case in failures
	page  bytes.Buffer
	log   report.Log

	number atomic.Int64
}

// watch ends the program when a single file takes far too long.
func (m *mutator) watch(stop chan struct{}) {
	last, idle := m.number.Load(), 0
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Second): // time while the process is stopped does not count
		}
		if n := m.number.Load(); n != last {
			last, idle = n, 0
		} else if idle++; idle > 120 {
			panic(fmt.Sprintf("mutation %d does not end", n))
		}
	}
}

// run generates one damaged file and uses it.
func (m *mutator) run(n int) {
	m.number.Store(int64(n))
	m.what = fmt.Sprintf("-mutation %d", n)
	m.Rand = rand.New(rand.NewPCG(uint64(n), 1))
	p := m.mem[:len(m.good)]
	copy(p, m.good)
	clear(m.mem[len(p):])
	// Damage the file while it is open: one that was damaged before is mostly set aside.
	late := m.IntN(4) > 0
	if !late {
		p = m.damage(p)
	}
	m.try(p, &Options{AnyFileSystem: true, Fresh: m.IntN(64) == 0, Limit: int64(m.IntN(64)/63) * (2 << 20)}, late)
}

// fail fails the test and names the case.
func (m *mutator) fail(format string, args ...any) {
	m.Helper()
	m.Errorf(m.what+": "+format, args...)
}

// try checks a file with the bytes p, opens it, and uses it. If late is set, it is damaged after it
// was opened.
func (m *mutator) try(p memory, o *Options, late bool) {
	defer func() {
		if v := recover(); v != nil {
			m.fail("%v\n%s", v, debug.Stack())
		}
	}()
	c, err := examine(p)
	whole := err == nil && len(c.problems) == 0
	if err == nil {
		c.report(&Report{Instances: listInstances(c.header, c.mem, func(uint64) bool { return true })})
	}
	if m.dirty {
		list, _ := filepath.Glob(m.path + "*")
		for _, name := range list {
			os.Remove(name)
		}
		m.dirty = false
	}
	if err := os.WriteFile(m.path+Suffix, p, 0o600); err != nil {
		m.Fatal(err)
	}
	b, err := Open(m.path, o)
	if err != nil {
		m.refused++
		if whole && c.limit <= maxLimit>>8 {
			// larger ones may not fit into the address space
			m.fail("a file that is whole cannot be opened: %v", err)
		}
		return
	}
	defer unmap(b.mem)
	defer b.Close(context.Background())
	m.opened++
	if c == nil || b.limit != c.limit || b.seed != c.seed {
		m.replaced++
		m.dirty = true
		return // the file is a new one
	}
	if late {
		size, err := sizeOf(b.file)
		if err != nil {
			m.Fatal(err)
		}
		// What was read before must not change what pages show, except for values.
		if err := b.Sync(context.Background()); err != nil {
			m.fail("a file that is whole is read with error %v", err)
		}
		m.read(b)
		// Write to the mapping, so that everything read from the file before is outdated.
		m.strew(b.mem[:size])
	}
	m.use(b, whole && !late)
}

// use does what a program does with a file.
func (m *mutator) use(b *Backend, whole bool) {
	ctx := context.Background()
	if err := b.Sync(ctx); whole && err != nil {
		m.fail("a file that is whole is read with error %v", err)
	}
	m.read(b)
	if whole {
		m.whole++
		if r, err := Inspect(b.Path()); err != nil || len(r.Problems) > 0 {
			m.fail("damaged by opening it: %v, %+v", err, r)
		} else if got, want := existingSeries(b), reportedSeries(r); !slices.Equal(got, want) {
			m.fail("read as %q, the checker says %q", got, want)
		}
	}
	var errs []error
	for _, labels := range []string{`code="1",method="GET"`, `code="9",method="GET"`, `code="3",method="PUT"`} {
		w, err := b.Cells(requests, labels)
		if errs = append(errs, err); err == nil {
			w[backend.CounterInt].Add(1)
		}
	}
	_, err := b.Cells(smallLatency, "")
	errs = append(errs, err)
	_, err = b.Cells(smallBusy, `x="1"`)
	errs = append(errs, err)
	_, err = b.Delete(requests, func(labels string) bool { return labels < `code="2"` })
	errs = append(errs, err)
	_, err = b.Forget(smallLatency.Name)
	errs = append(errs, err, b.Sync(ctx))
	b.Instances()
	m.read(b)
	if !whole {
		return
	}
	if err := errors.Join(errs...); err != nil {
		m.fail("a file that is whole cannot be used: %v", err)
	}
	if r, err := Inspect(b.Path()); err != nil || len(r.Problems) > 0 {
		m.fail("damaged by using it: %v, %+v", err, r)
	}
}

// read makes a page, which must be valid whatever is in the file.
func (m *mutator) read(b *Backend) {
	p := page.New(page.Options{Log: &m.log})
	defer p.Release()
	p.AddGroups(&page.Source{Groups: b.Walk(), Clock: m})
	p.Sort()
	m.page.Reset()
	if _, err := p.Write(context.Background(), &m.page); err != nil {
		m.fail("%v", err)
	}
	m.pages++
	if err := pagetest.CheckText(m.page.String()); err != nil {
		m.fail("the page is not valid: %v", err)
	}
}

// Now is the clock for the windows of quantiles.
func (m *mutator) Now() time.Time { return time.Unix(1e9, 0) }

// existingSeries and reportedSeries return the existing series: as the backend reads them, and as
// Inspect reports them.
func existingSeries(b *Backend) (list []string) {
	for _, g := range b.Walk() {
		for i, s := range g.Series {
			if g.Parts == nil && !g.Family.Sealed(s.Words) || g.Parts != nil && slices.ContainsFunc(g.Parts[i].List(), func(p backend.Part) bool {
				return p.Live() && !g.Family.Sealed(p.Words)
			}) {
				list = append(list, g.Family.Schema()+"{"+s.Labels)
			}
		}
	}
	slices.Sort(list)
	return list
}

func reportedSeries(r *Report) (list []string) {
	for _, f := range r.Families {
		for _, labels := range f.Series {
			list = append(list, f.Family.Schema()+"{"+labels)
		}
	}
	slices.Sort(list)
	return list
}
