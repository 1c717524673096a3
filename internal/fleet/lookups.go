//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	lookupProcesses = 4
	lookupTick      = time.Millisecond
	lookupStep      = 10 // new label sets at each tick
)

// looker looks up new label sets in the background. To tell what is due to the machine, it also
// looks up one that exists, as often.
type looker struct {
	stop     chan struct{}
	done     sync.WaitGroup
	made     int
	new, old []time.Duration
}

// looked are the longest look-ups.
type looked struct {
	Made               int // in all phases
	N                  int
	Median, P999, Max  time.Duration
	ControlP999, Worst time.Duration // of label sets that exist
}

func startLooking(w *worker, _ none) (any, error) {
	l := &looker{stop: make(chan struct{})}
	if w.look != nil {
		l.made = w.look.made
	}
	w.look = l
	i := w.list[0]
	l.done.Go(func() {
		tick := time.NewTicker(lookupTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-l.stop:
				return
			}
			for range lookupStep {
				value := "new-" + strconv.Itoa(l.made)
				before := time.Now()
				c := i.ops.With(value)
				between := time.Now()
				i.ops.With("0")
				after := time.Now()
				c.Inc()
				l.made++
				l.new, l.old = append(l.new, between.Sub(before)), append(l.old, after.Sub(between))
			}
		}
	})
	return nil, nil
}

func endLooking(w *worker, _ none) (any, error) {
	l := w.look
	close(l.stop)
	l.done.Wait()
	if len(l.new) == 0 {
		return looked{}, fmt.Errorf("nothing was looked up")
	}
	slices.Sort(l.new)
	slices.Sort(l.old)
	n := len(l.new)
	return looked{l.made, n, l.new[n/2], l.new[n*999/1000], l.new[n-1], l.old[n*999/1000], l.old[n-1]}, nil
}

// rebind closes the first instance's registry and binds it again.
func rebind(w *worker, _ none) (any, error) {
	i := w.list[0]
	ctx := context.Background()
	return nil, errors.Join(i.close(ctx), i.bind(ctx))
}

// lookups measures look-ups of new label sets while other things happen.
func lookups(ctx context.Context, r *run) error {
	p := r.place("lookups")
	list, err := r.startAll(lookupProcesses, "process")
	if err != nil {
		return err
	}
	began := time.Now()
	if err := each(list, func(_ int, q *process) error {
		if err := q.call("open", openArgs{Place: p, Instances: 1, Counters: r.options.lookups, Job: "job"}, nil); err != nil {
			return err
		}
		return r.publish(q, "count", countArgs{To: r.options.lookups}, "at first")
	}); err != nil {
		return err
	}
	subject, other := list[0], list[1]
	fmt.Fprintf(r.out, "%d processes with %d series each, which took %v to make and publish.\n\n", len(list), r.options.lookups, round(time.Since(began)))
	t := r.newTable("meanwhile", "how often", "look-ups", "median", "p99.9", "longest", "p99.9 of existing", "longest of existing")
	made := 0
	for _, phase := range []struct {
		name string
		do   func() error // nil: nothing happens
	}{
		{"nothing else", nil},
		{"scrapes of this process", func() error { return subject.call("totals", 30*time.Second, &totals{}) }},
		{"scrapes of another one", func() error { return other.call("totals", 30*time.Second, &totals{}) }},
		{"new processes", func() error { return r.visit(p) }},
		{"FLUSHALL and scrapes", func() error {
			if err := r.server.client.FlushAll(ctx).Err(); err != nil {
				return err
			}
			if err := wait(ctx, r.lookupsFor/8); err != nil {
				return err
			}
			return subject.call("totals", 60*time.Second, &totals{})
		}},
		{"Close and Bind", func() error { return subject.call("rebind", none{}, nil) }},
	} {
		r.note("%s", phase.name)
		if err := subject.call("look", none{}, nil); err != nil {
			return err
		}
		often := 0
		for end := time.Now().Add(r.lookupsFor); time.Now().Before(end); {
			if phase.do == nil {
				err = wait(ctx, r.lookupsFor)
			} else {
				if err := phase.do(); err != nil {
					r.wrong("%s: %v", phase.name, err)
				}
				often++
				err = wait(ctx, 50*time.Millisecond)
			}
			if err != nil {
				return err
			}
		}
		var l looked
		if err := subject.call("looked", none{}, &l); err != nil {
			return err
		}
		t.row(phase.name, often, l.N, l.Median, l.P999, l.Max, l.ControlP999, l.Worst)
		if r.lookup > 0 && l.Max > r.lookup {
			r.wrong("%s: a look-up took %v, %v are allowed", phase.name, l.Max, r.lookup)
		}
		made = l.Made
	}
	r.print(t)
	if err := r.publish(subject, "flush", none{}, "in the end"); err != nil {
		return err
	}
	_, _, err = r.newcomerTotals(p, totals{Ops: float64(r.options.lookups*len(list) + made), Series: r.options.lookups + made}, "in the end")
	return err
}

// visit lets a new process count and leave.
func (r *run) visit(p place) error {
	q, err := r.start("visitor")
	if err != nil {
		return err
	}
	defer r.forget(q)
	defer q.kill()
	if err := q.call("open", openArgs{Place: p, Instances: 1, Counters: 0, Job: "job"}, nil); err != nil {
		return err
	}
	if err := q.call("totals", 30*time.Second, &totals{}); err != nil {
		return err
	}
	return q.call("close", none{}, nil)
}
