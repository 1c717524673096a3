package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gotheus/gotheus"
)

// counterPageTable: the page of one family of counters with two labels.
func counterPageTable(series int) *table {
	return &table{
		title:      fmt.Sprintf("Page: %d counters", series),
		goroutines: 1, contenders: func(e *env) ([]contender, error) { return counterPages(e, series, io.Discard) },
	}
}

func counterPages(e *env, series int, out io.Writer) ([]contender, error) {
	shm, err := e.kept()
	if err != nil {
		return nil, err
	}
	heap := e.heap()
	onHeap := heap.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	onShm := shm.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	cg := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "Requests."}, []string{"method", "route"})
	set := vm.NewSet()
	var floor lines
	for i := range series {
		route := fmt.Sprintf("/api/v1/route/%d", i)
		onHeap.With("GET", route).Add(float64(i))
		onShm.With("GET", route).Add(float64(i))
		cg.WithLabelValues("GET", route).Add(float64(i))
		name := fmt.Sprintf(`requests_total{method="GET",route=%q}`, route)
		set.GetOrCreateCounter(name).Add(i)
		floor.add(name+" ", uint64(i))
	}
	return pages(heap, shm, cg, set, &floor, out)
}

// histogramPageTable: the page of one family of histograms with one label.
func histogramPageTable(series int) *table {
	return &table{
		title:      fmt.Sprintf("Page: %d histograms of 11 buckets", series),
		goroutines: 1, contenders: func(e *env) ([]contender, error) { return histogramPages(e, series, io.Discard) },
	}
}

func histogramPages(e *env, series int, out io.Writer) ([]contender, error) {
	shm, err := e.kept()
	if err != nil {
		return nil, err
	}
	heap, o := e.heap(), &gotheus.HistogramOptions{Buckets: bounds}
	onHeap := heap.NewHistogramVec("seconds", "Time.", o, "route")
	onShm := shm.NewHistogramVec("seconds", "Time.", o, "route")
	cg := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds", Help: "Time.", Buckets: bounds}, []string{"route"})
	set := vm.NewSet()
	var floor lines
	for i := range series {
		route := fmt.Sprintf("/api/v1/route/%d", i)
		h := set.NewPrometheusHistogramExt(fmt.Sprintf(`seconds{route=%q}`, route), bounds)
		for _, v := range observed[i%500:][:20] {
			onHeap.With(route).Observe(v)
			onShm.With(route).Observe(v)
			cg.WithLabelValues(route).Observe(v)
			h.Update(v)
		}
		for b := range len(bounds) + 1 {
			le := "+Inf"
			if b < len(bounds) {
				le = strconv.FormatFloat(bounds[b], 'g', -1, 64)
			}
			floor.add(fmt.Sprintf(`seconds_bucket{route=%q,le=%q} `, route, le), uint64(b))
		}
		floor.add(fmt.Sprintf(`seconds_sum{route=%q} `, route), 100)
		floor.add(fmt.Sprintf(`seconds_count{route=%q} `, route), 20)
	}
	return pages(heap, shm, cg, set, &floor, out)
}

// lines are the floor's page: texts up to the values, and the values, each in one piece of memory.
type lines struct {
	text  []byte
	ends  []int
	words []uint64
}

func (l *lines) add(text string, value uint64) {
	l.text = append(l.text, text...)
	l.ends = append(l.ends, len(l.text))
	l.words = append(l.words, value)
}

func (l *lines) write(w io.Writer, buf []byte) {
	buf, start := buf[:0], 0
	for i, end := range l.ends {
		buf = append(buf, l.text[start:end]...)
		buf = append(strconv.AppendUint(buf, atomic.LoadUint64(&l.words[i]), 10), '\n')
		if start = end; len(buf) > 32<<10 {
			w.Write(buf)
			buf = buf[:0]
		}
	}
	w.Write(buf)
}

const floorPage = "ready-made texts and integers, nothing else"

// pages are the contenders for a page; they write to out.
func pages(heap, shm *gotheus.Registry, c prometheus.Collector, set *vm.Set, floor *lines, out io.Writer) ([]contender, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		return nil, err
	}
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true, ErrorHandling: promhttp.PanicOnError})
	request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	write := func(r *gotheus.Registry) func(int) {
		return func(n int) {
			for range n {
				if err := r.WriteText(out); err != nil {
					panic(err)
				}
			}
		}
	}
	buf := make([]byte, 0, 64<<10)
	return []contender{
		{name: floorPage, run: func(n int) {
			for range n {
				floor.write(out, buf)
			}
		}},
		{name: ours + " heap", floor: floorPage, run: write(heap)},
		{name: ours + " shm", floor: floorPage, run: write(shm)},
		{name: peer, floor: floorPage, run: func(n int) {
			for range n {
				handler.ServeHTTP(&response{make(http.Header), out}, request)
			}
		}},
		{name: "VictoriaMetrics", floor: floorPage, run: func(n int) {
			for range n {
				set.WritePrometheus(out)
			}
		}},
	}, nil
}

// response is what promhttp answers.
type response struct {
	header http.Header
	io.Writer
}

func (r *response) Header() http.Header { return r.header }
func (r *response) WriteHeader(int)     {}
