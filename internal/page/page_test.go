package page

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/report"
	"github.com/gotheus/gotheus/internal/word"
)

// group returns a group of gauges with these label texts, whose values are 1, 2 and so on.
func group(f *backend.Family, labels ...string) backend.Group {
	g := backend.Group{Family: f}
	for i, l := range labels {
		words := make(backend.Words, f.Words())
		words[backend.GaugeValue].Store(word.Bits(float64(i + 1)))
		g.Series = append(g.Series, &backend.Series{Labels: l, Words: words})
	}
	return g
}

// parts returns a group of f whose series have a part by one process each, which has not set them,
// and another series that is deleted.
func parts(f *backend.Family, labels ...string) backend.Group {
	g := backend.Group{Family: f}
	i := &backend.Instance{Number: 1}
	i.ID.Store(1)
	for _, l := range append(labels, `z="deleted"`) {
		words := make(backend.Words, f.Words())
		g.Series = append(g.Series, &backend.Series{Labels: l})
		g.Parts = append(g.Parts, new(backend.Parts))
		g.Parts[len(g.Parts)-1].Add(backend.Part{Words: words, Instance: i})
		if l == `z="deleted"` {
			f.Seal(words)
		}
	}
	return g
}

// write returns the sample lines of a page.
func write(t *testing.T, p *Page) string {
	t.Helper()
	var page bytes.Buffer
	p.Sort()
	if _, err := p.Write(t.Context(), &page); err != nil {
		t.Fatal(err)
	}
	var samples []string
	for line := range strings.Lines(page.String()) {
		if !strings.HasPrefix(line, "#") {
			samples = append(samples, line)
		}
	}
	return strings.Join(samples, "")
}

func quietLog() *report.Log { return &report.Log{Default: slog.New(slog.DiscardHandler)} }

// Groups of one name that differ only in label names are one family, in the order of label texts.
func TestGroupsMerge(t *testing.T) {
	t.Parallel()
	p := New(Options{Log: quietLog()})
	defer p.Release()
	hidden := p.AddGroups(&Source{Groups: []backend.Group{
		group(&backend.Family{Name: "g", Kind: backend.Gauge, Labels: []string{"b"}}, `b="1"`, `b="2"`),
		group(&backend.Family{Name: "g", Kind: backend.Gauge, Labels: []string{"a"}}, `a="1"`, `a="2"`),
	}})
	if hidden != 0 || p.Omitted() != nil || len(p.Families) != 1 {
		t.Fatalf("%d families, %d series hidden: %v", len(p.Families), hidden, p.Omitted())
	}
	if got, want := write(t, p), "g{a=\"1\"} 1\ng{a=\"2\"} 2\ng{b=\"1\"} 1\ng{b=\"2\"} 2\n"; got != want {
		t.Errorf("the page is\n%swant\n%s", got, want)
	}
}

// A group of another kind is left out, its series are counted, and the page says so.
func TestGroupsDisagree(t *testing.T) {
	t.Parallel()
	p := New(Options{Log: quietLog()})
	defer p.Release()
	hidden := p.AddGroups(&Source{Groups: []backend.Group{
		group(&backend.Family{Name: "g", Kind: backend.Gauge, Labels: []string{"a"}}, `a="0"`),
		group(&backend.Family{Name: "g", Kind: backend.Untyped, Labels: []string{"a"}}, `a="1"`, `a="2"`),
		parts(&backend.Family{Name: "g", Kind: backend.Gauge, Mode: backend.Max, Labels: []string{"a"}}, `a="1"`),
	}})
	if err := p.Omitted(); hidden != 3 || err == nil || !strings.Contains(err.Error(), "disagree about g") {
		t.Errorf("%d series are hidden, want 3: %v", hidden, err)
	}
	if got := write(t, p); got != "g{a=\"0\"} 1\n" {
		t.Errorf("the page is\n%s", got)
	}
}

// The name of a state set is a label of its samples. Groups of other programs are left out if that
// clashes with another label, or if their series could be equal to those of another group.
func TestStateSetsClash(t *testing.T) {
	t.Parallel()
	p := New(Options{Log: quietLog()})
	defer p.Release()
	set := func(name, label string) backend.Group {
		f := &backend.Family{Name: name, Kind: backend.StateSet, States: []string{"on"}, Labels: []string{label}}
		return group(f, backend.AppendLabel("", label, "v"))
	}
	hidden := p.AddGroups(&Source{Groups: []backend.Group{set("a.b", "a_b"), set("s", "x.y"), set("s", "x-y")}})
	if got := write(t, p); hidden != 2 || got != "s{x_y=\"v\",s=\"on\"} 1\n" {
		t.Errorf("%d series are hidden, want 2; the page is\n%s", hidden, got)
	}
}

// An info is shown from when it is set, while a gauge is shown as zero before.
func TestInfoThatIsNotSet(t *testing.T) {
	t.Parallel()
	p := New(Options{Log: quietLog()})
	defer p.Release()
	p.AddGroups(&Source{Groups: []backend.Group{
		parts(&backend.Family{Name: "app_info", Kind: backend.Info, Mode: backend.Max, Labels: []string{"v"}}, `v="1"`),
		parts(&backend.Family{Name: "g", Kind: backend.Gauge, Mode: backend.Max, Labels: []string{"v"}}, `v="1"`),
	}})
	if got := write(t, p); got != "g{v=\"1\"} 0\n" {
		t.Errorf("the page is\n%s", got)
	}
}

// Collectors can give series of one family if they agree about it, including its help.
func TestJoinCollected(t *testing.T) {
	t.Parallel()
	collected := func(help, labels string) *Collected {
		return &Collected{Family: expo.Family{Name: "g", Help: help, Type: expo.Gauge}, Rows: []Row{{Labels: labels}}}
	}
	first := collected("G.", `a="2"`)
	if rows, err := first.Join(collected("G.", `a="1"`)); err != nil || len(rows) != 2 || rows[0].Labels != `a="1"` {
		t.Errorf("got %v: %v", rows, err)
	}
	if _, err := first.Join(collected("Other help.", `a="1"`)); err == nil || !strings.Contains(err.Error(), "disagree") {
		t.Errorf("got %v for another help", err)
	}
}

// A collected family whose name is a sample name of a family on the page is left out, and noted.
func TestCollectedClash(t *testing.T) {
	t.Parallel()
	p := New(Options{Log: quietLog()})
	defer p.Release()
	collected := func(name string) *Collected {
		return &Collected{Family: expo.Family{Name: name, Type: expo.Gauge}, Rows: []Row{{Number: expo.Number{Float: 7}}}}
	}
	summary := &Collected{Family: expo.Family{Name: "s", Type: expo.Summary}, Rows: []Row{{Dist: expo.Distribution{Count: 1, Sum: 5}}}}
	leftOut := p.AddCollected([]*Collected{summary, collected("s_sum"), collected("s_max")})
	if err := p.Omitted(); leftOut != 1 || err == nil || !strings.Contains(err.Error(), "s_sum clashes with s") {
		t.Errorf("%d families are left out, want 1: %v", leftOut, err)
	}
	p.Omit(errors.New("later")) // only the first omission is kept
	if got := write(t, p); strings.Contains(got, "s_sum 7") || !strings.Contains(got, "s_sum 5\n") || !strings.Contains(got, "s_max 7\n") {
		t.Errorf("the page is\n%s", got)
	}
	if err := p.Omitted(); strings.Contains(err.Error(), "later") {
		t.Errorf("a later omission has replaced the first: %v", err)
	}
}
