package fleetsim

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// page is what one scrape has shown.
type page struct {
	p           *proc
	begun, done time.Duration
	at          mark // when heads were read
	values      map[string]float64
}

// evidence says that the store had at least this value of a series, since a page has shown it.
type evidence struct {
	at    mark
	done  time.Duration
	value float64
	by    int
}

// read makes a page.
func (w *world) read(p *proc, limit time.Duration) (*page, error) {
	pg := &page{p: p, begun: w.now(), values: make(map[string]float64)}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := p.s.Sync(ctx)
	w.outcome("page", p, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	pg.done, pg.at = w.now(), p.heads
	if err != nil {
		w.stats.refused++
		return nil, err
	}
	w.stats.pages++
	for _, g := range p.s.Walk() {
		for i, s := range g.Series {
			if g.Parts == nil && g.Exists(i) {
				pg.add(g.Family, s)
			}
		}
	}
	return pg, nil
}

func (pg *page) add(f *backend.Family, s *backend.Series) {
	float := func(i int) float64 { return math.Float64frombits(s.Words[i].Load()) }
	switch f.Name {
	case histogram.Name:
		pg.values["h_sum"] = float(backend.HistogramSum)
		for i, key := range []string{"h_0", "h_1", "h_2"} {
			pg.values[key] = float64(s.Words[backend.HistogramBuckets+i].Load())
		}
	case gauge.Name:
		pg.values["g"] = float(backend.GaugeValue)
	default:
		pg.values[f.Name+s.Labels] = float64(s.Words[backend.CounterInt].Load()) + float(backend.CounterFloat)
	}
}

// deletable reports whether a series may be deleted, so that its value may decrease.
func deletable(key string) bool { return strings.HasPrefix(key, tenant.Name) }

// slack is how much less than counted a value may be, or more, since float sums are rounded.
func slack(key string, v float64) float64 {
	if key == "f_total" || key == "h_sum" {
		return v * 1e-11
	}
	return 0
}

// floor is a lower bound for a value, and where it comes from.
type floor struct {
	value float64
	why   string
	by    int
}

func raise(m map[string]floor, key string, v float64, why string, by int) {
	if v > m[key].value {
		m[key] = floor{v, why, by}
	}
}

// check compares a page with what was counted, acknowledged and shown. mu is held.
func (w *world) check(pg *page) {
	g := pg.at.gen
	if g == nil {
		w.fail("p%d has a page although it has never read the store", pg.p.n)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(pg.values)) {
		v := pg.values[key]
		if most := w.totals[key]; v > most+slack(key, most) {
			w.fail("p%d shows %s %v, of %v counted", pg.p.n, key, v, most)
		}
	}
	if !w.on(noticedBefore) && pg.p.contact == g && pg.p.contactAt >= pg.begun {
		return // the process has noticed only now that the store has lost something
	}
	floors := make(map[string]floor)
	if w.on(lowerBounds) {
		floors = w.floors(pg)
	}
	for _, key := range slices.Sorted(maps.Keys(floors)) {
		f := floors[key]
		if v := pg.values[key]; v < f.value-slack(key, f.value) || w.on(exactFloats) && f.why == shownBefore && v < f.value {
			w.fail("p%d shows %s %v after %v: %s (p%d); generation %d, heads read at commit %d", pg.p.n, key, v, f.value, f.why, f.by, g.number, pg.at.n)
			break
		}
	}
	w.show(pg)
	pg.p.page, pg.p.pageAt = pg.values, pg.done
}

const (
	shownBefore  = "a page has shown that"
	acknowledged = "that was acknowledged"
	known        = "a process knows that"
)

// floors returns what a page must show at least. mu is held.
func (w *world) floors(pg *page) map[string]floor {
	g, m := pg.at.gen, make(map[string]floor)
	for _, p := range w.all {
		var best map[string]float64
		for _, a := range slices.Backward(p.acks) {
			if a.when <= pg.begun && (g.has(a.at) || w.remembers(p, pg)) {
				best = a.values
				break
			}
		}
		for key, v := range best {
			if !deletable(key) {
				f := m[key]
				m[key] = floor{f.value + v, acknowledged, p.n}
			}
		}
	}
	for key, list := range w.shown {
		for _, e := range list {
			if e.done <= pg.begun && g.has(e.at) {
				raise(m, key, e.value, shownBefore, e.by)
			}
		}
	}
	for _, q := range w.procs {
		if q.page != nil && q.pageAt <= pg.begun && w.remembers(q, pg) {
			for key, v := range q.page {
				if !deletable(key) {
					raise(m, key, v, known, q.n)
				}
			}
		}
	}
	return m
}

// patience is how many times alive a survivor of a loss needs at most to restore what it knows.
const patience = 4

// remembers reports whether a page must have what q knows, because q lives, is connected to the
// same store and has had the time to restore it. mu is held.
func (w *world) remembers(q *proc, pg *page) bool {
	g := pg.at.gen
	if q.ended || q.leaving || q.paused != nil || q.cut {
		return false
	}
	if s, _ := w.route(q); s == nil || s.gen != g {
		return false
	}
	// There is no page before it has restored everything, unless a process that knew nothing
	// has made one of an empty server.
	if w.on(headServer) && q.healthy < g.since && !g.empty {
		return true
	}
	if q.contact != g {
		return false
	}
	return pg.begun-max(q.healthy, q.contactAt, g.since) >= patience*w.alive
}

// show records that a page has shown its values. mu is held.
func (w *world) show(pg *page) {
	for key, v := range pg.values {
		if deletable(key) {
			continue
		}
		list := w.shown[key]
		if n := len(list); n > 0 && list[n-1].at == pg.at && list[n-1].value >= v {
			continue
		}
		if list = append(list, evidence{pg.at, pg.done, v, pg.p.n}); len(list) > 40 {
			i := 0
			list = slices.DeleteFunc(list, func(evidence) bool { i++; return i%2 == 0 && i < 30 })
		}
		w.shown[key] = list
	}
}

// settle ends all faults and checks that some time later all pages are exact and that nothing is
// left over.
func (w *world) settle() {
	w.event("settle", nil, "")
	w.calm()
	if w.on(damages) {
		w.changeAll()
		w.wait(9) // heads of the dead that cannot be read stay for six times alive
	}
	w.wait(3)
	// What the store has lost is noticed by who reads it.
	for _, p := range slices.Clone(w.procs) {
		if pg, err := w.read(p, 2*w.opt.Timeout); err == nil {
			w.mu.Lock()
			w.check(pg)
			w.mu.Unlock()
		}
		w.step(0)
	}
	w.wait(3)
	w.flushAll()
	first := w.readAll()
	if w.failed() || first == nil {
		return
	}
	if w.on(deletions) {
		w.deleteOne(first)
	}
	w.wait(11)
	w.readAll()
	w.mu.Lock()
	procs := slices.Clone(w.procs)
	heads, groups := w.main.footprint()
	if most := len(procs) + 9; heads > most || groups > most {
		w.fail("%d heads and %d groups are left for %d processes: %v", heads, groups, len(procs), slices.Sorted(maps.Keys(w.main.heads)))
	}
	w.mu.Unlock()
	for _, p := range procs {
		if n := p.s.Records(); n > 2*len(procs)+12 {
			w.fail("p%d keeps %d records with %d processes alive", p.n, n, len(procs))
		}
	}
}

// changeAll changes all that processes have published: they write damaged parts again only then.
func (w *world) changeAll() {
	for _, p := range slices.Clone(w.procs) {
		if p.leaving {
			continue
		}
		w.count(p)
		for _, key := range slices.Sorted(maps.Keys(p.snapshot())) {
			if labels, ok := strings.CutPrefix(key, counter.Name); ok {
				p.add(counter, labels, 1)
			}
		}
		w.step(0)
	}
}

// wait lets n times alive pass.
func (w *world) wait(n int) {
	for end := w.now() + time.Duration(n)*w.alive; w.now() < end && !w.failed(); {
		w.step(w.alive / 4)
	}
}

func (w *world) flushAll() {
	for _, p := range slices.Clone(w.procs) {
		values := p.snapshot()
		ctx, cancel := context.WithTimeout(context.Background(), w.alive)
		err := p.s.Flush(ctx)
		cancel()
		if err != nil {
			w.fail("p%d: Flush: %v, long after all faults", p.n, err)
			return
		}
		w.mu.Lock()
		p.acknowledged(values, p.own)
		w.mu.Unlock()
		w.step(0)
	}
}

// readAll makes pages of all processes, which must be the same. It returns the last one.
func (w *world) readAll() (last *page) {
	for _, p := range slices.Clone(w.procs) {
		pg, err := w.read(p, 2*w.opt.Timeout)
		if err != nil {
			w.fail("p%d: no page long after all faults: %v", p.n, err)
			return nil
		}
		w.mu.Lock()
		w.check(pg)
		w.mu.Unlock()
		if last != nil && !maps.Equal(last.values, pg.values) {
			for _, key := range slices.Sorted(maps.Keys(w.totals)) {
				a, b := last.values[key], pg.values[key]
				if a != b && (math.Abs(a-b) > slack(key, a) || w.on(exactFloats)) {
					w.fail("p%d shows %s %v, but p%d %v, long after all faults", last.p.n, key, a, p.n, b)
					return nil
				}
			}
		}
		last = pg
		w.step(0)
	}
	return last
}

// deleteOne deletes a series that has counts, which is then gone from all pages, and counts again
// from zero.
func (w *world) deleteOne(pg *page) {
	for _, key := range slices.Sorted(maps.Keys(pg.values)) {
		if !deletable(key) {
			continue
		}
		p := w.procs[w.rnd.IntN(len(w.procs))]
		labels := strings.TrimPrefix(key, tenant.Name)
		if ok, err := p.s.DeleteSeries(tenant, labels); !ok || err != nil {
			w.fail("p%d: %s is not deleted: %v", p.n, key, err)
			return
		}
		w.wait(2)
		again := w.readAll()
		if again == nil {
			return
		}
		if v, ok := again.values[key]; ok {
			w.fail("%s shows %v after it was deleted", key, v)
		}
		q := w.procs[w.rnd.IntN(len(w.procs))]
		q.add(tenant, labels, 3)
		w.flushAll()
		if again = w.readAll(); again != nil && again.values[key] != 3 {
			w.fail("%s shows %v instead of 3 after it came back", key, again.values[key])
		}
		return
	}
}
