package backendtest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// walk returns the content of a page.
func (i *instance) walk() (groups []group, err error) {
	i.walking.Lock()
	defer i.walking.Unlock()
	list := i.b.Walk()
	if now := outline(i.last); now != i.was {
		return nil, errors.New("what Walk has returned before has changed: it must be a snapshot, since pages take their time")
	}
	i.last, i.was = list, outline(list)
	for n, g := range list {
		f := g.Family
		if n > 0 && list[n-1].Family.Name > f.Name {
			return nil, fmt.Errorf("backend: Walk has %s after %s: groups must be in ascending order of their names", f.Name, list[n-1].Family.Name)
		}
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("backend: Walk returns a family that is not valid: %w", err)
		}
		out := group{Schema: forJSON(f.Schema()), Name: f.Name, Help: f.Help, Aux: f.Block.Role != 0}
		for m, s := range g.Series {
			if m > 0 && g.Series[m-1].Labels >= s.Labels {
				return nil, fmt.Errorf("backend: Walk has %s{%s} after {%s}: series must be in ascending order of their labels", f.Name, s.Labels, g.Series[m-1].Labels)
			}
			if _, err := f.LabelValues(s.Labels); err != nil {
				return nil, fmt.Errorf("backend: Walk: %w", err)
			}
			if f.Parts() != (g.Parts != nil) {
				return nil, fmt.Errorf("backend: Walk: %s, whose mode is %v: series have parts if the family says so, and words otherwise", f.Name, f.Mode)
			}
			switch {
			case f.Block.Role == backend.ExemplarRole:
				out.Series = append(out.Series, series{Labels: s.Labels, Value: exemplarText(f, s.Words, startOf(list, f, s.Labels))})
			case !g.Exists(m):
			case g.Parts != nil:
				out.Series = append(out.Series, partsText(f, s.Labels, g.Parts[m].List()))
			default:
				out.Series = append(out.Series, series{Labels: s.Labels, Value: valueText(f, s.Words)})
			}
		}
		groups = append(groups, out)
	}
	return groups, nil
}

// outline returns a text that identifies a snapshot.
func outline(list []backend.Group) string {
	var b strings.Builder
	for _, g := range list {
		fmt.Fprintf(&b, "%s %v\n", g.Family.Name, g.Family.Kind)
		for _, s := range g.Series {
			fmt.Fprintln(&b, s.Labels)
		}
	}
	return b.String()
}

// startOf returns the start of the main series of an auxiliary family's series.
func startOf(list []backend.Group, aux *backend.Family, labels string) uint64 {
	for _, g := range list {
		if aux.Aids(g.Family) {
			for i, s := range g.Series {
				if s.Labels == labels && g.Exists(i) {
					return g.Family.Start(s.Words).Load()
				}
			}
		}
	}
	return math.MaxUint64
}

func exemplarText(f *backend.Family, w backend.Words, start uint64) string {
	var list []string
	for slot := range f.ExemplarSlots() {
		if e, ok := f.ReadExemplar(w, slot, start); ok {
			list = append(list, fmt.Sprintf("%d: {%s} %v", slot, e.Labels, e.Value))
		}
	}
	return strings.Join(list, ", ")
}

func partsText(f *backend.Family, labels string, parts []backend.Part) series {
	out := series{Labels: labels}
	var tickets []uint64
	live := slices.DeleteFunc(slices.Clone(parts), func(p backend.Part) bool { return !p.Live() || f.Sealed(p.Words) })
	for _, p := range live {
		if f.Mode == backend.Latest {
			tickets = append(tickets, p.Words[backend.GaugeTicket].Load())
		}
		out.Number = append(out.Number, p.Instance.Number)
	}
	slices.Sort(tickets)
	for _, p := range live {
		text := valueText(f, p.Words)
		if f.Mode == backend.Latest { // the order among those that were ever set
			if t := p.Words[backend.GaugeTicket].Load(); t != 0 {
				text += fmt.Sprint(" before ", len(tickets)-1-slices.Index(tickets, t))
			}
		}
		out.Parts = append(out.Parts, text)
	}
	slices.Sort(out.Parts)
	return out
}

// valueText formats words: integers, floats and exponential buckets.
func valueText(f *backend.Family, w backend.Words) string {
	seals := make(backend.Words, len(w)) // shows the type of each word
	f.Seal(seals)
	block := f.BucketBlock(w)
	var b strings.Builder
	for i := range len(w) - len(block) {
		v := w[i].Load()
		switch seal := seals[i].Load(); {
		case seal == backend.SealedFloat && v == seal, seal == backend.SealedInt && v >= seal:
			fmt.Fprint(&b, " sealed")
		case seal == backend.SealedFloat:
			fmt.Fprintf(&b, " %v", math.Float64frombits(v))
		case seal == backend.SealedInt:
			fmt.Fprintf(&b, " %d", v)
		case i == backend.GaugeFlags && f.Parts():
			fmt.Fprintf(&b, " joined:%v", v&backend.GaugeJoined != 0)
		}
	}
	if block != nil {
		view := viewOf(f, w)
		buckets, zeros := view.Append(nil)
		buckets, more := sparse.Coarsen(buckets, f.PerDoubling(), view.Coarse())
		fmt.Fprintf(&b, " zeros:%d", zeros+more)
		for _, k := range buckets {
			sign := int32(1)
			if k.Negative {
				sign = -1
			}
			fmt.Fprintf(&b, " %d:%d", sign*k.Index, k.Count)
		}
	}
	return strings.TrimSpace(b.String())
}
