//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// busy counts in the background, with the first instance of a worker.
type busy struct {
	i       *instance
	own     string
	acks    *os.File
	begun   uint64
	counted atomic.Uint64
	stop    chan struct{}
	done    sync.WaitGroup
}

type busyArgs struct {
	Own  string // a series that this process alone counts in
	Acks string // the file with what it may have counted; "": none
}

const (
	busyTick = 5 * time.Millisecond
	busyStep = 20 // updates at each tick
)

// startBusy begins to count: in histograms, if the instance has any, otherwise in counters.
func startBusy(w *worker, args busyArgs) (_ any, err error) {
	b := &busy{i: w.list[0], own: args.Own, stop: make(chan struct{})}
	if w.busy != nil { // it goes on
		b.counted.Store(w.busy.counted.Load())
	}
	if args.Acks != "" {
		if b.acks, err = os.Create(args.Acks); err != nil {
			return nil, err
		}
	}
	w.busy = b
	b.done.Go(b.loop)
	return nil, nil
}

func (b *busy) loop() {
	tick := time.NewTicker(busyTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.step()
		case <-b.stop:
			return
		}
	}
}

func (b *busy) step() {
	b.begun += busyStep
	if b.acks != nil {
		if _, err := b.acks.WriteAt(binary.LittleEndian.AppendUint64(nil, b.begun), 0); err != nil {
			panic(err)
		}
	}
	for n := range busyStep {
		switch {
		case len(b.i.histograms) > 0:
			// Magnitudes differ, so that the sum depends on the order of additions.
			v := rand.Float64() * math.Pow(10, float64(rand.IntN(6)-4))
			b.i.histograms[rand.IntN(len(b.i.histograms))].Observe(v)
		case n == 0:
			b.i.ops.With(b.own).Inc()
		default:
			b.i.counters[rand.IntN(len(b.i.counters))].Inc()
		}
	}
	b.counted.Add(busyStep)
}

// readAcks returns what a process may have counted.
func readAcks(name string) (uint64, error) {
	b, err := os.ReadFile(name)
	if err != nil || len(b) < 8 {
		return 0, err // it has not begun
	}
	return binary.LittleEndian.Uint64(b), nil
}

// endBusy stops counting, and returns how much was counted since the process has started. All of it
// is published.
func endBusy(w *worker, _ none) (any, error) {
	if w.busy == nil {
		return 0, errors.New("it does not count")
	}
	close(w.busy.stop)
	w.busy.done.Wait()
	return w.busy.counted.Load(), w.list[0].reg.Flush(context.Background())
}

// countAndAck returns how much has been counted and published, and goes on counting.
func countAndAck(w *worker, _ none) (any, error) {
	n := w.busy.counted.Load()
	return n, w.list[0].reg.Flush(context.Background())
}
