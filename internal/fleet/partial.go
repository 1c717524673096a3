//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/redisstore"
)

const (
	partialProcesses = 4   // that count; one more is idle
	partialSeries    = 300 // more than fit into one field
	dead             = ", dead"
	fresh            = "fresh" // the name of a process that starts after a deletion
)

// target is a key, or a field of a key.
type target struct {
	kind       string // without what differs between those of a kind
	key, field string // field may be ""
}

var (
	id     = regexp.MustCompile(`^([a-z])[0-9a-f]{16}$`)
	digits = regexp.MustCompile(`[0-9]+`)
	tag    = regexp.MustCompile(`^gotheus:\{[^}]*\}:`)
)

func newTarget(key, field string) target {
	general := func(name string) string { return digits.ReplaceAllString(id.ReplaceAllString(name, "${1}N"), "N") }
	kind := general(tag.ReplaceAllString(key, ""))
	if field != "" {
		kind += " / " + general(field)
	}
	return target{kind, key, field}
}

// targets returns all keys of the namespace and their fields, in ascending order.
func (x *deleting) targets(ctx context.Context) (list []target, err error) {
	keys, err := x.ns.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		list = append(list, newTarget(key, ""))
		fields, err := x.server.client.HKeys(ctx, key).Result()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		slices.Sort(fields)
		for _, f := range fields {
			list = append(list, newTarget(key, f))
		}
	}
	return list, nil
}

// deleting is the state of the experiment.
type deleting struct {
	*run
	place   place
	ns      *redisstore.Namespace
	procs   []*process // the last one is idle
	dead    float64    // what dead processes have counted
	last    samples    // the last page of any process
	corpses int
	stats   map[string]*loss
}

// loss is what was found out about the deletion of a kind.
type loss struct {
	times   int
	refused time.Duration // at most, in one deletion
	late    time.Duration // after which a new process had its first page, at most
	lower   int           // pages with lower values than before
	// Those of a process that has started after the deletion.
	freshLower int
	inexact    int // pages that were not exact in the end
	worst      string
}

// partial deletes each part of a namespace while processes count.
func partial(ctx context.Context, r *run) error {
	x := &deleting{run: r, place: r.fast("partial"), stats: make(map[string]*loss)}
	var err error
	if x.ns, err = redisstore.NewNamespace(r.server.client, x.place.Namespace); err != nil {
		return err
	}
	defer x.print()
	if err := x.renew(ctx); err != nil {
		return err
	}
	plan, did := make(map[string]int), make(map[string]int)
	for {
		// Fields that are new belong to the process that has just died.
		before, err := x.targets(ctx)
		if err != nil {
			return err
		}
		if err := x.corpse(ctx); err != nil {
			return err
		}
		all, err := x.targets(ctx)
		if err != nil {
			return err
		}
		var next *target
		found := make(map[string]int)
		for _, t := range all {
			if !x.partialOnly.MatchString(t.kind) {
				continue
			}
			if !slices.ContainsFunc(before, func(b target) bool { return b.key == t.key && b.field == t.field }) {
				t.kind += dead
			}
			if found[t.kind]++; next == nil && found[t.kind] > did[t.kind] && (plan[t.kind] == 0 || did[t.kind] < plan[t.kind]) {
				next = &t
			}
		}
		// Only what there is at first is deleted: dead processes leave more and more.
		for kind, n := range found {
			if plan[kind] == 0 {
				plan[kind] = n
				if r.partial > 0 {
					plan[kind] = min(n, r.partial)
				}
			}
		}
		if next == nil {
			break
		}
		did[next.kind]++
		if err := x.delete(ctx, *next); err != nil {
			return err
		}
	}
	return nil
}

// print prints what was found out so far.
func (x *deleting) print() {
	t := x.newTable("deleted", "times", "pages refused for at most", "page of a new process after",
		"pages lower than before", "those of a new process", "inexact after 2 alive", "for instance")
	for _, kind := range slices.Sorted(maps.Keys(x.stats)) {
		l := x.stats[kind]
		t.row(kind, l.times, l.refused, l.late, l.lower, l.freshLower, l.inexact, l.worst)
	}
	x.run.print(t)
}

// begin starts a process that has series.
func (x *deleting) begin(name string, series int) (*process, error) {
	p, err := x.start(name)
	if err != nil {
		return nil, err
	}
	return p, p.call("open", openArgs{Place: x.place, Instances: 1, Counters: series, Job: "job"}, nil)
}

// corpse makes a process that counts, is read by all others, and is killed.
func (x *deleting) corpse(ctx context.Context) error {
	p, err := x.begin(fmt.Sprint("corpse-", x.corpses), partialSeries)
	if err != nil {
		return err
	}
	x.corpses++
	if err := p.call("count", countArgs{To: partialSeries}, nil); err != nil {
		return err
	}
	x.dead += partialSeries
	for _, q := range x.procs {
		if err := q.call("totals", 10*time.Second, &totals{}); err != nil {
			return err
		}
	}
	p.kill()
	x.forget(p)
	return ctx.Err()
}

// delete deletes a target, and watches the pages of all processes.
func (x *deleting) delete(ctx context.Context, t target) error {
	l := x.stats[t.kind]
	if l == nil {
		l = new(loss)
		x.stats[t.kind] = l
	}
	l.times++
	x.note("%s: %s %s", t.kind, t.key, t.field)
	if _, err := x.page(l, x.procs[0], t); err != nil {
		return err
	}
	began := time.Now()
	var err error
	if t.field == "" {
		err = x.server.client.Del(ctx, t.key).Err()
	} else {
		err = x.server.client.HDel(ctx, t.key, t.field).Err()
	}
	if err != nil {
		return err
	}
	// A process that begins now has read nothing yet.
	newcomer, err := x.begin(fresh, 0)
	if err != nil {
		return err
	}
	defer x.forget(newcomer)
	defer newcomer.kill()
	var refused time.Duration
	last, ok, first := began, true, time.Duration(0)
	for n := 0; time.Since(began) < 2*x.place.aliveFor(); n++ {
		was := ok
		if ok, err = x.page(l, x.procs[n%len(x.procs)], t); err != nil {
			return err
		}
		now := time.Now()
		if !was || !ok {
			refused += now.Sub(last)
		}
		last = now
		if there, err := x.page(l, newcomer, t); err != nil {
			return err
		} else if there && first == 0 {
			first = time.Since(began)
		}
		if err := wait(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	if first == 0 {
		first = time.Since(began)
	}
	l.refused, l.late = max(l.refused, refused), max(l.late, first)
	return x.settle(ctx, l, t)
}

// page makes a page of a process. It reports whether there was one.
func (x *deleting) page(l *loss, p *process, t target) (ok bool, err error) {
	var s sampled
	if err := p.call("samples", none{}, &s); err != nil {
		return false, err
	}
	if s.Refused != "" {
		return false, nil
	}
	if lower := s.Samples.lower(x.last); len(lower) > 0 {
		if p.name == fresh {
			l.freshLower++
		} else {
			l.lower++
		}
		l.note(p.name + ": " + lower[0])
		x.wrong("after the deletion of %s %s, a page of %s is lower: %s", t.key, t.field, p.name, lower[0])
	}
	x.last = s.Samples
	return true, nil
}

func (l *loss) note(what string) {
	const most = 100
	if l.worst == "" {
		if len(what) > most {
			what = what[:most] + "…"
		}
		l.worst = strings.ReplaceAll(what, "|", `\|`)
	}
}

// settle compares the pages of all processes, and of a new one, with what they have counted. Then
// they go on counting. If anything is wrong, new ones begin in an empty server, so that the next
// deletion is judged by itself.
func (x *deleting) settle(ctx context.Context, l *loss, t target) error {
	inexact := l.inexact
	wrong := func(what string) {
		l.inexact++
		l.note(what)
		x.wrong("after the deletion of %s %s: %s", t.key, t.field, what)
	}
	want := totals{Ops: x.dead, Count: -1, Series: partialSeries + partialProcesses}
	want.Ops += partialSeries // of the idle one
	for _, p := range x.procs[:partialProcesses] {
		var n uint64
		if err := p.call("idle", none{}, &n); err != nil {
			wrong(err.Error())
		}
		want.Ops += float64(n)
	}
	newcomer, err := x.begin("newcomer", 0)
	if err != nil {
		return err
	}
	for _, p := range append(slices.Clone(x.procs), newcomer) {
		if l.inexact > inexact {
			break // the first one is enough
		}
		grace := time.Duration(0)
		if p == newcomer {
			grace = x.place.aliveFor() / 2
		}
		if what := x.exact(p, want, grace); what != "" {
			later := time.Now()
			for what != "" && time.Since(later) < 4*x.place.aliveFor() {
				what = x.exact(p, want, 0)
				if err := wait(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
			if what == "" {
				what = fmt.Sprintf("the page of %s is exact only after %v", p.name, round(time.Since(later)+2*x.place.aliveFor()))
			}
			wrong(what)
		}
	}
	if l.inexact == inexact {
		if err := newcomer.call("close", none{}, nil); err != nil {
			wrong(err.Error())
		}
	}
	newcomer.kill()
	x.forget(newcomer)
	if l.inexact > inexact {
		return x.renew(ctx)
	}
	return x.goOn()
}

// exact says what is wrong with a page of a process.
func (x *deleting) exact(p *process, want totals, grace time.Duration) string {
	var got totals
	if err := p.call("totals", grace, &got); err != nil {
		return err.Error()
	}
	if d := got.compare(want); d != "" {
		return fmt.Sprintf("%s on the page of %s: it has %v, must have %v", d, p.name, got, want)
	}
	return ""
}

// renew begins with an empty server and new processes, and gets something into the base.
func (x *deleting) renew(ctx context.Context) error {
	x.killAll()
	if err := x.server.client.FlushAll(ctx).Err(); err != nil {
		return err
	}
	x.procs, x.dead, x.last = nil, 0, nil
	for i := range partialProcesses + 1 {
		p, err := x.begin(fmt.Sprint("process-", i), partialSeries)
		if err != nil {
			return err
		}
		x.procs = append(x.procs, p)
	}
	if err := x.procs[partialProcesses].call("count", countArgs{To: partialSeries}, nil); err != nil {
		return err
	}
	if err := x.goOn(); err != nil {
		return err
	}
	if err := x.corpse(ctx); err != nil {
		return err
	}
	return wait(ctx, 3*x.place.aliveFor())
}

// goOn lets all processes count.
func (x *deleting) goOn() error {
	for i, p := range x.procs[:partialProcesses] {
		if err := p.call("busy", busyArgs{Own: fmt.Sprint("own-", i)}, nil); err != nil {
			return err
		}
	}
	return nil
}
