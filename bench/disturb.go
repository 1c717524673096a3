package main

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

// Tables about how pages disturb updates, how soon they begin, and how they grow.

// batch is the number of updates timed at once: a single one is below the clock's resolution.
const batch = 100

// disturbTable: updates with and without another goroutine that scrapes in a loop.
func disturbTable(series int) *table {
	return &table{
		title:      fmt.Sprintf("Disturbance: Inc while a page of %d counters is scraped in a loop, 99.9th percentile of %d in a row", series, batch),
		goroutines: 1, contenders: func(e *env) ([]contender, error) {
			p, err := counterPage(e, series)
			if err != nil {
				return nil, err
			}
			heap := p.heap.NewCounter("hot_total", "Hot.", nil)
			shm := p.shm.NewCounter("hot_total", "Hot.", nil)
			cg := prometheus.NewCounter(prometheus.CounterOpts{Name: "hot_total", Help: "Hot."})
			if err := p.cg.Register(cg); err != nil {
				return nil, err
			}
			vmc := p.vm.NewCounter("hot_total")
			const floor, busy = "bare atomic add, no scrape", "bare atomic add, beside a goroutine that computes"
			word := heapWord()
			bare := func() { word.Add(1) }
			write := func(r *gotheus.Registry) func() { return func() { r.WriteText(io.Discard) } }
			handler := promhttp.HandlerFor(p.cg, promhttp.HandlerOpts{DisableCompression: true})
			request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
			if err != nil {
				return nil, err
			}
			var sum atomic.Uint64
			compute := func() {
				n := uint64(1)
				for i := range uint64(1_000_000) {
					n = n*31 + i
				}
				sum.Add(n)
			}
			return []contender{
				percentile(floor, "", bare, nil),
				percentile(busy, floor, bare, compute),
				percentile(ours+" heap, no scrape", floor, heap.Inc, nil),
				percentile(ours+" heap, scraped", floor, heap.Inc, write(p.heap)),
				percentile(ours+" shm, no scrape", floor, shm.Inc, nil),
				percentile(ours+" shm, scraped", floor, shm.Inc, write(p.shm)),
				percentile(peer+", scraped", floor, cg.Inc, func() { handler.ServeHTTP(&response{header: make(http.Header)}, request) }),
				percentile("VictoriaMetrics, scraped", floor, vmc.Inc, func() { p.vm.WritePrometheus(io.Discard) }),
			}, nil
		},
	}
}

// percentile is a contender whose time is the 99.9th percentile of batches of updates, while beside
// runs in a loop.
func percentile(name, floor string, update, beside func()) contender {
	c := contender{name: name, floor: floor, time: new(atomic.Int64)}
	c.run = func(n int) {
		var stop atomic.Bool
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for beside != nil && !stop.Load() {
				beside()
			}
		}()
		list := make([]time.Duration, 0, n)
		for range n {
			start := time.Now()
			for range batch {
				update()
			}
			list = append(list, time.Since(start))
			if len(list)%1000 == 0 {
				// lets beside run on a single processor
				runtime.Gosched()
			}
		}
		stop.Store(true)
		<-stopped
		slices.Sort(list)
		c.time.Store(int64(list[len(list)*999/1000]))
	}
	return c
}

// firstByteTable: time until a client gets the first bytes of a page, and all of it.
func firstByteTable(series int) *table {
	return &table{title: fmt.Sprintf("First bytes of a page of %d counters, by the handler", series), goroutines: 1, contenders: func(e *env) ([]contender, error) {
		p, err := counterPage(e, series)
		if err != nil {
			return nil, err
		}
		theirs := promhttp.HandlerFor(p.cg, promhttp.HandlerOpts{})
		return []contender{
			firstByte(ours+" heap", &metrichttp.Handler{Registry: p.heap}, ""),
			firstByte(ours+" heap, gzip", &metrichttp.Handler{Registry: p.heap}, "gzip"),
			firstByte(ours+" shm", &metrichttp.Handler{Registry: p.shm}, ""),
			firstByte(peer, theirs, ""),
			firstByte(peer+", gzip", theirs, "gzip"),
		}, nil
	}}
}

func firstByte(name string, h http.Handler, coding string) contender {
	request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		panic(err) // cannot happen: the URL is valid
	}
	request.Header.Set("Accept-Encoding", coding)
	c := contender{name: name, time: new(atomic.Int64)}
	c.run = func(n int) {
		var sum time.Duration
		for range n {
			start := time.Now()
			r := firstWrite{response: response{header: make(http.Header)}}
			h.ServeHTTP(&r, request)
			sum += r.at.Sub(start)
		}
		c.time.Store(int64(sum) / int64(n))
	}
	return c
}

// firstWrite records the time of the first Write.
type firstWrite struct {
	response
	at time.Time
}

func (w *firstWrite) Write(b []byte) (int, error) {
	if w.at.IsZero() && len(b) > 0 {
		w.at = time.Now()
	}
	return w.response.Write(b)
}
