package backendtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

func testDeclare(t *testing.T, o *Backends) {
	a, b := o.pair(t)
	m := newModel(rand.New(rand.NewPCG(1, 1)))
	for _, f := range catalogue {
		a.must(about("declare", f, ""))
		a.must(about("declare", f, ""))
		m.declare(f)
	}
	a.must(request{Do: "flush"})
	m.expect(a, false)
	m.expect(b, false)
	other := *catalogue[0]
	other.Help = "Another text."
	b.must(about("declare", &other, ""))
	b.must(request{Do: "flush"})
	m.expect(a, false)
	for _, g := range a.page() {
		if g.Help != other.Help && g.Help != "Help of "+g.Name+"." {
			t.Errorf("%s has the help %q, which no instance has declared", g.Name, g.Help)
		}
	}
}

func testCells(t *testing.T, o *Backends) {
	a, b := o.pair(t)
	m := newModel(rand.New(rand.NewPCG(1, 1)))
	for _, f := range catalogue {
		for range 3 {
			labels := m.labels(f)
			m.series(a, f, labels)
			a.must(about("cells", f, labels))
		}
	}
	a.must(request{Do: "flush"})
	m.expect(a, false)
	m.expect(b, false)
	for _, f := range catalogue {
		m.do(a, f, m.labels(f))
	}
	m.expect(b, false)
	m.expect(a, false)
}

func testDeletion(t *testing.T, o *Backends) {
	a, b := o.pair(t)
	m := newModel(rand.New(rand.NewPCG(2, 1)))
	for round, p := range []*peer{a, b, a, b} {
		for _, f := range catalogue {
			if f.Block.Role != 0 {
				continue
			}
			labels := m.labels(f)
			m.do(a, f, labels)
			if b != a {
				b.must(request{Do: "sync"})
				m.do(b, f, labels)
				a.must(request{Do: "sync"})
			}
			m.expect(p, false)
			was := m.series(p, f, labels)
			how, which := "delete", strings.TrimSuffix(labels, `"`)
			if round >= 2 {
				how, which = "delete one", labels
			}
			n := m.delete(f, which)
			if got := p.must(about(how, f, which)).N; got != n {
				t.Errorf("%s of %s, round %d: %d deleted, want %d", how, f.Name, round, got, n)
			}
			if got := p.must(about(how, f, which)).N; got != 0 {
				t.Errorf("%s of %s, round %d: %d deleted again", how, f.Name, round, got)
			}
			if was != nil && p.must(about("kept", f, labels)).N != 0 {
				t.Errorf("the words of %s that the deleter has are not sealed: its updates would be lost without notice", f.Name)
			}
			m.expect(p, false)
			p.must(request{Do: "flush"})
			m.expect(a, false)
			m.expect(b, false)
			m.do(b, f, labels)
			m.expect(a, false)
		}
	}
}

func testClose(t *testing.T, o *Backends) {
	a, b := o.pair(t)
	m := newModel(rand.New(rand.NewPCG(3, 1)))
	f := catalogue[0]
	for range 3 {
		for _, f := range catalogue {
			b.must(request{Do: "sync"})
			m.do(b, f, m.labels(f))
		}
	}
	b.must(about("update", f, `x="a"`, m.update(b, f, `x="a"`)...)) // without a flush
	if b.must(request{Do: "close"}); o.Alone {
		return
	}
	if got := b.ask(about("cells", f, `x="new"`)); got.Kind == "" || !strings.Contains(got.Kind, "closed") {
		t.Errorf("Cells after Close: %q, which is not backend.ErrClosed", got.Err)
	}
	if got := b.ask(about("declare", catalogue[1], "")); got.Kind != "" && !strings.Contains(got.Kind, "closed") {
		t.Errorf("Declare after Close: %q, which is not backend.ErrClosed", got.Err)
	}
	// may or may not be visible, but must not panic
	b.ask(about("update", f, `x="a"`, op{Do: opAdd, N: 1}))
	b.ask(request{Do: "walk"})
	m.gone(b)
	b.over = true
	if b.cmd != nil {
		b.in.Close()
		b.cmd.Wait()
	}
	// Updates after Close may or may not be visible.
	m.expectBut(a, seriesLine(f.Name, f.Schema(), `x="a"`))
}

// expectBut is expect, except for the value of one series.
func (m *model) expectBut(p *peer, line string) {
	p.t.Helper()
	but := func(lines []string) []string {
		return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, line) })
	}
	until(p.t, func() string { return p.wrong(but(m.want()), but(got(p.page()))) })
}

func testSharing(t *testing.T, o *Backends) {
	place := o.Fresh(t)
	m := newModel(rand.New(rand.NewPCG(4, 1)))
	var peers []*peer
	for i := range 3 {
		p := o.start(t, place, fmt.Sprint("p", i), o.Processes && i == 1)
		peers = append(peers, p)
		// An instance that is opened later sees the earlier updates.
		m.expect(p, false)
		for _, f := range catalogue {
			labels := m.labels(f)
			for _, q := range peers {
				q.must(request{Do: "sync"})
				m.do(q, f, labels)
			}
		}
	}
	for _, p := range peers {
		m.expect(p, false)
	}
}

func testInstances(t *testing.T, o *Backends) {
	place := o.Fresh(t)
	f := &backend.Family{Name: "each", Help: "E.", Kind: backend.Gauge, Mode: backend.PerInstance}
	a := o.start(t, place, "a", false)
	join := func(p *peer) {
		p.must(about("update", f, "", op{Do: opSet, X: 1}))
		p.must(request{Do: "flush"})
	}
	join(a)
	join(o.start(t, place, "b", false))
	for i := range 6 {
		c := o.start(t, place, fmt.Sprint("c", i), o.Processes && i%2 == 0)
		join(c)
		for _, g := range a.page() {
			for _, s := range g.Series {
				numbers := slices.Sorted(slices.Values(s.Number))
				if len(numbers) != 3 || len(slices.Compact(slices.Clone(numbers))) != 3 {
					t.Errorf("three live instances have the numbers %v", numbers)
				}
				// Others may not have noticed yet that an instance has left.
				if n := numbers[len(numbers)-1]; n > 4 {
					t.Errorf("the %d. instance, of which three live, has the number %d: numbers must be used again, or series grow without end", i+3, n)
				}
				if n := c.must(request{Do: "number"}).N; n >= 0 && !slices.Contains(numbers, n) {
					t.Errorf("Number says %d, Walk has %v", n, numbers)
				}
			}
		}
		c.end()
	}
}

func testOrder(t *testing.T, o *Backends) {
	place := o.Fresh(t)
	before := &backend.Family{Name: "order", Help: "B.", Kind: backend.Gauge}
	after := &backend.Family{Name: "order", Help: "A.", Kind: backend.Counter}
	first := func(p *peer, want *backend.Family, when string, dying bool) {
		t.Helper()
		problem := func() string {
			groups := p.page()
			if len(groups) == 2 && fromJSON(groups[0].Schema) == want.Schema() {
				return ""
			}
			return fmt.Sprintf("%s, %s lists the wrong one of two schemas first: pages would show a family that no live program declares", when, p.name)
		}
		if dying {
			until(t, problem)
		} else if found := problem(); found != "" {
			t.Fatal(found)
		}
	}
	declare := func(p *peer, f *backend.Family) {
		o := op{Do: opGauge, X: 1}
		if f.Kind == backend.Counter {
			o = op{Do: opAdd, N: 1}
		}
		p.must(about("update", f, "", o))
		p.must(request{Do: "flush"})
	}
	a := o.start(t, place, "a", false)
	declare(a, before)
	if o.Alone {
		declare(a, after)
		first(a, after, "after it was declared", false)
		return
	}
	watch := o.start(t, place, "watch", false)
	b := o.start(t, place, "b", o.Processes)
	declare(b, after)
	for _, p := range []*peer{a, b, watch} {
		first(p, after, "after a new version was started", false)
	}
	b.end()
	for _, p := range []*peer{a, watch} {
		first(p, before, "after the new version has ended", true)
	}
	c := o.start(t, place, "c", false)
	declare(c, after)
	first(watch, after, "after the new version was started again", false)
	d := o.start(t, place, "d", false)
	declare(d, before)
	first(watch, before, "after the old version was started again", false)
}

func testLimit(t *testing.T, o *Backends) {
	a := o.start(t, o.Small(t), "a", false)
	f := &backend.Family{Name: "limit_total", Help: "L.", Kind: backend.Counter, Labels: []string{"x"}}
	n := 0
	for ; ; n++ {
		got := a.ask(about("update", f, fmt.Sprintf(`x="%d"`, n), op{Do: opAdd, N: 1}))
		if got.Err != "" {
			if !strings.Contains(got.Kind, "full") {
				t.Fatalf("Cells without room: %s, which is not backend.ErrFull", got.Err)
			}
			break
		}
		if n == 100_000 {
			t.Fatal("there is room for 100,000 series in a small place")
		}
	}
	if n < 100 {
		t.Fatalf("there is room for %d series", n)
	}
	a.must(about("update", f, `x="0"`, op{Do: opAdd, N: 1}))
	a.must(about("update", f, `x="`+backend.OverflowValue+`"`, op{Do: opAdd, N: 1}))
	a.must(request{Do: "flush"})
	groups := a.page()
	if len(groups) != 1 || len(groups[0].Series) != n+1 {
		t.Fatalf("Walk has %d groups, want one with %d series", len(groups), n+1)
	}
}
