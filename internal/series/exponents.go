package series

import (
	"errors"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/sparse"
	"github.com/gotheus/gotheus/internal/word"
)

// Exponential buckets of histograms and summaries: how an update finds its bucket, and how a series
// gets more buckets.
//
// The first few buckets are among the words of the series. When they are all in use, the series
// gets another block of buckets, in an auxiliary family: a larger one at first and, once the number
// of buckets has reached its limit, one of half the resolution, and so on. An instrument counts in
// the latest block that it has needed. Earlier blocks stay, and instruments that still point to
// them count there. A reader adds up all blocks at the resolution of the coarsest. So nothing
// moves, no update waits, and a killed writer leaves nothing inconsistent.

// exponential is the block that an instrument counts in. It is immutable.
type exponential struct {
	scale  *sparse.Scale
	zeroTo float64
	block  sparse.Block
	level  int  // 0: among the words of the series; from 1 on: family.levels[level-1]
	stuck  bool // there is no room for the next block
}

// Exponents is the part of an instrument that counts in exponential buckets.
type Exponents struct {
	at   atomic.Pointer[exponential] // nil: there are none
	rest *exponentsRest              // nil: likewise
}

// exponentsRest has what updates do not need.
type exponentsRest struct {
	blocks []index.Block // of the series besides its words; guarded by Home.Moves
	left   []leftBuckets // to carry over; guarded by the family's lock
}

// leftBuckets are the contents of a block that the series has left.
type leftBuckets struct {
	list   []sparse.Bucket
	zeros  uint64
	coarse uint64
}

// Add adds n observations of v, which is finite.
func (e *Exponents) Add(m Instrument, v float64, n uint64) {
	for {
		x := e.at.Load()
		w, coarse := x.find(v)
		switch {
		case w == nil:
			e.extend(m, x)
		case int64(w.Add(n)) >= 0:
			if coarse > 0 {
				x.block.KeepCoarse(coarse)
			}
			return
		case e.at.Load() == x:
			Escape(m, w)
		}
	}
}

// find returns the count of v's bucket, or nil if there is no room for another bucket. After
// counting, the caller passes a coarse other than 0 to KeepCoarse.
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

// Quick adds an observation of v in the common case. If it returns false, nothing was counted, and
// the caller uses Add.
func (e *Exponents) Quick(v float64) bool {
	w := e.at.Load().quick(v)
	return w != nil && int64(w.Add(1)) >= 0
}

// InUse reports whether there are exponential buckets.
func (e *Exponents) InUse() bool { return e.at.Load() != nil }

// quick is find for the common case, in which coarse is 0. Nil means that it takes find.
func (x *exponential) quick(v float64) *atomic.Uint64 {
	if math.Abs(v) <= x.zeroTo {
		return x.block.Zero()
	}
	return x.block.Quick(x.scale, v)
}

// extend moves the instrument on to the next block, since that of x is full.
func (e *Exponents) extend(m Instrument, x *exponential) {
	f := m.Series().Family()
	f.mu.Lock()
	defer f.unlock()
	if e.at.Load() == x {
		e.next(m, x)
	}
}

// next is extend with the family's lock held. While the backend has no room, the present block
// becomes coarser instead.
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
	if e.at.Load() == x {
		e.at.Store(&stuck)
	}
	f.Home.Moves.Unlock()
	if err != errLastBlock {
		f.postpone(err, func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if e.at.Load() != &stuck {
				return nil // the series has moved or was deleted meanwhile
			}
			return e.open(m, &stuck)
		})
		f.postponedBy = err
	}
	return false
}

// open publishes the block after that of x.
func (e *Exponents) open(m Instrument, x *exponential) error {
	s := m.Series()
	f := s.Family()
	if x.level == len(f.levels) {
		return errLastBlock
	}
	def := f.levels[x.level]
	f.Home.Moves.Lock()
	home, labels := s.placement.Load().backend, s.storedLabels()
	f.Home.Moves.Unlock()
	var words backend.Words
	var err error
	if home == nil {
		words = make(backend.Words, def.Words())
	} else if words, err = home.Cells(def, labels); err != nil {
		return err
	}
	next := &exponential{scale: x.scale, zeroTo: x.zeroTo, block: def.View(words), level: x.level + 1}
	f.openWindow(&next.block)
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	if e.at.Load() == x {
		e.rest.blocks = append(e.rest.blocks, index.Block{Family: def, Words: words})
		e.at.Store(next)
	}
	return nil
}

var errLastBlock = errors.New("gotheus: there are no more blocks")

// Move publishes the block in the new words of a series, and takes the contents of the blocks it
// leaves. Home.Moves is held.
func (e *Exponents) Move(s *Series, to, from backend.Words) {
	f := s.Family()
	if f.scale == nil {
		return
	}
	x := &exponential{scale: f.scale, block: f.Def.View(to)}
	if n := f.Def.Native; n != nil {
		x.zeroTo = n.ZeroThreshold
	}
	f.openWindow(&x.block)
	if e.rest == nil {
		e.rest = new(exponentsRest)
	}
	e.at.Store(x)
	if from != nil {
		since := uint64(0)
		// Older observations are in no quantile, and would count as new ones.
		if s := f.Def.Sketch; s != nil {
			if now := s.Epoch(f.Home.Now()); now > 0 {
				since = s.Oldest(now)
			}
		}
		e.leave(f.Def, from, since)
		for _, b := range e.rest.blocks {
			e.leave(b.Family, b.Words, since)
		}
	}
	e.rest.blocks = nil
}

func (e *Exponents) leave(def *backend.Family, w backend.Words, since uint64) {
	b := def.View(w)
	var left leftBuckets
	left.coarse = b.Coarse()
	left.list, left.zeros = b.Take(since)
	if left.zeros > 0 || len(left.list) > 0 {
		e.rest.left = append(e.rest.left, left)
	}
}

// carry counts the contents of the blocks that were left. The family's lock is held.
func (e *Exponents) carry(m Instrument) {
	if e.rest == nil {
		return
	}
	for _, left := range e.rest.left {
		if left.zeros > 0 {
			e.carryOne(m, left.coarse, nil, left.zeros)
		}
		for i := range left.list {
			e.carryOne(m, left.coarse, &left.list[i], left.list[i].Count)
		}
	}
	e.rest.left = nil
}

// carryOne counts a bucket or, if b is nil, zeros. If the series is deleted meanwhile, they are
// deleted with it.
func (e *Exponents) carryOne(m Instrument, coarse uint64, b *sparse.Bucket, n uint64) {
	f := m.Series().Family()
	if f.Def.Native != nil { // keeps the count within its limit
		many := f.Def.Many(m.Series().Words())
		had := min(word.Int(many), backend.IntLimit)
		n = min(n, backend.IntLimit-had)
		word.CarryCount(many, n, backend.IntLimit)
	}
	most := uint64(sparse.CoarsestShift(f.Def.PerDoubling()))
	for {
		x := e.at.Load()
		if !x.stuck && uint64(x.block.Shift) < min(coarse, most) && e.next(m, x) {
			continue
		}
		x = e.at.Load()
		w, keep := x.block.Zero(), uint64(0)
		if b != nil {
			index := b.Index << b.Shift // the last bucket of the scale in it
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
		w.Add(n)
		return
	}
}

// sketchDoublings is how many doublings the positive observations of a summary can span before
// quantiles become less exact: nine orders of magnitude.
const sketchDoublings = 29

// levelsOf returns the auxiliary families for the further blocks of f's series. The last one has
// room for all buckets there can be.
func levelsOf(f *backend.Family) (levels []*backend.Family) {
	var blocks []backend.Block
	coarsest := sparse.CoarsestShift(max(f.PerDoubling(), 1))
	add := func(shift uint, size int) {
		if b := (backend.Block{Role: backend.BucketRole, Shift: uint8(shift), Size: uint32(size)}); len(blocks) == 0 || blocks[len(blocks)-1] != b {
			blocks = append(blocks, b)
		}
	}
	const all = 512 // there are no more at the coarsest shift
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
