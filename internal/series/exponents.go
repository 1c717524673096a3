package series

import (
	"errors"
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/sparse"
	"github.com/gotheus/gotheus/internal/word"
)

// Exponential buckets of histograms and summaries: how an update finds its bucket, and where a
// series continues when its buckets are full.
//
// The first few buckets are among the words of the series. When all of them are in use, the series
// gets a further block in an auxiliary family. Blocks grow until the maximum number of buckets is
// reached; each one after that has half the resolution of the one before. An instrument counts in
// the last block that it has needed. Earlier blocks stay, and goroutines or processes that still
// refer to them keep counting there. A reader adds up all blocks at the resolution of the coarsest.
// Thus no count is ever moved, no update waits, and a process that is killed leaves a consistent
// state.

// exponential is the block that an instrument counts in at present. It is immutable.
type exponential struct {
	scale  *sparse.Scale
	first  *atomic.Uint64 // of the words of the series
	zeroTo float64
	block  sparse.Block
	level  int  // 0: among the words of the series; from 1 on: family.levels[level-1]
	stuck  bool // there is no room for the next block
}

// Exponents is the part of an instrument that counts in exponential buckets.
type Exponents struct {
	current atomic.Pointer[exponential] // nil: there are none
	rest    *exponentsRest              // nil if current is
}

// exponentsRest holds what updates do not need.
type exponentsRest struct {
	blocks  []index.Block   // further blocks of the series; guarded by Home.Moves
	toCarry []blockContents // to be carried over; guarded by the family's lock
}

// blockContents are the contents of a block in words that the series has left.
type blockContents struct {
	list   []sparse.Bucket
	zeros  uint64
	coarse uint64
}

// Add counts v, which is finite, n times, for an update that has counted in these words of m, see
// Follow. It returns the words where the update goes on.
func (e *Exponents) Add(m Instrument, words backend.Words, v float64, n uint64) (now backend.Words, ok bool) {
	for {
		x := e.current.Load()
		if x.first != &words[0] {
			if words, ok = Follow(m, &words[0]); !ok {
				return nil, false
			}
			continue
		}
		w, ok := e.count(m, x, v, n)
		if ok {
			return words, true
		} else if w == nil || e.current.Load() != x {
			continue
		} else if _, ok = Follow(m, &words[0]); !ok {
			return nil, false
		}
		Escape(m, w) // only a further block was deleted
	}
}

// count counts v in the block of x, or makes room for it. If it returns false and a word, that is
// sealed.
func (e *Exponents) count(m Instrument, x *exponential, v float64, n uint64) (w *atomic.Uint64, ok bool) {
	w, coarse := x.find(v)
	if w == nil {
		e.extend(m, x)
		return nil, false
	}
	if int64(w.Add(n)) < 0 {
		return w, false
	}
	if coarse > 0 {
		x.block.KeepCoarse(coarse)
	}
	runtime.KeepAlive(m) // as long as its words are written to, see reclaim.go
	return w, true
}

// find returns the bucket of v, or nil if the block has no room for another one. If coarse is not
// 0, the caller must record it with KeepCoarse after counting.
func (x *exponential) find(v float64) (w *atomic.Uint64, coarse uint64) {
	if math.Abs(v) <= x.zeroTo {
		return x.block.Zero(), 0
	}
	w = x.block.Find(x.scale.Index(v), v < 0)
	if w == nil && x.stuck {
		return x.block.FindAnyhow(x.scale.Index(v), v < 0)
	}
	return w, 0
}

// Quick returns the count that nearly all observations of v belong to; nil if it takes Add. It
// belongs to the words of the series that begin with first. Quick is inlined into updates.
func (e *Exponents) Quick(v float64) (count, first *atomic.Uint64) {
	x := e.current.Load()
	return x.quick(v), x.first
}

// InUse reports whether there are exponential buckets.
func (e *Exponents) InUse() bool { return e.current.Load() != nil }

// quick is a fast path of find for nearly all observations. It returns nil if find is needed. There
// is no coarseness to record.
func (x *exponential) quick(v float64) *atomic.Uint64 {
	if math.Abs(v) <= x.zeroTo {
		return x.block.Zero()
	}
	return x.block.Quick(x.scale, v)
}

// extend moves the instrument to the next block because the block of x is full.
func (e *Exponents) extend(m Instrument, x *exponential) {
	f := m.Series().Family()
	f.mu.Lock()
	defer f.unlock()
	if e.current.Load() == x {
		e.next(m, x)
	}
}

// next opens the block after that of x. If the backend has no room for it, the present block takes
// further observations at a coarser resolution until there is room. The caller holds the family's
// lock.
func (e *Exponents) next(m Instrument, x *exponential) bool {
	s := m.Series()
	f := s.Family()
	err := e.open(m, x)
	if err == nil {
		return true
	}
	stuck := *x
	stuck.stuck = true
	f.Home.Moves.Lock()
	if e.current.Load() == x { // else the series has moved and starts over in its new words
		e.current.Store(&stuck)
	}
	f.Home.Moves.Unlock()
	if err != errLastBlock {
		f.postpone(err, func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if e.current.Load() != &stuck {
				return nil // the series has moved or was deleted
			}
			return e.open(m, &stuck)
		})
		f.postponedBy = err
	}
	return false
}

// open allocates the block after that of x and publishes it.
func (e *Exponents) open(m Instrument, x *exponential) error {
	s := m.Series()
	f := s.Family()
	if x.level == len(f.levels) {
		return errLastBlock
	}
	def := f.levels[x.level]
	f.Home.Moves.Lock()
	home, labels, deleted := s.placement.Load().backend, s.storedLabels(), s.deleted()
	f.Home.Moves.Unlock()
	if deleted {
		return errLastBlock
	}
	var words backend.Words
	var err error
	if home == nil {
		words = make(backend.Words, def.Words())
	} else if words, err = home.Cells(def, labels); err != nil {
		return err
	}
	next := &exponential{scale: x.scale, zeroTo: x.zeroTo, first: x.first, block: def.View(words), level: x.level + 1}
	f.openWindow(&next.block)
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	// If the series was deleted before it has this block, nobody has deleted the block.
	if s.deleted() {
		return errLastBlock
	}
	if e.current.Load() == x { // otherwise the series has moved away from the block's backend
		e.rest.blocks = append(e.rest.blocks, index.Block{Family: def, Words: words})
		e.current.Store(next)
	}
	return nil
}

// errLastBlock says that there are no more blocks, or none for a series that was deleted: there,
// each count is sealed.
var errLastBlock = errors.New("gotheus: there are no more blocks")

// Move publishes the block among the new words of a series before it empties the old blocks: an
// update that finds the seal there must already see the new block. What the old blocks held is kept
// for carry. The caller holds Home.Moves.
func (e *Exponents) Move(s *Series, to, from backend.Words) {
	f := s.Family()
	if f.scale == nil {
		return
	}
	x := &exponential{scale: f.scale, first: &to[0], block: f.Def.View(to)}
	if n := f.Def.Native; n != nil {
		x.zeroTo = n.ZeroThreshold
	}
	f.openWindow(&x.block)
	if e.rest == nil {
		e.rest = new(exponentsRest)
	}
	e.current.Store(x)
	if from != nil {
		since := uint64(0)
		if s := f.Def.Sketch; s != nil {
			// Older observations are outside the window; if carried, they would look
			// new.
			if now := s.Epoch(f.Home.Now()); now > 0 {
				since = s.Oldest(now)
			}
		}
		e.empty(f.Def, from, since)
		for _, b := range e.rest.blocks {
			e.empty(b.Family, b.Words, since)
		}
	}
	e.rest.blocks = nil
}

func (e *Exponents) empty(def *backend.Family, w backend.Words, since uint64) {
	b := def.View(w)
	var contents blockContents
	contents.coarse = b.Coarse()
	contents.list, contents.zeros = b.Take(since)
	if contents.zeros > 0 || len(contents.list) > 0 {
		e.rest.toCarry = append(e.rest.toCarry, contents)
	}
}

// carry counts the contents of the blocks that the series has left. The caller holds the family's
// lock.
func (e *Exponents) carry(m Instrument) {
	if e.rest == nil {
		return
	}
	for _, contents := range e.rest.toCarry {
		if contents.zeros > 0 {
			e.carryOne(m, contents.coarse, nil, contents.zeros)
		}
		for i := range contents.list {
			e.carryOne(m, contents.coarse, &contents.list[i], contents.list[i].Count)
		}
	}
	e.rest.toCarry = nil
}

// carryOne counts n observations of bucket b, or of zero if b is nil. If the series is deleted in
// the meantime, they are deleted with it.
func (e *Exponents) carryOne(m Instrument, coarse uint64, b *sparse.Bucket, n uint64) {
	f := m.Series().Family()
	if f.Def.Native != nil { // the total count must not exceed its limit
		many := f.Def.Many(m.Series().Words())
		had := min(word.Int(many), backend.IntLimit)
		n = min(n, backend.IntLimit-had)
		word.CarryCount(many, n, backend.IntLimit)
	}
	most := uint64(sparse.CoarsestShift(f.Def.PerDoubling()))
	for {
		x := e.current.Load()
		if !x.stuck && uint64(x.block.Shift) < min(coarse, most) && e.next(m, x) {
			continue
		}
		x = e.current.Load()
		w, keep := x.block.Zero(), uint64(0)
		if b != nil {
			index := b.Index << b.Shift // the last bucket of the full scale within b
			if w = x.block.Find(index, b.Negative); w == nil {
				if !x.stuck {
					e.next(m, x)
					continue
				}
				w, keep = x.block.FindAnyhow(index, b.Negative)
			}
		}
		if keep = max(keep, coarse); keep > uint64(x.block.Shift) {
			x.block.KeepCoarse(keep)
		}
		word.CarryCount(w, n, backend.IntLimit)
		return
	}
}

// sketchDoublings is the range, in powers of two, that the positive observations of a summary can
// span before its quantiles become less accurate: nearly nine orders of magnitude.
const sketchDoublings = 29

// levelsOf returns the auxiliary families in which a series of f continues when its first buckets
// are in use. The last one has room for every possible bucket.
func levelsOf(f *backend.Family) (levels []*backend.Family) {
	var blocks []backend.Block
	coarsest := sparse.CoarsestShift(max(f.PerDoubling(), 1))
	add := func(shift uint, size int) {
		if b := (backend.Block{Role: backend.BucketRole, Shift: uint8(shift), Size: uint32(size)}); len(blocks) == 0 || blocks[len(blocks)-1] != b {
			blocks = append(blocks, b)
		}
	}
	const all = 512 // all buckets that exist at the coarsest shift
	switch {
	case f.Native != nil:
		shift, size := f.Shift(), backend.FirstBlock
		for sum := size; sum < int(f.Native.MaxBuckets); sum += size {
			size = min(4*size, backend.MaxBlock)
			add(shift, size)
		}
		for shift++; shift < coarsest; shift++ {
			add(shift, size)
		}
		add(coarsest, max(size, all))
	case f.Sketch != nil:
		size := 1 << bits.Len(uint(sketchDoublings*f.PerDoubling()))
		add(0, size/4)
		for shift := uint(0); shift < min(coarsest, 6); shift += 2 {
			add(shift, size)
		}
		add(coarsest, all)
	}
	for _, b := range blocks {
		levels = append(levels, f.With(b))
	}
	return levels
}
