package tests_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
)

type sinkFunc = gotheus.CollectorFunc

func TestCollector(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Prefix: "p_", Labels: gotheus.Labels{"zone": "a"}})
	r.NewGauge("m", "M.", nil)
	remove := r.Register(sinkFunc(func(ctx context.Context, s *gotheus.Sink) error {
		g := s.Gauge("queue_depth", "Messages.", "queue", "host")
		g.Put(3, "mail", "h2")
		g.Put(nan, "mail", "h1")
		s.Counter("c_total", "C.").Put(7)
		s.Untyped("u", "U.").Put(-1.5)
		s.Histogram("h", "H.", []float64{1, 2}).Put(5, 7.5, []uint64{1, 4})
		s.Summary("s", "S.", []float64{.5, .99}, "x").Put(5, 7.5, []float64{1, 4}, "y")
		s.Gauge("empty", "No series.")
		return nil
	}))
	want := `# HELP p_c_total C.
# TYPE p_c_total counter
p_c_total{zone="a"} 7
# HELP p_empty No series.
# TYPE p_empty gauge
# HELP p_h H.
# TYPE p_h histogram
p_h_bucket{zone="a",le="1"} 1
p_h_bucket{zone="a",le="2"} 4
p_h_bucket{zone="a",le="+Inf"} 5
p_h_sum{zone="a"} 7.5
p_h_count{zone="a"} 5
# HELP p_m M.
# TYPE p_m gauge
p_m{zone="a"} 0
# HELP p_queue_depth Messages.
# TYPE p_queue_depth gauge
p_queue_depth{host="h1",queue="mail",zone="a"} NaN
p_queue_depth{host="h2",queue="mail",zone="a"} 3
# HELP p_s S.
# TYPE p_s summary
p_s{x="y",zone="a",quantile="0.5"} 1
p_s{x="y",zone="a",quantile="0.99"} 4
p_s_sum{x="y",zone="a"} 7.5
p_s_count{x="y",zone="a"} 5
# HELP p_u U.
# TYPE p_u untyped
p_u{zone="a"} -1.5
`
	if got := page(t, r); got != want {
		t.Errorf("got:\n%s", got)
	}
	remove()
	if got := page(t, r); strings.Contains(got, "queue_depth") || !strings.Contains(got, "p_m") {
		t.Errorf("after remove:\n%s", got)
	}
}

// A collector's error affects only its own families, or only one of them.
func TestBadCollectors(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, nil)
	r.NewCounter("mine_total", "M.", nil).Inc()
	for _, c := range []sinkFunc{
		func(ctx context.Context, s *gotheus.Sink) error {
			s.Gauge("lost_by_panic", "L.").Put(1)
			panic("oops")
		},
		func(ctx context.Context, s *gotheus.Sink) error {
			s.Gauge("lost_by_exit", "L.").Put(1)
			runtime.Goexit()
			return nil
		},
		func(ctx context.Context, s *gotheus.Sink) error {
			s.Gauge("lost_by_error", "L.").Put(1)
			return errors.New("out of luck")
		},
		func(ctx context.Context, s *gotheus.Sink) error {
			s.Gauge("good", "G.").Put(1)
			s.Gauge("bad\nname", "B.").Put(1)
			s.Gauge("bad_label", "B.", "__x").Put(1, "x")
			s.Gauge("good_utf8", "B.", "x").Put(1, "\xff")
			s.Gauge("bad_number", "B.", "x").Put(1)
			twice := s.Gauge("bad_twice", "B.", "x")
			twice.Put(1, "x")
			twice.Put(2, "x")
			s.Counter("bad_counter", "B.").Put(-1)
			s.Counter("bad_nan", "B.").Put(nan)
			s.Histogram("bad_bounds", "B.", []float64{2, 1}).Put(1, 1, []uint64{1, 1})
			s.Histogram("bad_buckets", "B.", []float64{1, 2}).Put(1, 1, []uint64{1})
			s.Histogram("bad_order", "B.", []float64{1, 2}).Put(2, 1, []uint64{2, 1})
			s.Histogram("bad_count", "B.", []float64{1, 2}).Put(1, 1, []uint64{1, 2})
			s.Histogram("bad_sum", "B.", nil).Put(1, nan, nil)
			s.Summary("bad_quantile", "B.", []float64{1.5}).Put(1, 1, []float64{1})
			s.Summary("bad_values", "B.", []float64{.5}).Put(1, 1, nil)
			s.Gauge("good", "Again.").Put(2)
			return nil
		},
		func(ctx context.Context, s *gotheus.Sink) error {
			s.Histogram("hist", "H.", nil).Put(1, 1, nil)
			return nil
		},
		func(ctx context.Context, s *gotheus.Sink) error {
			s.Gauge("mine_total", "Not mine.").Put(1)
			s.Gauge("also_good", "G.").Put(1)
			s.Gauge("hist_count", "Clashes.").Put(1)
			return nil
		},
	} {
		r.Register(c)
	}
	pageHas(t, r, "mine_total 1", "good 1", "good_utf8{x=\"\uFFFD\"} 1", "also_good 1", "hist_count 1")
	// Errors of three collectors and fifteen families, and two families that clash; then the
	// same again.
	pageHas(t, r, "gotheus_collector_errors_total 38")
	for _, bad := range []string{"lost_", "bad", "Not mine", "Again", "Clashes"} {
		if p := page(t, r); strings.Contains(p, bad) {
			t.Errorf("%s is on the page:\n%s", bad, p)
		}
	}
	for _, want := range []string{"panic: oops", "collect_test.go", "out of luck", "it ended its goroutine"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%q is not logged once:\n%s", want, log)
		}
	}
}

// A scrape stops waiting for a hanging collector before its deadline, and does not call it again
// until it has returned.
func TestHangingCollector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time advances only while all goroutines are blocked
		r, log := newRegistry(t, nil)
		r.NewCounter("mine_total", "M.", nil)
		release := make(chan struct{})
		var calls atomic.Int32
		back := make(chan struct{})
		r.Register(sinkFunc(func(ctx context.Context, s *gotheus.Sink) error {
			if calls.Add(1) > 1 {
				s.Gauge("recovered", "R.").Put(1)
				return nil
			}
			defer close(back)
			<-release
			s.Gauge("hung", "H.").Put(1)
			return nil
		}))
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var p strings.Builder
			if err := r.Write(ctx, &p, nil); err != nil {
				t.Error(err)
			}
			if !strings.Contains(p.String(), "mine_total 0\n") || strings.Contains(p.String(), "hung 1") {
				t.Errorf("page: %s", &p)
			}
			if want := fmt.Sprintf("gotheus_collector_errors_total %d\n", i+1); !strings.Contains(p.String(), want) {
				t.Errorf("the page does not contain %s: %s", want, &p)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("called %d times", n)
		}
		close(release)
		<-back
		synctest.Wait()
		if p := page(t, r); !strings.Contains(p, "recovered 1") {
			t.Errorf("the collector is not called again: %s", p)
		}
		if !strings.Contains(log.String(), "did not return in time") {
			t.Errorf("log: %s", log)
		}
	})
}

// Scrapes that allow next to no time cost others nothing: neither what collectors give, nor what
// process collectors and functions have stored. They are no errors, and fill no log.
func TestImpatientScrapes(t *testing.T) {
	t.Parallel()
	for _, honours := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, log := newRegistry(t, nil)
			slowly := func(ctx context.Context) error {
				if !honours {
					time.Sleep(200 * time.Millisecond)
					return nil
				}
				select {
				case <-time.After(200 * time.Millisecond):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			r.Register(sinkFunc(func(ctx context.Context, s *gotheus.Sink) error {
				s.Gauge("world", "W.").Put(1)
				return slowly(ctx)
			}))
			r.Register(gotheus.ProcessCollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
				s.Gauge("process", "P.").Put(1)
				return slowly(ctx)
			}))
			r.NewGaugeFunc("function", "F.", nil, func() (float64, error) { return 1, slowly(t.Context()) })
			scrape := func(allowed time.Duration, strict bool) (string, error) {
				ctx, cancel := context.WithTimeout(t.Context(), allowed)
				defer cancel()
				var p strings.Builder
				err := r.Write(ctx, &p, &gotheus.WriteOptions{Strict: strict})
				return p.String(), err
			}
			scrape(10*time.Second, false)
			over := make(chan struct{})
			go func() {
				defer close(over)
				for i := range 100 {
					p, err := scrape(time.Millisecond, i%2 == 0)
					if i%2 == 0 && !errors.Is(err, gotheus.ErrPartial) {
						t.Errorf("an impatient strict scrape: %v", err)
					}
					if i%2 != 0 && (!strings.Contains(p, "process 1\n") || !strings.Contains(p, "function 1\n")) {
						t.Errorf("what is stored has gone: %v\n%s", err, p)
					}
					time.Sleep(50 * time.Millisecond)
				}
			}()
			for range 10 {
				time.Sleep(70 * time.Millisecond)
				p, err := scrape(10*time.Second, true)
				if err != nil {
					t.Error(err)
				}
				for _, want := range []string{"world 1\n", "process 1\n", "function 1\n", "gotheus_collector_errors_total 0\n"} {
					if !strings.Contains(p, want) {
						t.Errorf("a patient page, collectors that honour ctx: %v: no %q: %s", honours, want, p)
					}
				}
			}
			<-over
			time.Sleep(time.Second) // the last runs go on for nobody
			if n := strings.Count(log.String(), "\n"); n != 3 {
				t.Errorf("%d lines, want one for each collector: %s", n, log)
			}
		})
	}
}

// What is wrong with a run is counted and logged once, before any scrape that shares it goes on.
func TestSharedRunReportsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, log := newRegistry(t, nil)
		release := make(chan struct{})
		r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
			<-release
			s.Gauge("bad", "B.").Put(1, "one value too many")
			return nil
		}))
		var wait sync.WaitGroup
		for range 5 { // one run for the first, one for the others
			wait.Go(func() {
				page(t, r)
				if !strings.Contains(log.String(), "metric=bad") {
					t.Errorf("a page came before the log: %q", log)
				}
			})
			synctest.Wait()
		}
		close(release)
		wait.Wait()
		pageHas(t, r, "gotheus_collector_errors_total 3") // with this page's
	})
}
