package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// Declare implements backend.Backend. Other processes learn of the family with the next
// publication.
func (s *Syncer) Declare(f *backend.Family) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return backend.ErrClosed
	}
	s.family(f)
	return nil
}

const lineWords = 8 // words per cache line: series must not share one

// Cells implements backend.Backend. It never waits for the store.
func (s *Syncer) Cells(f *backend.Family, labels string) (backend.Words, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, backend.ErrClosed
	}
	r := s.family(f).row(labels)
	if r.own == nil {
		s.changed(labels)
		n := f.Words()
		r.own = &own{words: make(backend.Words, n, (n+lineWords-1)/lineWords*lineWords)}
		if r.fam.shared {
			r.own.gauge = new(sharedGauge)
		}
		if r.fam.shared || r.fam.latest() {
			s.stamping = append(s.stamping, r)
		}
		s.addOwn(r)
		if f.Live {
			r.own.alone = new(atomic.Uint64)
			r.own.alone.Store(1)
			s.index.AddPart(r.fam.place, labels, backend.Part{Words: r.own.words, Instance: &s.alone, Owner: r.own.alone})
		}
		if r.id == noID {
			s.queue(r)
		} else {
			s.listOwn(r)
		}
	}
	if f.Sealed(r.own.words) && !r.fam.exemplars {
		s.changed(labels)
		r.own.reset(r.fam)
	}
	f.Unseal(r.own.words)
	return r.own.words, nil
}

// reset forgets the state of a life that has ended. The value is already sealed.
func (o *own) reset(f *family) {
	switch {
	case o.gauge != nil:
		o.words[backend.GaugeFlags].Store(0)
		*o.gauge = sharedGauge{}
	case f.parts:
		f.def.Forget(o.words)
		o.ticket, o.stamp = 0, 0
	case f.exemplars: // never sealed, so cleared instead
		for i := range o.words {
			o.words[i].Store(0)
		}
	}
}

// end seals the words of a life that has ended.
func (o *own) end(f *family) (counted bool) {
	counted = f.def.Seal(o.words)
	o.reset(f)
	return counted
}

// Delete implements backend.Backend. In this process the series are gone at once, in the others
// after the next publication. It never waits for the store.
func (s *Syncer) Delete(def *backend.Family, match func(labels string) bool) (n int, err error) {
	defer s.tidyIndexes()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, backend.ErrClosed
	}
	f, seen := s.family(def), 0
	s.changes.Add(1)
	for _, r := range f.rows.All() {
		if !r.gone && match(r.labels) && s.delete(r) {
			n++
		}
		if seen++; seen%stretch == 0 { // lets other calls in; what they add may be missed
			s.mu.Unlock()
			s.mu.LockLast()
		}
	}
	return n, nil
}

const stretch = 256 // series that Delete looks at in a row

// DeleteSeries implements backend.Backend, see Delete.
func (s *Syncer) DeleteSeries(def *backend.Family, labels string) (bool, error) {
	defer s.tidyIndexes()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, backend.ErrClosed
	}
	f := s.known[def]
	if f == nil {
		f = s.schemas[def.Schema()]
	}
	if f == nil || f.rows.Get(labels) == nil {
		return false, nil
	}
	s.changes.Add(1)
	return s.delete(f.rows.Get(labels)), nil
}

// Aids implements backend.Backend.
func (s *Syncer) Aids(f *backend.Family) []*backend.Family { return s.index.Aids(f) }

// Remote implements backend.Remote.
func (s *Syncer) Remote() {}

// SetClock implements backend.Clocked.
func (s *Syncer) SetClock(now func() time.Time) { s.clock.Store(&now) }

// Tickets implements backend.Backend. Between processes, Sets are ordered by publication.
func (s *Syncer) Tickets() *atomic.Uint64 { return &s.tickets }

// call is a reading of the store that several callers of Sync wait for.
type call struct {
	done chan struct{}
	err  error
}

// Sync implements backend.Backend: it publishes, and reads what the others have published, starting
// after the call. Concurrent calls share one reading. Unless ServeStale is set, errors wrap
// backend.ErrStale.
func (s *Syncer) Sync(ctx context.Context) error {
	s.call.Lock()
	c := s.call.next
	if c == nil {
		s.mu.Lock()
		closed := s.closed
		if !closed {
			s.wg.Add(1)
		}
		s.mu.Unlock()
		if closed {
			s.call.Unlock()
			return backend.ErrClosed
		}
		c = &call{done: make(chan struct{})}
		s.call.next = c
		go s.runCall(c)
	}
	s.call.Unlock()
	var err error
	select {
	case <-c.done:
		err = c.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && !s.opt.ServeStale {
		err = fmt.Errorf("%w: %w", backend.ErrStale, err)
	}
	return err
}

func (s *Syncer) runCall(c *call) {
	defer s.wg.Done()
	defer close(c.done)
	begin := func() { // later callers need a reading that starts after they call
		s.call.Lock()
		if s.call.next == c {
			s.call.next = nil
		}
		s.call.Unlock()
	}
	c.err = s.exclusive(s.open, func(ctx context.Context) error {
		begin()
		return s.refresh(ctx)
	})
	begin() // in case exclusive did not call the function
	s.logInvalid()
}

// Walk implements backend.Backend: the state of the last Sync.
func (s *Syncer) Walk() []backend.Group { return s.index.Walk() }

// Flush implements backend.Backend: it returns when the store has acknowledged everything that was
// counted before the call. It retries until ctx ends, for 10 s at most. After Close, or when Close
// finishes first, the error wraps backend.ErrClosed.
func (s *Syncer) Flush(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.gone, cancel)() // or Close would wait for this call
	err := s.persist(ctx, s.publish)
	if err != nil && s.gone.Err() != nil && !errors.Is(err, backend.ErrClosed) {
		err = fmt.Errorf("%w: %w", backend.ErrClosed, err)
	}
	return err
}

const persistTime = 10 * time.Second // programs close with contexts that never end

// persist retries f until it succeeds, for persistTime at most.
func (s *Syncer) persist(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, persistTime)
	defer cancel()
	var cause error
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := s.exclusive(ctx, f)
		if cause == nil || ctx.Err() == nil { // otherwise err only says that time ran out
			cause = err
		}
		if err == nil || errors.Is(err, backend.ErrClosed) || errors.Is(err, store.ErrShards) || errors.Is(err, errFirst) {
			return err
		}
		timer := time.NewTimer(wait + s.jitter(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("syncer: not everything could be published to the store: %w", cause)
		case <-timer.C:
		}
	}
}

// Close implements backend.Backend: it publishes, marks this instance as one that has left, and
// stops the background goroutine. If the store stays unreachable until ctx ends, or for 10 s,
// everything not yet acknowledged is lost and the error says so.
func (s *Syncer) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.stop()
	err := s.persist(ctx, s.leave)
	s.end()
	s.op <- struct{}{}
	s.departed = true
	<-s.op
	s.wg.Wait()
	return errors.Join(err, s.store.Close())
}
