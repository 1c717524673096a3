//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	idleCounters   = 20
	idleHistograms = 1
	idlePeriods    = 3 // of a quarter of alive, which are measured
)

// idle measures fleets of instances that count nothing.
func idle(ctx context.Context, r *run) error {
	p := r.place("idle")
	helpers, err := r.startAll(min(r.helpers, r.idle[0]), "helper")
	if err != nil {
		return err
	}
	t := r.newTable("instances", "the new ones started within", "KB/s in each", "KB/s out each", "commands/s each", "scripts/s each", "commands/s", "KB/s", "server CPU", "page of a new process")
	var first, last float64
	have := 0
	for _, n := range r.idle {
		began := time.Now()
		err := each(helpers, func(i int, q *process) error {
			share := part(n, i, len(helpers)) - part(have, i, len(helpers))
			args := openArgs{Place: p, Instances: share, Counters: idleCounters, Histograms: idleHistograms, Job: "job", Count: true}
			return r.publish(q, "open", args, fmt.Sprint(n, " instances"))
		})
		if err != nil {
			return err
		}
		have = n
		took := time.Since(began)
		r.note("%d instances have counted", n)
		period := p.aliveFor() / 4
		if err := wait(ctx, period*3/2); err != nil {
			return err
		}
		before, err := r.server.read(ctx)
		if err != nil {
			return err
		}
		if err := wait(ctx, idlePeriods*period+period/5); err != nil {
			return err
		}
		after, err := r.server.read(ctx)
		if err != nil {
			return err
		}
		d, length := after.since(before), after.at.Sub(before.at).Seconds()
		rate := func(v float64) float64 { return v / length / float64(n) }
		last = rate(d.in + d.out)
		if first == 0 {
			first = last
		}
		_, verdict, err := r.newcomerTotals(p, totals{Ops: float64(n * idleCounters), Count: float64(n * idleHistograms), Series: idleCounters}, fmt.Sprint(n, " instances"))
		if err != nil {
			return err
		}
		t.row(n, took, rate(d.in)/1024, rate(d.out)/1024, rate(d.commands), rate(d.scripts), d.commands/length, (d.in+d.out)/length/1024,
			fmt.Sprintf("%.1f %%", d.cpu.Seconds()/length*100), verdict)
	}
	r.print(t)
	fmt.Fprintf(r.out, "Each of %d instances costs %.2f times as many bytes as each of %d.\n", have, last/first, r.idle[0])
	if last > first*r.idleGrowth {
		r.wrong("an idle instance costs %.1f times as many bytes among %d as among %d, %v times are allowed", last/first, have, r.idle[0], r.idleGrowth)
	}
	return nil
}
