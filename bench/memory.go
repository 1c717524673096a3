package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// memoryTables: memory per series, as live heap after garbage collections, label values included,
// by the number of series. It needs no rounds, since the figures vary by a few bytes only.
func memoryTables() []*table {
	return []*table{memoryTable("counter with 3 labels", false), memoryTable("histogram of 11 buckets with 1 label", true)}
}

func memoryTable(kind string, histograms bool) *table {
	return &table{title: "Memory: bytes per " + kind, report: func(e *env, w io.Writer, _ int) error {
		sizes := []int{1_000, 10_000, 100_000, 1_000_000}
		fmt.Fprint(w, "| |")
		for _, n := range sizes {
			fmt.Fprintf(w, " %d series |", n)
		}
		fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("--:|", len(sizes)))
		for _, row := range memoryRows(e.dir, histograms) {
			fmt.Fprintf(w, "| %s |", row.name)
			for _, n := range sizes {
				if row.most > 0 && n > row.most {
					fmt.Fprint(w, " |")
					continue
				}
				bytes, err := row.bytes(n)
				if err != nil {
					return fmt.Errorf("%s: %w", row.name, err)
				}
				fmt.Fprintf(w, " %.0f |", bytes)
			}
			fmt.Fprintln(w)
		}
		return nil
	}}
}

type memoryRow struct {
	name  string
	bytes func(series int) (float64, error)
	most  int // maximum number of series; 0: any number
}

func memoryRows(dir string, histograms bool) []memoryRow {
	return []memoryRow{
		{name: ours + " heap, before the first page", bytes: func(n int) (float64, error) { return liveHeap(n, ourSeries(nil, histograms, false)) }},
		{name: ours + " heap, after a page", bytes: func(n int) (float64, error) { return liveHeap(n, ourSeries(nil, histograms, true)) }},
		{name: ours + " shm, per process", bytes: func(n int) (float64, error) {
			e := &env{dir: dir}
			defer e.close()
			return liveHeap(n, ourSeries(e, histograms, true))
		}},
		{name: ours + " shm, file, once per host", bytes: func(n int) (float64, error) { return fileSize(n, dir, histograms) }},
		{name: peer, most: 100_000, bytes: func(n int) (float64, error) { return liveHeap(n, theirSeries(histograms)) }},
		{name: "VictoriaMetrics", bytes: func(n int) (float64, error) { return liveHeap(n, vmSeries(histograms)) }},
		{name: otel, most: 100_000, bytes: func(n int) (float64, error) { return liveHeap(n, otelSeries(histograms)) }},
	}
}

// liveHeap returns the live heap per series that make leaves.
func liveHeap(n int, make func(n int) (any, error)) (float64, error) {
	before := heapNow()
	kept, err := make(n)
	after := heapNow()
	runtime.KeepAlive(kept)
	return float64(after-before) / float64(n), err
}

func heapNow() int64 {
	runtime.GC()
	runtime.GC() // frees what finalizers and pools held
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// memoryValues are three label values, newly made for each series as in programs.
func memoryValues(i int) (method, route, code string) {
	return [...]string{"GET", "PUT", "POST", "DELETE"}[i%4], fmt.Sprintf("/api/v1/route/%d", i/8), [...]string{"200", "500"}[i/4%2]
}

func ourSeries(e *env, histograms, page bool) func(int) (any, error) {
	return func(n int) (any, error) {
		r := new(env).heap()
		if e != nil {
			var err error
			if r, err = e.kept(); err != nil {
				return nil, err
			}
		}
		if histograms {
			v := r.NewHistogramVec("seconds", "Time.", &gotheus.HistogramOptions{Buckets: bounds}, "route")
			for i := range n {
				v.With(fmt.Sprintf("/api/v1/route/%d", i)).Observe(0.3)
			}
		} else {
			v := r.NewCounterVec("requests_total", "Requests.", nil, "method", "route", "code")
			for i := range n {
				method, route, code := memoryValues(i)
				v.With(method, route, code).Inc()
			}
		}
		if page {
			return r, r.WriteText(io.Discard)
		}
		return r, nil
	}
}

func theirSeries(histograms bool) func(int) (any, error) {
	return func(n int) (any, error) {
		if histograms {
			v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds", Buckets: bounds}, []string{"route"})
			for i := range n {
				v.WithLabelValues(fmt.Sprintf("/api/v1/route/%d", i)).Observe(0.3)
			}
			return v, nil
		}
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"method", "route", "code"})
		for i := range n {
			v.WithLabelValues(memoryValues(i)).Inc()
		}
		return v, nil
	}
}

func vmSeries(histograms bool) func(int) (any, error) {
	return func(n int) (any, error) {
		set := vm.NewSet()
		for i := range n {
			if histograms {
				set.NewPrometheusHistogramExt(fmt.Sprintf(`seconds{route="/api/v1/route/%d"}`, i), bounds).Update(0.3)
			} else {
				method, route, code := memoryValues(i)
				set.GetOrCreateCounter(fmt.Sprintf(`requests_total{method=%q,route=%q,code=%q}`, method, route, code)).Inc()
			}
		}
		return set, nil
	}
}

func otelSeries(histograms bool) func(int) (any, error) {
	return func(n int) (any, error) {
		m := otelMeter()
		if histograms {
			h := otelHistogram(m, "seconds")
			for i := range n {
				h.Record(context.Background(), 0.3, otelSet("route", fmt.Sprintf("/api/v1/route/%d", i)))
			}
			return []any{m, h}, nil
		}
		c := otelCounter(m, "requests_total")
		for i := range n {
			method, route, code := memoryValues(i)
			c.Add(context.Background(), 1, otelSet("method", method, "route", route, "code", code))
		}
		return []any{m, c}, nil
	}
}

// fileSize returns the allocated blocks of the file per series.
func fileSize(n int, dir string, histograms bool) (float64, error) {
	e := &env{dir: dir}
	defer e.close()
	size := func(n int) (float64, error) {
		if _, err := ourSeries(e, histograms, false)(n); err != nil {
			return 0, err
		}
		names, err := filepath.Glob(filepath.Join(dir, fmt.Sprint("words", e.files, ".*")))
		if err != nil {
			return 0, err
		}
		total := int64(0)
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				return 0, err
			}
			total += info.Size()
		}
		return float64(total), nil
	}
	empty, err := size(0)
	if err != nil {
		return 0, err
	}
	full, err := size(n)
	return (full - empty) / float64(n), err
}
