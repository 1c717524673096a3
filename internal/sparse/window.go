package sparse

import "sync/atomic"

// Counts only grow. What was counted within a window is the difference to a snapshot of all counts, of which
// a block has a few, taken at the beginnings of epochs: that of epoch e is in place e mod their number.
// Whoever finds that the snapshot of the current epoch is missing takes it.

// Advance takes the snapshot of an epoch, a number above 0 and below 2^62, unless it is there. Many may do so at
// once: they copy nearly the same. One that is killed or stopped on the way leaves it to the next, and copies no
// more when it goes on, since every word that another one has written since is a different one.
func (b *Block) Advance(epoch uint64) {
	at := int(epoch % uint64(len(b.epochs)))
	w := &b.epochs[at]
	old := w.Load()
	if old == epoch || old >= Sealed {
		return
	}
	mark := old
	if old < copying {
		// A block that has none begins with this epoch, even if something was counted since.
		if mark = copying; b.none() {
			mark = copyingFirst
		}
		if !w.CompareAndSwap(old, mark) {
			return
		}
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
	copying      = 1 << 62
	copyingFirst = copying + 1 // and it is one of nothing
)

// epoch returns the epoch of a snapshot; 0 if there is none.
func (b *Block) epoch(at int) uint64 {
	if e := b.epochs[at].Load(); e < copying {
		return e
	}
	return 0
}

func (b *Block) none() bool {
	for i := range b.epochs {
		if b.epochs[i].Load() != 0 {
			return false
		}
	}
	return true
}

func (b *Block) copy(epoch *atomic.Uint64, mark uint64, from, to *atomic.Uint64) bool {
	old, n := to.Load(), load(from)
	if mark == copyingFirst {
		n = 0
	}
	return epoch.Load() == mark && (old == n || to.CompareAndSwap(old, n))
}

// Snapshot returns the oldest snapshot that is not older than an epoch; -1 if there is none.
func (b *Block) Snapshot(epoch uint64) int {
	best, at := Sealed, -1
	for i := range b.epochs {
		if e := b.epoch(i); e != 0 && e >= epoch && e < best {
			best, at = e, i
		}
	}
	return at
}
