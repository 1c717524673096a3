package syncer_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/metrictest"
	"github.com/gotheus/gotheus/store"
)

// Unpublished counts changed words of every kind, and reports the longest time that they may have
// waited.
func TestUnpublished(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	p := m.start()
	want := func(words int, lag time.Duration) {
		t.Helper()
		if w, l := p.s.Unpublished(); w != words || l != lag {
			t.Errorf("%d words for %v, want %d for %v", w, l, words, lag)
		}
	}
	publish := func() {
		t.Helper()
		if err := p.s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want(0, 0)
	latest := &backend.Family{Name: "latest", Help: "L.", Kind: backend.Gauge, Mode: backend.Latest}
	c, h, g, l := p.words(counter, `x="1"`), p.words(histogram, ""), p.words(shared, ""), p.words(latest, "")
	c[backend.CounterInt].Add(3)
	m.now = m.now.Add(time.Second)
	want(1, time.Second) // not in the directory yet
	publish()
	want(0, 0)
	m.now = m.now.Add(2 * time.Second)
	want(0, 0)
	c[backend.CounterInt].Add(1)
	h[backend.HistogramBuckets].Add(1)
	addFloat(&h[backend.HistogramSum], 1.5)
	addFloat(&g[backend.GaugeValue], 2)
	want(4, 2*time.Second)
	p.net.Next = func() backendtest.Fault { return backendtest.LoseRequest }
	for range 3 {
		if p.s.Publish(t.Context()) == nil {
			t.Fatal("published without a network")
		}
		m.now = m.now.Add(time.Minute)
	}
	if w, lag := p.s.Unpublished(); w != 4 || lag != 3*time.Minute+2*time.Second {
		t.Errorf("%d words for %v after a failure", w, lag)
	}
	p.net.Next = func() backendtest.Fault { return backendtest.None }
	publish()
	want(0, 0)
	// Sets.
	g[backend.GaugeFlags].Or(backend.GaugeIsSet)
	g[backend.GaugeValue].Store(math.Float64bits(7))
	want(1, 0)
	l[backend.GaugeValue].Store(math.Float64bits(7))
	l[backend.GaugeFlags].Store(backend.GaugeIsSet)
	l[backend.GaugeTicket].Store(p.s.Tickets().Add(1))
	if w, _ := p.s.Unpublished(); w < 3 {
		t.Errorf("%d words after two Sets", w)
	}
	publish()
	want(0, 0)
	addFloat(&g[backend.GaugeValue], 2)
	want(1, 0)
	publish()
	want(0, 0)
	// A deleted series has nothing to publish.
	c[backend.CounterInt].Add(1)
	if _, err := p.s.Delete(counter, func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	want(0, 0)
	publish()
	p.words(counter, `x="1"`)[backend.CounterInt].Add(1)
	want(1, 0)
	publish()
	want(0, 0)
	// A store that has lost everything has no words.
	m.store.Restore(backendtest.Snapshot{})
	for range 3 {
		p.s.Step(t.Context())
		m.now = m.now.Add(2 * alive)
	}
	publish()
	want(0, 0)
}

// Process collectors and the registry's own metrics over a store: the values of every process are
// on each page, this process's own as of the scrape, and they vanish with the process.
func TestCollectors(t *testing.T) {
	t.Parallel()
	var (
		seconds atomic.Int64
		now     = func() time.Time { return time.Unix(1e9+seconds.Load(), 0) }
		mem     = &backendtest.Memory{Now: now}
		values  [2]atomic.Int64
		failing atomic.Bool
		ss      []*syncer.Syncer
		rs      []*gotheus.Registry
	)
	for i := range values {
		s := syncer.NewManual(mem, store.Options{Alive: alive}, now)
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{SampleInterval: time.Hour, Logger: slog.New(slog.DiscardHandler)})
		r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
			if failing.Load() {
				return errors.New("out of luck")
			}
			v := float64(values[i].Load())
			s.Gauge("memory_bytes", "M.").Put(v)
			s.Histogram("pause_seconds", "P.", []float64{1}).Put(3, v, []uint64{2})
			return nil
		}))
		if err := r.BindBackend(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		rs, ss = append(rs, r), append(ss, s)
	}
	own := func(i int, v string) {
		t.Helper()
		p, err := metrictest.Read(rs[i])
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.Diff(`memory_bytes{process="0"} 10`+"\n"+`memory_bytes{process="1"} `+v+"\n", "memory_bytes")
		if err != nil || d != "" {
			t.Errorf("page of %d: %v\n%s", i, err, d)
		}
		for _, name := range []string{"gotheus_publish_pending_words", "gotheus_publish_lag_seconds", "gotheus_backend_up"} {
			for _, process := range []string{"0", "1"} {
				if _, ok := p.Value(name + `{process="` + process + `"}`); !ok {
					t.Errorf("page of %d: there is no %s of process %s", i, name, process)
				}
			}
		}
	}
	values[0].Store(10)
	values[1].Store(20)
	for _, r := range rs { // numbers follow the order of publications
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	own(0, "20")
	own(1, "20")
	values[1].Store(30)
	own(1, "30") // immediately, on its own page
	own(0, "30")
	values[1].Store(40)
	own(0, "30") // not sampled since
	metrictest.Want(t, rs[0], `pause_seconds_sum{process="1"}`, 30)
	failing.Store(true)
	if p, err := metrictest.Read(rs[1]); err != nil || p.Series("memory_bytes") != 1 {
		t.Errorf("while it fails: %v", err)
	}
	failing.Store(false)
	own(1, "40")
	// The second process is killed; the first one finds out.
	for range 20 {
		seconds.Add(5)
		if err := ss[0].Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p, err := metrictest.Read(rs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"memory_bytes", "pause_seconds", "gotheus_backend_up", "gotheus_publish_lag_seconds"} {
		if n := p.Series(name); n != 1 {
			t.Errorf("%d series of %s after a process was killed", n, name)
		}
	}
	var _ backend.Publisher = (*syncer.Syncer)(nil)
}
