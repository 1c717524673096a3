package backend

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/sparse"
)

// Native configures the exponential buckets of a histogram.
type Native struct {
	// Schema is from -4 to 8: initially there are 2^Schema buckets per doubling of the value.
	// Series with values of very different magnitude become coarser.
	Schema        int8
	ZeroThreshold float64 // values from -ZeroThreshold to ZeroThreshold count as zero
	MaxBuckets    uint32  // on a page
}

// Sketch configures the quantiles of a summary.
type Sketch struct {
	Quantiles   []float64 // ascending, from 0 to 1
	PerDoubling uint16    // buckets per doubling of the value, which determines the accuracy
	Slots       uint16    // snapshots within MaxAge
	MaxAge      time.Duration
}

// Epoch returns the number of the window's slot that contains a time, or 0 if it has none.
func (s *Sketch) Epoch(t time.Time) uint64 {
	if u := t.Unix(); u < 0 || u >= math.MaxInt64/int64(time.Second) {
		return 0
	}
	if ns := t.UnixNano(); ns > 0 {
		return uint64(ns/int64(s.Slot())) + 1
	}
	return 0
}

// Slot returns the duration of a slot of the window.
func (s *Sketch) Slot() time.Duration { return s.MaxAge / time.Duration(s.Slots) }

// Block marks a family as auxiliary: its series hold further words of the series with the same
// label text in the main family. They are created by an ordinary call of Cells when first needed,
// and are not shown as families on a page. Backends need not know about them.
type Block struct {
	Role  Role
	Shift uint8 // for BucketRole: by how much its buckets are coarser than the scale's
	// for BucketRole: number of buckets, a power of two; for ExemplarRole: words for an
	// exemplar's labels
	Size uint32
}

// Role is the purpose of the words of an auxiliary family.
type Role uint8

// Roles. Their numbers are stored and never change.
const (
	BucketRole   Role = iota + 1 // exponential buckets
	ExemplarRole                 // exemplars, see WriteExemplar
)

const (
	FirstBlock  = 32      // buckets among the words of the series itself
	MaxBlock    = 1 << 16 // maximum number of buckets in a block
	maxExemplar = 1 << 10

	nativeSize = 1 + 8 + 4
	sketchSize = 2 + 2 + 8 // and the quantiles
	blockSize  = 1 + 1 + 4
)

func (f *Family) sparse() bool { return f.Native != nil || f.Sketch != nil }

// Snapshots returns the number of snapshots in a block of f's exponential buckets.
func (f *Family) Snapshots() int {
	if f.Sketch != nil {
		return int(f.Sketch.Slots)
	}
	return 0
}

// EpochWords returns the range of words that hold the epochs of snapshots in a series of f,
// regardless of its number of words. IncompleteEpoch means that there is no snapshot.
func (f *Family) EpochWords() (from, to int) {
	if f.Sketch == nil || f.Block.Role > BucketRole {
		return 0, 0
	}
	if f.Block.Role == 0 {
		from = f.fixed()
	}
	from, n := from+sparse.EpochsAt, f.Snapshots()
	return from, from + n
}

// IncompleteEpoch is the epoch of a snapshot that is not usable.
const IncompleteEpoch = sparse.Incomplete

// PerDoubling returns the number of buckets per doubling of the value in the scale of f's
// exponential buckets.
func (f *Family) PerDoubling() int {
	switch {
	case f.Sketch != nil:
		return int(f.Sketch.PerDoubling)
	case f.Native != nil:
		return 1 << max(f.Native.Schema, 0)
	}
	return 0
}

// Shift returns by how much the exponential buckets of f are coarser than the scale's.
func (f *Family) Shift() uint {
	switch {
	case f.Block.Role == BucketRole:
		return uint(f.Block.Shift)
	case f.Native != nil:
		return uint(max(-f.Native.Schema, 0))
	}
	return 0
}

// With returns the auxiliary family of f for b.
func (f *Family) With(b Block) *Family {
	g := *f
	g.Block = b
	return &g
}

// Aids reports whether f is an auxiliary family of g.
func (f *Family) Aids(g *Family) bool {
	return f.Block.Role != 0 && g.Block.Role == 0 && f.Name == g.Name && f.Alike(g) && slices.Equal(f.Labels, g.Labels)
}

// View returns the exponential buckets in the words of a series of f, or of its auxiliary family.
func (f *Family) View(w Words) sparse.Block {
	return sparse.View(f.BucketBlock(w), f.PerDoubling(), f.Shift(), f.Snapshots())
}

// Oldest returns the first epoch of the window that ends in an epoch.
func (s *Sketch) Oldest(epoch uint64) uint64 {
	return max(epoch, uint64(s.Slots)) - uint64(s.Slots) + 1
}

func (f *Family) checkSparse() error {
	if n := f.Native; n != nil {
		switch {
		case f.Kind != Histogram || f.Parts():
			return invalid("%s: a %v cannot have exponential buckets", f.Name, f.Kind)
		case n.Schema < -4 || n.Schema > 8:
			return invalid("%s: schema %d of its exponential buckets must be from -4 to 8", f.Name, n.Schema)
		case !(n.ZeroThreshold >= 0 && n.ZeroThreshold <= math.MaxFloat64) || math.Signbit(n.ZeroThreshold):
			return invalid("%s: zero threshold %v must be finite and not negative", f.Name, n.ZeroThreshold)
		case n.MaxBuckets < 1 || n.MaxBuckets > MaxBlock:
			return invalid("%s: %d exponential buckets: must be from 1 to %d", f.Name, n.MaxBuckets, MaxBlock)
		case f.Buckets != nil && len(f.Buckets) == 0:
			return invalid("%s: with exponential buckets, bounds must be nil or not empty", f.Name)
		}
	}
	if s := f.Sketch; s != nil {
		switch {
		case f.Kind != Summary || f.Parts():
			return invalid("%s: a %v cannot have quantiles", f.Name, f.Kind)
		case len(s.Quantiles) == 0:
			return invalid("%s: a sketch needs quantiles", f.Name)
		case s.PerDoubling < 1 || s.PerDoubling > sparse.MaxPerDoubling:
			return invalid("%s: %d buckets per doubling must be from 1 to %d", f.Name, s.PerDoubling, sparse.MaxPerDoubling)
		case s.Slots < 1 || s.Slots > 60:
			return invalid("%s: %d slots of its window: must be from 1 to 60", f.Name, s.Slots)
		case s.MaxAge/time.Duration(s.Slots) < time.Millisecond:
			return invalid("%s: maximal age %v of its quantiles: must be a millisecond or more for each of %d slots", f.Name, s.MaxAge, s.Slots)
		}
		for i, q := range s.Quantiles {
			switch {
			case !(q >= 0 && q <= 1) || math.Signbit(q):
				return invalid("%s: quantile %v must be from 0 to 1", f.Name, q)
			case i > 0 && s.Quantiles[i-1] == q:
				return invalid("%s: quantile %v is given twice", f.Name, q)
			case i > 0 && s.Quantiles[i-1] > q:
				return invalid("%s: quantile %v comes after %v: they must be in ascending order", f.Name, q, s.Quantiles[i-1])
			}
		}
	}
	return nil
}

func (f *Family) checkBlock() error {
	b := f.Block
	ok := false
	switch b.Role {
	case 0:
		ok = b == Block{}
	case BucketRole:
		ok = f.sparse() && b.Size >= 2 && b.Size <= MaxBlock && bits.OnesCount32(b.Size) == 1 && uint(b.Shift) <= sparse.CoarsestShift(f.PerDoubling())
	case ExemplarRole:
		ok = !f.Parts() && (f.Kind == Counter || f.Kind == Histogram) && b.Shift == 0 && b.Size >= 1 && b.Size <= maxExemplar
	}
	if !ok {
		return invalid("%s: a %v has no block %v", f.Name, f.Kind, b)
	}
	return nil
}

func (n *Native) equal(o *Native) bool { return n == o || n != nil && o != nil && *n == *o }

func (s *Sketch) equal(o *Sketch) bool {
	return s == o || s != nil && o != nil && s.PerDoubling == o.PerDoubling && s.Slots == o.Slots && s.MaxAge == o.MaxAge &&
		slices.Equal(s.Quantiles, o.Quantiles)
}

func (n *Native) schema() string {
	b := []byte{byte(n.Schema)}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(n.ZeroThreshold))
	return string(binary.LittleEndian.AppendUint32(b, n.MaxBuckets))
}

func parseNative(s string) *Native {
	b := []byte(s)
	return &Native{int8(b[0]), math.Float64frombits(binary.LittleEndian.Uint64(b[1:])), binary.LittleEndian.Uint32(b[9:])}
}

func (s *Sketch) schema() string {
	b := binary.LittleEndian.AppendUint16(nil, s.PerDoubling)
	b = binary.LittleEndian.AppendUint16(b, s.Slots)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.MaxAge))
	for _, q := range s.Quantiles {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(q))
	}
	return string(b)
}

func parseSketch(s string) *Sketch {
	b := []byte(s)
	k := &Sketch{
		PerDoubling: binary.LittleEndian.Uint16(b),
		Slots:       binary.LittleEndian.Uint16(b[2:]),
		MaxAge:      time.Duration(binary.LittleEndian.Uint64(b[4:])),
	}
	for b = b[sketchSize:]; len(b) > 0; b = b[8:] {
		k.Quantiles = append(k.Quantiles, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	return k
}

func (b *Block) schema() string {
	return string(binary.LittleEndian.AppendUint32([]byte{byte(b.Role), b.Shift}, b.Size))
}

func parseBlock(s string) Block {
	return Block{Role(s[0]), s[1], binary.LittleEndian.Uint32([]byte(s[2:]))}
}
