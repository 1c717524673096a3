package gotheus

import (
	"math"
	"slices"
	"sort"
)

// places finds the bucket of an observation, for all series of a family.
//
// Bounds are usually so far apart that a float's exponent, with a few more bits where need be, leaves but one of them
// to compare with. A table by these bits then finds a bucket with neither loop nor branch, hence without a wrong
// guess of the processor, which costs more than all the rest.
type places struct {
	bounds []float64
	cells  []cell // nil: some bounds are too close
	shift  uint   // of a float's bits: what is left selects the cell
	least  int64  // what is left of the bits of values in the first cell, or less
}

// cell is for the values that have the same bits: they are in bucket at, or, above bound, in the next one.
type cell struct {
	bound float64
	at    int
}

// mostCells keeps the table small, 16 bytes for each.
const mostCells = 512

func placesOf(bounds []float64) places {
	p := places{bounds: bounds}
	for p.shift = 52; p.shift > 52-9; p.shift-- {
		if p.fill() {
			break
		}
	}
	return p
}

// fill makes the table for p.shift; false if bounds share a cell, or there are too many cells.
func (p *places) fill() bool {
	p.cells, p.least = nil, 0
	if i, _ := slices.BinarySearch(p.bounds, math.SmallestNonzeroFloat64); i < len(p.bounds) {
		p.least = p.key(p.bounds[i])
		if i > 0 {
			p.least-- // bounds that are not positive have the first cell for themselves
		}
	}
	var cells []cell
	next := 0 // the first bound that is not below the cell
	for next < len(p.bounds) {
		if len(cells) == mostCells {
			return false
		}
		c, key := cell{p.bounds[next], next}, p.least+int64(len(cells))
		for n := 0; next < len(p.bounds) && p.key(p.bounds[next]) <= key; next++ {
			if n++; n > 1 {
				return false
			}
		}
		cells = append(cells, c)
	}
	p.cells = append(cells, cell{math.Inf(1), len(p.bounds)})
	return true
}

func (p *places) key(v float64) int64 { return int64(math.Float64bits(v)) >> p.shift }

// bucket returns the index of the first bucket that v, which is finite, fits in.
func (p *places) bucket(v float64) int {
	if p.cells != nil {
		return p.quick(v)
	}
	// Up to some twenty buckets a scan beats a binary search, since its branches are more easily predicted.
	if len(p.bounds) > 20 {
		return sort.SearchFloat64s(p.bounds, v)
	}
	for i, b := range p.bounds {
		if v <= b {
			return i
		}
	}
	return len(p.bounds)
}

// quick is bucket where there is a table. The difference of two floats is never rounded to zero, nor to another sign.
func (p *places) quick(v float64) int {
	c := &p.cells[min(max(int64(math.Float64bits(v))>>p.shift-p.least, 0), int64(len(p.cells)-1))]
	return c.at + int(math.Float64bits(c.bound-v)>>63)
}
