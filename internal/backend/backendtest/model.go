package backendtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// catalogue returns a family of every shape.
var catalogue = func() []*backend.Family {
	native := &backend.Native{Schema: 3, MaxBuckets: 160}
	sketch := &backend.Sketch{Quantiles: []float64{0.5}, PerDoubling: 20, Slots: 3, MaxAge: 60e9}
	x := []string{"x"}
	list := []*backend.Family{
		{Name: "k_total", Kind: backend.Counter, Labels: x},
		{Name: "k_striped_total", Kind: backend.Counter, Labels: x, Stripes: 3},
		{Name: "k_striped_seconds", Kind: backend.Histogram, Labels: x, Buckets: []float64{1, 2, 3, 4, 5, 6, 7}, Stripes: 2},
		{Name: "k_seconds", Unit: "seconds", Kind: backend.Histogram, Labels: x, Buckets: []float64{1, 2}},
		{Name: "k_native", Kind: backend.Histogram, Labels: x, Native: native},
		{Name: "k_both", Kind: backend.Histogram, Labels: x, Buckets: []float64{1, 2}, Native: native},
		{Name: "k_summary", Kind: backend.Summary, Labels: x},
		{Name: "k_quantiles", Kind: backend.Summary, Labels: x, Sketch: sketch},
		{Name: "k_states", Kind: backend.StateSet, Labels: x, States: []string{"on", "off"}},
		{Name: "k_info", Kind: backend.Info, Mode: backend.Max, Labels: x},
		{Name: "k_each_total", Kind: backend.Counter, Mode: backend.PerInstance, Labels: x},
		{Name: "k_each_seconds", Kind: backend.Histogram, Mode: backend.PerInstance, Labels: x, Buckets: []float64{1}},
		{Name: "k_each_summary", Kind: backend.Summary, Mode: backend.PerInstance, Labels: x, Buckets: []float64{0.5}},
		{Name: "k_each_states", Kind: backend.StateSet, Mode: backend.PerInstance, Labels: x, States: []string{"on", "off"}},
		{Name: "k_each_untyped", Kind: backend.Untyped, Mode: backend.PerInstance, Labels: x},
		// Conflicting schemas, and names and labels that need quotes.
		{Name: "k_total", Kind: backend.Counter, Labels: []string{"x", "y"}},
		{Name: "k_total", Kind: backend.Gauge, Labels: x},
		{Name: "k ü", Kind: backend.Counter, Labels: []string{"x"}},
		{Name: "k_alone", Kind: backend.Counter},
	}
	for mode := backend.Shared; mode <= backend.PerInstance; mode++ {
		list = append(list, &backend.Family{Name: fmt.Sprint("k_gauge_", int(mode)), Kind: backend.Gauge, Mode: mode, Labels: x})
	}
	for _, f := range list {
		f.Help = "Help of " + f.Name + "."
		if f.Native != nil || f.Sketch != nil {
			list = append(list, f.With(backend.Block{Role: backend.BucketRole, Size: 64}))
		}
	}
	return list
}()

// model is the expected state of all instances together.
type model struct {
	rnd       *rand.Rand
	clock     uint64
	ticket    int
	families  map[*backend.Family]map[string]*value
	exemplars map[*backend.Family]map[string]map[int]string // by slot
}

// value is the expected value of a series; each instance has its own value of a part.
type value struct {
	ints    map[int]uint64
	floats  map[int]float64
	start   uint64
	zeros   uint64
	buckets map[int]uint64
	joined  bool
	ticket  int
	parts   map[*peer]*value
}

func newValue() *value {
	return &value{ints: make(map[int]uint64), floats: make(map[int]float64), buckets: make(map[int]uint64), parts: make(map[*peer]*value)}
}

func newModel(rnd *rand.Rand) *model {
	return &model{rnd: rnd, clock: 1, families: make(map[*backend.Family]map[string]*value), exemplars: make(map[*backend.Family]map[string]map[int]string)}
}

func (m *model) declare(f *backend.Family) {
	if m.families[f] == nil {
		m.families[f] = make(map[string]*value)
		m.exemplars[f] = make(map[string]map[int]string)
	}
}

// series returns the expected value of a series for p, and creates the series if necessary.
func (m *model) series(p *peer, f *backend.Family, labels string) *value {
	m.declare(f)
	v := m.families[f][labels]
	if v == nil {
		v = newValue()
		m.families[f][labels] = v
	}
	if !f.Parts() {
		return v
	}
	if v.parts[p] == nil {
		v.parts[p] = newValue()
	}
	return v.parts[p]
}

// labels returns a label text.
func (m *model) labels(f *backend.Family) string {
	texts := []string{"a", "ab", "b", `q"\`, "ü\n"}
	values := make([]string, len(f.Labels))
	for i := range values {
		values[i] = texts[m.rnd.IntN(len(texts))]
	}
	text, err := f.LabelText(values...)
	if err != nil {
		panic(err)
	}
	return text
}

// prefix returns a prefix of some label texts of f.
func (m *model) prefix(f *backend.Family) string {
	if len(f.Labels) == 0 {
		return ""
	}
	return []string{"", `x="a`, `x="a"`, `x="b`, "none"}[m.rnd.IntN(5)]
}

// update makes a random update by p, and returns it as operations.
func (m *model) update(p *peer, f *backend.Family, labels string) (ops []op) {
	v := m.series(p, f, labels)
	m.clock++
	n, x := 1+m.rnd.Uint64N(5), float64(m.rnd.IntN(9))/2
	add := func(at int) {
		v.ints[at] += n
		ops = append(ops, op{Do: opAdd, At: at, N: n})
	}
	addFloat := func(at int) {
		v.floats[at] += x
		ops = append(ops, op{Do: opAddFloat, At: at, X: x})
	}
	put := func(at int) {
		v.ints[at] = n
		ops = append(ops, op{Do: opPut, At: at, N: n})
	}
	putFloat := func(at int) {
		v.floats[at] = x
		ops = append(ops, op{Do: opPutFloat, At: at, X: x})
	}
	bucket := func() {
		if m.rnd.IntN(4) == 0 {
			v.zeros += n
			ops = append(ops, op{Do: opZero, N: n})
			return
		}
		at := 1 + m.rnd.IntN(9) // its sign is that of the values
		if m.rnd.IntN(3) == 0 {
			at = -at
		}
		v.buckets[at] += n
		ops = append(ops, op{Do: opBucket, At: at, N: n})
	}
	if f.Block.Role == 0 && !f.Parts() && f.Kind != backend.Gauge && f.Kind != backend.StateSet {
		ms := m.clock * uint64(time.Millisecond) // backends may round down to milliseconds
		if v.start == 0 {
			v.start = ms
		}
		ops = append(ops, op{Do: opStart, N: ms})
	}
	switch {
	case f.Block.Role == backend.BucketRole:
		bucket()
	case f.Kind == backend.Histogram && f.Parts():
		putFloat(backend.HistogramSum)
		put(backend.HistogramBuckets + m.rnd.IntN(len(f.Buckets)+1))
	case f.Kind == backend.Summary && f.Parts():
		put(backend.SummaryCount)
		putFloat(backend.SummarySum)
		putFloat(backend.SummaryQuantiles)
	case f.Kind == backend.Histogram:
		at := m.stripe(f)
		addFloat(at + backend.HistogramSum)
		if f.Classic() {
			add(at + backend.HistogramBuckets + m.rnd.IntN(len(f.Buckets)+1))
		}
		if f.Native != nil {
			bucket()
		}
	case f.Kind == backend.Summary:
		add(backend.SummaryCount)
		addFloat(backend.SummarySum)
		if f.Sketch != nil {
			bucket()
		}
	case f.Kind == backend.Counter && !f.Parts():
		if at := m.stripe(f); m.rnd.IntN(3) == 0 {
			addFloat(at + backend.CounterFloat)
		} else {
			add(at + backend.CounterInt)
		}
	default: // like a gauge
		if m.rnd.IntN(2) == 0 {
			v.floats[backend.GaugeValue] = x
			ops = append(ops, op{Do: opSet, X: x})
		} else {
			v.floats[backend.GaugeValue] += x
			ops = append(ops, op{Do: opGauge, X: x})
		}
		v.joined = true
		m.ticket++
		v.ticket = m.ticket
	}
	if f.Block.Role == 0 && !f.Parts() && (f.Kind == backend.Counter || f.Kind == backend.Histogram) && m.rnd.IntN(3) == 0 {
		slot := m.rnd.IntN(f.ExemplarSlots())
		if m.exemplars[f][labels] == nil {
			m.exemplars[f][labels] = make(map[int]string)
		}
		m.exemplars[f][labels][slot] = fmt.Sprintf(`%d: {n="%d"} %v`, slot, m.clock, x)
		ops = append(ops, op{Do: opExemplar, At: slot, N: m.clock, X: x})
	}
	return ops
}

// stripe returns where the words of one begin.
func (m *model) stripe(f *backend.Family) int {
	if f.Stripes == 0 {
		return 0
	}
	return f.StripeWords() * m.rnd.IntN(f.Stripes)
}

// delete deletes series, and returns how many there were, or whether there was one if the family
// has parts.
func (m *model) delete(f *backend.Family, prefix string) (n int) {
	for g, all := range m.families {
		if g != f && !g.Aids(f) {
			continue
		}
		for labels, v := range all {
			if strings.HasPrefix(labels, prefix) {
				if g == f && (!f.Parts() || len(v.parts) > 0) {
					n++
				}
				delete(all, labels)
				delete(m.exemplars[g], labels)
			}
		}
	}
	m.declare(f)
	return n
}

// gone removes what an instance had for itself.
func (m *model) gone(p *peer) {
	for _, all := range m.families {
		for _, v := range all {
			delete(v.parts, p)
		}
	}
}

// want returns all lines that Walk should show.
func (m *model) want() []string {
	var lines []string
	for f, all := range m.families {
		if f.Block.Role == 0 {
			lines = append(lines, familyLine(f.Name, f.Schema()))
		}
		for labels, v := range all {
			id := seriesLine(f.Name, f.Schema(), labels)
			if !f.Parts() {
				lines = append(lines, id+v.text(f))
				continue
			}
			var parts []string
			for _, p := range v.parts {
				text := p.text(f)
				if f.Mode == backend.Latest && p.ticket > 0 {
					later := 0
					for _, q := range v.parts {
						if q.ticket > p.ticket {
							later++
						}
					}
					text += fmt.Sprint(" before ", later)
				}
				parts = append(parts, text)
			}
			slices.Sort(parts)
			if len(parts) > 0 {
				lines = append(lines, id+strings.Join(parts, " | "))
			}
		}
		for labels, slots := range m.exemplars[f] {
			var list []string
			for _, slot := range slices.Sorted(maps.Keys(slots)) {
				list = append(list, slots[slot])
			}
			e := exemplars(f)
			lines = append(lines, seriesLine(e.Name, e.Schema(), labels)+strings.Join(list, ", "))
		}
	}
	slices.Sort(lines)
	return lines
}

func familyLine(name, schema string) string { return fmt.Sprintf("%s, schema %x", name, schema) }

func seriesLine(name, schema, labels string) string {
	f, err := backend.ParseSchema(schema)
	if err != nil {
		panic(err)
	}
	what := fmt.Sprint(f.Kind)
	if f.Parts() {
		what += fmt.Sprint(", ", f.Mode)
	}
	switch f.Block.Role {
	case backend.BucketRole:
		what += ", more buckets"
	case backend.ExemplarRole:
		what += ", exemplars"
	}
	return fmt.Sprintf("%s{%s} (%s): ", name, labels, what)
}

// got returns the content of Walk in the format of want.
func got(groups []group) []string {
	var lines []string
	for _, g := range groups {
		schema := fromJSON(g.Schema)
		if !g.Aux {
			lines = append(lines, familyLine(g.Name, schema))
		}
		for _, s := range g.Series {
			text := s.Value
			if s.Parts != nil {
				text = strings.Join(s.Parts, " | ")
			} else if text == "" {
				continue // no exemplar
			}
			lines = append(lines, seriesLine(g.Name, schema, s.Labels)+text)
		}
	}
	slices.Sort(lines)
	return lines
}

// text formats a value like valueText.
func (v *value) text(f *backend.Family) string {
	blank := make(backend.Words, f.Words())
	seals := make(backend.Words, f.Words())
	f.Seal(seals)
	block := f.BucketBlock(blank)
	var b strings.Builder
	for i := range len(blank) - len(block) {
		switch seal := seals[i].Load(); {
		case seal == backend.SealedFloat:
			fmt.Fprintf(&b, " %v", v.floats[i])
		case seal == backend.SealedInt && f.Start(blank) == &blank[i]:
			fmt.Fprintf(&b, " %d", v.start)
		case seal == backend.SealedInt:
			fmt.Fprintf(&b, " %d", v.ints[i])
		case i == backend.GaugeFlags && f.Parts():
			fmt.Fprintf(&b, " joined:%v", v.joined)
		}
	}
	if block != nil {
		fmt.Fprintf(&b, " zeros:%d", v.zeros)
		// Sorted by value, like the result of sparse.Coarsen.
		for _, at := range slices.Sorted(maps.Keys(v.buckets)) {
			fmt.Fprintf(&b, " %d:%d", at, v.buckets[at])
		}
	}
	return strings.TrimSpace(b.String())
}

// difference returns the lines that only one of two sorted lists contains.
func difference(want, got []string) string {
	var b strings.Builder
	for _, l := range want {
		if _, ok := slices.BinarySearch(got, l); !ok {
			fmt.Fprintf(&b, "\n\tmissing: %s", l)
		}
	}
	for _, l := range got {
		if _, ok := slices.BinarySearch(want, l); !ok {
			fmt.Fprintf(&b, "\n\ttoo much: %s", l)
		}
	}
	if b.Len() == 0 && len(want) != len(got) {
		return fmt.Sprintf("\n\t%d lines, want %d", len(got), len(want))
	}
	return b.String()
}
