package sparse

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
)

// Sealed is the bit that marks an integer word as sealed, see backend.SealedInt.
const Sealed uint64 = 1 << 63

// Block is a view of the words of a block. Its layout, for n buckets, a power of two, and s
// snapshots:
//
//	1         count of zeros
//	1         coarseness: buckets must be read at this one or a coarser one
//	s         epoch of each snapshot, 0 if there is none
//	s         count of zeros in each snapshot
//	n/2       keys: two buckets in each word, 0 if there is none
//	n         count of each bucket
//	s times n counts in each snapshot
//
// A bucket is found by linear probing from its index, so that neighbouring buckets do not collide.
// Once its key is stored, a bucket stays in the block for ever. Counts, coarseness and epochs can
// be sealed.
type Block struct {
	Shift  uint // how much coarser the buckets are than the scale's
	m      int
	zero   *atomic.Uint64
	coarse *atomic.Uint64
	keys   []atomic.Uint64
	counts []atomic.Uint64

	epochs, zeroSnaps, snaps []atomic.Uint64
}

// EpochsAt is the index of the first epoch in the words of a block.
const EpochsAt = 2

// Words returns the number of words of a block for n buckets and s snapshots.
func Words(n, s int) int { return 2 + 2*s + n/2 + n*(1+s) }

// View returns the block in w, whose buckets are coarser by shift than those of the scale with m
// buckets per doubling. The number of buckets follows from the number of words.
func View(w []atomic.Uint64, m int, shift uint, snapshots int) Block {
	s := snapshots
	n := 2 * (len(w) - 2 - 2*s) / (3 + 2*s)
	keys, counts := 2+2*s, 2+2*s+n/2
	return Block{
		Shift: shift, m: m, zero: &w[0], coarse: &w[1], epochs: w[EpochsAt : EpochsAt+s], zeroSnaps: w[2+s : keys],
		keys: w[keys:counts], counts: w[counts : counts+n], snaps: w[counts+n:],
	}
}

// Sealable reports whether word i of a block of so many words can be sealed.
func Sealable(i, words, snapshots int) bool {
	s := snapshots
	n := 2 * (words - 2 - 2*s) / (3 + 2*s)
	counts := 2 + 2*s + n/2
	return i < 2+s || i >= counts && i < counts+n
}

// Snapshot reports whether word i of a block of so many words belongs to a snapshot, which changes
// with time and not with updates.
func Snapshot(i, words, snapshots int) bool {
	s := snapshots
	n := 2 * (words - 2 - 2*s) / (3 + 2*s)
	return i >= 2 && i < 2+2*s || i >= 2+2*s+n/2+n
}

const keyBias = 1 << 30

// keyOf is never 0.
func keyOf(index int32, negative bool) uint32 {
	key := uint32(index+keyBias) << 1
	if negative {
		key |= 1
	}
	return key
}

func (b *Block) place(key uint32) int {
	at := int(key >> 1)
	if key&1 != 0 {
		at += len(b.counts) / 2
	}
	return at & (len(b.counts) - 1)
}

// Zero returns the count of zeros.
func (b *Block) Zero() *atomic.Uint64 { return b.zero }

// Find returns the count of the block's bucket that contains bucket index of the scale. It adds the
// bucket if necessary, and returns nil if there is no room.
func (b *Block) Find(index int32, negative bool) *atomic.Uint64 {
	key := keyOf(coarser(index, b.Shift), negative)
	at := b.place(key)
	for left := len(b.counts); left > 0; {
		w := &b.keys[at>>1]
		v, half := w.Load(), uint(at&1)*32
		switch uint32(v >> half) {
		case key:
			return &b.counts[at]
		case 0:
			// If this fails, another goroutine has added a bucket in this word, perhaps
			// the same one.
			if w.CompareAndSwap(v, v|uint64(key)<<half) {
				return &b.counts[at]
			}
			continue
		}
		at = (at + 1) & (len(b.counts) - 1)
		left--
	}
	return nil
}

// Quick returns the count of the bucket of v, which must be finite and not zero, if that bucket is
// at the first position that Find would probe; otherwise nil. It is the fast path of most
// observations.
func (b *Block) Quick(s *Scale, v float64) *atomic.Uint64 {
	f := math.Float64bits(v)
	exp, mant := int32(f>>mantissa)&0x7ff, f&(1<<mantissa-1)
	cell := mant >> (s.shift & 63)
	if exp == 0 || cell >= uint64(len(s.first)) { // subnormal
		return nil
	}
	i := s.first[cell]
	for int(i) < len(s.upper) && mant > s.upper[i] {
		i++
	}
	i += (exp - 1023) * s.m
	if shift := b.Shift & 31; shift != 0 {
		i = int32((int64(i) + 1<<shift - 1) >> shift)
	}
	at := uint(i + keyBias)
	key := uint32(at)<<1 | uint32(f>>63)
	at = (at + uint(f>>63)*uint(len(b.counts)/2)) & uint(len(b.counts)-1)
	if at>>1 >= uint(len(b.keys)) || at >= uint(len(b.counts)) || uint32(b.keys[at>>1].Load()>>(at&1*32)) != key {
		return nil
	}
	return &b.counts[at]
}

// FindAnyhow is Find for the last block: if there is no room, it makes the block coarser, so that
// an existing bucket or the zero bucket contains the wanted one. After counting, the caller must
// call KeepCoarse with the coarseness returned.
func (b *Block) FindAnyhow(index int32, negative bool) (count *atomic.Uint64, coarse uint64) {
	if w := b.Find(index, negative); w != nil {
		return w, 0
	}
	key := keyOf(coarser(index, b.Shift), negative)
	most := CoarsestShift(b.m)
	// By default, merge everything up to the bucket into zero.
	count = b.zero
	coarse = uint64(most) + uint64(coarser(index, most)-coarser(leastExp*int32(b.m), most)+1)
	for at := range b.counts {
		other := b.key(at)
		if other == 0 || (other^key)&1 != 0 {
			continue
		}
		i, j := int32(key>>1)-keyBias, int32(other>>1)-keyBias
		for shift := b.Shift; shift <= most && uint64(shift) < coarse; shift++ {
			if coarser(i, shift-b.Shift) == coarser(j, shift-b.Shift) {
				count, coarse = &b.counts[at], uint64(shift)
				break
			}
		}
	}
	// This comes before counting, so that no reader attributes the count to the finer bucket.
	b.KeepCoarse(coarse)
	return count, coarse
}

// KeepCoarse makes the block at least this coarse. It is called again after counting, since the
// series may have been deleted and revived meanwhile.
func (b *Block) KeepCoarse(coarse uint64) {
	for old := b.coarse.Load(); old < coarse && !b.coarse.CompareAndSwap(old, coarse); old = b.coarse.Load() {
	}
}

// Coarse returns the least coarseness at which the block can be read. It is valid even if the words
// are damaged.
func (b *Block) Coarse() uint64 {
	return max(min(load(b.coarse), mostCoarse(b.m)), uint64(b.Shift))
}

func (b *Block) key(at int) uint32 { return uint32(b.keys[at>>1].Load() >> (uint(at&1) * 32)) }

func load(w *atomic.Uint64) uint64 {
	if n := w.Load(); n < Sealed {
		return n
	}
	return 0
}

// Bucket is a nonempty bucket. Its index is relative to the block's shift.
type Bucket struct {
	Index    int32
	Negative bool
	Shift    uint8 // of the block
	Count    uint64
}

// Append appends the buckets to dst, and returns the count of zeros separately.
func (b *Block) Append(dst []Bucket) (list []Bucket, zeros uint64) {
	return b.appendFrom(dst, before{nothing: true})
}

// withoutInvalid drops buckets, beginning at a position of the list, whose index no float has:
// another process may have written any key.
func (b *Block) withoutInvalid(list []Bucket, from int) []Bucket {
	least, most := coarser(leastExp*int32(b.m), b.Shift), coarser(mostExp*int32(b.m), b.Shift)
	invalid := false
	for i := from; i < len(list); i++ {
		invalid = invalid || list[i].Index < least || list[i].Index > most
	}
	if !invalid {
		return list
	}
	kept := slices.DeleteFunc(list[from:], func(x Bucket) bool { return x.Index < least || x.Index > most })
	return list[:from+len(kept)]
}

// Coarsen converts buckets, which may come from different blocks, to a coarseness, sorts them,
// unites equal ones, and returns the count that is merged into the zero bucket. Negative buckets
// come first, in descending order of index, so that values ascend.
func Coarsen(list []Bucket, m int, coarse uint64) (united []Bucket, zeros uint64) {
	shift := uint(min(coarse, uint64(CoarsestShift(m))))
	upTo, widened := zeroUpTo(m, coarse)
	kept := list[:0]
	for _, b := range list {
		b.Index, b.Shift = coarser(b.Index, shift-uint(b.Shift)), uint8(shift)
		if widened && b.Index <= upTo {
			zeros = Plus(zeros, b.Count)
		} else {
			kept = append(kept, b)
		}
	}
	sortBuckets(kept)
	united = kept[:0]
	for _, b := range kept {
		if n := len(united); n > 0 && united[n-1].Index == b.Index && united[n-1].Negative == b.Negative {
			united[n-1].Count = Plus(united[n-1].Count, b.Count)
		} else {
			united = append(united, b)
		}
	}
	return united, zeros
}

// Plus adds counts below Sealed, and so is the sum: the words of many instances may all be full.
func Plus(a, b uint64) uint64 { return min(a+b, Sealed-1) }

// ZeroThreshold returns the magnitude up to which values count as zero at a coarseness, or 0.
func ZeroThreshold(m int, coarse uint64) float64 {
	if i, ok := zeroUpTo(m, coarse); ok {
		return min(ScaleOf(m).Bound(i, CoarsestShift(m)), math.MaxFloat64)
	}
	return 0
}

func sortBuckets(list []Bucket) {
	slices.SortFunc(list, func(a, b Bucket) int {
		switch {
		case a.Negative != b.Negative && a.Negative:
			return -1
		case a.Negative != b.Negative:
			return 1
		case a.Negative:
			return cmp.Compare(b.Index, a.Index)
		}
		return cmp.Compare(a.Index, b.Index)
	})
}

// Take seals all counts and returns them, minus what had been counted when an epoch began; 0 for
// epoch subtracts nothing.
func (b *Block) Take(epoch uint64) (list []Bucket, zeros uint64) {
	from := before{nothing: true}
	for i := range b.epochs { // seal these first, so that no snapshot is replaced any more
		e := b.epochs[i].Swap(Sealed)
		if epoch > 0 {
			from.consider(i, e, epoch)
		}
	}
	take := func(w *atomic.Uint64, snaps []atomic.Uint64, i, step int) uint64 {
		if n := w.Swap(Sealed); n < Sealed {
			return n - from.of(n, snaps, i, step)
		}
		return 0
	}
	zeros = take(b.zero, b.zeroSnaps, 0, 1)
	for at := range b.counts {
		if n := take(&b.counts[at], b.snaps, at, len(b.counts)); n > 0 {
			key := b.key(at)
			list = append(list, Bucket{int32(key>>1) - keyBias, key&1 != 0, uint8(b.Shift), n})
		}
	}
	b.coarse.Store(Sealed)
	return b.withoutInvalid(list, 0), zeros
}
