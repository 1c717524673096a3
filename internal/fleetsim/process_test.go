package fleetsim

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
)

var (
	counter   = &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}}
	floats    = &backend.Family{Name: "f_total", Help: "F.", Kind: backend.Counter}
	histogram = &backend.Family{Name: "h", Help: "H.", Kind: backend.Histogram, Buckets: []float64{1, 100}}
	gauge     = &backend.Family{Name: "g", Help: "G.", Kind: backend.Gauge}
	tenant    = &backend.Family{Name: "t_total", Help: "T.", Kind: backend.Counter, Labels: []string{"x"}}
)

// proc is a process. Its fields are guarded by world.mu.
type proc struct {
	w    *world
	n    int
	slot int64
	s    *syncer.Syncer
	net  *rand.Rand // what the network does to it
	rnd  *rand.Rand // of its Syncer
	lock sync.Mutex // guards rnd

	dead    chan struct{} // closed when it is killed, or has ended
	ended   bool
	leaving bool          // it is closing
	paused  chan struct{} // closed when it continues; nil: it runs
	cut     bool          // from all servers
	old     bool          // it is connected to the old server, if there is one
	busy    int           // scrapes in progress

	counted map[string]float64
	acks    []ack
	page    map[string]float64 // its last page
	pageAt  time.Duration

	heads     mark          // of the last answer with heads
	own       mark          // of the last proof that the store has what was acknowledged
	contact   *generation   // that answered last
	contactAt time.Duration // when it first did
	healthy   time.Duration // since when no call has failed
}

// ack says that the store had at least these counts of a process, at some place in its history.
type ack struct {
	at     mark
	when   time.Duration
	values map[string]float64
}

func (w *world) start() *proc {
	w.ids++
	p := &proc{
		w: w, n: w.ids, slot: int64(2*w.ids%(grain-2) + 1), dead: make(chan struct{}), counted: make(map[string]float64),
		net: rand.New(rand.NewPCG(w.seed, uint64(3*w.ids+1))), rnd: rand.New(rand.NewPCG(w.seed, uint64(3*w.ids+2))),
		healthy: w.now(), old: w.old != nil && w.rnd.IntN(2) == 0,
	}
	skew := w.upTo(48*time.Hour) - 24*time.Hour // of its clock, which nobody must rely on
	piece := 0
	if w.rnd.IntN(3) == 0 {
		piece = 1 + w.rnd.IntN(400) // most changes take several commits
	}
	var err error
	p.s, err = syncer.NewSimulated(&conn{p}, &w.opt, syncer.Simulation{
		Now:   func() time.Time { return time.Now().Add(skew) },
		Piece: piece,
		Random: func() uint64 {
			p.lock.Lock()
			defer p.lock.Unlock()
			return p.rnd.Uint64()
		},
	})
	if err != nil {
		w.fail("a process cannot start: %v", err)
	}
	w.mu.Lock()
	w.procs, w.all = append(w.procs, p), append(w.all, p)
	w.mu.Unlock()
	w.event("start", p, "piece %d", piece)
	return p
}

// logger returns where Syncers log: in the trace.
func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(logWriter{w}, nil)) }

type logWriter struct{ w *world }

// unmet are the messages with which a Syncer says that a documented limit was exceeded.
var unmet = []string{"which of its counts were kept is not known", "different dead instances"}

func (l logWriter) Write(b []byte) (int, error) {
	for _, text := range unmet {
		if !l.w.on(noLimits) && strings.Contains(string(b), text) {
			l.w.limit()
		}
	}
	if l.w.tracing {
		l.w.event("log", nil, "%s", strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// count does what instruments of the process do. mu is not held.
func (w *world) count(p *proc) {
	r := w.rnd
	p.add(counter, fmt.Sprintf(`x="p%d"`, p.n), 1+r.IntN(9))
	if r.IntN(2) == 0 {
		p.add(counter, fmt.Sprintf(`x="s%d"`, r.IntN(20)), 1+r.IntN(9))
	}
	if r.IntN(4) == 0 {
		p.add(counter, fmt.Sprintf(`x="s%d"`, r.IntN(700)), 1) // several parts
	}
	v := math.Exp2(float64(r.IntN(50)-25)) * (1 + r.Float64())
	if ws := p.cells(floats, ""); ws != nil {
		addFloat(&ws[backend.CounterFloat], v)
		p.note("f_total", v)
	}
	if ws := p.cells(histogram, ""); ws != nil {
		bucket := 0
		for bucket < len(histogram.Buckets) && v > histogram.Buckets[bucket] {
			bucket++
		}
		ws[backend.HistogramBuckets+bucket].Add(1)
		addFloat(&ws[backend.HistogramSum], v)
		p.note("h_sum", v)
		p.note(fmt.Sprint("h_", bucket), 1)
	}
	if ws := p.cells(gauge, ""); ws != nil {
		addFloat(&ws[backend.GaugeValue], 2)
		p.note("g", 2)
	}
	if w.on(deletions) && r.IntN(3) == 0 {
		p.add(tenant, fmt.Sprintf(`x="%d"`, r.IntN(8)), 1)
	}
}

// add adds n to a counter, as an instrument does whose series may have been deleted.
func (p *proc) add(f *backend.Family, labels string, n int) {
	for range 10 {
		ws := p.cells(f, labels)
		if ws == nil {
			return
		}
		if ws[backend.CounterInt].Add(uint64(n)) < backend.SealedInt {
			p.note(f.Name+labels, float64(n))
			return
		}
	}
	p.w.fail("p%d: the words of %s{%s} are sealed again and again", p.n, f.Name, labels)
}

func (p *proc) cells(f *backend.Family, labels string) backend.Words {
	ws, err := p.s.Cells(f, labels)
	if err != nil {
		p.w.fail("p%d: Cells: %v", p.n, err)
		return nil
	}
	return ws
}

func addFloat(w *atomic.Uint64, v float64) {
	w.Store(math.Float64bits(math.Float64frombits(w.Load()) + v))
}

// note records what was counted.
func (p *proc) note(key string, v float64) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.counted[key] += v
	p.w.totals[key] += v
}

// snapshot returns what was counted so far.
func (p *proc) snapshot() map[string]float64 {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return maps.Clone(p.counted)
}

// acknowledged records that the store has these counts. mu is held.
func (p *proc) acknowledged(values map[string]float64, at mark) {
	p.w.stats.acks++
	p.acks = append(p.acks, ack{at, p.w.now(), values})
	if len(p.acks) > 60 { // fewer of the old ones
		i := 0
		p.acks = slices.DeleteFunc(p.acks, func(ack) bool { i++; return i%2 == 0 && i < 40 })
	}
}

// answered is called when the process gets an answer: with heads, or that it has published.
func (p *proc) answered(at mark, heads, own bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.contact != at.gen {
		p.contact, p.contactAt = at.gen, p.w.now()
	}
	if heads {
		p.heads = at
	}
	if heads || own {
		p.own = at
	}
}

// trouble is called when a call of the process fails.
func (p *proc) trouble() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.healthy = p.w.now()
}

// flush calls Flush, and scrape makes a page, while time passes.
func (w *world) flush(p *proc) {
	values, limit := p.snapshot(), w.upTo(2*w.opt.Timeout)+w.opt.Timeout/8
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err := p.s.Flush(ctx)
		w.outcome("flushed", p, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil && !p.ended {
			p.acknowledged(values, p.own)
		}
	})
}

func (w *world) scrape(p *proc) {
	w.mu.Lock()
	p.busy++
	w.mu.Unlock()
	values, limit := p.snapshot(), w.upTo(2*w.opt.Timeout)+w.opt.Timeout/8
	w.wg.Go(func() {
		pg, err := w.read(p, limit)
		w.mu.Lock()
		defer w.mu.Unlock()
		p.busy--
		if err == nil && !p.ended {
			p.acknowledged(values, pg.at)
			w.check(pg)
		}
	})
}

// leave closes the process.
func (w *world) leave(p *proc) {
	w.mu.Lock()
	p.leaving = true
	w.mu.Unlock()
	values, limit := p.snapshot(), w.upTo(12*time.Second)+w.opt.Timeout/2
	w.event("close", p, "")
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err := p.s.Close(ctx)
		w.outcome("closed", p, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil && !p.ended {
			p.acknowledged(values, p.own)
			if w.on(closeRestores) {
				w.show(&page{p: p, begun: w.now(), at: p.own, values: p.page})
			}
		}
		w.remove(p)
	})
}

// remove takes a process off the list of those that live. mu is held.
func (w *world) remove(p *proc) {
	if !p.ended {
		p.ended = true
		close(p.dead)
	}
	w.procs = slices.DeleteFunc(w.procs, func(q *proc) bool { return q == p })
}

// kill ends a process at once. What it has sent may still arrive.
func (w *world) kill(p *proc) {
	w.mu.Lock()
	done := p.ended
	w.remove(p)
	w.mu.Unlock()
	if done {
		return
	}
	w.event("kill", p, "")
	w.stats.kills++
	w.wg.Go(func() { // ends its goroutines
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.s.Close(ctx)
	})
}

// sleep returns early with an error if ctx ends or the process is killed.
func (p *proc) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.dead:
		return errKilled
	}
}

// wait returns when ctx ends or the process is killed.
func (p *proc) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.dead:
		return errKilled
	}
}

// hold returns when the process is not stopped.
func (p *proc) hold() error {
	for {
		p.w.mu.Lock()
		until, ended := p.paused, p.ended
		p.w.mu.Unlock()
		if ended {
			return errKilled
		}
		if until == nil {
			return nil
		}
		select {
		case <-until:
		case <-p.dead:
			return errKilled
		}
		if err := p.sleep(context.Background(), p.w.until(p.slot, time.Microsecond)); err != nil {
			return err
		}
	}
}
