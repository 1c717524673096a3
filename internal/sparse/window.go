package sparse

import "sync/atomic"

// Counts only grow, so the count within a window is the difference to a snapshot. A block has room
// for a few snapshots, taken when epochs begin: that of epoch e is at position e mod their number.
// Any process that finds the snapshot of the current epoch missing takes it. If nobody took one in
// time, the next later one is used, so that old counts are not taken for new ones.

// Incomplete is the epoch of a snapshot that is being taken or is not usable.
const Incomplete uint64 = 1 << 62

// Advance takes the snapshot of an epoch, a number from 1 to 2^62-1, unless it exists. It may be
// called by many at once, which copy nearly the same counts. If a caller is killed or stopped
// meanwhile, the next one completes the snapshot. The stopped one does not overwrite it when it
// continues, since it copies by compare-and-swap.
func (b *Block) Advance(epoch uint64) {
	at := int(epoch % uint64(len(b.epochs)))
	w := &b.epochs[at]
	old := w.Load()
	if old == epoch || old >= Sealed {
		return
	}
	if old > epoch && old-epoch <= uint64(len(b.epochs)) {
		// the caller was stopped for a while; if a clock goes back further, start over
		return
	}
	mark := copying
	if b.before(0).nothing {
		// the window begins with this epoch, even if something was counted already
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

// Values of an epoch while its snapshot is not complete.
const (
	copying      = Incomplete
	copyingFirst = copying + 1 // the snapshot is to have counts of zero
)

// copy writes a count into a snapshot. It returns false if the snapshot is complete or belongs to
// another epoch by now.
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

// epoch returns the epoch of a snapshot, or 0 if there is none.
func (b *Block) epoch(at int) uint64 {
	if e := b.epochs[at].Load(); e < copying {
		return e
	}
	return 0
}

// before tells what had been counted when an epoch began: the counts in snapshot at, if epoch is
// not 0; otherwise nothing, if that is set, because the block has no snapshots yet; otherwise all
// present counts.
type before struct {
	at      int    // position of the snapshot
	epoch   uint64 // its epoch, or 0
	nothing bool   // used if epoch is 0
}

// before finds the snapshot of an epoch or, if there is none, the next later one. If there is
// neither, nothing was counted since, because every writer takes snapshots, too.
func (b *Block) before(epoch uint64) before {
	found := before{nothing: true}
	for i := range b.epochs {
		found.consider(i, b.epochs[i].Load(), epoch)
	}
	return found
}

// consider uses the snapshot at a position if its epoch is closer than those considered before.
func (f *before) consider(at int, e, epoch uint64) {
	if e != 0 && e != copyingFirst && e < Sealed {
		f.nothing = false
	}
	if e != 0 && e < copying && e >= epoch && (f.epoch == 0 || e < f.epoch) {
		f.at, f.epoch = at, e
	}
}

// of returns the part of the present count n that was counted before the epoch. The snapshots of
// this count are at snaps[i] and then step apart.
func (f before) of(n uint64, snaps []atomic.Uint64, i, step int) uint64 {
	switch {
	case f.epoch != 0:
		return min(n, snaps[i+f.at*step].Load())
	case f.nothing:
		return 0
	}
	return n
}

// AppendSince appends the buckets with the counts since an epoch began, and returns the count of
// zeros separately. now is the current epoch, whose snapshot it takes if necessary.
func (b *Block) AppendSince(dst []Bucket, epoch, now uint64) (list []Bucket, zeros uint64) {
	for range 16 {
		b.Advance(now)
		from := b.before(epoch)
		if from.epoch == 0 {
			continue // another process is taking it, or has just deleted the series
		}
		list, zeros = b.appendFrom(dst, from)
		if b.epochs[from.at].Load() == from.epoch {
			// otherwise the snapshot was replaced meanwhile
			return list, zeros
		}
	}
	return dst, 0
}

// appendFrom appends the buckets with the counts since from.
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
	return b.withoutInvalid(dst, had), zeros
}
