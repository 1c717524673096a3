// Package bounds finds the bucket that an observation belongs to.
package bounds

import (
	"math"
	"slices"
	"sort"
)

// Buckets finds buckets by their upper bounds. Bounds are usually so far apart that the exponent of
// a float, with a few more bits where needed, leaves only one of them to compare with. A table
// indexed by these bits then finds the bucket without a loop or a branch. One mispredicted branch
// would cost more than everything else.
type Buckets struct {
	bounds   []float64
	cells    []cell // nil: some bounds are too close to each other
	shift    uint   // a float's bits, shifted right by this, select the cell
	firstKey int64  // the shifted bits of values in the first cell, or below it
}

// cell covers the values with the same shifted bits. Those up to bound belong to the bucket, and
// those above it to the next one.
type cell struct {
	bound  float64
	bucket int
}

// maxCells keeps the table small: a cell takes 16 bytes.
const maxCells = 512

// Of returns the buckets with these upper bounds, in ascending order, and the +Inf bucket.
func Of(bounds []float64) Buckets {
	b := Buckets{bounds: bounds}
	for b.shift = 52; b.shift > 52-9; b.shift-- {
		if b.fill() {
			break
		}
	}
	return b
}

// fill makes the table for b.shift. It returns false if two bounds share a cell, or there are too
// many cells.
func (b *Buckets) fill() bool {
	b.cells, b.firstKey = nil, 0
	if i, _ := slices.BinarySearch(b.bounds, math.SmallestNonzeroFloat64); i < len(b.bounds) {
		b.firstKey = b.key(b.bounds[i])
		if i > 0 {
			b.firstKey-- // the first cell is for the bounds that are not positive
		}
	}
	var cells []cell
	next := 0 // the first bound that is not below the cell
	for next < len(b.bounds) {
		if len(cells) == maxCells {
			return false
		}
		c, key := cell{b.bounds[next], next}, b.firstKey+int64(len(cells))
		for n := 0; next < len(b.bounds) && b.key(b.bounds[next]) <= key; next++ {
			if n++; n > 1 {
				return false
			}
		}
		cells = append(cells, c)
	}
	b.cells = append(cells, cell{math.Inf(1), len(b.bounds)})
	return true
}

func (b *Buckets) key(v float64) int64 { return int64(math.Float64bits(v)) >> b.shift }

// HasTable reports whether there is a table, which Quick requires.
func (b *Buckets) HasTable() bool { return b.cells != nil }

// Find returns the index of the bucket of v, which must be finite.
func (b *Buckets) Find(v float64) int {
	if b.cells != nil {
		return b.Quick(v)
	}
	// For up to about 20 buckets, a scan is faster than a binary search: its branches are more
	// predictable.
	if len(b.bounds) > 20 {
		return sort.SearchFloat64s(b.bounds, v)
	}
	for i, bound := range b.bounds {
		if v <= bound {
			return i
		}
	}
	return len(b.bounds)
}

// Quick is Find by the table, which must exist. The difference of two unequal floats is never
// rounded to zero or to the other sign, so its sign bit says whether v is above the bound.
func (b *Buckets) Quick(v float64) int {
	c := &b.cells[min(max(int64(math.Float64bits(v))>>b.shift-b.firstKey, 0), int64(len(b.cells)-1))]
	return c.bucket + int(math.Float64bits(c.bound-v)>>63)
}
