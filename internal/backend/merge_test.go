package backend_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// Merge adds up the words of several instances.
func TestMerge(t *testing.T) {
	t.Parallel()
	native := &backend.Native{Schema: 3, MaxBuckets: 160}
	counter := backend.Family{Name: "c_total", Kind: backend.Counter}
	classic := backend.Family{Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2}}
	both := backend.Family{Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2}, Native: native}
	sketch := backend.Family{Name: "s", Kind: backend.Summary, Sketch: &backend.Sketch{Quantiles: []float64{.5}, PerDoubling: 35, Slots: 5, MaxAge: time.Minute}}
	for _, f := range []*backend.Family{&counter, &classic, &both, &sketch, {Name: "s", Kind: backend.Summary}} {
		to := make(backend.Words, f.Words())
		floats := map[int]bool{}
		for i := range to { // a word that is sealed as a float is a float
			w := make(backend.Words, f.Words())
			f.Seal(w)
			floats[i] = w[i].Load() == backend.SealedFloat
		}
		fixed := len(to) - len(f.BucketBlock(to))
		for n := uint64(1); n <= 3; n++ {
			from := make(backend.Words, f.Words())
			for i := range fixed {
				if from[i].Store(n); floats[i] {
					from[i].Store(math.Float64bits(float64(n)))
				}
			}
			f.Start(from).Store(10 - n)
			to = f.Merge(to, from)
		}
		sealed := make(backend.Words, f.Words())
		f.Seal(sealed)
		to = f.Merge(to, sealed)
		for i := range fixed {
			want := uint64(6)
			switch {
			case floats[i]:
				want = math.Float64bits(6)
			case &to[i] == f.Start(to):
				want = 7
			}
			if got := to[i].Load(); got != want {
				t.Errorf("%v: word %d is %d, want %d", f.Kind, i, got, want)
			}
		}
	}
	// Buckets of several instances that do not fit into one block.
	to := make(backend.Words, both.Words())
	for n := range 5 {
		from := make(backend.Words, both.Words())
		block := both.BucketBlock(from)
		view := sparse.View(block, both.PerDoubling(), both.Shift(), both.Snapshots())
		for i := range 30 {
			view.Find(int32(30*n+i), false).Add(1)
		}
		to = both.Merge(to, from)
	}
	view := sparse.View(both.BucketBlock(to), both.PerDoubling(), both.Shift(), both.Snapshots())
	if list, _ := view.Append(nil); len(list) != 150 || len(to) <= both.Words() {
		t.Errorf("%d buckets in %d words", len(list), len(to))
	}
	// A counter's integer word never reaches its seal.
	a, b := make(backend.Words, 3), make(backend.Words, 3)
	a[backend.CounterInt].Store(backend.IntLimit - 1)
	b[backend.CounterInt].Store(backend.IntLimit - 1)
	a = counter.Merge(a, b)
	if counter.SealedAt(a, backend.CounterInt) || math.Float64frombits(a[backend.CounterFloat].Load()) != 1<<62 {
		t.Errorf("%x", a[backend.CounterInt].Load())
	}
	// The newest exemplar is kept.
	ex := counter.With(backend.Block{Role: backend.ExemplarRole, Size: 12})
	into := make(backend.Words, ex.Words())
	for _, at := range []int64{5e9, 9e9, 7e9} {
		from := make(backend.Words, ex.Words())
		ex.WriteExemplar(from, 0, 1, &backend.Exemplar{Labels: fmt.Sprintf(`at="%d"`, at), Time: at})
		into = ex.Merge(into, from)
	}
	if e, ok := ex.ReadExemplar(into, 0, 1); !ok || e.Time != 9e9 {
		t.Errorf("got %v", e)
	}
}

// A series that has come back has no start for a moment, in which a process may die. Exemplars of
// its former life must not be shown.
func TestExemplarOfFormerLife(t *testing.T) {
	t.Parallel()
	ex := (&backend.Family{Name: "c_total", Kind: backend.Counter}).With(backend.Block{Role: backend.ExemplarRole, Size: 4})
	for _, c := range []struct {
		written, start uint64
		shown          bool
	}{{7, 7, true}, {8, 7, true}, {6, 7, false}, {7, 0, false}, {0, 0, true}} {
		w := make(backend.Words, ex.Words())
		ex.WriteExemplar(w, 0, c.written, &backend.Exemplar{Labels: `a="b"`, Time: 1})
		if _, ok := ex.ReadExemplar(w, 0, c.start); ok != c.shown {
			t.Errorf("exemplar of a series that began at %d, which now begins at %d: shown is %v", c.written, c.start, ok)
		}
	}
}

// What Subtract leaves and what it has subtracted add up to the former counts, also in buckets that
// have become coarser and in the window of quantiles.
func TestSubtract(t *testing.T) {
	t.Parallel()
	for _, f := range []*backend.Family{
		{Name: "c_total", Kind: backend.Counter},
		{Name: "st_total", Kind: backend.Counter, Stripes: 2},
		{Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2}},
		{Name: "n", Kind: backend.Histogram, Buckets: []float64{1, 2}, Native: &backend.Native{Schema: 3, MaxBuckets: 160}},
		{Name: "s", Kind: backend.Summary},
		{Name: "q", Kind: backend.Summary, Sketch: &backend.Sketch{Quantiles: []float64{.5}, PerDoubling: 20, Slots: 3, MaxAge: 3e9}},
	} {
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		w := make(backend.Words, f.Words())
		seals := make(backend.Words, f.Words())
		f.Seal(seals)
		block := f.BucketBlock(w)
		f.Start(w).Store(5)
		count := func(n uint64) {
			for i := range len(w) - len(block) {
				switch {
				case &w[i] == f.Start(w):
				case seals[i].Load() == backend.SealedFloat:
					w[i].Store(math.Float64bits(math.Float64frombits(w[i].Load()) + float64(n)))
				case seals[i].Load() == backend.SealedInt:
					w[i].Add(n)
				}
			}
			if block == nil {
				return
			}
			b := sparse.View(block, f.PerDoubling(), f.Shift(), f.Snapshots())
			for i := range int32(50) { // more than fit into the block
				w, coarse := b.FindAnyhow(10*i, false)
				w.Add(n)
				b.KeepCoarse(coarse)
			}
		}
		show := func(w backend.Words) (lines []string) {
			block := f.BucketBlock(w)
			for i := range len(w) - len(block) {
				lines = append(lines, fmt.Sprintf("word %d: %x", i, w[i].Load()))
			}
			if block != nil {
				b := sparse.View(block, f.PerDoubling(), f.Shift(), f.Snapshots())
				for e := range uint64(1 + f.Snapshots()) {
					// the first without a window
					list, zeros := b.Append(nil)
					if e > 0 {
						list, zeros = b.AppendSince(nil, 6+e, 9)
					}
					list, more := sparse.Coarsen(list, f.PerDoubling(), b.Coarse())
					lines = append(lines, fmt.Sprint("since ", e, ": ", zeros+more, list, " at ", b.Coarse()))
				}
			}
			return lines
		}
		advance := func(epoch uint64) {
			if f.Sketch != nil {
				b := sparse.View(block, f.PerDoubling(), 0, f.Snapshots())
				b.Advance(epoch)
			}
		}
		advance(7)
		count(3)
		counted := make(backend.Words, len(w))
		for i := range w {
			counted[i].Store(w[i].Load())
		}
		advance(8)
		count(2)
		advance(9)
		count(4)
		whole := show(w)
		f.Subtract(w, counted)
		// The rest is less than the whole, and merging what was subtracted restores it.
		if slices.Equal(show(w), whole) {
			t.Errorf("%s: nothing was taken", f.Name)
		}
		into := f.Merge(f.Merge(make(backend.Words, f.Words()), counted), w)
		if got := show(into); !slices.Equal(got, whole) {
			t.Errorf("%s:\n%s\nwant\n%s", f.Name, strings.Join(got, "\n"), strings.Join(whole, "\n"))
		}
		// Seals are kept.
		f.Seal(w)
		f.Subtract(w, counted)
		if !f.Sealed(w) {
			t.Errorf("%s is no longer sealed", f.Name)
		}
	}
}
