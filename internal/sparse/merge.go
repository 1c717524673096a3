package sparse

import "sync/atomic"

// mergeLimit is the limit of counts that are added up, backend.IntLimit, so that those of many
// instances do not add up to a seal.
const mergeLimit = Sealed >> 1

// Merge adds the block in from, which may be live, to the one in to, which nobody else uses, and
// returns the result. If to has no room, the result is in larger words. Both must have the same
// scale and the same number of snapshots.
func Merge(to, from []atomic.Uint64, m int, shift uint, snapshots int) []atomic.Uint64 {
	t, f := View(to, m, shift, snapshots), View(from, m, shift, snapshots)
	t.align(&f)
	// what f had counted when the epoch of each of t's snapshots began
	had := make([]before, snapshots)
	for s := range had {
		had[s] = f.before(t.epoch(s))
	}
	add := func(w *atomic.Uint64, n uint64) {
		had := load(w)
		w.Store(max(had, min(had+n, mergeLimit)))
	}
	t.KeepCoarse(f.Coarse())
	zeros := load(f.zero)
	for s := range had {
		add(&t.zeroSnaps[s], had[s].of(zeros, f.zeroSnaps, 0, 1))
	}
	add(t.zero, zeros)
	for i := range f.counts {
		n, key := load(&f.counts[i]), f.key(i)
		if n == 0 || key == 0 { // a concurrent Find has not set the key yet
			continue
		}
		at := t.index(key)
		for at < 0 {
			to = t.grown(to, snapshots)
			t = View(to, m, shift, snapshots)
			at = t.index(key)
		}
		for s := range had {
			add(&t.snaps[s*len(t.counts)+at], had[s].of(n, f.snaps, i, len(f.counts)))
		}
		add(&t.counts[at], n)
	}
	return to
}

// Subtract subtracts the counts in counted, a former state of w, from those in w, which may be
// live, and from its snapshots. Coarseness and epochs stay, since the rest must be read with them.
// It does nothing if counted has another size and so cannot be a former state.
func Subtract(w, counted []atomic.Uint64, m int, shift uint, snapshots int) {
	if len(w) != len(counted) {
		return
	}
	b, c := View(w, m, shift, snapshots), View(counted, m, shift, snapshots)
	subtract(b.zero, load(c.zero))
	for s := range snapshots {
		subtract(&b.zeroSnaps[s], load(c.zero))
	}
	for i := range c.counts {
		n := load(&c.counts[i])
		subtract(&b.counts[i], n)
		for s := range snapshots {
			subtract(&b.snaps[s*len(b.counts)+i], n)
		}
	}
}

func subtract(w *atomic.Uint64, n uint64) {
	for n > 0 {
		old := w.Load()
		if old >= Sealed || w.CompareAndSwap(old, old-min(old, n)) {
			return
		}
	}
}

// index returns the position of a key, which it adds if necessary, or -1 if the block is full.
func (b *Block) index(key uint32) int {
	at := b.place(key)
	for range b.counts {
		switch b.key(at) {
		case 0:
			w := &b.keys[at>>1]
			w.Store(w.Load() | uint64(key)<<(uint(at&1)*32))
			return at
		case key:
			return at
		}
		at = (at + 1) & (len(b.counts) - 1)
	}
	return -1
}

// grown returns a block of twice the size with the same content.
func (b *Block) grown(words []atomic.Uint64, snapshots int) []atomic.Uint64 {
	n := 2 * len(b.counts)
	larger := make([]atomic.Uint64, Words(n, snapshots))
	for i := range 2 + 2*snapshots {
		larger[i].Store(words[i].Load())
	}
	l := View(larger, b.m, b.Shift, snapshots)
	for i := range b.counts {
		if key := b.key(i); key != 0 {
			at := l.index(key)
			l.counts[at].Store(b.counts[i].Load())
			for s := range snapshots {
				l.snaps[s*n+at].Store(b.snaps[s*len(b.counts)+i].Load())
			}
		}
	}
	return larger
}

// align gives b, which nobody else uses, a snapshot for each epoch that b or other has. If there is
// not enough room, it keeps the later ones.
func (b *Block) align(other *Block) {
	had := make([]before, len(b.epochs)) // before any snapshot is replaced
	for s := range had {
		had[s] = b.before(other.epoch(s))
	}
	for s := range had {
		epoch := other.epoch(s)
		if epoch <= b.epoch(s) {
			continue
		}
		b.zeroSnaps[s].Store(had[s].of(load(b.zero), b.zeroSnaps, 0, 1))
		for i := range b.counts {
			b.snaps[s*len(b.counts)+i].Store(had[s].of(load(&b.counts[i]), b.snaps, i, len(b.counts)))
		}
		b.epochs[s].Store(epoch)
	}
}
