//go:build linux && (386 || amd64 || arm64)

package crashpoints_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
)

// state is what a backend shows, or should show: values by what they are values of. What is zero is
// left out. Keys are
//
//	family f           there is a family
//	help f             its help text
//	f{labels}          the series exists
//	f{labels} w2       a word; a sealed one counts as zero
//	f{labels} b-7      an exponential bucket; b0 for zeros
//	f{labels} e1       an exemplar
//	f{labels}#3 w0     a word of the part of the live instance with number 3
type state map[string]string

func familyKey(f *backend.Family) string { return fmt.Sprintf("%s/%x", f.Name, f.Schema()) }

func seriesKey(f *backend.Family, labels string) string { return familyKey(f) + "{" + labels + "}" }

// partKey is seriesKey or, if the family has parts, that of an instance's part.
func partKey(f *backend.Family, labels string, number int) string {
	if f.Parts() {
		return fmt.Sprintf("%s#%d", seriesKey(f, labels), number)
	}
	return seriesKey(f, labels)
}

// mainOf returns the family that an auxiliary family belongs to, or f itself.
func mainOf(f *backend.Family) *backend.Family {
	m := *f
	m.Block = backend.Block{}
	return &m
}

// isFloat reports whether word i of a series of f is a float, and whether it can be sealed.
func isFloat(f *backend.Family, i int) (float, sealable bool) {
	w := make(backend.Words, f.Words())
	f.Seal(w)
	v := w[i].Load()
	return v == backend.SealedFloat, v != 0
}

func (s state) add(key string, n uint64) {
	var old uint64
	fmt.Sscan(s[key], &old)
	s[key] = fmt.Sprint(old + n)
}

// apply does what a step should do if the instance with that number makes it.
func (s state) apply(p *step, number int) {
	f := p.family
	switch p.do {
	case doOpen:
		if p.options.Fresh && p.alone {
			clear(s)
		}
	case doClose:
		s.gone(number)
	case doDie, doReclaim:
	case doDelete:
		s.declare(f)
		maps.DeleteFunc(s, func(key, _ string) bool {
			return strings.HasPrefix(key, familyKey(f)+"{"+p.labels)
		})
	case doDeclare:
		s.declare(f)
	default:
		s.declare(f)
		series := partKey(f, p.labels, number)
		s[series] = "1"
		if start := f.Start(make(backend.Words, f.Words())); start != nil && s[series+" start"] == "" {
			s[series+" start"] = fmt.Sprint(p.start())
		}
		switch p.do {
		case doCount:
			key := fmt.Sprintf("%s w%d", series, p.word)
			if float, _ := isFloat(f, p.word); float {
				var old float64
				fmt.Sscan(s[key], &old)
				s[key] = fmt.Sprint(old + float64(p.n))
			} else {
				s.add(key, p.n)
			}
		case doAdvance: // changes no counts
		case doBucket:
			s.add(fmt.Sprintf("%s b%d", series, p.word), p.n)
		case doExemplar:
			s[fmt.Sprintf("%s e%d", series, p.word)] = exemplarText(p.n)
		}
	}
}

func exemplarText(n uint64) string { return fmt.Sprintf(`{n="%d"} %d`, n, n) }

// declare adds a family. Histories declare each help text once, so that the last one is the newest.
func (s state) declare(f *backend.Family) {
	s["family "+familyKey(f)] = "1"
	if key := "help " + familyKey(f); s[key] == "" || f.Help != helpOf(f.Name) {
		s[key] = f.Help
	}
}

// gone removes what an instance has for itself.
func (s state) gone(number int) {
	maps.DeleteFunc(s, func(key, _ string) bool { return strings.Contains(key, fmt.Sprintf("}#%d", number)) })
}

// lasting returns what outlives all instances and a rewrite.
func (s state) lasting() state {
	s = maps.Clone(s)
	maps.DeleteFunc(s, func(key, _ string) bool {
		return strings.Contains(key, "}#") || strings.HasPrefix(key, "family ") || strings.HasPrefix(key, "help ")
	})
	return s
}

// difference says where s is not one of the states, or returns "". Each value may be that of any of
// them: what is between two states may have some values of each.
func (s state) difference(states ...state) string {
	keys := make(map[string]bool)
	for _, all := range append(states, s) {
		for key := range all {
			keys[key] = true
		}
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		var want []string
		for _, other := range states {
			want = append(want, other[key])
		}
		if !slices.Contains(want, s[key]) {
			// An exemplar that is being written is not shown.
			if i := strings.LastIndex(key, "} e"); i > 0 && s[key] == "" {
				continue
			}
			fmt.Fprintf(&b, "\n\t%s = %q, want one of %q", key, s[key], want)
		}
	}
	return b.String()
}

// observe returns what a backend shows.
func observe(groups []backend.Group) state {
	s := make(state)
	put := func(series string, f *backend.Family, w backend.Words) {
		s[series] = "1"
		rest := len(f.BucketBlock(w))
		for i := range len(w) - rest {
			float, sealable := isFloat(f, i)
			v := w[i].Load()
			switch {
			case !sealable || v == 0 || f.SealedAt(w, i):
			case f.Start(w) == &w[i]:
				s[series+" start"] = fmt.Sprint(v)
			case float:
				if x := math.Float64frombits(v); x != 0 {
					s[fmt.Sprintf("%s w%d", series, i)] = fmt.Sprint(x)
				}
			default:
				s[fmt.Sprintf("%s w%d", series, i)] = fmt.Sprint(v)
			}
		}
	}
	buckets := func(f *backend.Family, labels string, w backend.Words) {
		if f.BucketBlock(w) == nil {
			return
		}
		key, view := seriesKey(mainOf(f), labels), f.View(w)
		list, zeros := view.Append(nil)
		if zeros > 0 {
			s.add(key+" b0", zeros)
		}
		for _, b := range list {
			s.add(fmt.Sprintf("%s b%d", key, b.Index), b.Count)
		}
	}
	starts := make(map[string]uint64)
	for _, g := range groups {
		f := g.Family
		if f.Block.Role == 0 {
			s["family "+familyKey(f)], s["help "+familyKey(f)] = "1", f.Help
		}
		for i, row := range g.Series {
			switch {
			case f.Block.Role == backend.ExemplarRole || !g.Exists(i):
			case f.Block.Role == backend.BucketRole:
				buckets(f, row.Labels, row.Words)
			case g.Parts != nil:
				for _, p := range g.Parts[i].List() {
					if p.Live() && !f.Sealed(p.Words) {
						put(partKey(f, row.Labels, p.Instance.Number), f, p.Words)
					}
				}
			default:
				put(seriesKey(f, row.Labels), f, row.Words)
				buckets(f, row.Labels, row.Words)
				if start := f.Start(row.Words); start != nil {
					starts[seriesKey(f, row.Labels)] = start.Load()
				}
			}
		}
	}
	for _, g := range groups {
		if g.Family.Block.Role != backend.ExemplarRole {
			continue
		}
		for _, row := range g.Series {
			key := seriesKey(mainOf(g.Family), row.Labels)
			start, ok := starts[key]
			for slot := range g.Family.ExemplarSlots() {
				if e, found := g.Family.ReadExemplar(row.Words, slot, start); ok && found {
					s[fmt.Sprintf("%s e%d", key, slot)] = fmt.Sprintf("{%s} %v", e.Labels, e.Value)
				}
			}
		}
	}
	return s
}
