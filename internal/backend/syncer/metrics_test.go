package syncer_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// The rest of the metric model, for random histories. What adds up is checked continuously, like
// counters. Sets, deletions and per-process values are checked when a history has settled: then all
// pages agree and show the last change.

var (
	striped   = &backend.Family{Name: "st_total", Help: "St.", Kind: backend.Counter, Stripes: 2}
	native    = &backend.Family{Name: "n", Help: "N.", Kind: backend.Histogram, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}
	further   = native.With(backend.Block{Role: backend.BucketRole, Size: 64})
	quantiles = &backend.Family{Name: "q", Help: "Q.", Kind: backend.Summary, Sketch: &backend.Sketch{Quantiles: []float64{0.5}, PerDoubling: 20, Slots: 2, MaxAge: 60e9}}
	examples  = histogram.With(backend.Block{Role: backend.ExemplarRole, Size: 4})
	versions  = []*backend.Family{ // variants of one name, from different builds
		{Name: "v", Help: "V.", Kind: backend.Histogram, Buckets: []float64{1}},
		{Name: "v", Help: "V.", Kind: backend.Histogram, Buckets: []float64{1, 2}},
	}
	deleted = &backend.Family{Name: "d_total", Help: "D.", Kind: backend.Counter, Labels: []string{"x"}}
	states  = &backend.Family{Name: "states", Help: "S.", Kind: backend.StateSet, States: []string{"a", "b"}}
	set     = &backend.Family{Name: "set", Help: "S.", Kind: backend.Gauge}
	modes   = func() (list []*backend.Family) {
		for m := backend.Sum; m <= backend.PerInstance; m++ {
			list = append(list, &backend.Family{Name: fmt.Sprint("mode", int(m)), Help: "M.", Kind: backend.Gauge, Mode: m})
		}
		return append(list,
			&backend.Family{Name: "build_info", Help: "B.", Kind: backend.Info, Mode: backend.Max},
			&backend.Family{Name: "each_states", Help: "E.", Kind: backend.StateSet, Mode: backend.PerInstance, States: []string{"a", "b"}},
			&backend.Family{Name: "each_total", Help: "E.", Kind: backend.Counter, Mode: backend.PerInstance})
	}()
)

// begin sets a series' start, as instruments do, and returns its words.
func (p *proc) begin(f *backend.Family) backend.Words {
	w := p.words(f, "")
	p.clock += 1e6 // they are stored in ms
	if f.Start(w).CompareAndSwap(0, p.clock) {
		p.starts[f] = p.clock
	}
	return w
}

// countMore updates metrics that add up.
func (p *proc) countMore() {
	w := p.begin(striped)
	n := 1 + p.rnd.Uint64N(9)
	w[striped.StripeWords()*p.rnd.IntN(2)].Add(n)
	p.own["st"] += n

	at := int32(p.rnd.IntN(50)) // more than the first block has
	negative := p.rnd.IntN(4) == 0
	key := fmt.Sprintf("n:%d:%v", at, negative)
	w = p.begin(native)
	block := sparse.View(native.BucketBlock(w), native.PerDoubling(), 0, 0)
	count := block.Find(at, negative)
	if count == nil {
		block = sparse.View(p.words(further, ""), native.PerDoubling(), 0, 0)
		if count = block.Find(at, negative); count == nil {
			count, key = block.Zero(), "n:zero"
		}
	}
	count.Add(2)
	p.own[key] += 2
	addFloat(&w[backend.HistogramSum], 0.5)

	w = p.begin(quantiles)
	at = int32(p.rnd.IntN(25))
	q := sparse.View(quantiles.BucketBlock(w), quantiles.PerDoubling(), 0, 2)
	q.Find(at, false).Add(1)
	w[backend.SummaryCount].Add(1)
	addFloat(&w[backend.SummarySum], 2)
	p.own["q"]++
	p.own[fmt.Sprint("q:", at)]++

	v := versions[p.rnd.IntN(2)]
	p.begin(v)[backend.HistogramBuckets].Add(3)
	p.own[fmt.Sprint("v:", len(v.Buckets))] += 3

	w = p.begin(histogram)
	p.sim.example++
	e := backend.Exemplar{Labels: fmt.Sprintf(`p=%q`, p.name), Value: 1.5, Time: int64(p.sim.example)}
	if examples.WriteExemplar(p.words(examples, ""), 1, histogram.Start(w).Load(), &e) {
		p.example = p.sim.example
	}
}

// change sets and deletes what finish checks.
func (p *proc) change() {
	switch p.rnd.IntN(6) {
	case 0:
		p.set(set, float64(p.rnd.IntN(100)))
	case 1:
		addFloat(&p.words(set, "")[backend.GaugeValue], 0.5)
	case 2:
		p.set(states, float64(p.rnd.IntN(4)))
	case 3:
		p.words(deleted, fmt.Sprintf(`x="%d"`, p.rnd.IntN(3)))[backend.CounterInt].Add(1)
	case 4:
		x := fmt.Sprintf(`x="%d"`, p.rnd.IntN(3))
		if _, err := p.s.Delete(deleted, func(l string) bool { return l == x }); err != nil {
			p.fail("%s: Delete: %v", p.name, err)
		}
	case 5:
		p.set(modes[p.rnd.IntN(len(modes))], float64(p.rnd.IntN(100)))
	}
}

func (p *proc) set(f *backend.Family, v float64) {
	w := p.words(f, "")
	w[backend.GaugeFlags].Or(backend.GaugeIsSet | backend.GaugeJoined)
	w[backend.GaugeValue].Store(math.Float64bits(v))
	if f.Mode == backend.Latest {
		w[backend.GaugeTicket].Store(p.s.Tickets().Add(1))
	}
}

// readMore adds the metrics that add up to a page.
func (p *proc) readMore(page map[string]uint64, f *backend.Family, w backend.Words) {
	buckets := func(block backend.Words, snapshots int) (list []sparse.Bucket, zeros uint64) {
		b := sparse.View(block, f.PerDoubling(), 0, snapshots)
		return b.Append(nil)
	}
	switch f.Name {
	case "st_total":
		page["st"] = w[0].Load() + w[f.StripeWords()].Load()
	case "n":
		list, zeros := buckets(f.BucketBlock(w), 0)
		for _, b := range list {
			page[fmt.Sprintf("n:%d:%v", b.Index, b.Negative)] += b.Count
		}
		if zeros > 0 {
			page["n:zero"] += zeros
		}
	case "q":
		page["q"] = w[backend.SummaryCount].Load()
		list, _ := buckets(f.BucketBlock(w), 2)
		for _, b := range list {
			page[fmt.Sprint("q:", b.Index)] = b.Count
		}
	case "v":
		page[fmt.Sprint("v:", len(f.Buckets))] = w[backend.HistogramBuckets].Load()
	}
}

// rest returns as text what is not in page.
func (p *proc) rest() (lines []string) {
	p.t.Helper()
	if err := p.s.Refresh(context.Background()); err != nil {
		p.fail("%s: %v", p.name, err)
	}
	for _, g := range p.s.Walk() {
		for i, s := range g.Series {
			f := g.Family
			id := fmt.Sprintf("%s{%s} ", f.Name, s.Labels)
			switch {
			case f.Block.Role == backend.ExemplarRole:
				e, ok := f.ReadExemplar(s.Words, 1, 1)
				lines = append(lines, fmt.Sprint("exemplar ", ok, " ", e.Labels, " ", e.Time))
			case !g.Exists(i) || f.Block.Role != 0 || f.Name == counter.Name:
			case g.Parts != nil:
				var parts []string
				latest, ticket := 0.0, uint64(0)
				for _, part := range g.Parts[i].List() {
					if !part.Live() || f.Sealed(part.Words) {
						continue
					}
					v := math.Float64frombits(part.Words[backend.GaugeValue].Load())
					parts = append(parts, fmt.Sprint(part.Instance.Number, ":", v))
					if t := part.Words[backend.GaugeTicket].Load(); t >= ticket {
						latest, ticket = v, t
					}
				}
				if f.Mode == backend.Latest {
					parts = append(parts, fmt.Sprint("latest ", latest))
				}
				lines = append(lines, id+strings.Join(parts, " "))
			case f.Kind == backend.Gauge || f.Kind == backend.StateSet:
				lines = append(lines, id+fmt.Sprint(math.Float64frombits(s.Words[backend.GaugeValue].Load())))
			case f.Name == deleted.Name:
				lines = append(lines, id+fmt.Sprint(s.Words[backend.CounterInt].Load()))
			default:
				lines = append(lines, id+fmt.Sprint("since ", f.Start(s.Words).Load()))
			}
		}
	}
	return lines
}

// agree fails unless all pages are equal.
func (m *sim) agree() []string {
	m.t.Helper()
	want := m.procs[0].rest()
	for _, p := range m.procs[1:] {
		if got := p.rest(); !slices.Equal(got, want) {
			differ := func(a, b []string) string {
				a = slices.DeleteFunc(slices.Clone(a), func(l string) bool { return slices.Contains(b, l) })
				return strings.Join(a, "\n\t")
			}
			m.fail("%s shows\n\t%s\n%s shows\n\t%s", m.procs[0].name, differ(want, got), p.name, differ(got, want))
		}
	}
	return want
}

// finish checks Sets, deletions and per-process values in a settled history.
func (m *sim) finish() {
	m.t.Helper()
	lines := m.agree()
	has := func(line string) {
		m.t.Helper()
		if !slices.Contains(lines, line) {
			m.fail("no line %s in\n\t%s", line, strings.Join(lines, "\n\t"))
		}
	}
	// Starts are no later than the earliest acknowledged one.
	for _, f := range []*backend.Family{striped, native, quantiles} {
		for _, p := range m.procs {
			if w := m.procs[0].show(f, ""); p.starts[f] != 0 && f.Start(w).Load() > p.starts[f] {
				m.fail("%s began at %d, and is shown since %d", f.Name, p.starts[f], f.Start(w).Load())
			}
		}
	}
	newest := uint64(0)
	for _, p := range m.procs {
		newest = max(newest, p.example)
	}
	// The last Set of all processes counts, and what is added after it.
	last := m.procs[len(m.procs)-1]
	for i, p := range m.procs {
		for _, f := range append([]*backend.Family{set, states}, modes...) {
			p.set(f, float64(10+i))
		}
		m.publish()
	}
	first := m.procs[0]
	addFloat(&first.words(set, "")[backend.GaugeValue], 0.25)
	m.publish()
	lines = m.agree()
	has(fmt.Sprint("set{} ", float64(10+len(m.procs)-1)+0.25))
	has(fmt.Sprint("states{} ", 10+len(m.procs)-1))
	for _, f := range modes {
		parts := make([]string, len(m.procs))
		for _, l := range lines {
			if rest, ok := strings.CutPrefix(l, f.Name+"{} "); ok {
				parts = strings.Fields(strings.TrimSuffix(rest, fmt.Sprint(" latest ", 10+len(m.procs)-1)))
			}
		}
		if len(parts) != len(m.procs) {
			m.fail("%s of %d live instances, the last set by %s: %q", f.Name, len(m.procs), last.name, parts)
		}
	}
	// A deletion affects all processes, and later counts begin at zero.
	if _, err := first.s.Delete(deleted, func(string) bool { return true }); err != nil {
		m.fail("Delete: %v", err)
	}
	m.publish()
	for _, l := range m.agree() {
		if strings.HasPrefix(l, deleted.Name) {
			m.fail("there is still %s", l)
		}
	}
	for _, p := range m.procs {
		p.words(deleted, `x="1"`)[backend.CounterInt].Add(1)
	}
	m.publish()
	lines = m.agree()
	has(fmt.Sprint(`d_total{x="1"} `, len(m.procs)))
	// The newest exemplar of live processes, or a newer one from a dead process.
	for _, l := range lines {
		var at uint64
		var labels string
		if n, _ := fmt.Sscanf(l, "exemplar true %s %d", &labels, &at); n == 2 && at < newest {
			m.fail("%s, but there is one of %d", l, newest)
		}
	}
	m.settle() // everything that adds up is still there
}
