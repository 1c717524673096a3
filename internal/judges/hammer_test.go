package judges

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// TestHammered scrapes while everything is updated: each page must be consistent, and counters must
// not decrease from one page to the next, even if the registry is bound in between.
func TestHammered(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"heap", "shm", "bound meanwhile"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			const pages, goroutines = 100, 8
			formats := pagetest.Formats()
			r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
			if backend == "shm" {
				bind(t, r, shmURL(t))
			}
			var stop atomic.Bool
			var wait, started sync.WaitGroup
			for n := range goroutines {
				wait.Add(1)
				started.Add(1)
				go func() {
					defer wait.Done()
					hammer(r, n, &stop, started.Done)
				}()
			}
			defer wait.Wait()
			defer stop.Store(true)
			started.Wait() // so that every page has something of everything
			var before page
			for i := range pages {
				if i == pages/2 && backend == "bound meanwhile" {
					bind(t, r, shmURL(t))
					if err := r.Flush(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				var text strings.Builder
				if err := r.WriteText(&text); err != nil {
					t.Fatal(err)
				}
				format := formats[i%len(formats)]
				var other bytes.Buffer
				if err := r.Write(t.Context(), &other, &gotheus.WriteOptions{Format: format}); err != nil {
					t.Fatal(err)
				}
				if format.Syntax != expo.OpenMetrics2 {
					if _, err := readSamples(format.ContentType(), other.Bytes()); err != nil {
						t.Fatalf("%+v: %v\n%s", format, err, excerpt(other.Bytes()))
					}
				}
				now := judge(t, "text/plain; version=0.0.4", []byte(text.String()))
				now.checkBuckets(t)
				now.checkGrowth(t, before)
				before = now
			}
			if len(before) < 6 || len(before["keyed_total"].list) < goroutines {
				t.Errorf("the last page has %d families, and %d series in keyed_total", len(before), len(before["keyed_total"].list))
			}
		})
	}
}

// hammer updates all kinds until stop is set; it calls started once it has updated each of them.
func hammer(r *gotheus.Registry, n int, stop *atomic.Bool, started func()) {
	counter := r.NewCounter("hammered_total", "Integers.", nil)
	float := r.NewCounter("hammered_seconds_total", "Floats.", nil)
	gauge := r.NewGauge("hammered_level", "Up and down.", nil)
	histogram := r.NewHistogram("hammered_sizes", "Observed.", nil)
	summary := r.NewSummary("hammered_sums", "Observed.", nil)
	vec := r.NewCounterVec("keyed_total", "New series all the time.", nil, "key")
	timed := r.NewHistogramVec("keyed_seconds", "New series all the time.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}}, "key")
	for i := 0; !stop.Load(); i++ {
		counter.Inc()
		counter.Add(3)
		float.Add(0.1)
		gauge.Set(float64(i))
		gauge.Dec()
		histogram.Observe(float64(i%1500) / 100)
		summary.Observe(float64(i % 3))
		key := strconv.Itoa(n) + awkward[i/1000%5]
		vec.With(key).Inc()
		timed.With(key).Observe(float64(i % 4))
		if i == 0 {
			started()
		}
		if i%16 == 0 {
			// else the scraper seldom gets its turn where there are few processors
			runtime.Gosched()
		}
	}
}

// checkBuckets checks that each histogram's bounds ascend, its counts do not decrease, and the last
// one is its count.
func (p page) checkBuckets(t testing.TB) {
	t.Helper()
	for name, f := range p {
		if f.typ != "histogram" {
			continue
		}
		bound, last := math.Inf(-1), -1.0
		for i := range f.list {
			s := &f.list[i]
			switch s.name {
			case name + "_bucket":
				le, err := strconv.ParseFloat(s.labels["le"], 64)
				if err != nil || le <= bound || s.value < last {
					t.Fatalf("%s = %v comes after bound %v, %v: %v", f.key(s), s.value, bound, last, err)
				}
				bound, last = le, s.value
			case name + "_count":
				if !math.IsInf(bound, 1) || s.value != last {
					t.Fatalf("%s = %v, but the bucket %v is %v", f.key(s), s.value, bound, last)
				}
				bound, last = math.Inf(-1), -1
			}
		}
	}
}

// checkGrowth checks that nothing except gauges has disappeared or decreased. The tests observe no
// negative values.
func (p page) checkGrowth(t testing.TB, before page) {
	t.Helper()
	for name, old := range before {
		if old.typ == "gauge" {
			continue
		}
		f := p[name]
		if f == nil {
			t.Fatalf("%s is gone", name)
		}
		for key, v := range old.samples {
			if now, ok := f.samples[key]; !ok || now < v {
				t.Fatalf("%s was %v and is %v", key, v, now)
			}
		}
	}
}
