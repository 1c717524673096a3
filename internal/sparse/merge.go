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
	find := t.finder()
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
		at := find.index(key)
		for at < 0 {
			to = t.grown(to, snapshots)
			t = View(to, m, shift, snapshots)
			find = t.finder()
			at = find.index(key)
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

// finder finds and adds keys of a block that nobody else uses. Another process may have chosen keys
// that collide, so that probing would take time in proportion to the square of their number: after
// many steps, a map replaces it. The positions are the same.
type finder struct {
	b     *Block
	steps int            // of probing that are left
	at    map[uint32]int // position of each key; nil: there were few steps
	free  []int32        // where to look for a free position; itself: it is free
	left  int            // free positions
}

func (b *Block) finder() finder { return finder{b: b, steps: 32 * len(b.counts)} }

// index returns the position of a key, which it adds if necessary, or -1 if the block is full.
func (f *finder) index(key uint32) int {
	b := f.b
	if f.steps < 0 {
		return f.mapped(key)
	}
	at := b.place(key)
	for range b.counts {
		f.steps--
		switch b.key(at) {
		case 0:
			b.setKey(at, key)
			return at
		case key:
			return at
		}
		at = (at + 1) & (len(b.counts) - 1)
	}
	return -1
}

func (b *Block) setKey(at int, key uint32) {
	w := &b.keys[at>>1]
	w.Store(w.Load() | uint64(key)<<(uint(at&1)*32))
}

// mapped is index with the map.
func (f *finder) mapped(key uint32) int {
	b := f.b
	if f.at == nil {
		f.at, f.free = make(map[uint32]int), make([]int32, len(b.counts))
		for i := range b.counts {
			f.free[i] = int32(i)
			if k := b.key(i); k == 0 {
				f.left++
			} else {
				f.free[i] = int32((i + 1) & (len(b.counts) - 1))
				if _, twice := f.at[k]; !twice {
					f.at[k] = i
				}
			}
		}
	}
	if at, ok := f.at[key]; ok {
		return at
	}
	if f.left == 0 {
		return -1
	}
	at := int32(b.place(key))
	for f.free[at] != at {
		f.free[at] = f.free[f.free[at]] // shortens the way of those that follow
		at = f.free[at]
	}
	b.setKey(int(at), key)
	f.at[key], f.free[at] = int(at), (at+1)&int32(len(b.counts)-1)
	f.left--
	return int(at)
}

// grown returns a block of twice the size with the same content.
func (b *Block) grown(words []atomic.Uint64, snapshots int) []atomic.Uint64 {
	n := 2 * len(b.counts)
	larger := make([]atomic.Uint64, Words(n, snapshots))
	for i := range 2 + 2*snapshots {
		larger[i].Store(words[i].Load())
	}
	l := View(larger, b.m, b.Shift, snapshots)
	find := l.finder()
	for i := range b.counts {
		if key := b.key(i); key != 0 {
			at := find.index(key)
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
