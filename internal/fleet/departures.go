//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
)

const (
	departureHistograms = 200
	departurePaused     = 3 // processes at the same time
)

// leaver is a process that observes floats until it departs.
type leaver struct {
	*process
	acks   string
	resume time.Time // when it goes on, while it is paused
}

// departing is the state of the experiment.
type departing struct {
	*run
	place     place
	processes int
	live      []*leaver
	paused    []*leaver
	started   int
	low, high float64 // observations of processes that have departed
	watchers  [2]*watcher
	last      samples // of any watcher

	kinds     []string
	did       map[string]int
	decreases map[string]map[string]int // by kind, and by what decreased
	across    int
	pages     int
	refused   time.Duration
	longest   time.Duration // for which pages were refused
	largest   float64       // decrease, relative to the sum
}

// watcher is an instance of this process that only makes pages.
type watcher struct {
	*instance
	last samples
}

// departures watches the pages of two processes while others come and go.
func departures(ctx context.Context, r *run) error {
	d := &departing{run: r, place: r.fast("departures"), processes: 10, kinds: []string{"kill", "Close", "pause"},
		did: make(map[string]int), decreases: make(map[string]map[string]int)}
	defer d.print()
	for i := range d.watchers {
		d.watchers[i] = &watcher{instance: newInstance(d.place, "watcher")}
		if err := d.watchers[i].bind(ctx); err != nil {
			return err
		}
		defer d.watchers[i].close(context.Background())
	}
	for range d.processes {
		if err := d.begin(); err != nil {
			return err
		}
	}
	for n := range r.departures {
		if err := d.depart(ctx, n); err != nil {
			return err
		}
		if (n+1)%100 == 0 {
			r.note("%d departures", n+1)
		}
	}
	return d.end(ctx)
}

// print prints what was found out so far.
func (d *departing) print() {
	t := d.newTable("departure", "times", "lower _sum", "lower _count", "lower _bucket")
	for _, k := range d.kinds {
		t.row(k, d.did[k], d.decreases[k]["_sum"], d.decreases[k]["_count"], d.decreases[k]["_bucket"])
	}
	d.run.print(t)
	fmt.Fprintf(d.out, "%d pages of %d histograms; %d decreases only from the page of one process to that of another; the largest was %.1e of the sum. "+
		"Pages were refused for %v in all, at most for %v.\n", d.pages, departureHistograms, d.across, d.largest, round(d.refused), round(d.longest))
}

// begin starts a process.
func (d *departing) begin() error {
	p, err := d.start(fmt.Sprint("leaver-", d.started))
	if err != nil {
		return err
	}
	l := &leaver{process: p, acks: filepath.Join(d.dir, fmt.Sprint("acks-", d.started))}
	d.started++
	if err := p.call("open", openArgs{Place: d.place, Instances: 1, Histograms: departureHistograms, Job: "job"}, nil); err != nil {
		return err
	}
	d.live = append(d.live, l)
	return p.call("busy", busyArgs{Acks: l.acks}, nil)
}

// depart lets a process depart, and compares a page with the one before.
func (d *departing) depart(ctx context.Context, n int) error {
	kind := d.kinds[n%len(d.kinds)]
	if kind == "pause" && len(d.paused) >= min(departurePaused, d.processes-1) {
		kind = "kill"
	}
	at := rand.IntN(len(d.live))
	l := d.live[at]
	d.live = append(d.live[:at], d.live[at+1:]...)
	var err error
	switch d.did[kind]++; kind {
	case "kill":
		err = d.killOne(l)
	case "Close":
		err = d.closeOne(l)
	case "pause":
		l.resume = time.Now().Add(2 * d.place.aliveFor())
		d.paused = append(d.paused, l)
		err = l.stop()
	}
	if err != nil {
		return err
	}
	if err := d.page(ctx, kind, n); err != nil {
		return err
	}
	for len(d.paused) > 0 && time.Now().After(d.paused[0].resume) {
		if err := d.goOn(); err != nil {
			return err
		}
	}
	for len(d.live)+len(d.paused) < d.processes {
		if err := d.begin(); err != nil {
			return err
		}
	}
	return d.page(ctx, kind, n)
}

// goOn lets the process go on that was paused first.
func (d *departing) goOn() error {
	l := d.paused[0]
	d.paused = d.paused[1:]
	d.live = append(d.live, l)
	return l.cont()
}

func (d *departing) killOne(l *leaver) error {
	var n uint64
	if err := l.call("count and ack", none{}, &n); err != nil {
		return err
	}
	l.kill()
	d.forget(l.process)
	high, err := readAcks(l.acks)
	d.low, d.high = d.low+float64(n), d.high+float64(high)
	return err
}

func (d *departing) closeOne(l *leaver) error {
	var n uint64
	if err := l.call("idle", none{}, &n); err != nil {
		return err
	}
	if err := l.call("close", none{}, nil); err != nil {
		return err
	}
	d.low, d.high = d.low+float64(n), d.high+float64(n)
	d.forget(l.process)
	return l.end()
}

// page makes a page of one of the watchers, and compares it with earlier ones.
func (d *departing) page(ctx context.Context, kind string, n int) error {
	w := d.watchers[d.pages%len(d.watchers)]
	now, err := d.await(ctx, w)
	if err != nil || now == nil {
		return err
	}
	d.pages++
	if d.decreases[kind] == nil {
		d.decreases[kind] = make(map[string]int)
	}
	own := now.lower(w.last)
	for _, l := range own {
		for _, part := range []string{"_sum", "_count", "_bucket"} {
			if strings.HasPrefix(l, seconds+part) {
				d.decreases[kind][part]++
			}
		}
	}
	if len(own) > 0 {
		d.wrong("departure %d (%s): %d samples of a process' page are lower: %s", n, kind, len(own), own[0])
	}
	other := now.lower(d.last)
	if len(other) > 0 && len(own) == 0 {
		d.across += len(other)
		d.wrong("departure %d (%s): %d samples are lower than on the page of another process before: %s", n, kind, len(other), other[0])
	}
	for name, v := range d.last {
		if now[name] < v {
			d.largest = max(d.largest, 1-now[name]/v)
		}
	}
	w.last, d.last = now, now
	return nil
}

// await waits for a page of a watcher. It returns none if there is none for too long.
func (d *departing) await(ctx context.Context, w *watcher) (s samples, err error) {
	limit := 5*d.place.aliveFor() + 5*time.Second
	refused, err := waited(limit, func(wctx context.Context) (err error) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s, err = w.samples(wctx)
		return err
	})
	if errors.Is(err, gotheus.ErrStale) {
		d.wrong("%v", err)
		return nil, nil
	}
	if refused > d.place.aliveFor()/10 {
		d.refused += refused
		d.longest = max(d.longest, refused)
	}
	return s, err
}

// end lets all processes close, and compares the total with what they have acknowledged.
func (d *departing) end(ctx context.Context) error {
	for len(d.paused) > 0 {
		if err := d.goOn(); err != nil {
			return err
		}
	}
	for _, l := range d.live {
		if err := d.closeOne(l); err != nil {
			return err
		}
	}
	d.live = nil
	for range d.watchers {
		if err := d.page(ctx, "Close", d.options.departures); err != nil {
			return err
		}
	}
	got := 0.0
	for name, v := range d.last {
		if strings.HasPrefix(name, seconds+"_count") {
			got += v
		}
	}
	if got < d.low || got > d.high {
		d.wrong("the last page has %.0f observations, processes have acknowledged %.0f and made at most %.0f", got, d.low, d.high)
	}
	fmt.Fprintf(d.out, "%.0f observations on the last page; acknowledged were %.0f, made at most %.0f.\n\n", got, d.low, d.high)
	return nil
}
