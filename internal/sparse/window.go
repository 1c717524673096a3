package sparse

import "sync/atomic"

// Counts only grow. What was counted within a window is the difference to a snapshot of all counts,
// of which a block has a few, taken at the beginnings of epochs: that of epoch e is in place e mod
// their number. Whoever finds that the snapshot of the current epoch is missing takes it. Where
// nobody was there to take one, the next later one stands for it: nothing old then passes for new.

// Incomplete stands for the epoch of a snapshot that is being taken, and of one that says nothing.
const Incomplete uint64 = 1 << 62

// Advance takes the snapshot of an epoch, a number above 0 and below 2^62, unless it is there. Many
// may do so at once: they copy nearly the same. One that is killed or stopped on the way leaves it
// to the next, and copies no more when it goes on, since every word that another one has written
// since is a different one.
func (b *Block) Advance(epoch uint64) {
	at := int(epoch % uint64(len(b.epochs)))
	w := &b.epochs[at]
	old := w.Load()
	if old == epoch || old >= Sealed {
		return
	}
	if old > epoch && old-epoch <= uint64(len(b.epochs)) {
		return // the caller has been stopped for a while; a clock that goes back further begins anew
	}
	mark := copying
	if b.before(0).nothing { // it begins with this epoch, even if something was counted since
		mark = copyingFirst
	}
	if old != mark && !w.CompareAndSwap(old, mark) {
		return
	}
	if !b.copy(w, mark, b.zero, &b.zeroSnaps[at]) {
		return
	}
	for i := range b.counts {
		if !b.copy(w, mark, &b.counts[i], &b.snaps[at*len(b.counts)+i]) {
			return
		}
	}
	w.CompareAndSwap(mark, epoch)
}

// What stands for an epoch while its snapshot is not complete.
const (
	copying      = Incomplete
	copyingFirst = copying + 1 // and it is one of nothing
)

// copy writes a count into a snapshot. False says that the snapshot is complete, or another one's
// by now.
func (b *Block) copy(epoch *atomic.Uint64, mark uint64, from, to *atomic.Uint64) bool {
	for {
		old, n := to.Load(), load(from)
		if mark == copyingFirst {
			n = 0
		}
		if epoch.Load() != mark {
			return false
		}
		if old == n || to.CompareAndSwap(old, n) {
			return true
		}
	}
}

// epoch returns the epoch of a snapshot; 0 if there is none.
func (b *Block) epoch(at int) uint64 {
	if e := b.epochs[at].Load(); e < copying {
		return e
	}
	return 0
}

// before says what had been counted when an epoch began.
type before struct {
	at      int    // in this snapshot,
	epoch   uint64 // which is that of this epoch; 0: in none, but
	nothing bool   // nothing, since the block has no snapshots yet; or else all that it has now
}

// before finds the snapshot of an epoch or, if nobody has taken that, of the next later one. If
// there is neither, nothing was counted since: whoever counts takes snapshots, too.
func (b *Block) before(epoch uint64) before {
	found := before{nothing: true}
	for i := range b.epochs {
		found.consider(i, b.epochs[i].Load(), epoch)
	}
	return found
}

// consider takes the snapshot in a place for that of an epoch if it is nearer than those before.
func (f *before) consider(at int, e, epoch uint64) {
	if e != 0 && e != copyingFirst && e < Sealed {
		f.nothing = false
	}
	if e != 0 && e < copying && e >= epoch && (f.epoch == 0 || e < f.epoch) {
		f.at, f.epoch = at, e
	}
}

// of returns what of a count that is now n had been counted. Its snapshots begin with snaps[i], and
// are step apart.
func (f before) of(n uint64, snaps []atomic.Uint64, i, step int) uint64 {
	switch {
	case f.epoch != 0:
		return min(n, snaps[i+f.at*step].Load())
	case f.nothing:
		return 0
	}
	return n
}

// AppendSince appends the buckets of what was counted since the beginning of an epoch, and returns
// the zeros besides. now is the current epoch, whose snapshot it takes if that is missing.
func (b *Block) AppendSince(dst []Bucket, epoch, now uint64) (list []Bucket, zeros uint64) {
	for range 16 {
		b.Advance(now)
		from := b.before(epoch)
		if from.epoch == 0 {
			continue // another one is taking it, or has just deleted the series
		}
		list, zeros = b.appendFrom(dst, from)
		if b.epochs[from.at].Load() == from.epoch { // otherwise another snapshot has taken its place meanwhile
			return list, zeros
		}
	}
	return dst, 0
}

// appendFrom appends the buckets of what was counted since from.
func (b *Block) appendFrom(dst []Bucket, from before) (list []Bucket, zeros uint64) {
	zeros = load(b.zero)
	zeros -= from.of(zeros, b.zeroSnaps, 0, 1)
	var snaps []atomic.Uint64
	switch {
	case from.epoch != 0:
		snaps = b.snaps[from.at*len(b.counts):][:len(b.counts)]
	case !from.nothing:
		return dst, zeros
	}
	had := len(dst)
	for at := range b.counts {
		n := load(&b.counts[at])
		if n == 0 {
			continue
		}
		if snaps != nil {
			if n -= min(n, snaps[at].Load()); n == 0 {
				continue
			}
		}
		key := b.key(at)
		dst = append(dst, Bucket{int32(key>>1) - keyBias, key&1 != 0, uint8(b.Shift), n})
	}
	return b.withoutStrange(dst, had), zeros
}
