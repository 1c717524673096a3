package syncer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// The fast path for runs gives the same result as merge, for any words.
func TestAddFast(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 7))
	s := newSingle(nil, options{manual: true})
	var rows []*row
	for _, def := range fuzzFamilies() {
		fam := s.family(def)
		s.appendFamily(fam, def.Help)
	}
	var fam *family
	for i := range chunkSize { // gauges of mode Shared have separate chunks
		if i == 0 || rnd.IntN(8) == 0 {
			fam = s.dir.families[rnd.IntN(len(s.dir.families))]
		}
		if fam.shared || fam.exemplars {
			continue
		}
		r := fam.row(fmt.Sprint(i))
		s.assignNext(r)
		rows = append(rows, r)
	}
	number := func() uint64 {
		v := rnd.Uint64() >> rnd.IntN(64)
		switch rnd.IntN(6) {
		case 0:
			return 0
		case 1:
			return backend.IntLimit - 1 - v>>50
		}
		return v % backend.IntLimit
	}
	words := func(f *family) []uint64 {
		w := make([]uint64, f.stored)
		for i := range w {
			switch {
			case f.isFloat(i) && rnd.IntN(2) == 0:
				w[i] = math.Float64bits([]float64{0.5, 1e300, -3, 1.0 / 3, math.Inf(1)}[rnd.IntN(5)])
			case i == f.start && rnd.IntN(4) > 0:
				w[i] = rnd.Uint64() >> rnd.IntN(40) / startUnit * startUnit
			case f.adding != addMerged && f.isCount(i):
				w[i] = number()
			}
		}
		return w
	}
	low := func(f *family) []uint64 {
		if rnd.IntN(4) > 0 {
			return nil
		}
		l := make([]uint64, len(f.floats))
		for k := range l {
			l[k] = math.Float64bits(math.Ldexp(rnd.Float64(), -60*rnd.IntN(3)))
		}
		return l
	}
	for round := range 150 {
		for _, r := range rows {
			if rnd.IntN(20) == 0 {
				r.since = 1 + rnd.Uint64N(3)
			}
		}
		damaged := false
		var fast, slow merger
		fast.begin(s.dir.chunk(0))
		slow.begin(s.dir.chunk(0))
		withoutColumns(&slow)
		for id := range uint64(4) {
			var w chunkWriter
			w.begin(nil, 0, 1+rnd.Uint64N(3))
			for _, r := range rows {
				if rnd.IntN(30) > 0 {
					w.entry(r.id, r.fam, words(r.fam), low(r.fam))
				}
			}
			data := w.end()
			if rnd.IntN(4) == 0 { // damaged
				data = data[:rnd.IntN(len(data))]
			}
			if rnd.IntN(4) == 0 && len(data) > 0 {
				data[rnd.IntN(len(data))] ^= byte(1 << rnd.IntN(8))
			}
			c := &contributor{id: id, chunks: map[uint32]chunk{0: {1, data}}}
			s.numbers[0] = &backend.Instance{}
			e1 := s.addChunk(&fast, c, 0)
			e2 := s.addChunk(&slow, c, 0)
			if (e1 == nil) != (e2 == nil) {
				t.Fatalf("round %d: %v; word by word: %v", round, e1, e2)
			}
			if damaged = e1 != nil; damaged {
				break
			}
		}
		if damaged {
			continue
		}
		fast.round()
		slow.round()
		for i := range rows {
			a, b := fast.words(i), slow.words(i)
			if !slices.Equal(a, b) {
				t.Fatalf("round %d: %s: %x; one by one: %x", round, rows[i].fam.schema, a, b)
			}
		}
	}
}

// Starts survive being stored in ms and as differences.
func TestStarts(t *testing.T) {
	t.Parallel()
	s := newFuzzed(t)
	f := s.dir.families[0]
	list := []uint64{0, 1, startUnit, 5 * startUnit, 0, 4*startUnit + 17, 300*startUnit + 1, 1764000000000000000, 1764000000000999999}
	for i := range list {
		s.assignNext(f.row(fmt.Sprint(i)))
	}
	var w chunkWriter
	w.begin(nil, 0, 1)
	rows := s.assigned(series)
	base := rows[len(rows)-len(list)].id
	for i, v := range list {
		w.entry(base+uint32(i), f, []uint64{1, 0, v}, nil)
	}
	m, err := s.decode(0, &contributor{chunks: map[uint32]chunk{0: {1, w.end()}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range list {
		if got, want := m[base+uint32(i)].words, []uint64{1, 0, v / startUnit * startUnit}; !slices.Equal(got, want) {
			t.Errorf("%d became %d", want, got)
		}
	}
}

// withoutColumns makes a merger, which has just begun, add all series word by word.
func withoutColumns(m *merger) {
	clear(m.runLen[:])
	for i := range m.step {
		m.step[i] = 1
	}
}
