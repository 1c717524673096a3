package syncer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
)

// tricky are floats whose sums are halfway between two floats, or nearly so.
var tricky = []float64{1, 1 + 0x1p-52, 0x1p-53, 0x3p-54, 0x1p-106, 0x1p-107, 0x1p-160, 0x1p-161, 0x1p-300, 0}

// exactly is a family with floats, whose series are merged in every way.
type exactly struct {
	s *Syncer
	f *family
	r []*row
}

func newExactly(def *backend.Family) *exactly {
	x := &exactly{s: newSingle(nil, options{manual: true})}
	x.f = x.s.family(def)
	x.s.appendFamily(x.f, def.Help)
	for i := range 3 {
		r := x.f.row(fmt.Sprintf("x=%q", fmt.Sprint(i)))
		x.s.assignNext(r)
		x.r = append(x.r, r)
	}
	x.s.numbers[0] = new(backend.Instance)
	return x
}

// contributor returns one that has the same words for each series.
func (x *exactly) contributor(words, low []uint64) *contributor {
	n := chunkOf(x.r[0].id)
	var w chunkWriter
	w.begin(nil, n, 1)
	for _, r := range x.r {
		w.entry(r.id, x.f, words, low)
	}
	return &contributor{chunks: map[uint32]chunk{n: {1, w.end()}}}
}

// page adds up contributors, by columns if possible or one series after the other.
func (x *exactly) page(t *testing.T, columns bool, list ...*contributor) []uint64 {
	t.Helper()
	n := chunkOf(x.r[0].id)
	var m merger
	m.begin(x.s.dir.chunk(n))
	if !columns {
		withoutColumns(&m)
	}
	for _, c := range list {
		if err := x.s.addChunk(&m, c, n); err != nil {
			t.Fatal(err)
		}
	}
	m.round()
	first := slices.Clone(m.words(0))
	for i := range x.r {
		if !slices.Equal(m.words(i), first) {
			t.Fatalf("%s: series %d is %x, the first one %x", x.f.def.Name, i, m.words(i), first)
		}
	}
	return first
}

// floats returns the float words among words.
func (x *exactly) floats(words []uint64) (list []float64) {
	for _, w := range x.f.floats {
		list = append(list, math.Float64frombits(words[w]))
	}
	return list
}

// A page has the rounded exact sums, in any order. Folding one instance after the other into the
// base never makes one smaller, and all other words are added as without floats.
func TestExactSums(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 7))
	folded := 0
	for _, def := range fuzzFamilies() {
		x := newExactly(def)
		if len(x.f.floats) == 0 {
			continue
		}
		for range 30 {
			var words [][]uint64
			var list []*contributor
			sums := make([]exact.Sum, len(x.f.floats))
			for range 2 + rnd.IntN(6) {
				w := make([]uint64, x.f.stored)
				for k, at := range x.f.floats {
					v := tricky[rnd.IntN(len(tricky))]
					w[at] = math.Float64bits(v)
					sums[k].Add(v)
				}
				words = append(words, w)
				list = append(list, x.contributor(w, nil))
			}
			for range 2 {
				rnd.Shuffle(len(list), func(i, j int) { list[i], list[j], words[i], words[j] = list[j], list[i], words[j], words[i] })
				for _, columns := range []bool{true, false} {
					for k, v := range x.floats(x.page(t, columns, list...)) {
						if want := sums[k].Rounded(); v != want {
							t.Fatalf("%s: float %d is %v, want %v", def.Name, k, v, want)
						}
					}
				}
			}
			last := x.floats(x.page(t, true, list...))
			base, low := slices.Clone(words[0]), []uint64(nil)
			for i, w := range words[1:] {
				before := slices.Clone(w)
				base, low = x.f.fold(base, low, w, nil)
				if !slices.Equal(w, before) {
					t.Fatalf("%s: fold changed %x into %x", def.Name, before, w)
				}
				if low != nil {
					folded++
				}
				for _, columns := range []bool{true, false} {
					now := x.floats(x.page(t, columns, append([]*contributor{x.contributor(base, low)}, list[i+2:]...)...))
					for k, v := range now {
						if v < last[k] {
							t.Fatalf("%s: float %d is %v after folding, %v before", def.Name, k, v, last[k])
						}
					}
					last = now
				}
			}
		}
	}
	if folded == 0 {
		t.Error("no low words")
	}
}

// Infinities, NaN and -0 add up as usual.
func TestSpecialSums(t *testing.T) {
	t.Parallel()
	x := newExactly(fuzzFamilies()[0])
	inf, zero := math.Inf(1), math.Copysign(0, -1)
	for _, c := range []struct {
		list []float64
		want float64
	}{
		{[]float64{zero}, zero},
		{[]float64{zero, zero, 0}, zero},
		{[]float64{zero, 1}, 1},
		{[]float64{1, inf, 0x1p-60}, inf},
		{[]float64{inf, 1, -inf}, math.NaN()},
		{[]float64{math.NaN(), 1}, math.NaN()},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, inf},
		{[]float64{math.MaxFloat64, 0x1p969, 0x1p968}, math.MaxFloat64},
		{[]float64{math.MaxFloat64, 0x1p969, 0x1p969}, inf},
	} {
		var list []*contributor
		var base, low []uint64
		for _, v := range c.list {
			w := []uint64{0, math.Float64bits(v), 0}
			list = append(list, x.contributor(w, nil))
			if base == nil {
				base = w
			} else {
				base, low = x.f.fold(base, low, w, nil)
			}
		}
		for name, got := range map[string][]uint64{
			"columns": x.page(t, true, list...), "series": x.page(t, false, list...), "base": x.page(t, true, x.contributor(base, low)),
		} {
			if v := x.floats(got)[0]; math.Float64bits(v) != math.Float64bits(c.want) && (v == v || c.want == c.want) {
				t.Errorf("%v: %s: %v, want %v", c.list, name, v, c.want)
			}
		}
	}
}

// A low record is refused where there is no series before it, for the wrong number of floats, and
// if it is not finite.
func TestWrongLow(t *testing.T) {
	t.Parallel()
	x := newExactly(fuzzFamilies()[0])
	n := chunkOf(x.r[0].id)
	data := x.contributor([]uint64{1, math.Float64bits(.5), 0}, []uint64{math.Float64bits(0x1p-60)}).chunks[n].data
	at := slices.Index(data, recordLow)
	for at2 := at + 1; at2 < len(data); at2++ {
		if data[at2] == recordLow && data[at2+1] == 1 {
			at = at2
		}
	}
	run, low := data[:at], data[at:]
	for name, c := range map[string]struct {
		data []byte
		ok   bool
	}{
		"right":        {data, true},
		"first":        {low, false},
		"twice":        {slices.Concat(data, low), false},
		"two columns":  {slices.Concat(run, []byte{recordLow, 2, 0, 0}), false},
		"no column":    {slices.Concat(run, []byte{recordLow, 0}), false},
		"zeros":        {slices.Concat(run, []byte{recordLow, 1, 0}), true},
		"infinite":     {slices.Concat(run, []byte{recordLow, 1, 2, 0x7f, 0xf0, 0, 0, 0, 0}), false},
		"not a number": {slices.Concat(run, []byte{recordLow, 1, 2, 0x7f, 0xf8, 0, 0, 0, 0}), false},
		"distance":     {slices.Concat(run, []byte{1<<recordBits | recordLow, 1, 0}), false},
	} {
		contributor := &contributor{chunks: map[uint32]chunk{n: {1, c.data}}}
		if _, err := x.s.decode(n, contributor); (err == nil) != c.ok {
			t.Errorf("%s: read: %v", name, err)
		}
		var m merger
		m.begin(x.s.dir.chunk(n))
		if err := x.s.addChunk(&m, contributor, n); (err == nil) != c.ok {
			t.Errorf("%s: merged: %v", name, err)
		}
	}
}

// What a base lacks stays with it when it is written again, also for families of later versions,
// whose floats this version does not know.
func TestLowIsKept(t *testing.T) {
	t.Parallel()
	s := newFuzzed(t)
	later := newFamily("later", nil, 3, 1, false)
	s.appendFamily(later, "")
	for i := range 5 {
		s.assignNext(later.row(fmt.Sprint(i)))
	}
	want := make(map[uint32]entry)
	for i, r := range s.assigned(series) {
		e := entry{row: r, words: make([]uint64, r.fam.stored)}
		switch {
		case r.fam == later && i%3 > 0: // runs with one float, with two and without
			e.low = []uint64{1, uint64(i)}[i%3-1:]
		case len(r.fam.floats) > 0:
			e.low = make([]uint64, len(r.fam.floats))
			e.low[len(e.low)-1] = math.Float64bits(0x1p-70)
		}
		want[r.id] = e
	}
	got, err := s.decode(0, &contributor{chunks: map[uint32]chunk{0: s.encode(0, want, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	entries := s.entries(&contributor{chunks: map[uint32]chunk{0: s.encode(0, got, 1)}})
	for _, e := range entries {
		if w := want[e.row.id]; !slices.Equal(e.low, w.low) || !slices.Equal(got[e.row.id].low, w.low) {
			t.Errorf("%s: %x, want %x", e.row.fam.schema, e.low, w.low)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%d series, want %d", len(entries), len(want))
	}
}
