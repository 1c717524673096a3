//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gotheus/gotheus/internal/hostilestore"
	"github.com/gotheus/gotheus/redisstore"
)

const (
	honestCounters = 100
	// What a page may take of memory, see docs/redis.md: so many bytes for each byte in the
	// server, and for the process itself.
	heapFactor = 256
	heapFixed  = 64 << 20
)

// namespace lets a stranger write records beside those of an honest process, one kind after the
// other, and measures what the pages of a process cost that starts then.
func namespace(ctx context.Context, r *run) error {
	t := r.newTable("records", "KB stored", "first page", "second page", "third page", "CPU of all", "heap MB", "heap per byte", "commands/page", "total")
	for _, a := range hostilestore.Attacks {
		if err := r.attack(ctx, t, a); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	r.print(t)
	return nil
}

func (r *run) attack(ctx context.Context, t *table, a hostilestore.Attack) error {
	p := r.fast("namespace-" + a.Name)
	honest, err := r.start("honest")
	if err != nil {
		return err
	}
	defer func() {
		honest.kill()
		r.forget(honest)
	}()
	args := openArgs{Place: p, Instances: 1, Counters: honestCounters, Job: "job", Count: true}
	if err := honest.call("open", args, nil); err != nil {
		return err
	}
	config, err := redisstore.New(r.server.client, &redisstore.Options{Namespace: p.Namespace})
	if err != nil {
		return err
	}
	stored, err := a.Fill(ctx, config.Shards[0], max(1, int(r.namespaceSize*float64(a.Size))))
	if err != nil {
		return err
	}
	r.note("%s: %d bytes are stored", a.Name, stored)
	reader, err := r.start("reader")
	if err != nil {
		return err
	}
	defer func() {
		reader.kill()
		r.forget(reader)
	}()
	var without, with usage
	if err := reader.call("stat", none{}, &without); err != nil {
		return err
	}
	before, err := r.server.read(ctx)
	if err != nil {
		return err
	}
	var pages [3]timed
	cpu, verdict := time.Duration(0), "exact"
	for i := range pages {
		if i == 0 {
			err = reader.call("first totals", p, &pages[i])
		} else {
			err = reader.call("timed totals", time.Minute, &pages[i])
		}
		if err != nil { // also that it died
			r.wrong("%s: page %d: %v", a.Name, i+1, err)
			t.row(a.Name, float64(stored)/1024, "", "", "", "", "", "", "", "no page")
			return nil
		}
		cpu += pages[i].CPU
		if d := pages[i].Totals.compare(totals{Ops: honestCounters, Series: honestCounters}); d != "" {
			verdict = d
			r.wrong("%s: page %d has %v, must have %d", a.Name, i+1, pages[i].Totals, honestCounters)
		}
	}
	after, err := r.server.read(ctx)
	if err != nil {
		return err
	}
	if err := reader.call("stat", none{}, &with); err != nil {
		return err
	}
	heap := max(0, with.Heap-without.Heap)
	if heap > heapFixed+heapFactor*float64(stored) {
		r.wrong("%s: the heap has grown by %.0f bytes for %d in the server", a.Name, heap, stored)
	}
	t.row(a.Name, float64(stored)/1024, pages[0].Time, pages[1].Time, pages[2].Time, cpu, heap/(1<<20), heap/float64(stored),
		after.since(before).commands/float64(len(pages)), verdict)
	return nil
}
