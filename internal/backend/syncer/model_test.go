package syncer_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// publish makes all processes publish, without faults.
func (m *sim) publish() {
	m.t.Helper()
	for _, p := range m.procs {
		if err := p.s.Publish(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
}

// show returns a series' value on p's page.
func (p *proc) show(f *backend.Family, labels string) backend.Words {
	p.t.Helper()
	if err := p.s.Refresh(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	for _, g := range p.s.Walk() {
		for i, s := range g.Series {
			if g.Family.Schema() == f.Schema() && s.Labels == labels && (g.Family.Block.Role == backend.ExemplarRole || g.Exists(i)) {
				return s.Words
			}
		}
	}
	return nil
}

// A process may start with more series than fit into one directory part, and another one may add to
// them.
func TestManySeries(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	const n = 3000
	for i := range n {
		a.words(counter, fmt.Sprintf("x=%q", fmt.Sprint("a", i)))[0].Store(1)
	}
	m.publish()
	for i := range n {
		b.words(counter, fmt.Sprintf("x=%q", fmt.Sprint("a", i)))[0].Store(1)
		b.words(counter, fmt.Sprintf("x=%q", fmt.Sprint("b", i)))[0].Store(2)
	}
	m.publish()
	a.show(counter, "")
	for _, g := range a.s.Walk() {
		for _, s := range g.Series {
			if s.Words[0].Load() != 2 {
				t.Fatalf("%s is %d", s.Labels, s.Words[0].Load())
			}
		}
		if len(g.Series) != 2*n {
			t.Errorf("%d series", len(g.Series))
		}
	}
}

// The integer words of a striped counter add up over live and dead instances, and its start is the
// earliest.
func TestStripes(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	f := &backend.Family{Name: "hot_total", Help: "Hot.", Kind: backend.Counter, Stripes: 3}
	for i := range 3 {
		p := m.start()
		w := p.words(f, "")
		f.Start(w).Store(uint64(100-i) * 1e6)
		for s := range 3 {
			w[s*f.StripeWords()].Store(uint64(10 + i))
		}
		w[backend.CounterFloat].Store(math.Float64bits(0.5))
	}
	m.publish()
	check := func() {
		t.Helper()
		w := m.procs[0].show(f, "")
		sum := uint64(0)
		for s := range 3 {
			sum += w[s*f.StripeWords()].Load()
		}
		if sum != 99 || math.Float64frombits(w[backend.CounterFloat].Load()) != 1.5 || f.Start(w).Load() != 98e6 {
			t.Errorf("shows %d and %v since %d", sum, math.Float64frombits(w[backend.CounterFloat].Load()), f.Start(w).Load())
		}
	}
	check()
	m.leave(2)
	check()
}

// The newest exemplar of all processes is shown, whichever series began first.
func TestExemplars(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	f := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter}
	ex := f.With(backend.Block{Role: backend.ExemplarRole, Size: 4})
	for i, at := range []int64{5e9, 9e9, 7e9} {
		p := m.start()
		start := f.Start(p.words(f, ""))
		start.Store(uint64(i+1) * 1e6)
		p.words(f, "")[0].Store(1)
		if !ex.WriteExemplar(p.words(ex, ""), 0, start.Load(), &backend.Exemplar{Labels: fmt.Sprintf("p=%q", p.name), Value: 1, Time: at}) {
			t.Fatal("not written")
		}
	}
	m.publish()
	check := func() {
		t.Helper()
		p := m.procs[0]
		start := f.Start(p.show(f, "")).Load()
		if e, ok := ex.ReadExemplar(p.show(ex, ""), 0, start); !ok || e.Labels != `p="p2"` || start != 1e6 {
			t.Errorf("%v, %v, since %d", e, ok, start)
		}
	}
	check()
	m.leave(1)
	check()
}

// A series that had large blocks comes back with small ones.
func TestBlocksBeginAnew(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	f := &backend.Family{Name: "n", Help: "N.", Kind: backend.Histogram, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}
	all := func(string) bool { return true }
	a, b := m.start(), m.start()
	const keys = 2 // words before the keys
	fill := func(p *proc, from, n int) {
		block := f.BucketBlock(p.words(f, ""))
		for i := range n {
			key := uint64(1<<30+from+i) << 1
			w := &block[keys+i/2]
			w.Store(w.Load() | key<<(i%2*32))
			block[keys+backend.FirstBlock/2+i].Store(1)
		}
	}
	count := func(p *proc) (n uint64, words int) {
		w := f.BucketBlock(p.show(f, ""))
		buckets := 2 * (len(w) - 2) / 3
		for i := range buckets {
			n += w[2+buckets/2+i].Load()
		}
		return n, len(w)
	}
	fill(a, 0, 30)
	fill(b, 100, 30)
	m.publish()
	n, large := count(a)
	if n != 60 {
		t.Fatalf("%d", n)
	}
	if deleted, err := a.s.Delete(f, all); deleted != 1 || err != nil {
		t.Fatal(deleted, err)
	}
	m.publish()
	if a.show(f, "") != nil || b.show(f, "") != nil {
		t.Error("not deleted")
	}
	w := b.words(f, "")
	f.BucketBlock(w)[0].Store(4) // zeros
	m.publish()
	for _, p := range m.procs {
		if n, small := count(p); n != 0 || small >= large || f.BucketBlock(p.show(f, ""))[0].Load() != 4 {
			t.Errorf("%d in %d words after %d", n, small, large)
		}
	}
}
