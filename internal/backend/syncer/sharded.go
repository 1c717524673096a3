package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/store"
)

// shard is the position of a Syncer among those that share an index.
type shard struct {
	at, of int
	agreed chan struct{} // closed when the first store has confirmed the number of shards
	once   *sync.Once
}

func (s *shard) agree() { s.once.Do(func() { close(s.agreed) }) }

func (s *shard) hasAgreed() bool {
	select {
	case <-s.agreed:
		return true
	default:
		return false
	}
}

// errFirst is returned by shards that wait for the first one.
var errFirst = errors.New("syncer: the first shard could not be read yet")

// check compares meta with the configured shard.
func (s *shard) check(m *meta) error {
	if int(m.shard) == s.at && int(m.shards) == s.of {
		return nil
	}
	return fmt.Errorf("%w: this is shard %d of %d, not %d of %d: all processes must have the same number of shards, which cannot be changed later; "+
		"a new namespace starts from zero", store.ErrShards, m.shard, m.shards, s.at, s.of)
}

// Sharded implements backend.Backend on several stores that share the series, so that no server has
// to hold and serve all of them. Each store is exact by itself, with its own heads, directory and
// base. A page needs all of them, or fails.
//
// The hash of family name and label text selects the store of a series. Per-instance data is in the
// first store, whose heads decide liveness and whose directory has all families. Every store
// records its index and the number of shards, and processes with another configuration do not use
// it.
type Sharded struct{ shards []*Syncer }

// NewSharded returns a Backend on at most store.MaxShards stores, which it owns and closes. All
// processes must pass the same number in the same order. It does not wait for the stores. The error
// is that of store.Config.Check; in that case the caller still owns the stores.
func NewSharded(stores []store.Store, o *store.Options) (*Sharded, error) {
	opt, err := check(stores, o)
	if err != nil {
		return nil, err
	}
	b := new(Sharded)
	x, agreed, once, lastLog := new(index.Index), make(chan struct{}), new(sync.Once), new(atomic.Int64)
	for i, st := range stores {
		place := shard{at: i, of: len(stores), agreed: agreed, once: once}
		b.shards = append(b.shards, newSyncer(st, options{Options: opt}, x, place, lastLog))
	}
	return b, nil
}

// shardOf returns the index of a series' shard. Stored data depends on it, so it must never change.
func shardOf(f *backend.Family, labels string, n int) int {
	if n == 1 || f.Parts() {
		return 0
	}
	h := uint64(chainStart) // FNV-1a
	for i := range len(f.Name) {
		h = (h ^ uint64(f.Name[i])) * 0x100000001b3
	}
	h = (h ^ 0xff) * 0x100000001b3 // occurs in no name
	for i := range len(labels) {
		h = (h ^ uint64(labels[i])) * 0x100000001b3
	}
	return int((h ^ h>>32) & 0xffffffff % uint64(n))
}

// Declare implements backend.Backend.
func (b *Sharded) Declare(f *backend.Family) error { return b.shards[0].Declare(f) }

// Cells implements backend.Backend.
func (b *Sharded) Cells(f *backend.Family, labels string) (backend.Words, error) {
	i := shardOf(f, labels, len(b.shards))
	if i > 0 {
		if err := b.shards[0].Declare(f); err != nil {
			return nil, err
		}
	}
	return b.shards[i].Cells(f, labels)
}

// Delete implements backend.Backend.
func (b *Sharded) Delete(f *backend.Family, match func(labels string) bool) (n int, err error) {
	for i, s := range b.shards {
		if i > 0 && f.Parts() {
			break
		}
		more, e := s.Delete(f, match)
		n, err = n+more, errors.Join(err, e)
	}
	return n, err
}

// DeleteSeries implements backend.Backend.
func (b *Sharded) DeleteSeries(f *backend.Family, labels string) (bool, error) {
	return b.shards[shardOf(f, labels, len(b.shards))].DeleteSeries(f, labels)
}

// Aids implements backend.Backend. All shards share an index.
func (b *Sharded) Aids(f *backend.Family) []*backend.Family { return b.shards[0].Aids(f) }

// Remote implements backend.Remote.
func (b *Sharded) Remote() {}

// SetClock implements backend.Clocked.
func (b *Sharded) SetClock(now func() time.Time) {
	for _, s := range b.shards {
		s.SetClock(now)
	}
}

// Tickets implements backend.Backend.
func (b *Sharded) Tickets() *atomic.Uint64 { return b.shards[0].Tickets() }

// Walk implements backend.Backend: the state of the last Sync. All shards share an index.
func (b *Sharded) Walk() []backend.Group { return b.shards[0].Walk() }

// WalkOwn implements backend.Owner.
func (b *Sharded) WalkOwn() []backend.Group {
	x := b.shards[0].listOwnWords(newOwnIndex)
	for _, s := range b.shards[1:] {
		s.listOwnWords(func() *ownIndex { return x })
	}
	return x.Walk()
}

// Sync implements backend.Backend: it fails if any store cannot be read.
func (b *Sharded) Sync(ctx context.Context) error {
	return b.each(ctx, (*Syncer).Sync)
}

// Flush implements backend.Backend: it returns when all stores have acknowledged what was counted
// before.
func (b *Sharded) Flush(ctx context.Context) error {
	return b.each(ctx, (*Syncer).Flush)
}

// Close implements backend.Backend.
func (b *Sharded) Close(ctx context.Context) error {
	return b.each(ctx, (*Syncer).Close)
}

// Unpublished implements backend.Publisher.
func (b *Sharded) Unpublished() (words int, lag time.Duration) {
	for _, s := range b.shards {
		w, l := s.Unpublished()
		words, lag = words+w, max(lag, l)
	}
	return words, lag
}

// Answered implements backend.Answerer: all stores have answered, the longest ago at that time.
func (b *Sharded) Answered() (ok bool, last time.Time) {
	ok, last = b.shards[0].Answered()
	for _, s := range b.shards[1:] {
		more, at := s.Answered()
		ok = ok && more
		if at.Before(last) {
			last = at
		}
	}
	return ok, last
}

// each calls f for all shards concurrently. Until the first shard has confirmed their number, it
// calls f for the first one alone before the others, so that nothing is written to them.
func (b *Sharded) each(ctx context.Context, f func(*Syncer, context.Context) error) error {
	errs := make([]error, len(b.shards))
	rest := b.shards
	if first := b.shards[0]; !first.shard.hasAgreed() {
		errs[0] = f(first, ctx)
		rest = rest[1:]
	}
	failed := errs[0] != nil
	var wait sync.WaitGroup
	for _, s := range rest {
		wait.Add(1)
		go func() {
			defer wait.Done()
			err := f(s, ctx)
			if err != nil && !(failed && errors.Is(err, errFirst)) {
				errs[s.shard.at] = fmt.Errorf("shard %d of %d: %w", s.shard.at, s.shard.of, err)
			}
		}()
	}
	wait.Wait()
	return errors.Join(errs...)
}
