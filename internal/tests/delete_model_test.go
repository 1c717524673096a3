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
