package page

import (
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Prometheus takes a label without a value for none. Of series that are the same to it, defined by
// programs that disagree about labels, the page has that of the newest definition which exists.
func TestLabelsWithoutValues(t *testing.T) {
	t.Parallel()
	gauge := func(labels ...string) *backend.Family {
		return &backend.Family{Name: "x", Kind: backend.Gauge, Labels: labels}
	}
	perProcess := func(labels ...string) *backend.Family {
		return &backend.Family{Name: "x", Kind: backend.Gauge, Mode: backend.PerInstance, Labels: labels}
	}
	states := func(labels ...string) *backend.Family {
		return &backend.Family{Name: "x", Kind: backend.StateSet, States: []string{"on", "off"}, Labels: labels}
	}
	histogram := func(labels ...string) *backend.Family {
		return &backend.Family{Name: "x", Kind: backend.Histogram, Labels: labels}
	}
	first, second := &backend.Instance{Number: 1}, &backend.Instance{Number: 2}
	first.ID.Store(1)
	second.ID.Store(2)
	by := func(g backend.Group, i *backend.Instance) backend.Group {
		for _, s := range g.Series {
			g.Parts = append(g.Parts, new(backend.Parts))
			g.Parts[len(g.Parts)-1].Add(backend.Part{Words: s.Words, Instance: i})
		}
		return g
	}
	deleted := group(gauge("a"), `a=""`)
	deleted.Family.Seal(deleted.Series[0].Words)
	openMetrics := expo.Format{Syntax: expo.OpenMetrics1, Escaping: expo.AllowUTF8}
	for name, c := range map[string]struct {
		groups []backend.Group
		format expo.Format
		want   string
		hidden int
	}{
		"none": {[]backend.Group{group(gauge("a"), `a=""`), group(gauge(), "")}, expo.Format{}, `x{a=""} 1`, 1},
		"none, newer": {[]backend.Group{group(gauge(), ""), group(gauge("a"), `a=""`, `a="1"`)}, expo.Format{},
			"x 1\nx{a=\"1\"} 2", 1},
		"another place": {[]backend.Group{group(gauge("a", "b"), `a="",b="1"`, `a="1",b=""`), group(gauge("b", "c"), `b="",c=""`, `b="1",c=""`, `b="1",c="1"`)}, expo.Format{},
			"x{a=\"\",b=\"1\"} 1\nx{a=\"1\",b=\"\"} 2\nx{b=\"\",c=\"\"} 1\nx{b=\"1\",c=\"1\"} 3", 1},
		"one family": {[]backend.Group{group(gauge("a", "b"), `a="",b=""`, `a="",b="1"`, `a="1",b=""`)}, expo.Format{},
			"x{a=\"\",b=\"\"} 1\nx{a=\"\",b=\"1\"} 2\nx{a=\"1\",b=\"\"} 3", 0},
		"values that look like it": {[]backend.Group{group(gauge("a"), `a="=\"\""`), group(gauge("b"), `b="=\"\""`)}, expo.Format{},
			"x{a=\"=\\\"\\\"\"} 1\nx{b=\"=\\\"\\\"\"} 1", 0},
		"deleted": {[]backend.Group{deleted, group(gauge(), "")}, expo.Format{}, "x 1", 0},
		"three": {[]backend.Group{group(gauge("a"), `a=""`), group(gauge(), ""), group(gauge("b"), `b=""`, `b="1"`)}, expo.Format{},
			"x{a=\"\"} 1\nx{b=\"1\"} 2", 2},
		"escaped names": {[]backend.Group{group(gauge("_b", "c"), `_b="1",c=""`), group(gauge("-b"), `"-b"="1"`)}, expo.Format{},
			`x{_b="1",c=""} 1`, 1},
		"escaped names in another order": {[]backend.Group{group(gauge("a-", "a0", "c"), `"a-"="1",a0="2",c=""`), group(gauge("a0", "a_"), `a0="2",a_="1"`)}, expo.Format{},
			`x{a_="1",a0="2",c=""} 1`, 1},
		"names that are not escaped": {[]backend.Group{group(gauge("_b", "c"), `_b="1",c=""`), group(gauge("-b"), `"-b"="1"`)}, openMetrics,
			"x{\"-b\"=\"1\"} 1.0\nx{_b=\"1\",c=\"\"} 1.0", 0},
		"names that begin like others": {[]backend.Group{group(gauge("a", "a1", "b"), `a="1",a1="2",b=""`), group(gauge("a", "a1"), `a="1",a1="2"`)}, openMetrics,
			`x{a="1",a1="2",b=""} 1.0`, 1},
		"two processes": {[]backend.Group{by(group(perProcess("a"), `a=""`), first), by(group(perProcess(), ""), second)}, expo.Format{},
			"x{process=\"2\"} 1\nx{a=\"\",process=\"1\"} 1", 0},
		"one process": {[]backend.Group{by(group(perProcess("a"), `a=""`), first), by(group(perProcess(), ""), first)}, expo.Format{},
			`x{a="",process="1"} 1`, 1},
		"state sets": {[]backend.Group{group(states("a"), `a=""`, `a="1"`), group(states(), "")}, expo.Format{},
			"x{a=\"\",x=\"on\"} 1\nx{a=\"\",x=\"off\"} 0\nx{a=\"1\",x=\"on\"} 0\nx{a=\"1\",x=\"off\"} 1", 1},
		"histograms": {[]backend.Group{group(histogram("a"), `a=""`), group(histogram(), "")}, expo.Format{},
			"x_bucket{a=\"\",le=\"+Inf\"} 0\nx_sum{a=\"\"} 1\nx_count{a=\"\"} 0", 1},
	} {
		p := New(Options{Log: quietLog(), Format: c.format})
		hidden := p.AddGroups(&Source{Groups: c.groups})
		if got := strings.TrimSuffix(write(t, p), "\n"); got != c.want {
			t.Errorf("%s: the page is\n%s\nwant\n%s", name, got, c.want)
		}
		if hidden != c.hidden || (p.Omitted() != nil) != (c.hidden > 0) {
			t.Errorf("%s: %d series are hidden, want %d: %v", name, hidden, c.hidden, p.Omitted())
		}
		points := 0
		p.Points(&p.Families[0], func(string, *expo.Number, *expo.Distribution) bool { points++; return true })
		if want := strings.Count(c.want, "\n") + 1; c.groups[0].Family.Kind != backend.Histogram && points != want {
			t.Errorf("%s: %d series are walked, want %d", name, points, want)
		}
		p.Release()
	}
}

// A series that comes back while a page is made does not repeat another one.
func TestRepeatedSeriesThatComesBack(t *testing.T) {
	t.Parallel()
	for _, from := range []int{0, 1} {
		groups := []backend.Group{
			group(&backend.Family{Name: "x", Kind: backend.Gauge, Labels: []string{"a"}}, `a=""`),
			group(&backend.Family{Name: "x", Kind: backend.Gauge}, ""),
		}
		for i := range groups[from:] {
			g := groups[from+i]
			g.Family.Seal(g.Series[0].Words)
		}
		p := New(Options{Log: quietLog()})
		if hidden := p.AddGroups(&Source{Groups: groups}); hidden != 0 {
			t.Errorf("%d series are hidden", hidden)
		}
		for i := range groups {
			groups[i].Series[0].Words[backend.GaugeValue].Store(0)
		}
		if got := write(t, p); strings.Count(got, "\n") != 1 {
			t.Errorf("the page is\n%s", got)
		}
		p.Release()
	}
}

// Collectors that give series of one family must agree about its labels.
func TestJoinOtherLabels(t *testing.T) {
	t.Parallel()
	collected := func(labels []string, text string) *Collected {
		return &Collected{Family: expo.Family{Name: "g", Type: expo.Gauge}, Def: backend.Family{Labels: labels}, Rows: []Row{{Labels: text}}}
	}
	if _, err := collected(nil, "").Join(collected([]string{"a"}, `a=""`)); err == nil || !strings.Contains(err.Error(), "disagree") {
		t.Errorf("got %v for other labels", err)
	}
}
