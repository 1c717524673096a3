//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// reclaimAll runs Reclaim of all instances until nothing is left to reclaim, or gives up.
func reclaimAll(t testing.TB, list ...*Backend) {
	t.Helper()
	for range 20 {
		for _, b := range list {
			b.Reclaim(func([]backend.Retired) {})
		}
		if m := list[0].mem; uint32(m.u64(offRetired).Load()) == 0 && m.u64(offBatch).Load() == 0 {
			return
		}
	}
	t.Fatal("deleted series are not reclaimed")
}

func intact(t testing.TB, b *Backend) *Report {
	t.Helper()
	r, err := Inspect(b.Path())
	if err != nil || len(r.Problems) > 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	return r
}

var reclaimed = map[string]*backend.Family{
	"counter":   requests,
	"gauge":     {Name: "busy", Help: "Busy.", Kind: backend.Gauge, Labels: []string{"code", "method"}},
	"parts":     {Name: "parts", Help: "Parts.", Kind: backend.Gauge, Mode: backend.Max, Labels: []string{"code", "method"}},
	"histogram": {Name: "took", Help: "Took.", Kind: backend.Histogram, Buckets: []float64{1, 2}, Labels: []string{"code", "method"}},
	"exemplars": requests.With(backend.Block{Role: backend.ExemplarRole, Size: 12}),
}

// Series that come and go take no more space than those that there are at once.
func TestChurnTakesNoSpace(t *testing.T) {
	t.Parallel()
	for name, f := range reclaimed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "shop")
			a, b := open(t, path, nil), open(t, path, nil)
			const atOnce, rounds = 300, 20
			var used uint64
			for round := range rounds {
				for i := range atOnce {
					n := round*atOnce + i
					w := cells(t, a, f, fmt.Sprintf(`code="%06d",method=""`, n))
					if v := w[0].Load(); v != 0 {
						t.Fatalf("a new series begins at %d", v)
					}
					w[0].Add(uint64(n))
				}
				if err := b.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Delete(f, func(string) bool { return true }); err != nil {
					t.Fatal(err)
				}
				reclaimAll(t, a, b)
				intact(t, a)
				for _, x := range []*Backend{a, b} {
					if err := x.Sync(t.Context()); err != nil {
						t.Fatal(err)
					}
					for _, g := range x.Walk() {
						if len(g.Series) > 0 {
							t.Fatalf("%s: %d deleted series are still walked", g.Family.Name, len(g.Series))
						}
					}
				}
				if end := a.mem.u64(offTail).Load(); round == 0 {
					used = end
				} else if end != used {
					t.Fatalf("after round %d, records end at %d, after the first at %d", round, end, used)
				}
			}
			if waste, free := a.mem.u64(offWaste).Load(), intact(t, a).Free; waste != uint64(free) || free < atOnce*128 {
				t.Errorf("%d bytes are wasted, %d free", waste, free)
			}
		})
	}
}

// An instance that is stopped, or that still reads a page, keeps the space of deleted series from
// being used; one that has ended does not.
func TestReclaimWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a, stopped := open(t, path, nil), open(t, path, nil)
	make1000 := func() {
		for i := range 1000 {
			cells(t, a, requests, fmt.Sprintf(`code="%d",method=""`, i))
		}
		if n, err := a.Delete(requests, func(string) bool { return true }); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	free := func(b ...*Backend) int64 {
		for range 5 {
			for _, b := range b {
				b.Reclaim(func([]backend.Retired) {})
			}
		}
		return intact(t, a).Free
	}
	make1000()
	if n := free(a); n != 0 {
		t.Fatalf("%d bytes are free although an instance does not react", n)
	}
	die(stopped)
	if n := free(a); n == 0 {
		t.Fatal("nothing is free although the other instance is dead")
	}
	make1000()
	leave := a.Enter()
	before := free(a)
	leave()
	if n := free(a); n <= before {
		t.Fatalf("%d bytes are free during a page, and %d after it", before, n)
	}
	// What an instance holds is kept, however often it is told.
	make1000()
	most := free(a)
	make1000()
	for range 5 {
		a.Reclaim(func(list []backend.Retired) {
			for i := range list {
				list[i].Held = strings.HasPrefix(list[i].Labels, `code="1`)
			}
		})
	}
	if n := intact(t, a).Free; n >= most || n == 0 {
		t.Errorf("%d bytes are free while some are held, %d otherwise", n, most)
	}
	if n := free(a); n != most {
		t.Errorf("%d bytes are free in the end, %d before", n, most)
	}
	intact(t, a)
}

// A series that only dead instances had parts of is reclaimed, one that comes back at that moment
// is not.
func TestBuryUnused(t *testing.T) {
	t.Parallel()
	f := reclaimed["parts"]
	path := filepath.Join(t.TempDir(), "shop")
	a, b := open(t, path, nil), open(t, path, nil)
	for i := range 100 {
		cells(t, b, f, fmt.Sprintf(`code="%d",method=""`, i))
	}
	kept := cells(t, a, f, `code="7",method=""`)
	sealed := cells(t, a, f, `code="8",method=""`)
	f.Seal(sealed) // as if a collector no longer gave it
	die(b)
	a.Reclaim(func([]backend.Retired) {})
	reclaimAll(t, a)
	kept[0].Add(1)
	if got, want := walk(t, a), []string{`parts{code="7",method=""} 2 parts`}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q", got)
	}
	if w := cells(t, a, f, `code="8",method=""`); f.Sealed(w) || &w[0] == &sealed[0] {
		t.Error("a series that came back has its former words")
	}
	intact(t, a)
}

// Several instances make, count in, read and delete series of the same keys at once, while space is
// reclaimed. Each key has its own number to add, so that words in the wrong hands show.
func TestReclaimModel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	const keys, steps = 60, 3000
	number := func(key int) uint64 { return 1_000_003 * uint64(key+1) }
	families := []*backend.Family{requests, reclaimed["histogram"], reclaimed["parts"]}
	var wait sync.WaitGroup
	var list []*Backend
	for range 3 {
		list = append(list, open(t, path, nil))
	}
	for i, b := range list {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			words := map[[2]int]backend.Words{} // of this instance's instruments
			release := func(gone []backend.Retired) {
				for _, g := range gone {
					for at, w := range words {
						for _, first := range g.Words {
							if &w[0] == first {
								delete(words, at)
							}
						}
					}
				}
			}
			for range steps {
				kind, key := r.IntN(len(families)), r.IntN(keys)
				f, labels, at := families[kind], fmt.Sprintf(`code="%d",method=""`, key), [2]int{kind, key}
				switch r.IntN(12) {
				case 0:
					if _, err := b.Delete(f, func(l string) bool { return l == labels }); err != nil {
						t.Error(err)
					}
				case 1:
					b.Reclaim(release)
				case 2:
					leave := b.Enter()
					if err := b.Sync(context.Background()); err != nil {
						t.Error(err)
					}
					for _, g := range b.Walk() {
						for i, s := range g.Series {
							var code int
							fmt.Sscanf(s.Labels, `code="%d"`, &code)
							if n := s.Words; g.Parts == nil && g.Exists(i) && g.Family == requests && n[0].Load()%number(code) != 0 {
								t.Errorf("%s holds %d", s.Labels, n[0].Load())
							}
						}
					}
					leave()
				default:
					w := words[at]
					if w == nil || f.Sealed(w) {
						var err error
						if w, err = b.Cells(f, labels); err != nil {
							t.Error(err)
							return
						}
						words[at] = w
					}
					switch {
					case f.Parts():
						w[backend.GaugeValue].Store(number(key))
					case f == requests:
						w[backend.CounterInt].Add(number(key))
					default:
						w[backend.HistogramBuckets].Add(number(key))
					}
				}
			}
		})
	}
	wait.Wait()
	reclaimAll(t, list...)
	b := list[0]
	intact(t, b)
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, g := range b.Walk() {
		for i, s := range g.Series {
			var code int
			fmt.Sscanf(s.Labels, `code="%d"`, &code)
			switch w := s.Words; {
			case !g.Exists(i):
			case g.Family.Kind == backend.Counter && w[backend.CounterInt].Load()%number(code) != 0,
				g.Family.Kind == backend.Histogram && w[backend.HistogramBuckets].Load()&^backend.SealedInt%number(code) != 0:
				t.Errorf("%s{%s} holds what belongs to another: %v", g.Family.Name, s.Labels, loadWords(w))
			}
		}
	}
	if reused := b.mem.u64(offReused).Load(); reused == 0 {
		t.Errorf("no space was reused")
	}
}

// Damaged lists and records neither hang nor cost live series anything: their space is lost.
func TestReclaimDamaged(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", 120) // as much longer as the damage below says
	for name, damage := range map[string]func(m memory, retired, live uint64){
		"a cycle":       func(m memory, retired, _ uint64) { m.u32(retired + recLink).Store(uint32(retired / align)) },
		"a live series": func(m memory, retired, live uint64) { m.u32(retired + recLink).Store(uint32(live / align)) },
		"size":          func(m memory, retired, _ uint64) { m.u32(retired + recSize).Add(128) },
		"part":          func(m memory, retired, live uint64) { m.u32(retired + recParts).Store(uint32(live / align)) },
		"part at the end": func(m memory, retired, _ uint64) {
			m.u32(retired + recParts).Store(uint32(len(m)/align - 1))
		},
		"text": func(m memory, retired, _ uint64) { m[retired+recHeader+8*3] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, filepath.Join(t.TempDir(), "shop"), &Options{Limit: 1 << 20})
			gone := cells(t, b, requests, `code="1",method=""`)
			live := cells(t, b, requests, `code="2",method=""`)
			live[0].Add(7)
			retired := b.mem.offsetOf(gone) - recHeader
			if was, err := b.DeleteSeries(requests, `code="1",method=""`); !was || err != nil {
				t.Fatal(was, err)
			}
			damage(b.mem, retired, b.mem.offsetOf(live)-recHeader)
			for range 3 {
				b.Reclaim(func([]backend.Retired) {})
			}
			cells(t, b, requests, `code="`+long+`",method=""`)
			if again := cells(t, b, requests, `code="2",method=""`); again[0].Load() != 7 || &again[0] != &live[0] {
				t.Errorf("a live series has %d instead of 7", again[0].Load())
			}
			if b.damaged() == nil {
				t.Error("no damage was noticed")
			}
		})
	}
}
