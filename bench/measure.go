package main

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// contender is a row of a table.
type contender struct {
	name  string
	floor string // name of the row with the lowest possible cost; "": none
	// prepare makes what run needs for n operations; it is not timed. Nil: nothing to do.
	prepare func(n int)
	// run performs n operations in a loop of its own, so that calls are inlined as in user
	// code. In tables with several goroutines, each of them calls it concurrently for its
	// share.
	run func(n int)
	// size is the size of run's last result, in bytes. Nil: there is none.
	size *atomic.Int64
	// time is the duration of an operation in ns as measured by run, if it is not the mean.
	// Nil: the mean.
	time *atomic.Int64
	// per is the number of items in an operation; figures are per item. 0: one.
	per int
}

// result is what was measured for a contender.
type result struct {
	*contender
	min, median   float64 // ns per operation
	allocs, bytes float64 // per operation, minimum of all rounds
	out           int64   // the contender's size
}

// measure measures all contenders in every round, each round starting with the next one, so that
// other load on the machine affects all alike.
func measure(contenders []contender, t *table, rounds int, target time.Duration) []result {
	counts := make([]int, len(contenders))
	for i := range contenders {
		counts[i] = calibrate(&contenders[i], t, target)
	}
	samples := make([][]sample, len(contenders))
	for round := range rounds {
		for k := range contenders {
			i := (round + k) % len(contenders)
			samples[i] = append(samples[i], once(&contenders[i], t, counts[i]))
		}
	}
	results := make([]result, len(contenders))
	for i, list := range samples {
		results[i] = summarize(&contenders[i], list)
	}
	return results
}

type sample struct {
	took              time.Duration
	ns, allocs, bytes float64
}

// calibrate returns how many operations take about as long as target.
func calibrate(c *contender, t *table, target time.Duration) int {
	if t.operations > 0 {
		once(c, t, t.operations) // to warm up
		return t.operations
	}
	for n := t.goroutines; ; {
		took := once(c, t, n).took
		if took >= target/2 {
			return max(int(float64(n)*float64(target)/float64(took)), t.goroutines)
		}
		n = min(100*n, int(1.2*float64(n)*float64(target)/float64(max(took, 1)))+1)
	}
}

// once measures n operations.
func once(c *contender, t *table, n int) sample {
	if c.prepare != nil {
		c.prepare(n)
	}
	if !t.large {
		runtime.GC() // collects the garbage of earlier measurements
	}
	if t.operations == 0 {
		c.run(1) // fills pools
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	took := timed(c.run, n, t.goroutines)
	runtime.ReadMemStats(&after)
	things := float64(n * max(c.per, 1))
	s := sample{
		took:   took,
		ns:     float64(took.Nanoseconds()) / things,
		allocs: float64(after.Mallocs-before.Mallocs) / things,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / things,
	}
	if c.time != nil {
		s.ns = float64(c.time.Load())
	}
	return s
}

// timed returns how long goroutines take for n operations in all.
func timed(run func(int), n, goroutines int) time.Duration {
	if goroutines == 1 {
		start := time.Now()
		run(n)
		return time.Since(start)
	}
	ready, start, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	for i := range goroutines {
		share := n / goroutines
		if i == 0 {
			share += n % goroutines
		}
		go func() {
			ready <- struct{}{}
			<-start
			run(share)
			done <- struct{}{}
		}()
	}
	for range goroutines {
		<-ready
	}
	began := time.Now()
	close(start)
	for range goroutines {
		<-done
	}
	return time.Since(began)
}

func summarize(c *contender, list []sample) result {
	var ns []float64
	r := result{contender: c, allocs: list[0].allocs, bytes: list[0].bytes}
	for _, s := range list {
		ns = append(ns, s.ns)
		r.allocs = min(r.allocs, s.allocs)
		r.bytes = min(r.bytes, s.bytes)
	}
	if c.size != nil {
		r.out = c.size.Load()
	}
	slices.Sort(ns)
	r.min = ns[0]
	r.median = (ns[(len(ns)-1)/2] + ns[len(ns)/2]) / 2
	return r
}
