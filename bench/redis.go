package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/redisstore"
)

const (
	fleet       = 10      // instances
	fleetSeries = 100_000 // of each
	fewSeries   = 10_000
)

// redisTables are about metrics in a redis-server, which each table starts.
func redisTables() []*table {
	return []*table{
		{title: "Redis: Inc", goroutines: 1, contenders: redisInc},
		{title: fmt.Sprintf("Redis: publish %d counters that have changed", fewSeries), goroutines: 1, contenders: redisPublish},
		{title: fmt.Sprintf("Redis: page of %d counters", fewSeries), goroutines: 1, contenders: redisPage},
		{title: fmt.Sprintf("Redis: %d instances with %d counters", fleet, fleetSeries), report: fleetReport},
		{title: "Redis: bytes", report: bytesReport},
	}
}

// redisInc: an increment is the same instruction on a word, whatever publishes it.
func redisInc(e *env) ([]contender, error) {
	s, err := e.redis()
	if err != nil {
		return nil, err
	}
	bound := e.heap()
	if err := bound.Bind(context.Background(), s.url("inc")); err != nil {
		return nil, err
	}
	e.cleanup = append(e.cleanup, func() { bound.Close(context.Background()) })
	one, other := e.heap().NewCounter("x_total", "X.", nil), bound.NewCounter("x_total", "X.", nil)
	inc := func(c *gotheus.Counter) func(int) {
		return func(n int) {
			for range n {
				c.Inc()
			}
		}
	}
	return []contender{
		{name: ours + " heap", run: inc(one)},
		{name: ours + " redis", floor: ours + " heap", run: inc(other)},
	}, nil
}

// instance is one process that counts.
type instance struct {
	backend.Backend
	family *backend.Family
	words  []backend.Words
}

func labels(i int) string { return fmt.Sprintf(`method="GET",route="/api/v1/route/%06d"`, i) }

func newInstance(e *env, s *server, ns string, f *backend.Family, series int) (*instance, error) {
	b, err := open.URL(context.Background(), s.url(ns), nil)
	if err != nil {
		return nil, err
	}
	e.cleanup = append(e.cleanup, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.Close(ctx)
	})
	x := &instance{Backend: b, family: f}
	now := uint64(time.Now().UnixNano())
	for i := range series {
		w, err := b.Cells(f, labels(i))
		if err != nil {
			return nil, err
		}
		f.Start(w).Store(now + uint64(i)*1000)
		x.words = append(x.words, w)
	}
	return x, nil
}

func (x *instance) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return x.Flush(ctx)
}

// count adds to every step-th of the first n series.
func (x *instance) count(n, step int) {
	for i := 0; i < n; i += step {
		x.words[i][backend.CounterInt].Add(uint64(1 + i%7))
	}
}

func requests() *backend.Family {
	return &backend.Family{Name: "requests_total", Help: "Requests.", Kind: backend.Counter, Labels: []string{"method", "route"}}
}

func must(err error) {
	if err != nil {
		panic(err) // the table started the server
	}
}

// redisPublish: the cost of one interval, beside the same changes as server commands.
func redisPublish(e *env) ([]contender, error) {
	s, err := e.redis()
	if err != nil {
		return nil, err
	}
	few, err := newInstance(e, s, "few", requests(), fewSeries)
	if err != nil {
		return nil, err
	}
	many, err := newInstance(e, s, "many", requests(), fleetSeries)
	if err != nil {
		return nil, err
	}
	for _, x := range []*instance{few, many} {
		x.count(len(x.words), 1)
		if err := x.flush(); err != nil {
			return nil, err
		}
	}
	fields := make([]string, fewSeries)
	for i := range fields {
		fields[i] = labels(i)
	}
	publish := func(x *instance, step int) func(int) {
		return func(n int) {
			for range n {
				x.count(fewSeries*step, step)
				must(x.flush())
			}
		}
	}
	const increments = "HINCRBYFLOAT for each, in a pipeline"
	return []contender{
		{name: increments, run: func(n int) {
			ctx := context.Background()
			for range n {
				_, err := s.Pipelined(ctx, func(p redis.Pipeliner) error {
					for i, f := range fields {
						p.HIncrByFloat(ctx, "increments", f, float64(1+i%7))
					}
					return nil
				})
				must(err)
			}
		}},
		{name: ours, floor: increments, run: publish(few, 1)},
		{name: ours + fmt.Sprintf(", 1 in 10 of %d", fleetSeries), floor: increments, run: publish(many, fleetSeries/fewSeries)},
	}, nil
}

// redisPage: the page of 10 instances, beside libraries that keep one hash field per series with
// its labels as JSON.
func redisPage(e *env) ([]contender, error) {
	s, err := e.redis()
	if err != nil {
		return nil, err
	}
	for range fleet - 1 {
		x, err := newInstance(e, s, "page", requests(), fewSeries)
		if err != nil {
			return nil, err
		}
		x.count(fewSeries, 1)
		if err := x.flush(); err != nil {
			return nil, err
		}
	}
	r := e.heap()
	if err := r.Bind(context.Background(), s.url("page")); err != nil {
		return nil, err
	}
	e.cleanup = append(e.cleanup, func() { r.Close(context.Background()) })
	v := r.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	ctx := context.Background()
	fields := make([]string, fewSeries)
	for i := range fewSeries {
		route := fmt.Sprintf("/api/v1/route/%06d", i)
		v.With("GET", route).Add(float64(1 + i%7))
		field, _ := json.Marshal(map[string]string{"method": "GET", "route": route})
		fields[i] = string(field)
		if err := s.HSet(ctx, "fields", fields[i], float64(1+i%7)).Err(); err != nil {
			return nil, err
		}
	}
	var page bytes.Buffer
	const get, all = "HGET of each series in a pipeline, labels as JSON", "HGETALL, labels as JSON"
	return []contender{
		{name: get, run: func(n int) {
			for range n {
				page.Reset()
				replies := make([]*redis.StringCmd, len(fields))
				_, err := s.Pipelined(ctx, func(p redis.Pipeliner) error {
					for i, f := range fields {
						replies[i] = p.HGet(ctx, "fields", f)
					}
					return nil
				})
				must(err)
				for i, f := range fields {
					writeField(&page, f, replies[i].Val())
				}
			}
		}},
		{name: all, run: func(n int) {
			for range n {
				page.Reset()
				values, err := s.HGetAll(ctx, "fields").Result()
				must(err)
				for f, v := range values {
					writeField(&page, f, v)
				}
			}
		}},
		{name: ours + fmt.Sprintf(", %d instances", fleet), floor: get, run: func(n int) {
			for range n {
				page.Reset()
				must(r.WriteText(&page))
			}
		}},
	}, nil
}

func writeField(page *bytes.Buffer, field, value string) {
	var labels map[string]string
	must(json.Unmarshal([]byte(field), &labels))
	v, err := strconv.ParseFloat(value, 64)
	must(err)
	page.WriteString("requests_total{")
	comma := ""
	for _, name := range []string{"method", "route"} {
		page.WriteString(comma)
		page.WriteString(name)
		page.WriteByte('=')
		page.Write(strconv.AppendQuote(page.AvailableBuffer(), labels[name]))
		comma = ","
	}
	page.WriteString("} ")
	page.Write(strconv.AppendFloat(page.AvailableBuffer(), v, 'g', -1, 64))
	page.WriteByte('\n')
}

// bytesReport reports the server's memory per series.
func bytesReport(e *env, w io.Writer, _ int) error {
	s, err := e.redis()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d instances.\n\n", fleet)
	fmt.Fprintln(w, "| | series | bytes for each cell and instance | bytes for each series, once |")
	fmt.Fprintln(w, "|---|--:|--:|--:|")
	for _, f := range []struct {
		name   string
		family *backend.Family
		series int
	}{
		{"counters, 1 to 1,000,000", requests(), fleetSeries},
		{"histograms of 11 buckets, 0 to 1,000 in each", &backend.Family{Name: "seconds", Help: "Time.", Kind: backend.Histogram, Labels: []string{"method", "route"}, Buckets: bounds}, fewSeries},
	} {
		ns := string(f.family.Name[:1])
		used, err := redisstore.OpenNamespace(s.url(ns))
		if err != nil {
			return err
		}
		defer used.Close()
		var sizes []int64
		for range fleet {
			x, err := newInstance(e, s, ns, f.family, f.series)
			if err != nil {
				return err
			}
			for i, words := range x.words {
				if f.family.Kind == backend.Counter {
					words[0].Store(uint64(1 + i*997%1_000_000))
					continue
				}
				for b := range len(bounds) + 1 {
					words[backend.HistogramBuckets+b].Store(uint64(i * (b + 1) * 997 % 1000))
				}
				words[backend.HistogramSum].Store(0x4059333333333333 + uint64(i)*1e9)
			}
			if err := x.flush(); err != nil {
				return err
			}
			n, err := used.Size(context.Background())
			if err != nil {
				return err
			}
			sizes = append(sizes, n)
		}
		cells := 1
		if f.family.Kind == backend.Histogram {
			cells = len(bounds) + 2 // and the sum
		}
		each := float64(sizes[fleet-1]-sizes[0]) / (fleet - 1) / float64(f.series)
		fmt.Fprintf(w, "| %s | %d | %.1f | %.1f |\n", f.name, f.series, each/float64(cells), float64(sizes[0])/float64(f.series)-each)
	}
	return nil
}
