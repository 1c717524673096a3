//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gotheus/gotheus"
	_ "github.com/gotheus/gotheus/redisstore"
)

const (
	oneshotCounts   = 100 // increments of each counter, and observations
	oneshotCounters = 3
)

type oneshotArgs struct {
	Place place
	Job   string
}

// life is what a process says about its life.
type life struct {
	Life, Close time.Duration // from Bind to the end of Close, and of Close alone
	Failed      string
}

// oneshot is a short life of the process. It uses the default registry, as a job does.
func oneshot(_ *worker, args oneshotArgs) (any, error) {
	gotheus.Default().SetLogger(args.Place.logger())
	began := time.Now()
	err := gotheus.Bind(context.Background(), args.Place.url())
	labels := gotheus.Labels{"job": args.Job}
	operations := gotheus.NewCounterVec(ops, "Operations.", &gotheus.CounterOptions{Labels: labels}, "series")
	latency := gotheus.NewHistogramVec(seconds, "Latencies.", &gotheus.HistogramOptions{Labels: labels}, "series")
	for n := range oneshotCounts {
		for c := range oneshotCounters {
			operations.With(fmt.Sprint(c)).Inc()
		}
		latency.With("0").Observe(float64(n) / 100)
	}
	closing := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = errors.Join(err, gotheus.Close(ctx))
	l := life{Life: time.Since(began), Close: time.Since(closing)}
	if err != nil {
		l.Failed = err.Error()
	}
	return l, nil
}

// oneshots runs many short processes at the same time.
func oneshots(ctx context.Context, r *run) error {
	t := r.newTable("labels, other processes", "processes", "failed", "life, median", "life, max", "Close, max",
		"scripts/life", "HMGET/life", "commands/life", "KB in/life", "KB out/life", "server CPU", "total")
	for _, own := range []bool{false, true} {
		for _, stays := range []bool{false, true} {
			if err := oneshotVariant(ctx, r, t, own, stays); err != nil {
				return err
			}
		}
	}
	r.print(t)
	return nil
}

func oneshotVariant(ctx context.Context, r *run, t *table, own, stays bool) error {
	p := r.place(fmt.Sprintf("oneshots-%v-%v", own, stays))
	name := map[bool]string{false: "the same, ", true: "own, "}[own] + map[bool]string{false: "none", true: "one stays"}[stays]
	var stayer *process
	if stays {
		var err error
		if stayer, err = r.start("stayer"); err != nil {
			return err
		}
		if err := stayer.call("open", openArgs{Place: p, Instances: 1, Counters: 1, Histograms: 1, Job: "stayer"}, nil); err != nil {
			return err
		}
		if err := stayer.call("flush", none{}, nil); err != nil {
			return err
		}
	}
	list, err := r.startAll(r.oneshots, "oneshot")
	if err != nil {
		return err
	}
	r.note("%s: all have started", name)
	before, err := r.server.read(ctx)
	if err != nil {
		return err
	}
	results := make([]life, len(list))
	// That a process dies is a failure like any other.
	each(list, func(i int, q *process) error {
		args := oneshotArgs{Place: p, Job: "job"}
		if own {
			args.Job = fmt.Sprint("job-", i)
		}
		if err := q.call("oneshot", args, &results[i]); err != nil {
			results[i].Failed = err.Error()
		}
		return nil
	})
	after, err := r.server.read(ctx)
	if err != nil {
		return err
	}
	for _, q := range list {
		if err := q.end(); err != nil {
			r.wrong("%s: %v", name, err)
		}
		r.forget(q)
	}
	failed, median, longest, closing := 0, []time.Duration{}, time.Duration(0), time.Duration(0)
	for i, l := range results {
		if l.Failed != "" {
			failed++
			r.wrong("%s: process %d: %s", name, i, l.Failed)
		}
		median = append(median, l.Life)
		longest, closing = max(longest, l.Life), max(closing, l.Close)
	}
	slices.Sort(median)
	one := float64(oneshotCounts * oneshotCounters)
	got, verdict, err := r.newcomerTotals(p, totals{
		Ops: one * float64(len(list)), Count: float64(oneshotCounts * len(list)), Series: -1,
	}, name)
	if err != nil {
		return err
	}
	if closed := one * float64(len(list)-failed); got.Ops < closed {
		verdict += fmt.Sprintf(", %.0f of them closed", closed-got.Ops)
		r.wrong("%s: %.0f operations are missing of processes whose Close has returned no error", name, closed-got.Ops)
	}
	if stayer != nil {
		stayer.kill()
		r.forget(stayer)
	}
	d, n := after.since(before), float64(len(list))
	t.row(name, len(list), failed, median[len(median)/2], longest, closing, d.scripts/n, d.hmgets/n, d.commands/n,
		d.in/n/1024, d.out/n/1024, d.cpu, verdict)
	return nil
}

// newcomerTotals compares the page of a new process with what it should have, and returns a word
// for that. Negative numbers are not compared.
func (r *run) newcomerTotals(p place, want totals, when string) (got totals, verdict string, err error) {
	q, err := r.start("newcomer")
	if err != nil {
		return got, "", err
	}
	defer func() {
		q.kill()
		r.forget(q)
	}()
	if err := q.call("open", openArgs{Place: p, Instances: 1}, nil); err != nil {
		return got, "", err
	}
	if err := q.call("totals", 2*p.aliveFor()+10*time.Second, &got); err != nil {
		r.wrong("%s: a new process: %v", when, err)
		return got, "no page", nil
	}
	if verdict := got.compare(want); verdict != "" {
		r.wrong("%s: a new process' page has %v, must have %v", when, got, want)
		return got, verdict, nil
	}
	return got, "exact", q.call("close", none{}, nil)
}

// compare returns "" if totals are as they should be.
func (t totals) compare(want totals) string {
	switch {
	case want.Ops >= 0 && t.Ops != want.Ops:
		return fmt.Sprintf("%+.0f", t.Ops-want.Ops)
	case want.Count >= 0 && t.Count != want.Count:
		return fmt.Sprintf("%+.0f observations", t.Count-want.Count)
	case want.Series >= 0 && t.Series != want.Series:
		return fmt.Sprintf("%+d series", t.Series-want.Series)
	}
	return ""
}
