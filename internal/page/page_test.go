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
		group(&backend.Family{Name: "g", Kind: backend.Gauge}, ""),
		group(&backend.Family{Name: "g", Kind: backend.Untyped, Labels: []string{"a"}}, `a="1"`, `a="2"`),
	}})
	if err := p.Omitted(); hidden != 2 || err == nil || !strings.Contains(err.Error(), "disagree about g") {
		t.Errorf("%d series are hidden, want 2: %v", hidden, err)
	}
	if got := write(t, p); got != "g 1\n" {
		t.Errorf("the page is\n%s", got)
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
