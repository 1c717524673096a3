package index

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Series are added, found, removed and listed in random order, also while a Walk or Tidy is making
// a new list, and compared with a map.
func TestIndex(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var x Index
		rows := int(seed % 3) // allocated by the index, by the caller, or both
		g := x.Declare(&backend.Family{Name: "c_total", Kind: backend.Counter, Labels: []string{"l"}}, 1)
		model := map[string]backend.Words{}
		var shown []*backend.Series // by the last Walk
		walking := false
		var step func()
		x.pause = func() { // nothing waits for the end of the walk
			walking = true
			for range rnd.IntN(400) {
				step()
			}
			walking = false
		}
		step = func() {
			labels := fmt.Sprintf(`l="%d"`, rnd.IntN(2000))
			switch rnd.IntN(100) {
			case 0:
				last := rnd.IntN(10)
				gone := func(labels string) bool { return strings.HasSuffix(labels, fmt.Sprint(last)+`"`) }
				before := slices.Clone(shown)
				for labels := range x.Labels(g) {
					if !gone(labels) {
						continue
					}
					if s, _ := x.Remove(g, labels); model[labels] == nil {
						if s != nil {
							t.Fatalf("%q was removed twice", labels)
						}
					} else if s.Labels != labels || &s.Words[0] != &model[labels][0] {
						t.Fatalf("%q was removed instead of %q", s.Labels, labels)
					}
					delete(model, labels)
				}
				for labels := range model {
					if gone(labels) {
						t.Fatalf("%q was not removed", labels)
					}
				}
				if !slices.EqualFunc(before, shown, same) {
					t.Fatal("a snapshot has changed")
				}
			case 1:
				if walking {
					return
				}
				if rnd.IntN(3) == 0 {
					x.Tidy()
					return
				}
				model := maps.Clone(model) // when the walk begins
				shown = x.Walk()[0].Series
				if len(shown) != len(model) || !slices.IsSortedFunc(shown, byLabels) {
					t.Fatalf("%d series, want %d in order", len(shown), len(model))
				}
				for _, s := range shown {
					if words := model[s.Labels]; words == nil || &words[0] != &s.Words[0] {
						t.Fatalf("wrong series %q", s.Labels)
					}
				}
			case 4, 5, 6, 7, 8, 9, 10, 11, 12, 13:
				s, _ := x.Remove(g, labels)
				if (s != nil) != (model[labels] != nil) || s != nil && &s.Words[0] != &model[labels][0] {
					t.Fatalf("removed %v, want %v", s, model[labels])
				}
				delete(model, labels)
			case 2, 3: // replace the words; an earlier snapshot keeps the old ones
				if rows != 0 {
					return
				}
				before := slices.Clone(shown)
				words := make([]*atomic.Uint64, len(shown))
				for i, s := range shown {
					words[i] = &s.Words[0]
				}
				model[labels] = make(backend.Words, 1)
				x.Replace(g, backend.Series{Labels: labels, Words: model[labels]})
				for i, s := range shown {
					if before[i] != s || words[i] != &s.Words[0] {
						t.Fatal("a snapshot has changed")
					}
				}
			default:
				s := x.Find(g, labels)
				ok := s != nil
				words, want := model[labels]
				if ok != want || ok && &s.Words[0] != &words[0] {
					t.Fatalf("found %v, want %v", ok, want)
				}
				if !ok {
					model[labels] = make(backend.Words, 1)
				}
				switch row := (backend.Series{Labels: labels, Words: model[labels]}); {
				case rows == 1 || rows == 2 && rnd.IntN(2) == 0:
					if old := x.FindOrAdd(g, &row); (old != nil) != ok || ok && !same(old, &row) {
						t.Fatalf("found %v to be added, want %v", old, ok)
					}
				case !ok:
					x.Add(g, row)
				}
			}
		}
		for range 3000 {
			step()
		}
	}
}

// Parts are added and removed while a Walk is making a new list.
func TestPartsDuringWalk(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	var x Index
	g := x.Declare(&backend.Family{Name: "g", Kind: backend.Gauge, Mode: backend.PerInstance, Labels: []string{"l"}}, 1)
	model, self := map[string]int{}, new(backend.Instance)
	step := func() {
		labels := fmt.Sprintf(`l="%d"`, rnd.IntN(300))
		if rnd.IntN(3) > 0 {
			x.AddPart(g, labels, backend.Part{Words: make(backend.Words, 2), Instance: self})
			model[labels]++
			return
		}
		if s, _ := x.Remove(g, labels); (s != nil) != (model[labels] > 0) {
			t.Fatalf("removed %v, which has %d parts", s, model[labels])
		}
		delete(model, labels)
	}
	for range 200 {
		for range rnd.IntN(100) {
			step()
		}
		x.pause = nil
		x.Walk()
		x.pause = func() {
			for range rnd.IntN(100) {
				step()
			}
		}
		x.AddPart(g, `l="0"`, backend.Part{Words: make(backend.Words, 2), Instance: self})
		model[`l="0"`]++
		want := len(model)
		if list := x.Walk()[0]; len(list.Series) != want || len(list.Parts) != want {
			t.Fatalf("%d series with %d lists of parts, want %d", len(list.Series), len(list.Parts), want)
		}
		x.pause = nil
		list := x.Walk()[0]
		for i, s := range list.Series {
			if n := len(list.Parts[i].List()); n != model[s.Labels] {
				t.Fatalf("%s has %d parts, want %d", s.Labels, n, model[s.Labels])
			}
		}
	}
}

// A table of very many fresh series consists of small ones.
func TestManyFresh(t *testing.T) {
	t.Parallel()
	var f fresh
	name := func(i int) string { return fmt.Sprintf(`l="%d"`, i) }
	const n = 100_000
	for i := range n {
		f.add(item{row: &backend.Series{Labels: name(i)}}, hashOf(name(i)))
	}
	for i := range n {
		if i%10 > 0 && f.remove(name(i), hashOf(name(i)), anyRow) == nil {
			t.Fatalf("%s is not there", name(i))
		}
	}
	for i := range n {
		if s := f.find(name(i), hashOf(name(i))); (s != nil) != (i%10 == 0) {
			t.Fatalf("%s is %v", name(i), s)
		}
	}
	for i := range f.tables {
		if size := len(f.tables[i].slots); size > largest {
			t.Errorf("a table has %d slots", size)
		}
	}
	if f.len() != n/10 {
		t.Errorf("there are %d series, want %d", f.len(), n/10)
	}
}

// While nothing walks the index, series that come and go do not accumulate, whether they were there
// at the last walk or not.
func TestIndexChurn(t *testing.T) {
	t.Parallel()
	var x Index
	g := x.Declare(&backend.Family{Name: "c_total", Kind: backend.Counter, Labels: []string{"l"}}, 1)
	const kept, churned = 100, 10_000
	name := func(i int) string { return fmt.Sprintf(`l="%d"`, i) }
	add := func(i int) { x.Add(g, backend.Series{Labels: name(i), Words: make(backend.Words, 1)}) }
	for i := range kept + churned {
		add(i)
	}
	for i := range kept + churned {
		if s := x.Find(g, name(i)); s == nil || s.Labels != name(i) {
			t.Fatalf("found %v instead of series %d", s, i)
		}
	}
	x.Walk()
	lists, list := 0, &g.sorted[0]
	for i := kept; i < kept+churned; i++ {
		if s, _ := x.Remove(g, name(i)); s == nil {
			t.Fatalf("series %d is not there", i)
		}
		x.Tidy()
		if &g.sorted[0] != list {
			lists, list = lists+1, &g.sorted[0]
		}
	}
	if lists > 10 { // each half as long as the one before
		t.Errorf("%d new lists were made", lists)
	}
	if len(g.sorted) > 2*kept+1 || len(g.removed) > kept {
		t.Errorf("%d rows are kept for %d series, of which %d are marked", len(g.sorted), kept, len(g.removed))
	}
	for i := range churned {
		add(kept + i)
		if s, _ := x.Remove(g, name(kept+i)); s == nil {
			t.Fatalf("new series %d is not there", i)
		}
		if g.fresh.n > 4 || g.fresh.tables != nil {
			t.Fatalf("%d places for no series, and %d tables", g.fresh.n, len(g.fresh.tables))
		}
	}
	if list := x.Walk()[0].Series; len(list) != kept || len(g.removed) > 0 {
		t.Errorf("%d series are left, want %d", len(list), kept)
	}
}

// Of series with the same labels, as in a damaged file, the first one is used, and no other series
// is lost.
func TestIndexDuplicates(t *testing.T) {
	t.Parallel()
	var x Index
	g := x.Declare(&backend.Family{Name: "c_total", Kind: backend.Counter, Labels: []string{"l"}}, 1)
	first := map[string]*atomic.Uint64{}
	for _, labels := range strings.Split("bd bbc abcde", "") {
		if labels == " " {
			x.Walk()
			continue
		}
		words := make(backend.Words, 1)
		x.Add(g, backend.Series{Labels: labels, Words: words})
		if first[labels] == nil {
			first[labels] = &words[0]
		}
	}
	var got string
	for _, s := range x.Walk()[0].Series {
		got += s.Labels
		if &s.Words[0] != first[s.Labels] {
			t.Errorf("%s does not have the words of the first one", s.Labels)
		}
	}
	if got != "abcde" {
		t.Errorf("the series are %s, want abcde", got)
	}
}

func same(a, b *backend.Series) bool { return a.Labels == b.Labels && &a.Words[0] == &b.Words[0] }

// Of two rows with the same labels, both new, the one with given words is removed.
func TestRemoveWords(t *testing.T) {
	t.Parallel()
	for _, walked := range []bool{false, true} {
		var x Index
		f := &backend.Family{Name: "requests_total", Help: "R.", Kind: backend.Counter, Labels: []string{"x"}}
		g := x.Declare(f, 1)
		var lives []backend.Words
		for range 2 {
			w := make(backend.Words, 3)
			x.Add(g, backend.Series{Labels: `x="1"`, Words: w})
			if walked {
				x.Walk()
			}
			f.Seal(w)
			lives = append(lives, w)
		}
		for i := len(lives) - 1; i >= 0; i-- {
			x.RemoveWords(g, `x="1"`, []*atomic.Uint64{&lives[i][0]})
		}
		if n := len(x.Walk()[0].Series); n != 0 {
			t.Errorf("walked %v: %d rows are left", walked, n)
		}
	}
}
