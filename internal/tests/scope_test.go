package tests_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/store"
)

// count makes every worker update its own and shared metrics, and gauges of several modes.
func countInScopes(workers []*worker) {
	for i, w := range workers {
		w.do(command{Do: "counter", Name: "c_total"})
		w.do(command{Do: "inc", Name: "c_total", Values: values("a"), V: float64(i + 1)})
		w.do(command{Do: "gauge", Name: "each", Mode: backend.PerInstance})
		w.do(command{Do: "set", Name: "each", Values: values("a"), V: float64(i + 1)})
		w.do(command{Do: "gauge", Name: "most", Mode: backend.Max})
		w.do(command{Do: "set", Name: "most", Values: values("a"), V: float64(i + 1)})
	}
}

// scoped returns a page's lines without those about candidates.
func (w *worker) scoped(s gotheus.Scope) []string {
	w.t.Helper()
	var lines []string
	for _, line := range strings.Split(w.do(command{Do: "page", Scope: s}), "; ") {
		if !strings.HasPrefix(line, "gotheus_") {
			lines = append(lines, line)
		}
	}
	return lines
}

// One of several processes shows the total, and each its own series. When that process dies,
// another takes over.
func TestScopeLeader(t *testing.T) {
	t.Parallel()
	for name, url := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where := url(t)
			workers := []*worker{startWorker(t, where)}
			if name != "heap" {
				workers = append(workers, startWorker(t, where), startWorker(t, where))
			}
			countInScopes(workers)
			for len(workers) > 0 {
				for _, w := range workers {
					// Makes each of them a candidate.
					w.scoped(gotheus.ScopeLeader)
				}
				leader := -1
				for i, w := range workers {
					lines := w.scoped(gotheus.ScopeLeader)
					own := ""
					for _, l := range lines {
						if v, ok := strings.CutPrefix(l, `each{l="a"} `); ok && own == "" {
							own = v
						} else if strings.HasPrefix(l, "each") {
							t.Errorf("worker %d shows series of another: %q", i, lines)
						}
					}
					if own == "" {
						t.Fatalf("worker %d does not show its own series: %q", i, lines)
					}
					switch total := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "c_total") }); {
					case total && leader >= 0:
						t.Fatalf("workers %d and %d lead: %q", leader, i, lines)
					case total:
						leader = i
						most := "3"
						if name == "heap" || len(workers) == 1 {
							most = own // of the live processes
						}
						want := []string{`c_total{l="a"} 6`, fmt.Sprintf(`each{l="a"} %s`, own), `most{l="a"} ` + most}
						if name == "heap" {
							want[0] = `c_total{l="a"} 1`
						}
						if len(workers) == 2 {
							// Depends on which has died.
							want[2] = lines[2]
						}
						if !slices.Equal(lines, want) {
							t.Errorf("the leader shows %q, want %q", lines, want)
						}
					case len(lines) != 1:
						t.Errorf("worker %d does not lead and shows %q", i, lines)
					}
				}
				if leader < 0 {
					t.Fatal("no worker leads")
				}
				if name == "heap" {
					return
				}
				workers[leader].kill()
				workers = slices.Delete(workers, leader, leader+1)
			}
		})
	}
}

// Each page has the counts of its process alone. Backends in which all count in the same words do
// not support that.
func TestScopeOwn(t *testing.T) {
	t.Parallel()
	for name, url := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where := url(t)
			a, b := startWorker(t, where), startWorker(t, url(t))
			if name != "heap" {
				b = startWorker(t, where)
			}
			early := ""
			if name == "syncer" { // listing starts before or after counting
				early = a.do(command{Do: "page", Scope: gotheus.ScopeOwn})
			}
			countInScopes([]*worker{a, b})
			if name == "shm" {
				r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
				if err := r.Bind(t.Context(), where); err != nil {
					t.Fatal(err)
				}
				defer r.Close(context.Background())
				var page strings.Builder
				err := r.Write(t.Context(), &page, &gotheus.WriteOptions{Scope: gotheus.ScopeOwn})
				if !errors.Is(err, gotheus.ErrScope) || page.Len() > 0 {
					t.Errorf("%v, page %q", err, page.String())
				}
				rec := httptest.NewRecorder()
				(&metrichttp.Handler{Registry: r, Scope: gotheus.ScopeOwn}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
				if rec.Code != http.StatusInternalServerError || !strings.Contains(rec.Body.String(), "one value for all processes") {
					t.Errorf("%d %s", rec.Code, rec.Body)
				}
				return
			}
			if early != "" {
				t.Errorf("a process without metrics shows %s", early)
			}
			for i, w := range []*worker{a, b} {
				want := []string{fmt.Sprintf(`c_total{l="a"} %d`, i+1), fmt.Sprintf(`each{l="a"} %d`, i+1), fmt.Sprintf(`most{l="a"} %d`, i+1)}
				if lines := w.scoped(gotheus.ScopeOwn); !slices.Equal(lines, want) {
					t.Errorf("worker %d shows %q, want %q", i, lines, want)
				}
			}
			a.do(command{Do: "delete", Name: "c_total"})
			for i, w := range []*worker{a, b} {
				w.do(command{Do: "page"}) // reads that the series was deleted
				lines := w.scoped(gotheus.ScopeOwn)
				if gone := len(lines) == 2; gone != (i == 0 || name != "heap") {
					t.Errorf("after the deletion, worker %d shows %q", i, lines)
				}
			}
		})
	}
}

// A page of a process's own series has all that a page without a backend has.
func TestScopeOwnIsLikeHeap(t *testing.T) {
	t.Parallel()
	count := func(r *gotheus.Registry) {
		v := r.NewCounterVec("c_total", "C.", nil, "l")
		v.With("a").AddExemplar(2.5, gotheus.Labels{"trace_id": "x"})
		r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}, Native: &gotheus.NativeOptions{Factor: 1.1}}).Observe(1.5)
		r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}}).Observe(3)
		r.NewGauge("g", "G.", nil).Add(7)
		r.NewGauge("mean", "M.", &gotheus.GaugeOptions{Mode: gotheus.ModeMean}).Set(4)
		r.NewInfo("build_info", "B.", gotheus.Labels{"version": "1"})
		r.NewCounterVec("empty_total", "Nothing.", nil, "l")
	}
	page := func(r *gotheus.Registry) string {
		var b strings.Builder
		for f, err := range r.FamiliesIn(t.Context(), gotheus.ScopeOwn) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, f.Name, f.Help, f.Type)
			for p := range f.Points() {
				fmt.Fprint(&b, p.Labels)
				if n := p.Number; n != nil {
					fmt.Fprintln(&b, n.Value(), n.Exemplar.Value)
				} else {
					fmt.Fprintln(&b, p.Distribution.Count, p.Distribution.Sum, p.Distribution.Buckets, p.Distribution.Native, p.Distribution.Quantiles)
				}
			}
		}
		return b.String()
	}
	local := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	count(local)
	want := page(local)
	stores := make([]backendtest.Memory, 3)
	for name, open := range map[string]func() []store.Store{
		"syncer":  func() []store.Store { return []store.Store{&stores[0]} },
		"sharded": func() []store.Store { return []store.Store{&stores[0], &stores[1], &stores[2]} },
	} {
		clear(stores)
		var other *gotheus.Registry
		for _, early := range []bool{true, false} { // bind before counting, and after
			r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: quiet})
			if !early {
				count(r)
			}
			if err := r.BindStore(t.Context(), &store.Config{Shards: open()}); err != nil {
				t.Fatal(err)
			}
			defer r.Close(context.Background())
			if early {
				page(r)
				count(r)
			}
			if err := r.WriteText(new(strings.Builder)); err != nil {
				t.Fatal(err)
			}
			full := want
			if !early { // exemplars are not carried over
				full = strings.Replace(want, "2.5 2.5", "2.5 0", 1)
			}
			if got := page(r); got != full {
				t.Errorf("%s, early %v:\n%s\nnot\n%s", name, early, got, full)
			}
			if other != nil && page(other) != want {
				t.Errorf("%s: what another process counts is shown", name)
			}
			other = r
		}
	}
}

// With ScopeLeader, only the leader shows collectors that are alike in all processes, and totals
// about the backend. Each process shows its own series.
func TestScopeLeaderCollectors(t *testing.T) {
	t.Parallel()
	memory := new(backendtest.Memory)
	down := &failingStore{Store: memory}
	var list []*gotheus.Registry
	asked := 0
	for i := range 2 {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{Prefix: "p_", Logger: quiet})
		r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
			asked++
			s.Gauge("world", "W.").Put(1)
			return nil
		}))
		r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
			s.Gauge("mine", "M.").Put(float64(i))
			return nil
		}))
		s := store.Store(memory)
		if i == 1 {
			s = down
		}
		if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{s}, Options: store.Options{ServeStale: true}}); err != nil {
			t.Fatal(err)
		}
		defer r.Close(context.Background())
		list = append(list, r)
	}
	page := func(i int) (string, error) {
		var b strings.Builder
		err := list[i].Write(t.Context(), &b, &gotheus.WriteOptions{Scope: gotheus.ScopeLeader})
		return b.String(), err
	}
	for i, want := range []string{"p_gotheus_leader 1", "p_gotheus_leader 0"} {
		p, err := page(i)
		if err != nil || !strings.Contains(p, want+"\n") || !strings.Contains(p, fmt.Sprint("p_mine ", i, "\n")) || !strings.Contains(p, "\np_gotheus_backend_up 1\n") {
			t.Errorf("%v: page %d:\n%s", err, i, p)
		}
		if total := i == 0; strings.Contains(p, "p_world 1") != total || strings.Contains(p, "p_gotheus_series ") != total || strings.Contains(p, "p_gotheus_build_info") != total {
			t.Errorf("page %d:\n%s", i, p)
		}
	}
	if asked != 1 {
		t.Errorf("the collector was called %d times", asked)
	}
	// A process that cannot read the backend does not know the leader, even if it may show the
	// last state.
	down.fail.Store(true)
	if p, err := page(1); !errors.Is(err, gotheus.ErrStale) || p != "" {
		t.Errorf("%v, page %s", err, p)
	}
	if err := list[1].Write(t.Context(), new(strings.Builder), nil); err == nil || errors.Is(err, gotheus.ErrStale) {
		t.Errorf("with the scope All: %v", err)
	}
	down.fail.Store(false)
}

type failingStore struct {
	store.Store
	fail atomic.Bool
}

func (s *failingStore) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	if s.fail.Load() {
		return nil, errors.New("the network is down")
	}
	return s.Store.Heads(ctx, names)
}
