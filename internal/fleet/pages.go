//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	pageRounds = 3 // of each kind of page but the first one
	first      = "Bind and the first one"
)

// pages measures pages of one process over many instances.
func pages(ctx context.Context, r *run) error {
	p := r.place("pages")
	helpers, err := r.startAll(min(r.helpers, r.options.pages[0]), "helper")
	if err != nil {
		return err
	}
	t := r.newTable("instances", "page", "time", "CPU", "KB read")
	counted, have := 0, 0 // by all instances, and how many there are
	for _, n := range r.options.pages {
		began := time.Now()
		if err := each(helpers, func(i int, q *process) error {
			args := openArgs{Place: p, Instances: part(n, i, len(helpers)) - part(have, i, len(helpers)), Counters: r.pageSeries, Job: "job", Count: true}
			return r.publish(q, "open", args, fmt.Sprint(n, " instances"))
		}); err != nil {
			return err
		}
		counted += (n - have) * r.pageSeries
		have = n
		r.note("%d instances have counted after %v", n, round(time.Since(began)))
		reader, err := r.start("reader")
		if err != nil {
			return err
		}
		page := func(what string, rounds int, change func() error) error {
			var list []timed
			for range rounds {
				if err := change(); err != nil {
					return err
				}
				var one timed
				if what == first {
					err = reader.call("first totals", p, &one)
				} else {
					err = reader.call("timed totals", 2*time.Minute, &one)
				}
				if err != nil {
					return err
				}
				if d := one.Totals.compare(totals{Ops: float64(counted), Series: r.pageSeries}); d != "" {
					r.wrong("%d instances, %s: the page has %v, must have %d", n, what, one.Totals, counted)
				}
				list = append(list, one)
			}
			slices.SortFunc(list, func(a, b timed) int { return int(a.Time - b.Time) })
			m := list[len(list)/2]
			t.row(n, what, m.Time, m.CPU, float64(m.Bytes)/1024)
			return ctx.Err()
		}
		nothing := func() error { return nil }
		some := func() error {
			err := each(helpers, func(i int, q *process) error {
				changed := part(max(n/100, 1), i, len(helpers))
				if changed == 0 {
					return nil
				}
				return r.publish(q, "count", countArgs{Instances: changed, To: r.pageSeries, Step: 100}, fmt.Sprint(n, " instances"))
			})
			counted += max(n/100, 1) * ((r.pageSeries + 99) / 100)
			return err
		}
		everything := func() error {
			err := each(helpers, func(_ int, q *process) error {
				return r.publish(q, "count", countArgs{To: r.pageSeries}, fmt.Sprint(n, " instances"))
			})
			counted += n * r.pageSeries
			return err
		}
		for _, k := range []struct {
			what   string
			rounds int
			change func() error
		}{
			{first, 1, nothing},
			{"nothing has changed", pageRounds, nothing},
			{"1 % have changed 1 %", pageRounds, some},
			{"all have changed all", pageRounds, everything},
		} {
			if err := page(k.what, k.rounds, k.change); err != nil {
				return fmt.Errorf("%d instances, %s: %w", n, k.what, err)
			}
			r.note("%d instances: %s", n, k.what)
		}
		if err := reader.call("close", none{}, nil); err != nil {
			return err
		}
		reader.kill()
		r.forget(reader)
	}
	r.print(t)
	return nil
}

// part returns how many of n helper i has of several.
func part(n, i, of int) int { return n*(i+1)/of - n*i/of }
