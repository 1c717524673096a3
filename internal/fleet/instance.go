//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/redisstore"
)

// place is a namespace of the server, and how a process uses it.
type place struct {
	Socket, Addr, Namespace string
	Interval, Alive         time.Duration // 0: the default
	Verbose                 bool
}

// url returns the URL for Bind.
func (p place) url() string {
	q := url.Values{"ns": {p.Namespace}}
	if p.Alive > 0 {
		q.Set("alive", p.Alive.String())
		q.Set("interval", p.Interval.String())
	}
	u := url.URL{Scheme: "redis", Host: p.Addr, Path: "/0", RawQuery: q.Encode()}
	return u.String()
}

// aliveFor returns how long a silent process counts as alive.
func (p place) aliveFor() time.Duration {
	if p.Alive > 0 {
		return p.Alive
	}
	return 10 * time.Second
}

func (p place) logger() *slog.Logger {
	if p.Verbose {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// received are the bytes that all clients of this process have received.
var received atomic.Int64

type countingConn struct{ net.Conn }

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	received.Add(int64(n))
	return n, err
}

// connect returns a client with connections of its own, as each process has one.
func (p place) connect() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: p.Socket, ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "unix", p.Socket)
			return countingConn{c}, err
		},
	})
}

// The families of all experiments.
const (
	ops     = "fleet_ops_total"
	seconds = "fleet_seconds"
)

// instance is a registry that stands for a process: it has a client of its own, and shares nothing
// with others.
type instance struct {
	place      place
	reg        *gotheus.Registry
	client     *redis.Client
	ops        *gotheus.CounterVec
	seconds    *gotheus.HistogramVec
	counters   []*gotheus.Counter
	histograms []*gotheus.Histogram
}

// newInstance returns an instance that is not bound yet. Job is a label of all its series.
func newInstance(p place, job string) *instance {
	i := &instance{place: p, reg: gotheus.NewRegistry(&gotheus.RegistryOptions{MaxSeries: -1, Logger: p.logger()})}
	labels := gotheus.Labels{"job": job}
	i.ops = i.reg.NewCounterVec(ops, "Operations.", &gotheus.CounterOptions{Labels: labels}, "series")
	i.seconds = i.reg.NewHistogramVec(seconds, "Latencies.", &gotheus.HistogramOptions{Labels: labels}, "series")
	return i
}

// grow makes series, so that there are that many.
func (i *instance) grow(counters, histograms int) {
	for n := len(i.counters); n < counters; n++ {
		i.counters = append(i.counters, i.ops.With(strconv.Itoa(n)))
	}
	for n := len(i.histograms); n < histograms; n++ {
		i.histograms = append(i.histograms, i.seconds.With(strconv.Itoa(n)))
	}
}

func (i *instance) bind(ctx context.Context) error {
	i.client = i.place.connect()
	config, err := redisstore.New(i.client, &redisstore.Options{Namespace: i.place.Namespace, Interval: i.place.Interval, Alive: i.place.Alive})
	if err != nil {
		return err
	}
	return i.reg.BindStore(ctx, config)
}

// close closes the registry as a program does at its end.
func (i *instance) close(ctx context.Context) error {
	return errors.Join(i.reg.Close(ctx), i.client.Close())
}

// count adds 1 to the counters from, from+step and so on, and observes something in each histogram.
func (i *instance) count(from, to, step int) {
	for n := from; n < min(to, len(i.counters)); n += step {
		i.counters[n].Inc()
	}
	for _, h := range i.histograms {
		h.Observe(.5)
	}
}

// totals are the sums over a page.
type totals struct {
	Ops    float64 // of the counters
	Count  float64 // of the histograms
	Series int     // counters
}

func (t totals) String() string {
	return fmt.Sprintf("%.0f operations and %.0f observations in %d series", t.Ops, t.Count, t.Series)
}

// samples are the samples of a page by their names with labels.
type samples map[string]float64

// scanner is a writer that finds this program's samples, without keeping the page.
type scanner struct {
	rest []byte
	line func(sample string, value float64)
	err  error
}

func (s *scanner) Write(b []byte) (int, error) {
	s.rest = append(s.rest, b...)
	done := bytes.LastIndexByte(s.rest, '\n') + 1
	for line := range bytes.Lines(s.rest[:done]) {
		if !bytes.HasPrefix(line, []byte("fleet_")) {
			continue
		}
		at := bytes.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(string(bytes.TrimSpace(line[at+1:])), 64)
		if at < 0 || err != nil {
			s.err = fmt.Errorf("not a sample: %q", line)
			continue
		}
		s.line(string(line[:at]), v)
	}
	s.rest = append(s.rest[:0], s.rest[done:]...)
	return len(b), nil
}

// read calls f for all samples of a page.
func (i *instance) read(ctx context.Context, f func(sample string, value float64)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := &scanner{line: f}
	w := bufio.NewWriterSize(s, 1<<16)
	if err := i.reg.Write(ctx, w, nil); err != nil {
		return err
	}
	return errors.Join(w.Flush(), s.err)
}

func (i *instance) totals(ctx context.Context) (t totals, err error) {
	err = i.read(ctx, func(sample string, v float64) {
		switch {
		case strings.HasPrefix(sample, ops):
			t.Ops += v
			t.Series++
		case strings.HasPrefix(sample, seconds+"_count"):
			t.Count += v
		}
	})
	return t, err
}

func (i *instance) samples(ctx context.Context) (samples, error) {
	all := make(samples)
	err := i.read(ctx, func(sample string, v float64) { all[sample] = v })
	return all, err
}

// lower returns the samples that are lower than before, or that are missing.
func (s samples) lower(before samples) (list []string) {
	for name, v := range before {
		if now, ok := s[name]; !ok || now < v {
			list = append(list, fmt.Sprintf("%s was %v, is %v", name, v, now))
		}
	}
	return list
}
