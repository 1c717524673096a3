package tests_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// These tests use one series through several instruments, registries and backends.

// A retained instrument moves with its registry even if another instrument has brought its series
// back.
func TestKeptInstrumentMovesAlong(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	first, second := shmURL(t), shmURL(t)
	bind(t, r, first)
	c := r.NewCounterVec("c_total", "C.", nil, "l")
	g := r.NewGaugeVec("g", "G.", nil, "l")
	sum := r.NewGaugeVec("sum", "S.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "l")
	keptC, keptG, keptSum := c.With("a"), g.With("a"), sum.With("a")
	c.DeleteAll()
	g.DeleteAll()
	sum.DeleteAll()
	c.With("a").Inc()
	g.With("a").Set(7)
	sum.With("a").Set(7)
	keptC.Inc()
	keptG.Set(8)
	keptSum.Add(1)
	pageHas(t, r, `c_total{l="a"} 2`, `g{l="a"} 8`, `sum{l="a"} 8`)
	r.Close(t.Context())
	if got := keptSum.Value(); got != 8 {
		t.Errorf("after Close: %v", got)
	}
	bind(t, r, second)
	keptC.Inc()
	c.With("a").Inc()
	keptSum.Add(1)
	pageHas(t, r, `c_total{l="a"} 2`, `sum{l="a"} 9`)
}

// In the heap, two instruments of a series share its words; binding carries their contents over
// once.
func TestTwoInstrumentsOfAGauge(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewGaugeVec("g", "G.", nil, "l")
	kept := v.With("a")
	v.DeleteAll()
	v.With("a").Set(6)
	kept.Set(7)
	bind(t, r, shmURL(t))
	pageHas(t, r, `g{l="a"} 7`)
}

// A series that waits for room and is deleted does not come back, and is not queued again and
// again.
func TestPostponedAndDeleted(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New(), err: fmt.Errorf("%w: for the test", backend.ErrFull)}
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	kept := v.With("a")
	for range 1000 {
		kept.Inc()
		v.DeleteAll()
	}
	var p strings.Builder
	r.WriteText(&p)
	_, n, _ := strings.Cut(p.String(), "\ngotheus_postponed_series ")
	n, _, _ = strings.Cut(n, "\n")
	// The family, perhaps the series, and the library's own six families and six series.
	if n != "13" && n != "14" {
		t.Error(p.String())
	}
	b.set(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if p := page(t, r); strings.Contains(p, `l="a"`) {
		t.Error(p)
	}
}

// A series that was brought back has the same TTL as before, no matter which instrument brought it
// back and what its value is.
func TestSecondLife(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	var vecs [2]*gotheus.Vec[gotheus.Counter]
	var regs [2]*gotheus.Registry
	for i := range regs {
		regs[i], _ = newRegistry(t, nil)
		bind(t, regs[i], url)
		vecs[i] = regs[i].NewCounterVec("c_total", "C.", &gotheus.CounterOptions{TTL: time.Hour}, "l")
	}
	at := func(minutes int) {
		for _, r := range regs {
			sweep(r, time.Unix(int64(minutes)*60, 0))
		}
	}
	vecs[0].With("a").Inc()
	at(1000)
	at(1050)
	vecs[0].DeleteAll()
	vecs[0].With("a").Inc()
	at(1065)
	pageHas(t, regs[1], `c_total{l="a"} 1`)
	at(1126)
	if p := page(t, regs[1]); strings.Contains(p, `l="a"`) {
		t.Error(p)
	}
}

// A series that comes back with the same words as before it was deleted has its whole TTL.
func TestSecondLifeOfAGauge(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{TTL: time.Hour}, "l")
	at := func(minutes int) { sweep(r, time.Unix(int64(minutes)*60, 0)) }
	v.With("a").Set(7)
	at(1000)
	v.DeleteAll()
	v.With("a").Set(7)
	at(1065)
	pageHas(t, r, `g{l="a"} 7`)
	at(1126)
	if p := page(t, r); strings.Contains(p, `l="a"`) {
		t.Error(p)
	}
}

// Series that another process has deleted do not count towards this process's limit.
func TestLimitAfterOthersDelete(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	a, _ := newRegistry(t, nil)
	b, _ := newRegistry(t, nil)
	bind(t, a, url)
	bind(t, b, url)
	va := a.NewCounterVec("c_total", "C.", nil, "l")
	vb := b.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{MaxSeries: 10}, "l")
	for round := range 5 {
		for i := range 10 {
			vb.With(fmt.Sprint(round, "-", i)).Inc()
		}
		if n := va.DeleteAll(); n < 10 {
			t.Fatalf("deleted %d", n)
		}
		vb.With("the one that finds out")
	}
	vb.With("new").Inc()
	pageHas(t, a, `c_total{l="new"} 1`)
}

// Delete panics only because of wrong labels.
func TestDeleteSurvivesTheBackend(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, log := newRegistry(t, nil)
	bind(t, r, url)
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	v.With("a").Inc()
	path, _, _ := strings.Cut(strings.TrimPrefix(url, "shm://"), "?")
	os.Remove(path + ".gotheus-v2")
	v.DeleteAll()
	if _, err := v.TryDeleteAll(); err == nil || !strings.Contains(log.String(), "was removed") {
		t.Errorf("%v: %s", err, log)
	}
	if _, err := v.TryDeleteMatching(gotheus.Labels{"x": "y"}); !errors.Is(err, gotheus.ErrLabels) {
		t.Error(err)
	}
}

// A look-up of a gauge is not an update, even after a deletion.
func TestJoining(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	a, _ := newRegistry(t, nil)
	b, _ := newRegistry(t, nil)
	bind(t, a, url)
	bind(t, b, url)
	o := &gotheus.GaugeOptions{Mode: gotheus.ModeMin}
	va, vb := a.NewGaugeVec("g", "G.", o, "l"), b.NewGaugeVec("g", "G.", o, "l")
	va.With("a").Set(5)
	vb.With("a").Set(6)
	va.DeleteAll()
	va.With("a")
	vb.With("a").Set(6)
	pageHas(t, a, `g{l="a"} 6`)
	va.With("a").Set(nan)
	pageHas(t, b, `g{l="a"} 6`)
}

// A TTL deletes only the registry's own series, and neither declared ones nor operations in
// progress.
func TestTTLSpares(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	eu, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "eu"}, TTL: time.Hour})
	us, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "us"}})
	also, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "eu"}, TTL: time.Hour})
	for _, r := range []*gotheus.Registry{eu, us, also} {
		bind(t, r, url)
		r.NewCounterVec("c_total", "C.", nil, "l").With("a").Inc()
	}
	eu.NewCounterVec("declared_total", "D.", nil, "l").Declare(gotheus.Labels{"l": "x"})
	also.NewCounterVec("declared_total", "D.", nil, "l").With("x")
	jobs := eu.NewGaugeVec("jobs", "J.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "l")
	jobs.With("a").Inc()
	for _, at := range []int64{1000, 9000} {
		sweep(also, time.Unix(at, 0))
		sweep(eu, time.Unix(at, 0))
	}
	if p := page(t, us); strings.Contains(p, `c_total{l="a",region="eu"}`) {
		t.Error(p)
	}
	pageHas(t, us, `c_total{l="a",region="us"} 1`, `declared_total{l="x",region="eu"} 0`, `jobs{l="a",region="eu"} 1`)
	jobs.With("a").Dec()
	pageHas(t, us, `jobs{l="a",region="eu"} 0`)
}

// Expiry, look-ups, deletion, Bind and Close run concurrently.
func TestTTLRaces(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, &gotheus.RegistryOptions{TTL: 8 * time.Millisecond, NoSelfMetrics: true})
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	g := r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModeLatest}, "l")
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 2 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					v.With(fmt.Sprint(i % 50)).Inc()
					g.With(fmt.Sprint(i % 50)).Set(1)
				}
			}
		}()
	}
	for range 60 {
		bind(t, r, url)
		v.DeleteMatching(gotheus.Labels{"l": "3"})
		page(t, r)
		r.Close(t.Context())
	}
	close(stop)
	wait.Wait()
}

func TestHideFamilyWithAnotherTTL(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	r.NewCounterVec("c_total", "C.", nil, "l")
	r.HideFamily("c_total")
	if _, err := gotheus.TryNewVec[gotheus.Counter](r, "c_total", "C.", &gotheus.CounterOptions{TTL: time.Hour}, "l"); !errors.Is(err, gotheus.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

// Many updates find concurrently that their series was deleted, while the backend has no room. One
// of them brings it back, and the counts of the others must not be lost.
func TestManyBringBackAtOnce(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New()}
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	g := r.NewGaugeVec("g", "G.", nil, "l")
	const goroutines, updates = 8, 20
	for round := range 300 {
		// A negative gauge: the sign bit is not a seal.
		kept, below := v.With("a"), g.With("a")
		b.set(nil)
		v.DeleteAll()
		g.DeleteAll()
		if round%2 == 0 {
			b.set(fmt.Errorf("%w: for the test", backend.ErrFull))
		}
		var wait sync.WaitGroup
		start := make(chan struct{})
		for range goroutines {
			wait.Add(1)
			go func() {
				defer wait.Done()
				<-start
				for range updates {
					kept.Inc()
					below.Dec()
				}
			}()
		}
		close(start)
		wait.Wait()
		if a, b := kept.Value(), below.Value(); a != goroutines*updates || b != -goroutines*updates {
			t.Fatalf("round %d: %v and %v, want %d", round, a, b, goroutines*updates)
		}
		b.set(nil)
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		pageHas(t, r, fmt.Sprintf(`c_total{l="a"} %d`, goroutines*updates), fmt.Sprintf(`g{l="a"} -%d`, goroutines*updates))
	}
}

// A series that waits for room is deleted, and its registry closed before the next attempt. A
// retained instrument brings it back in a backend that has no room either, which then is retried as
// for any other.
func TestDeletedWhileWaiting(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New(), err: fmt.Errorf("%w: for the test", backend.ErrFull)}
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	kept := v.With("a")
	v.DeleteAll()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	r.Close(over)
	again := &faulty{Backend: heap.New(), err: fmt.Errorf("%w: for the test", backend.ErrFull)}
	r.BindBackend(t.Context(), again)
	kept.Inc()
	again.set(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	pageHas(t, r, `c_total{l="a"} 1`)
}

// A backend that the registry has left can be garbage-collected, with its contents.
func TestLeftBackendIsCollected(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	early := r.NewCounterVec("early_total", "E.", nil, "l")
	early.With("a").Inc()
	left := func() weak.Pointer[heap.Backend] {
		b := heap.New()
		r.BindBackend(t.Context(), b)
		early.With("b").Inc()
		r.NewHistogramVec("late", "L.", nil, "l").With("a").Observe(1)
		r.Close(t.Context())
		return weak.Make(b)
	}()
	for range 3 {
		runtime.GC()
	}
	if left.Value() != nil {
		t.Error("it is still there")
	}
	runtime.KeepAlive(r)
}
