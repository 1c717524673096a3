package tests_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrictest"
)

// deletionModel is a label set that goroutines add to and delete. Those that add hold mu for
// reading, so that several do so at once; one that deletes holds it for writing, so that it knows
// what it takes. All else is concurrent.
type deletionModel struct {
	mu     sync.RWMutex
	exists atomic.Bool
	n      atomic.Int64
}

// Series are made, updated, looked up, deleted one by one and by matching, and shown, all at once.
// In the end every series has exactly what was counted since it was last deleted, in every kind of
// family, and Delete has always reported whether there was a series.
func TestDeletionModel(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"heap", "shm", "two processes' registries"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			registries := make([]*gotheus.Registry, 1)
			if where == "two processes' registries" {
				registries = make([]*gotheus.Registry, 2)
			}
			url := strings.Replace(shmURL(t), "2MiB", "64MiB", 1)
			for i := range registries {
				registries[i], _ = newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
				if where != "heap" {
					bind(t, registries[i], url)
				}
			}
			testDeletionModel(t, registries)
		})
	}
}

func testDeletionModel(t *testing.T, registries []*gotheus.Registry) {
	const groups, members, goroutines, rounds = 4, 16, 4, 1500
	type vecs struct {
		counter, striped *gotheus.Vec[gotheus.Counter]
		hist             *gotheus.Vec[gotheus.Histogram]
		sum              *gotheus.Vec[gotheus.Gauge]
	}
	all := make([]vecs, len(registries))
	for i, r := range registries {
		all[i] = vecs{
			r.NewCounterVec("counter_total", "C.", nil, "group", "member"),
			r.NewCounterVec("striped_total", "C.", &gotheus.CounterOptions{Stripes: 2}, "group", "member"),
			r.NewHistogramVec("hist", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{}}, "group", "member"),
			r.NewGaugeVec("sum", "S.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "group", "member"),
		}
	}
	var models [groups][members]deletionModel
	values := func(g, m int) (string, string) { return strconv.Itoa(g), fmt.Sprintf("member-%d", m) }
	add := func(v *vecs, rnd *rand.Rand, g, m int) {
		model := &models[g][m]
		model.mu.RLock()
		defer model.mu.RUnlock()
		a, b := values(g, m)
		v.counter.With(a, b).Inc()
		v.striped.With(a, b).Inc()
		// so many values need further blocks
		v.hist.With(a, b).Observe(float64(rnd.IntN(1000) * rnd.IntN(1000)))
		v.sum.With(a, b).Add(1)
		model.n.Add(1)
		model.exists.Store(true)
	}
	remove := func(v *vecs, g, m int) {
		model := &models[g][m]
		model.mu.Lock()
		defer model.mu.Unlock()
		a, b := values(g, m)
		want := model.exists.Swap(false)
		for name, was := range map[string]bool{"counter": v.counter.Delete(a, b), "striped": v.striped.Delete(a, b), "hist": v.hist.Delete(a, b), "sum": v.sum.Delete(a, b)} {
			if was != want {
				t.Errorf("Delete of %s %s, %s: %v, want %v", name, a, b, was, want)
			}
		}
		model.n.Store(0)
	}
	removeGroup := func(v *vecs, g int) {
		want := 0
		for m := range members {
			model := &models[g][m]
			model.mu.Lock()
			defer model.mu.Unlock()
			if model.exists.Swap(false) {
				want++
			}
			model.n.Store(0)
		}
		match := gotheus.Labels{"group": strconv.Itoa(g)}
		for name, n := range map[string]int{"counter": v.counter.DeleteMatching(match), "striped": v.striped.DeleteMatching(match), "hist": v.hist.DeleteMatching(match), "sum": v.sum.DeleteMatching(match)} {
			if n != want {
				t.Errorf("DeleteMatching of %s, group %d: %d, want %d", name, g, n, want)
			}
		}
	}
	var working, paging sync.WaitGroup
	var stop atomic.Bool
	for _, r := range registries {
		paging.Go(func() {
			for !stop.Load() {
				page(t, r)
				runtime.Gosched()
			}
		})
	}
	for i := range registries {
		for k := range goroutines {
			working.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), uint64(k)))
				for range rounds {
					g, m := rnd.IntN(groups), rnd.IntN(members)
					switch p := rnd.IntN(100); {
					case p < 70:
						add(&all[i], rnd, g, m)
					case p < 98:
						remove(&all[i], g, m)
					default:
						removeGroup(&all[i], g)
					}
				}
			})
		}
	}
	working.Wait()
	stop.Store(true)
	paging.Wait()
	for i, r := range registries {
		p := gotheus.Must(metrictest.Read(r))
		exist := 0
		for g := range groups {
			for m := range members {
				model := &models[g][m]
				a, b := values(g, m)
				labels := fmt.Sprintf("{group=%q,member=%q}", a, b)
				if model.exists.Load() {
					exist++
				}
				for _, sample := range []string{"counter_total" + labels, "striped_total" + labels, "hist_count" + labels, "sum" + labels} {
					v, ok := p.Value(sample)
					if ok != model.exists.Load() || int64(v) != model.n.Load() {
						t.Errorf("registry %d: %s is %v (on the page: %v), want %d (%v)", i, sample, v, ok, model.n.Load(), model.exists.Load())
					}
				}
			}
		}
		if exist == 0 || exist == groups*members {
			t.Errorf("%d of %d series exist: the test proves little", exist, groups*members)
		}
	}
}

// More goroutines than processors delete label sets of a large family, while others make new ones
// and look up old ones. The backlog drains: at ten milliseconds each, which a walk over all series
// takes, it would take minutes.
func TestDeletionBacklog(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"heap", "shm"} {
		t.Run(where, func(t *testing.T) {
			r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, MaxSeries: -1})
			if where == "shm" {
				bind(t, r, strings.Replace(shmURL(t), "2MiB", "64MiB", 1))
			}
			const series = 20000
			v := r.NewCounterVec("tenants_total", "T.", nil, "tenant", "part")
			names := make([]string, 2*series)
			for i := range names {
				names[i] = "tenant-" + strconv.Itoa(i)
			}
			for _, name := range names[:series] {
				v.With(name, "a").Inc()
			}
			backlog := make(chan string, series)
			for _, name := range names[:series] {
				backlog <- name
			}
			close(backlog)
			start := time.Now()
			var deleted atomic.Int64
			var wait sync.WaitGroup
			for range 4 * runtime.GOMAXPROCS(0) {
				wait.Go(func() {
					for name := range backlog {
						if v.Delete(name, "a") {
							deleted.Add(1)
						}
						if time.Since(start) > 20*time.Second {
							return
						}
					}
				})
			}
			wait.Go(func() {
				for _, name := range names[series:] {
					v.With(name, "a").Inc()
				}
			})
			wait.Wait()
			if n := deleted.Load(); n != series {
				t.Fatalf("%d of %d deleted in %v", n, series, time.Since(start))
			}
			p := gotheus.Must(metrictest.Read(r))
			for _, name := range names[series:] {
				if value, ok := p.Value(fmt.Sprintf(`tenants_total{part="a",tenant=%q}`, name)); !ok || value != 1 {
					t.Fatalf("%s is %v", name, value)
				}
			}
			if n := p.Series("tenants_total"); n != series {
				t.Errorf("%d series are left, want %d", n, series)
			}
		})
	}
}

// Deleting one label set also deletes what only kept instruments refer to, and makes room in the
// family's limit exactly once.
func TestDeleteOne(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"heap", "shm"} {
		r, log := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		if where == "shm" {
			bind(t, r, shmURL(t))
		}
		v := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{MaxSeries: 2}, "l")
		v.Declare(gotheus.Labels{"l": "declared"})
		has := func(lines ...string) {
			t.Helper()
			want := "# HELP c_total C.\n# TYPE c_total counter\n"
			for _, line := range lines {
				want += "c_total" + line + "\n"
			}
			var got strings.Builder
			if err := r.WriteText(&got); err != nil || got.String() != want {
				t.Errorf("%s: %v\n%s\nwant\n%s", where, err, got.String(), want)
			}
		}
		kept := v.With("a")
		kept.Inc()
		if !v.Delete("a") || v.Delete("a") {
			t.Errorf("%s: Delete reports what is not so", where)
		}
		has(`{l="declared"} 0`)
		kept.Inc()
		again := v.With("a")
		if again == kept {
			t.Errorf("%s: a look-up returns a deleted instrument", where)
		}
		again.Inc()
		kept.Inc()
		has(`{l="a"} 3`, `{l="declared"} 0`)
		if n := v.DeleteMatching(gotheus.Labels{"l": "a"}); n != 1 || v.Delete("a") {
			t.Errorf("%s: %d deleted, want 1", where, n)
		}
		has(`{l="declared"} 0`)
		again.Inc()
		kept.Inc()
		has(`{l="a"} 2`, `{l="declared"} 0`)
		v.Delete("a")
		v.Delete("declared") // does not count towards the limit
		v.Delete("none")

		v.With("b").Inc()
		v.With("c").Inc()
		v.With("d").Inc()
		has(`{l="b"} 1`, `{l="c"} 1`, `{l="gotheus_overflow"} 1`)
		if !v.Delete("b") || !v.Delete(gotheus.OverflowValue) {
			t.Errorf("%s: Delete finds nothing", where)
		}
		v.With("d").Inc()
		v.With("e").Inc()
		has(`{l="c"} 1`, `{l="d"} 1`, `{l="gotheus_overflow"} 1`)
		if v.DeleteAll() != 3 {
			t.Errorf("%s: DeleteAll does not find 3", where)
		}
		v.With("f").Inc()
		v.With("g").Inc()
		has(`{l="f"} 1`, `{l="g"} 1`)
		if s := log.String(); strings.Contains(s, "fail") {
			t.Error(s)
		}
	}
}

// A series that waits for room in a backend is deleted before it gets there.
func TestDeleteOneThatWaits(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New()}
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	b.set(backend.ErrFull)
	v.With("a").Add(5)
	v.With("b").Add(7)
	if !v.Delete("a") || v.Delete("a") {
		t.Error("Delete reports what is not so")
	}
	b.set(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.With("a").Inc()
	pageHas(t, r, `c_total{l="a"} 1`, `c_total{l="b"} 7`)
}

// A process that has never read the file deletes a series with its exponential buckets, exemplars
// and the parts of all processes: when it comes back, nothing of it counts.
func TestDeleteOneUnread(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	define := func() (*gotheus.Registry, *gotheus.Vec[gotheus.Histogram], *gotheus.Vec[gotheus.Gauge]) {
		r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		bind(t, r, url)
		return r, r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{}}, "l"),
			r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "l")
	}
	r, h, g := define()
	use := func() {
		for i := range 100 { // more than the first buckets
			h.With("a").ObserveExemplar(float64(int(1)<<(i%50)), gotheus.Labels{"trace": strconv.Itoa(i)})
		}
		h.With("b").Observe(1)
		g.With("a").Add(2)
	}
	use()
	read := func() string {
		var b strings.Builder
		if err := r.Write(t.Context(), &b, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.Protobuf}}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if !strings.Contains(read(), "trace") {
		t.Fatal("there is no exemplar")
	}
	_, h2, g2 := define()
	if !h2.Delete("a") || h2.Delete("a") || !g2.Delete("a") || g2.Delete("a") || g2.Delete("b") {
		t.Error("Delete reports what is not so")
	}
	pageHas(t, r, `h_count{l="b"} 1`)
	if p := page(t, r); strings.Contains(p, `{l="a"`) {
		t.Errorf("after the deletion:\n%s", p)
	}
	h.With("a").Observe(3)
	g.With("a").Add(1)
	pageHas(t, r, `h_count{l="a"} 1`, `h_sum{l="a"} 3`, `g{l="a"} 1`)
	if strings.Contains(read(), "trace") {
		t.Error("an exemplar has outlived its series")
	}
}
