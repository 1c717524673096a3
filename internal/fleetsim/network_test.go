package fleetsim

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

var (
	errKilled = errors.New("fleetsim: the process was killed")
	errCut    = errors.New("fleetsim: the connection was cut")
)

// conn is the store as a process sees it: every call takes time, and may fail as networks and
// servers do. A goroutine that is woken by the network is the only one that runs at that instant,
// since instants are distinct, see world.until. This is what makes a history depend on its seed
// alone.
type conn struct{ p *proc }

// fate is what happens to one call. All of it is drawn before the call, so that the numbers a
// process draws do not depend on what others do.
type fate struct {
	there, back time.Duration
	lost        bool // the request never arrives
	unanswered  bool // it arrives, but the answer is lost
	silent      bool // a loss is noticed only when the time is up
	again       time.Duration
	survives    bool // the request arrives although the process is killed, or gives up
}

func (p *proc) fate() fate {
	r := p.net
	p.w.mu.Lock()
	loss := p.w.loss
	p.w.mu.Unlock()
	x, y, z, u := r.Float64(), r.Float64(), r.Float64(), r.Float64()
	f := fate{there: p.w.delay(r), back: p.w.delay(r), survives: r.IntN(2) == 0, silent: r.IntN(3) == 0}
	f.lost = p.w.on(lostRequests) && x < loss
	f.unanswered = p.w.on(lostAnswers) && y < loss
	if after := time.Duration(r.Int64N(int64(p.w.alive))); p.w.on(duplicates) && z < loss {
		f.again = after + time.Millisecond
	}
	if late := time.Duration(r.Int64N(int64(p.w.alive))); p.w.on(delays) && u < loss {
		f.there += late // often beyond the timeout; another process's request overtakes it
	}
	return f
}

// call sends a request to the server that the process is connected to. run is called with it when
// the request arrives. For commits, write is what may arrive later, or again.
func (c *conn) call(ctx context.Context, what string, write *store.Commit, run func(*server) error) (err error) {
	p, w := c.p, c.p.w
	if err := p.hold(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f := p.fate()
	var at mark
	w.event("send", p, "%s", what)
	defer func() { w.outcome(what, p, err) }()
	later := func(d time.Duration) {
		if write != nil {
			time.AfterFunc(w.until(p.slot+1, d), func() { w.arrive(p, write) })
		}
	}
	fail := func(err error) error {
		p.trouble()
		if !f.silent {
			if err := p.sleep(ctx, w.until(p.slot, f.back)); err != nil {
				return err
			}
			return err
		}
		return p.wait(ctx)
	}
	if f.lost {
		return fail(errCut)
	}
	left := w.until(p.slot, f.there)
	sent := w.now()
	if err := p.sleep(ctx, left); err != nil {
		p.trouble()
		if f.survives {
			later(left - (w.now() - sent))
		}
		return err
	}
	w.mu.Lock()
	s, cut := w.route(p)
	switch {
	case cut: // a partition: mostly there is no answer at all
		w.mu.Unlock()
		return fail(errCut)
	case s == nil || s.mode == down:
		w.mu.Unlock()
		return fail(errRefused)
	case s.mode == hanging:
		if write != nil && f.survives {
			s.held = append(s.held, func() { w.execute(s, p, write) })
		}
		w.mu.Unlock()
		p.trouble()
		return p.wait(ctx)
	}
	err = run(s)
	at = mark{s.gen, s.gen.n}
	w.mu.Unlock()
	if err == errReadOnly {
		p.trouble()
	}
	if f.again > 0 {
		later(f.again)
	}
	if f.unanswered {
		return fail(errCut)
	}
	if err := p.sleep(ctx, w.until(p.slot, f.back)); err != nil {
		p.trouble()
		return err
	}
	if err := p.hold(); err != nil { // a stopped process gets the answer when it continues
		return err
	}
	p.answered(at, what == "heads" && err == nil, write != nil && err == nil && putsInstance(write))
	return err
}

// arrive executes a late or duplicated commit on whichever server the process would reach now.
func (w *world) arrive(p *proc, c *store.Commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, cut := w.route(p); !cut && s != nil && s.mode == serving {
		w.execute(s, p, c)
	}
}

// execute is called with mu held.
func (w *world) execute(s *server, p *proc, c *store.Commit) {
	err := s.commit(c)
	w.stats.commits++
	w.event("late", p, "%s: %v", w.describe(c), err)
}

// Heads implements store.Store.
func (c *conn) Heads(ctx context.Context, names []string) (heads map[string]store.Head, err error) {
	err = c.call(ctx, "heads", nil, func(s *server) error {
		heads = s.getHeads(names)
		if m := c.p.w.mistake; m != nil && m.heads != nil {
			m.heads(c.p, s, heads)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return heads, nil
}

// Get implements store.Store.
func (c *conn) Get(ctx context.Context, keys []store.Key) (parts [][]byte, err error) {
	err = c.call(ctx, "get", nil, func(s *server) error {
		parts = s.get(keys)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return parts, nil
}

// Commit implements store.Store.
func (c *conn) Commit(ctx context.Context, commit *store.Commit) error {
	own := cloneCommit(commit)
	w := c.p.w
	if w.mistake != nil && w.mistake.commit != nil {
		w.mistake.commit(c.p, own)
	}
	return c.call(ctx, w.describe(own), own, func(s *server) error {
		if s.mode == readOnly {
			return errReadOnly
		}
		w.stats.commits++
		err := s.commit(own)
		w.event("commit", c.p, "%s: %v", w.describe(own), err)
		return err
	})
}

// Close implements store.Store.
func (c *conn) Close() error { return nil }

// describe names what a commit does, for traces. The order of its maps does not matter.
func (w *world) describe(c *store.Commit) string {
	if !w.tracing {
		return "commit"
	}
	b := []byte("commit")
	for _, name := range slices.Sorted(maps.Keys(c.Heads)) {
		b = append(b, ' ')
		if c.Heads[name] == nil {
			b = append(b, '-')
		}
		b = append(b, name...)
	}
	if len(c.Parts) > 0 {
		b = append(b, " parts "...)
		b = append(b, byte('0'+len(c.Parts)%10))
	}
	return string(b)
}

// putsInstance reports whether a commit publishes something of an instance.
func putsInstance(c *store.Commit) bool {
	for name, v := range c.Heads {
		if name[0] == 'i' && v != nil {
			return true
		}
	}
	return false
}

func cloneCommit(c *store.Commit) *store.Commit {
	d := &store.Commit{Drop: slices.Clone(c.Drop), If: maps.Clone(c.If), Heads: maps.Clone(c.Heads), Parts: maps.Clone(c.Parts)}
	for _, m := range []map[string][]byte{d.If, d.Heads} {
		for k, v := range m {
			m[k] = bytes.Clone(v)
		}
	}
	for k, v := range d.Parts {
		d.Parts[k] = append([]byte{}, v...)
	}
	return d
}
