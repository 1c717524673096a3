package tests_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// Processes of different builds declare the same name differently. Compatible definitions are shown
// as one family; the series of the others are hidden, and their number is exposed.
func TestSchemas(t *testing.T) {
	t.Parallel()
	b := heap.New()
	builds := make([]*gotheus.Registry, 4)
	for i := range builds {
		builds[i], _ = newRegistry(t, nil)
		if err := builds[i].BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	builds[0].NewGaugeVec("x_total", "Once a gauge.", nil, "a").With("1")
	builds[1].NewCounterVec("x_total", "Old help.", nil, "a").With("2").Add(2)
	builds[2].NewCounterVec("x_total", "New help.", nil, "a", "b").With("1", "3").Add(3)
	builds[3].NewCounter("x_total", "New help.", nil).Add(4)
	want := `# HELP x_total New help.
# TYPE x_total counter
x_total 4
x_total{a="1",b="3"} 3
x_total{a="2"} 2
`
	for i, r := range builds {
		if got := page(t, r); got != want {
			t.Errorf("build %d: got %s", i, got)
		}
		pageHas(t, r, "gotheus_hidden_series 1")
	}
	// Names clash across families: the histogram comes first in the order of the page.
	builds[0].NewGauge("h_count", "Clashes.", nil).Set(9)
	builds[1].NewHistogram("h", "H.", nil)
	// A collector's families never displace those of the backend.
	builds[2].Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Summary("x", "Clashes, too.", nil).Put(1, 1, nil)
		s.Gauge("y_sum", "Clashes with a later name.").Put(1)
		return nil
	}))
	builds[0].NewGauge("x_count", "Stays.", nil)
	builds[0].NewSummary("y", "Y.", nil)
	pageHas(t, builds[1], "gotheus_hidden_series 2")
	for _, r := range builds {
		if p := page(t, r); !strings.Contains(p, "Stays") || strings.Contains(p, "Clashes") || !strings.Contains(p, "h_count 0\n") {
			t.Errorf("got %s", p)
		}
	}
}

// Pages are written in pieces, and memory does not grow with them.
func TestStreaming(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{MaxSeries: -1}, "i")
	for i := range 20000 {
		v.With(fmt.Sprintf("%05d", i)).Add(float64(i))
	}
	w := new(pieces)
	if err := r.WriteText(w); err != nil {
		t.Fatal(err)
	}
	if w.n < 10 || w.largest > 64<<10 {
		t.Errorf("%d pieces, the largest of %d bytes", w.n, w.largest)
	}
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")[2:]
	for i, line := range lines {
		if want := fmt.Sprintf(`c_total{i="%05d"} %d`, i, i); line != want {
			t.Fatalf("line %d is %s, want %s", i, line, want)
		}
	}
	if len(lines) != 20000 {
		t.Errorf("%d lines", len(lines))
	}
}

// A repeated page allocates at most for its families, not for its series.
func TestPageAllocations(t *testing.T) {
	r, _ := newRegistry(t, nil)
	v := r.NewCounterVec("c_total", "C.", nil, "i")
	h := r.NewHistogramVec("h", "H.", nil, "i")
	for i := range 2000 {
		v.With(fmt.Sprint(i)).Add(float64(i))
		h.With(fmt.Sprint(i)).Observe(float64(i))
	}
	r.WriteText(io.Discard)
	if n := testing.AllocsPerRun(5, func() { r.WriteText(io.Discard) }); n > 100 {
		t.Errorf("a page of 4000 series allocates %v times", n)
	}
}

type pieces struct {
	strings.Builder
	n, largest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.n, p.largest = p.n+1, max(p.largest, len(b))
	return p.Builder.Write(b)
}

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewCounterVec("c_total", "C.", nil, "i")
	for i := range 5000 {
		v.With(fmt.Sprint(i))
	}
	broken := errors.New("broken pipe")
	w := &failing{err: broken}
	if err := r.WriteText(w); err != broken || w.n != 1 {
		t.Errorf("%v after %d writes", err, w.n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w = &failing{then: cancel}
	if err := r.Write(ctx, w, nil); !errors.Is(err, context.Canceled) || w.n != 1 {
		t.Errorf("%v after %d writes", err, w.n)
	}

	synctest.Test(t, func(t *testing.T) { // time advances only while all goroutines are blocked
		// If the backend cannot be read, the page shows the last state, and there is an
		// error.
		b := &faulty{Backend: heap.New()}
		r2, log := newRegistry(t, nil)
		r2.BindBackend(t.Context(), b)
		r2.NewCounter("c_total", "C.", nil).Inc()
		b.set(backend.ErrClosed)
		var p strings.Builder
		if err := r2.WriteText(&p); !errors.Is(err, backend.ErrClosed) || !strings.Contains(p.String(), "c_total 1\n") {
			t.Errorf("%v: %s", err, &p)
		}
		if !strings.Contains(log.String(), "cannot be read") {
			t.Errorf("log: %s", log)
		}
		b.set(errHang)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.Reset()
		if err := r2.Write(ctx, &p, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(p.String(), "c_total 1\n") {
			t.Errorf("%v: %s", err, &p)
		}
		// With an expired context there is an error, not an empty page.
		if err := new(gotheus.Registry).Write(canceled(), &p, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestPageAfterFailed checks that nothing of a page that failed halfway is on the next one.
func TestPageAfterFailed(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewGaugeVec("g", "G.", nil, "i")
	for i := range 40000 { // enough for several pieces of protobuf
		v.With(fmt.Sprint(i))
	}
	for _, syntax := range []expo.Syntax{expo.Text, expo.OpenMetrics2, expo.Protobuf} {
		o := &gotheus.WriteOptions{Format: expo.Format{Syntax: syntax}}
		var want strings.Builder
		if err := r.Write(t.Context(), &want, o); err != nil {
			t.Fatal(err)
		}
		for range 10 { // the pool may or may not return the same page
			if err := r.Write(t.Context(), &failing{err: io.ErrClosedPipe}, o); err != io.ErrClosedPipe {
				t.Fatalf("got %v", err)
			}
			var got strings.Builder
			if err := r.Write(t.Context(), &got, o); err != nil || got.String() != want.String() {
				t.Fatalf("%v: after a page that failed: %d bytes, before: %d; %v", syntax, got.Len(), want.Len(), err)
			}
		}
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

type failing struct {
	err  error
	then func()
	n    int
}

func (f *failing) Write(p []byte) (int, error) {
	f.n++
	if f.then != nil {
		f.then()
	}
	return len(p), f.err
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	r.NewCounterVec("c_total", "C.", nil, "x", "a").With("1\n", "\"").Add(1.5)
	r.NewHistogram("h_seconds", "H.", &gotheus.HistogramOptions{Buckets: []float64{.5}, Unit: "seconds"}).Observe(1)
	r.NewSummary("s", "S.", nil).Observe(2)
	r.NewGaugeVec("z", "Z.", nil, "x")
	r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Summary("q", "Q.", []float64{.5}).Put(3, 4, []float64{5})
		return nil
	}))
	type family struct {
		name, help, unit, typ string
		samples               []gotheus.Sample
	}
	label := func(n, v string) []gotheus.Label { return []gotheus.Label{{Name: n, Value: v}} }
	want := []family{
		{"c_total", "C.", "", "counter", []gotheus.Sample{{Name: "c_total", Labels: []gotheus.Label{{Name: "a", Value: `"`}, {Name: "x", Value: "1\n"}}, Value: 1.5}}},
		{"gotheus_collector_errors_total", "Collectors, or single families of collectors, left out of a page because of an error.", "", "counter", []gotheus.Sample{{Name: "gotheus_collector_errors_total"}}},
		{"h_seconds", "H.", "seconds", "histogram", []gotheus.Sample{
			{Name: "h_seconds_bucket", Labels: label("le", "0.5")}, {Name: "h_seconds_bucket", Labels: label("le", "+Inf"), Value: 1},
			{Name: "h_seconds_sum", Value: 1}, {Name: "h_seconds_count", Value: 1}}},
		{"q", "Q.", "", "summary", []gotheus.Sample{{Name: "q", Labels: label("quantile", "0.5"), Value: 5}, {Name: "q_sum", Value: 4}, {Name: "q_count", Value: 3}}},
		{"s", "S.", "", "summary", []gotheus.Sample{{Name: "s_sum", Value: 2}, {Name: "s_count", Value: 1}}},
		{"z", "Z.", "", "gauge", nil},
	}
	var got []family
	for f, err := range r.Families(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		g := family{f.Name, f.Help, f.Unit, f.Type.String(), nil}
		for s := range f.Samples() {
			g.samples = append(g.samples, s)
		}
		got = append(got, g)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A range that ends early does not keep the registry locked.
	for f := range r.Families(t.Context()) {
		for range f.Samples() {
			break
		}
		break
	}
	bind(t, r, shmURL(t))
}

// Pages that are written during updates are consistent, and counts never decrease from one to the
// next.
func TestLivingPages(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	bind(t, r, shmURL(t))
	c := r.NewCounter("c_total", "C.", nil)
	h := r.NewHistogram("h", "H.", nil)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					c.Add(.5)
					c.Inc()
					h.Observe(float64(i%12) / 2)
				}
			}
		}()
	}
	var last map[string]float64
	for range 300 {
		now := map[string]float64{}
		bucket := 0.0
		for line := range strings.Lines(page(t, r)) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); !strings.HasPrefix(name, "#") {
				now[name], _ = strconv.ParseFloat(value, 64)
				if strings.HasPrefix(name, "h_bucket") {
					if now[name] < bucket {
						t.Fatalf("%s decreases", line)
					}
					bucket = now[name]
				}
			}
			for name, v := range last {
				if v > now[name] && now[name] != 0 {
					t.Fatalf("%s went from %v to %v", name, v, now[name])
				}
			}
		}
		if now[`h_bucket{le="+Inf"}`] != now["h_count"] {
			t.Fatalf("the buckets add up to %v, the count is %v", now[`h_bucket{le="+Inf"}`], now["h_count"])
		}
		last = now
	}
	close(stop)
	wait.Wait()
}
