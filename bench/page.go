package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/metric"

	"github.com/gotheus/gotheus"
	_ "github.com/gotheus/gotheus/compress" // gzip and zstd for the compression tables
	"github.com/gotheus/gotheus/metrichttp"
)

// page is the same page of all libraries.
type page struct {
	heap, shm *gotheus.Registry
	cg, otel  *prometheus.Registry
	vm        *vm.Set
	floor     lines
}

func newPage(e *env) (p *page, m metric.Meter, err error) {
	p = &page{heap: e.heap(), cg: prometheus.NewRegistry(), vm: vm.NewSet()}
	if p.shm, err = e.kept(); err == nil {
		m, p.otel, err = otelPage()
	}
	return p, m, err
}

// counterPage is one family of counters with two labels.
func counterPage(e *env, series int) (*page, error) {
	p, meter, err := newPage(e)
	if err != nil {
		return nil, err
	}
	onHeap := p.heap.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	onShm := p.shm.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	cg := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "Requests."}, []string{"method", "route"})
	otc := otelCounter(meter, "requests")
	for i := range series {
		route := fmt.Sprintf("/api/v1/route/%d", i)
		onHeap.With("GET", route).Add(float64(i))
		onShm.With("GET", route).Add(float64(i))
		cg.WithLabelValues("GET", route).Add(float64(i))
		name := fmt.Sprintf(`requests_total{method="GET",route=%q}`, route)
		p.vm.GetOrCreateCounter(name).Add(i)
		otc.Add(context.Background(), int64(i), otelSet("method", "GET", "route", route))
		p.floor.add(name+" ", uint64(i))
	}
	return p, p.cg.Register(cg)
}

// histogramPage is one family of histograms with one label.
func histogramPage(e *env, series int) (*page, error) {
	p, meter, err := newPage(e)
	if err != nil {
		return nil, err
	}
	o := &gotheus.HistogramOptions{Buckets: bounds}
	onHeap := p.heap.NewHistogramVec("seconds", "Time.", o, "route")
	onShm := p.shm.NewHistogramVec("seconds", "Time.", o, "route")
	cg := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds", Help: "Time.", Buckets: bounds}, []string{"route"})
	oth := otelHistogram(meter, "seconds")
	for i := range series {
		route := fmt.Sprintf("/api/v1/route/%d", i)
		h := p.vm.NewPrometheusHistogramExt(fmt.Sprintf(`seconds{route=%q}`, route), bounds)
		set := otelSet("route", route)
		for _, v := range observed[i%(len(observed)-20):][:20] {
			onHeap.With(route).Observe(v)
			onShm.With(route).Observe(v)
			cg.WithLabelValues(route).Observe(v)
			h.Update(v)
			oth.Record(context.Background(), v, set)
		}
		for b := range len(bounds) + 1 {
			le := "+Inf"
			if b < len(bounds) {
				le = strconv.FormatFloat(bounds[b], 'g', -1, 64)
			}
			p.floor.add(fmt.Sprintf(`seconds_bucket{route=%q,le=%q} `, route, le), uint64(b))
		}
		p.floor.add(fmt.Sprintf(`seconds_sum{route=%q} `, route), 100)
		p.floor.add(fmt.Sprintf(`seconds_count{route=%q} `, route), 20)
	}
	return p, p.cg.Register(cg)
}

// pageTable: the whole page, without compression.
func pageTable(series int, what string, make func(*env, int) (*page, error)) *table {
	return &table{title: fmt.Sprintf("Page: %d %s", series, what), goroutines: 1, contenders: func(e *env) ([]contender, error) {
		p, err := make(e, series)
		if err != nil {
			return nil, err
		}
		return p.plain(io.Discard), nil
	}}
}

// gzipTable: the page over HTTP to a client that accepts a coding; for ours by module compress.
func gzipTable(series int, what string, make func(*env, int) (*page, error)) *table {
	return &table{title: fmt.Sprintf("Page: %d %s, compressed", series, what), goroutines: 1, contenders: func(e *env) ([]contender, error) {
		p, err := make(e, series)
		if err != nil {
			return nil, err
		}
		return []contender{
			serve(ours+" heap, gzip", &metrichttp.Handler{Registry: p.heap}, "gzip"),
			serve(ours+" heap, zstd", &metrichttp.Handler{Registry: p.heap}, "zstd"),
			serve(peer+", gzip", promhttp.HandlerFor(p.cg, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}), "gzip"),
			serve(otel+", gzip", promhttp.HandlerFor(p.otel, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}), "gzip"),
		}, nil
	}}
}

// serve is a contender that requests the page from a handler with a content coding; the size is
// that of the last page.
func serve(name string, h http.Handler, coding string) contender {
	request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		panic(err) // cannot happen: the URL is valid
	}
	request.Header.Set("Accept-Encoding", coding)
	var size atomic.Int64
	return contender{name: name, size: &size, run: func(n int) {
		for range n {
			r := response{header: make(http.Header)}
			h.ServeHTTP(&r, request)
			size.Store(int64(r.size))
		}
	}}
}

// lines are the page of the floor: texts up to the values, and the values, each in contiguous
// memory.
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

// plain are the contenders for a page; they write to out.
func (p *page) plain(out io.Writer) []contender {
	write := func(r *gotheus.Registry) func(int) {
		return func(n int) {
			for range n {
				if err := r.WriteText(out); err != nil {
					panic(err)
				}
			}
		}
	}
	request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		panic(err) // cannot happen: the URL is valid
	}
	gather := func(r *prometheus.Registry) func(int) {
		h := promhttp.HandlerFor(r, promhttp.HandlerOpts{DisableCompression: true, ErrorHandling: promhttp.PanicOnError})
		return func(n int) {
			for range n {
				h.ServeHTTP(&response{header: make(http.Header), to: out}, request)
			}
		}
	}
	buf := make([]byte, 0, 64<<10)
	return []contender{
		{name: floorPage, run: func(n int) {
			for range n {
				p.floor.write(out, buf)
			}
		}},
		{name: ours + " heap", floor: floorPage, run: write(p.heap)},
		{name: ours + " shm", floor: floorPage, run: write(p.shm)},
		{name: peer, floor: floorPage, run: gather(p.cg)},
		{name: "VictoriaMetrics", floor: floorPage, run: func(n int) {
			for range n {
				p.vm.WritePrometheus(out)
			}
		}},
		{name: otel, floor: floorPage, run: gather(p.otel)},
	}
}

// response is the http.ResponseWriter for a handler.
type response struct {
	header http.Header
	to     io.Writer // nil: discard
	size   int
}

func (r *response) Header() http.Header { return r.header }
func (r *response) WriteHeader(int)     {}
func (r *response) Write(b []byte) (int, error) {
	r.size += len(b)
	if r.to == nil {
		return len(b), nil
	}
	return r.to.Write(b)
}
