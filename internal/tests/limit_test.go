package tests_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

func TestMaxSeries(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 2}, "a", "b")
		v.Declare(gotheus.Labels{"a": "d", "b": "d"})
		one, two := v.With("1", "1"), v.With("2", "2")
		v.With("1", "1")
		over := v.With("3", "3")
		over.Inc()
		for range 10 {
			v.WithLabels(gotheus.Labels{"a": "4", "b": "4"}).Inc()
		}
		if v.With("1", "1") != one || v.With("2", "2") != two || v.With("d", "d") == over || v.With("5", "5") != over {
			t.Error("wrong series beyond the limit")
		}
		if v.Partial(gotheus.Labels{"a": "6"}).With("6") != over || v.With(gotheus.OverflowValue, gotheus.OverflowValue) != over {
			t.Error("not the overflow series")
		}
		v.Declare(gotheus.Labels{"a": "3", "b": "3"})
		if v.With("3", "3") == over {
			t.Error("a declared series is not reached")
		}
		if v.With("\xff", "") != over {
			t.Error("a value that is not UTF-8 is not in the overflow series")
		}
		pageHas(t, r, `v_total{a="gotheus_overflow",b="gotheus_overflow"} 11`, `gotheus_overflowed_lookups_total{metric="v_total"} 14`)
		if n := strings.Count(log.String(), "metric=v_total max=2"); n != 1 {
			t.Errorf("%d lines in the log: %s", n, log)
		}
	})
}

func TestMaxSeriesOptions(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{MaxSeries: 1, Prefix: "p_"})
	fill := func(v *gotheus.Vec[gotheus.Gauge]) (series int) {
		seen := map[*gotheus.Gauge]bool{}
		for i := range 20 {
			seen[v.With(fmt.Sprint(i))] = true
		}
		return len(seen)
	}
	of := func(n int) *gotheus.GaugeOptions {
		return &gotheus.GaugeOptions{MaxSeries: n}
	}
	for n, want := range map[int]int{0: 2, 7: 8, -1: 20} {
		if got := fill(r.NewGaugeVec(fmt.Sprint("g", n+1), "G.", of(n), "x")); got != want {
			t.Errorf("MaxSeries %d: got %d series, want %d", n, got, want)
		}
	}
	pageHas(t, r, `p_gotheus_overflowed_lookups_total{metric="p_g1"} 19`, `p_gotheus_overflowed_lookups_total{metric="p_g8"} 13`)

	_, err := gotheus.TryNewVec[gotheus.Gauge](r, "g1", "G.", of(2), "x")
	isErr(t, err, gotheus.ErrConflict, "p_g1: it already has MaxSeries 1, not 2")
	if _, err := gotheus.TryNewVec[gotheus.Gauge](r, "g1", "G.", of(1), "x"); err != nil {
		t.Errorf("the registry's limit, given again: %v", err)
	}
	// A family that is registered again may have another limit.
	v := r.NewGaugeVec("back", "B.", of(1), "x")
	fill(v)
	r.HideFamily("back")
	if got := fill(r.NewGaugeVec("back", "B.", of(4), "x")); got != 5 {
		t.Errorf("after coming back: %d series", got)
	}

	none, log := newRegistry(t, &gotheus.RegistryOptions{MaxSeries: -1, NoSelfMetrics: true})
	if got := fill(none.NewGaugeVec("g", "G.", nil, "x")); got != 20 {
		t.Errorf("no limit: %d series", got)
	}
	fill(none.NewGaugeVec("h", "G.", of(3), "x"))
	var b strings.Builder
	if none.WriteText(&b); strings.Contains(b.String(), "gotheus_overflowed") || !strings.Contains(log.String(), "metric=h") {
		t.Errorf("without self-metrics: %s", b.String())
	}
	usual := r.NewGaugeVec("usual", "U.", of(10000), "x")
	if zero, _ := newRegistry(t, nil); usual != nil {
		_, err := gotheus.TryNewVec[gotheus.Gauge](zero, "usual", "U.", of(10000), "x")
		_, err2 := gotheus.TryNewVec[gotheus.Gauge](zero, "usual", "U.", nil, "x")
		if err != nil || err2 != nil {
			t.Errorf("10000 is not the default: %v, %v", err, err2)
		}
	}
}

// sharedBackends calls f for backends that registries, which stand for processes, share or come
// back to.
func sharedBackends(t *testing.T, f func(t *testing.T, open func(*gotheus.RegistryOptions) *gotheus.Registry)) {
	t.Helper()
	t.Run("shm", func(t *testing.T) {
		url := shmURL(t)
		f(t, func(o *gotheus.RegistryOptions) *gotheus.Registry {
			r, _ := newRegistry(t, o)
			bind(t, r, url)
			return r
		})
	})
	for _, shards := range []int{1, 3} {
		t.Run(fmt.Sprint(shards, " stores"), func(t *testing.T) {
			c := new(store.Config)
			for range shards {
				c.Shards = append(c.Shards, new(closable))
			}
			f(t, func(o *gotheus.RegistryOptions) *gotheus.Registry {
				r, _ := newRegistry(t, o)
				if err := r.BindStore(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				return r
			})
		})
	}
}

// count returns the number of series of a family on a page, the overflow series excepted.
func count(page, name string) (n int) {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, name+"{") && !strings.Contains(line, gotheus.OverflowValue) {
			n++
		}
	}
	return n
}

// The limit holds for the family in the backend, however often its processes start again, and for
// all modes. What is in the backend is found, also when the family is full.
func TestMaxSeriesOverRestarts(t *testing.T) {
	t.Parallel()
	sharedBackends(t, func(t *testing.T, open func(*gotheus.RegistryOptions) *gotheus.Registry) {
		const most, lives = 50, 3
		for life := range lives {
			r := open(&gotheus.RegistryOptions{MaxSeries: most})
			v := r.NewCounterVec("v_total", "V.", nil, "x", "y")
			v.Declare(gotheus.Labels{"x": "declared", "y": ""})
			w := r.NewCounterVec("w_total", "W.", nil, "x", "y")
			for i := range most + 20 {
				v.With(fmt.Sprint(life, "-", i), "y").Inc()
				w.With("the same", "y").Inc()
			}
			for i := range most { // those of the first life
				v.With(fmt.Sprint("0-", i), "y").Inc()
			}
			p := page(t, r)
			if n := count(p, "v_total"); n != most+1 {
				t.Errorf("life %d: %d series, want %d and a declared one", life, n, most)
			}
			for i := range most {
				if want := fmt.Sprintf("v_total{x=\"0-%d\",y=\"y\"} %d\n", i, 2+life); !strings.Contains(p, want) {
					t.Fatalf("life %d: no %s in\n%s", life, want, p)
				}
			}
			pageHas(t, r, fmt.Sprintf(`v_total{x="gotheus_overflow",y="gotheus_overflow"} %d`, 20+life*(most+20)), fmt.Sprintf(`w_total{x="the same",y="y"} %d`, (life+1)*(most+20)))
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The limit holds for several processes at once, except for what they create at the same moment.
// They find each other's series, also when the family is full, and what has moved there by binding
// counts, too.
func TestMaxSeriesOfAllProcesses(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	const processes, most = 4, 200
	o := &gotheus.RegistryOptions{MaxSeries: most}
	var rs []*gotheus.Registry
	for n := range processes {
		r, _ := newRegistry(t, o)
		v := r.NewCounterVec("v_total", "V.", nil, "x")
		for i := range most / 2 { // in the heap
			v.With(fmt.Sprint(n, " ", i)).Inc()
		}
		bind(t, r, url)
		rs = append(rs, r)
	}
	if n := count(page(t, rs[0]), "v_total"); n != most {
		t.Errorf("%d series, want %d", n, most)
	}
	pageHas(t, rs[0], fmt.Sprintf(`v_total{x="gotheus_overflow"} %d`, most))
	var wait sync.WaitGroup
	for n, r := range rs {
		w := r.NewCounterVec("w_total", "W.", nil, "x")
		other := r.NewCounterVec("other_total", "O.", &gotheus.CounterOptions{MaxSeries: -1}, "x")
		wait.Go(func() {
			for i := range most {
				w.With(fmt.Sprint(n, " ", i)).Inc()
				other.With(fmt.Sprint(n, " ", i)).Inc()
			}
		})
	}
	wait.Wait()
	if n := count(page(t, rs[0]), "w_total"); n < most || n >= most+processes {
		t.Errorf("%d series, want %d and at most %d that were made at once", n, most, processes-1)
	}
	for _, r := range rs {
		v := r.NewCounterVec("v_total", "V.", nil, "x")
		for i := range most / 2 {
			v.With(fmt.Sprint("0 ", i)).Inc()
		}
	}
	pageHas(t, rs[0], fmt.Sprintf(`v_total{x="0 7"} %d`, 1+processes), fmt.Sprintf(`v_total{x="gotheus_overflow"} %d`, most))
	// Series that others make when the family is full, here since they declare them, are found.
	rs[1].NewCounterVec("v_total", "V.", nil, "x").Declare(gotheus.Labels{"x": "late"})
	for _, r := range rs {
		r.NewCounterVec("v_total", "V.", nil, "x").With("late").Inc()
	}
	pageHas(t, rs[0], fmt.Sprintf(`v_total{x="late"} %d`, processes))
}

// The limit holds for gauges of which each process has its own.
func TestMaxSeriesOfParts(t *testing.T) {
	t.Parallel()
	sharedBackends(t, func(t *testing.T, open func(*gotheus.RegistryOptions) *gotheus.Registry) {
		of := func(r *gotheus.Registry) *gotheus.GaugeVec {
			return r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum, MaxSeries: 10}, "x")
		}
		fill := func(r *gotheus.Registry, name string) {
			for i := range 15 {
				of(r).With(fmt.Sprint(name, i)).Add(1)
			}
		}
		first := open(nil)
		fill(first, "a")
		page(t, first)
		second := open(nil)
		fill(second, "b")
		fill(second, "a")
		if n := count(page(t, second), "g"); n != 10 {
			t.Errorf("%d series, want 10", n)
		}
		pageHas(t, second, `g{x="a9"} 2`, `g{x="gotheus_overflow"} 25`)
		if err := errors.Join(first.Close(t.Context()), second.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		// Both have ended, and so have their parts.
		third := open(nil)
		fill(third, "c")
		fill(third, "a")
		if n := count(page(t, third), "g"); n != 10 {
			t.Errorf("after the others have ended: %d series, want 10", n)
		}
		pageHas(t, third, `g{x="c9"} 1`)
	})
}

// Deleted series make room, whichever process deletes them, and so does a higher limit.
func TestMaxSeriesRoom(t *testing.T) {
	t.Parallel()
	sharedBackends(t, func(t *testing.T, open func(*gotheus.RegistryOptions) *gotheus.Registry) {
		of := func(r *gotheus.Registry, most int) *gotheus.CounterVec {
			return r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: most}, "x")
		}
		a, b := open(nil), open(nil)
		for i := range 10 {
			of(a, 5).With(fmt.Sprint(i)).Inc()
		}
		page(t, a) // publishes them
		page(t, b)
		over := of(b, 5).With("new")
		if !of(a, 5).Delete("3") {
			t.Error("nothing was deleted")
		}
		if v := of(a, 5); v.With("a") == v.With("b") {
			t.Error("no room in the process that has deleted a series")
		}
		page(t, a)
		page(t, b)
		if of(b, 5).With("new") != over {
			t.Error("a series was made although the family is full")
		}
		of(a, 5).DeleteAll()
		page(t, a) // publishes the deletion
		backendtest.Eventually(t, "there is room", func() bool {
			page(t, b)
			return of(b, 5).With("new") != over
		})
		for i := range 10 {
			of(b, 5).With(fmt.Sprint(i)).Inc()
		}
		if n := count(page(t, b), "v_total"); n != 5 {
			t.Errorf("%d series, want 5", n)
		}
		b.HideFamily("v_total")
		for i := range 10 {
			of(b, 8).With(fmt.Sprint(i)).Inc()
		}
		if n := count(page(t, b), "v_total"); n != 8 {
			t.Errorf("%d series with a higher limit, want 8", n)
		}
	})
}

// A kept instrument of a series that was deleted counts in the overflow series if the family is
// full when it comes back.
func TestMaxSeriesComingBack(t *testing.T) {
	t.Parallel()
	sharedBackends(t, func(t *testing.T, open func(*gotheus.RegistryOptions) *gotheus.Registry) {
		r := open(nil)
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 2}, "x")
		kept := v.With("kept")
		v.With("other")
		v.Delete("kept")
		v.With("new").Inc()
		kept.Inc()
		pageHas(t, r, `v_total{x="new"} 1`, `v_total{x="other"} 0`, `v_total{x="gotheus_overflow"} 1`)
	})
}

// A look-up beyond the limit allocates nothing, also in a backend that processes share.
func TestOverflowAllocates(t *testing.T) {
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 2}, "x", "y")
		for i := range 5 {
			v.With(fmt.Sprint(i), "y")
		}
		page(t, r) // makes the library's own series
		v.With("more", "y")
		if n := testing.AllocsPerRun(1000, func() { v.With("yet", "another").Inc() }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// BenchmarkOverflow measures look-ups of unknown label sets in a family that is full: in the heap,
// in a file, and in a file in which other series are made all the time.
func BenchmarkOverflow(b *testing.B) {
	for _, where := range []string{"heap", "shm", "busy shm"} {
		b.Run(where, func(b *testing.B) {
			r, _ := newRegistry(b, nil)
			if where != "heap" {
				bind(b, r, shmURL(b))
			}
			v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 5000}, "x", "y")
			for i := range 6000 {
				v.With(fmt.Sprint(i), "y")
			}
			other := r.NewGaugeVec("other", "O.", &gotheus.GaugeOptions{MaxSeries: -1}, "x")
			var values [1024]string
			for i := range values {
				values[i] = fmt.Sprint("unknown ", i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if where == "busy shm" && i%100 == 0 {
					other.Delete("x")
					other.With("x")
				}
				v.With(values[i%len(values)], values[i/len(values)%len(values)]).Inc()
			}
		})
	}
}
