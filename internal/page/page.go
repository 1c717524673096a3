// Package page encodes the groups of a backend, and the families of collectors, as the bytes of an
// exposition, here called a page. It does not depend on registries.
package page

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/names"
	"github.com/gotheus/gotheus/internal/report"
)

// Source is the groups of a backend, in ascending order of name, and how to show them.
type Source struct {
	Groups []backend.Group
	Hidden func(*backend.Family) bool // selects families to leave out; nil: none
	// The instance whose parts are shown; nil: those of all.
	Only  *backend.Instance
	Clock interface{ Now() time.Time } // for the windows of quantiles

	// Quiet is a prefix of names. Families with such names are neither logged nor counted when
	// they are left out because they clash; "": all are.
	Quiet string
}

// Options select the contents and the format of a page.
type Options struct {
	Format expo.Format
	Names  []string // of families or samples; none: all families
	Log    *report.Log
}

// Page is the state for making one page. Pages are pooled.
type Page struct {
	Families []Family // in ascending order of name, after Sort

	o       Options
	asked   names.Asked
	shown   names.Shown
	name    []byte // scratch
	omitted error  // why the first omission was made
	joined  []index.Joined
	joiner  index.Joiner
	next    []int   // index of each group's next series while groups are merged
	source  *Source // of the family that is being encoded
	Reader
	dist   expo.Distribution
	number expo.Number

	encoded  expo.Format
	encoder  expo.Encoder // for the format encoded
	noStarts bool         // the format has no start times
	buf      []byte
}

// Family is a family of a page: either a collector's, or groups of a backend with the same name
// that differ only in label names and help.
type Family struct {
	expo.Family
	groups    []index.Joined
	source    *Source // of the groups
	once      *once   // nil: no two series are the same to Prometheus
	collected *Collected
}

var pages = sync.Pool{New: func() any {
	return &Page{shown: make(names.Shown), name: make([]byte, 0, 256), buf: make([]byte, 0, pieceSize+8<<10)}
}}

// New returns an empty page. The caller must call Release after use.
func New(o Options) *Page {
	p := pages.Get().(*Page)
	p.o, p.asked = o, names.Ask(o.Names)
	return p
}

// Release returns the page to the pool. It must not be used afterwards.
func (p *Page) Release() {
	clear(p.Families)
	p.Families = p.Families[:0]
	clear(p.joined)
	p.joined = p.joined[:0]
	p.joiner.Reset()
	p.Reader.release()
	p.number, p.noStarts = expo.Number{}, false
	clear(p.shown)
	p.omitted, p.source, p.o, p.asked = nil, nil, Options{}, nil
	pages.Put(p)
}

// Omitted returns an error that describes the first omission, or nil if nothing was left out.
func (p *Page) Omitted() error { return p.omitted }

// Omit records an omission. A nil error has no effect.
func (p *Page) Omit(err error) {
	if p.omitted == nil {
		p.omitted = err
	}
}

// AddGroups adds the selected families of a backend. If several groups have one name, the newest is
// shown, together with those that differ from it only in labels and help. AddGroups returns the
// number of series in the groups that are left out.
func (p *Page) AddGroups(s *Source) (hidden int) {
	groups := s.Groups
	before := len(p.Families)
	for i := 0; i < len(groups); {
		first := len(p.joined) // the newest group of this name that is shown
		j := i
		for ; j < len(groups) && groups[j].Family.Name == groups[i].Family.Name; j++ {
			g := groups[j].Family
			switch {
			case g.Block.Role != 0 || s.Hidden != nil && s.Hidden(g) || !p.selects(names.TypeOf(g.Kind), g.Name):
			case len(p.joined) > first && p.disagree(p.joined[first:], g):
				n := existingSeries(&groups[j])
				if hidden += n; n > 0 {
					p.o.Log.Log(slog.LevelWarn, "schema "+g.Name,
						"programs disagree about a metric; the page shows the last definition by a live process; the others keep counting",
						"metric", g.Name, "shown", describe(p.joined[first].Family), "hidden", describe(g), "series", n)
					p.Omit(fmt.Errorf("programs disagree about %s", g.Name))
				}
			case p.labelsClash(p.joined[first:], g):
				hidden += existingSeries(&groups[j])
			default:
				p.joined = append(p.joined, index.Joined{Group: groups[j]})
			}
		}
		if shown := p.joined[first:]; len(shown) > 0 {
			for k := range shown {
				shown[k] = p.joiner.Join(shown[k].Group, groups[i:j])
			}
			g := shown[0].Family
			bounds := g.Buckets
			if g.Sketch != nil {
				bounds = g.Sketch.Quantiles
			}
			p.Families = append(p.Families, Family{
				Family: expo.Family{Name: g.Name, Help: p.help(g), Unit: g.Unit, Type: names.TypeOf(g.Kind), Bounds: bounds,
					ClassicLabels: classicGroups(shown)},
				groups: shown[:len(shown):len(shown)],
				source: s,
			})
		}
		i = j
	}
	added := slices.DeleteFunc(p.Families[before:], func(f Family) bool {
		quietly := s.Quiet != "" && strings.HasPrefix(f.Name, s.Quiet)
		if !p.leaveOut(&f, quietly) {
			return false
		}
		for i := range f.groups {
			if !quietly {
				hidden += existingSeries(&f.groups[i].Group)
			}
		}
		return true
	})
	p.Families = p.Families[:before+len(added)]
	for i := range added {
		var repeated int
		added[i].once, repeated = p.showOnce(s, added[i].groups)
		hidden += repeated
	}
	return hidden
}

// AddCollected adds the selected families of collectors, except those that clash with a family on
// the page. It returns how many were left out because of a clash.
func (p *Page) AddCollected(list []*Collected) (leftOut int) {
	for _, c := range list {
		f := Family{Family: c.Family, collected: c}
		f.ClassicLabels = names.Classic(names.OfLabels(&c.Def))
		switch {
		case !p.selects(f.Type, f.Name):
		case p.leaveOut(&f, false):
			leftOut++
		default:
			p.Families = append(p.Families, f)
		}
	}
	return leftOut
}

// Sort sorts the families by name.
func (p *Page) Sort() {
	slices.SortFunc(p.Families, func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
}

func (p *Page) selects(t expo.Type, name string) bool {
	return p.asked.Selects(p.o.Format.NameEscaping(), t, name)
}

// leaveOut reports whether f clashes with a family on the page, or two of its labels with each
// other. If not, its names are taken from now on.
func (p *Page) leaveOut(f *Family, quietly bool) bool {
	escaping := p.o.Format.NameEscaping()
	stem, s := names.Stem(f.Type, escaping.MetricName(f.Name))
	if other := p.shown.Clash(stem, s, p.name); other != "" {
		if !quietly {
			p.clash(f.Name, other)
		}
		return true
	}
	if f.collected != nil && !f.ClassicLabels {
		labels := names.OfLabels(&f.collected.Def)
		if _, clash := names.Escaped(escaping, labels); clash != "" {
			if !quietly {
				p.labelClash(f.Name, labels)
			}
			return true
		}
	}
	p.shown[stem] = names.Family{Name: f.Name, Suffixes: s}
	return false
}

// clash logs and records that a family is left out because of another one on the page.
func (p *Page) clash(name, other string) {
	if name == other {
		p.o.Log.Log(slog.LevelError, "clash "+name,
			"a family was left out of the page: it is defined twice, by a collector or an included registry; rename one of them, or remove it",
			"metric", name)
		p.Omit(fmt.Errorf("%s is defined twice", name))
		return
	}
	p.o.Log.Log(slog.LevelError, "clash "+name,
		"a family was left out of the page: in the page's format, another one uses its name or that of one of its samples; rename one of them",
		"metric", name, "clashes with", other)
	p.Omit(fmt.Errorf("%s clashes with %s: rename one of them", name, other))
}

// labelClash logs and records that a family, or one of its groups, is left out because of its
// labels. others are those of another group, if they are the cause.
func (p *Page) labelClash(name string, labels []string, others ...string) {
	args := []any{"metric", name, "labels", labels}
	if len(others) > 0 {
		args = append(args, "labels in another program", others)
	}
	p.o.Log.Log(slog.LevelError, "clash "+name,
		"series were left out of the page: some of the metric's labels become equal, or __name__, when escaped for scrapers without UTF-8 names; rename a label",
		args...)
	p.Omit(fmt.Errorf("%s has labels %q that clash when escaped: rename one of them", name, labels))
}

// help returns the help text of a backend's family as valid UTF-8: another process may have written
// anything.
func (p *Page) help(f *backend.Family) string {
	help := backend.RepairUTF8(f.Help)
	if help != f.Help {
		p.o.Log.Log(slog.LevelWarn, "help "+f.Name,
			"a help text written by another process is not UTF-8; the page shows U+FFFD for the invalid bytes",
			"metric", f.Name, "help", f.Help)
	}
	return help
}

// disagree reports whether g cannot be shown together with other groups of its name: it differs in
// more than label names and help, or it has the very same labels.
func (p *Page) disagree(others []index.Joined, g *backend.Family) bool {
	return !others[0].Family.Alike(g) || slices.ContainsFunc(others, func(o index.Joined) bool {
		return slices.Equal(o.Family.Labels, g.Labels)
	})
}

// labelsClash reports whether two label names of g are equal once escaped for the page, or all of
// g's are equal to those of one of the family's other groups.
func (p *Page) labelsClash(others []index.Joined, g *backend.Family) bool {
	labels, escaping := names.OfLabels(g), p.o.Format.NameEscaping()
	if escaping == expo.AllowUTF8 || names.Classic(labels) && len(others) == 0 {
		return false
	}
	set, clash := names.Escaped(escaping, labels)
	if clash != "" {
		p.labelClash(g.Name, labels)
		return true
	}
	for i := range others {
		theirs := names.OfLabels(others[i].Family)
		if other, _ := names.Escaped(escaping, theirs); other == set && len(theirs) == len(labels) {
			p.labelClash(g.Name, labels, theirs...)
			return true
		}
	}
	return false
}

// existingSeries returns the number of a group's series that are not deleted.
func existingSeries(g *backend.Group) (n int) {
	for i := range g.Series {
		if g.Parts != nil && !backend.AllSealed(g.Parts[i].List()) || g.Parts == nil && !g.Family.Sealed(g.Series[i].Words) {
			n++
		}
	}
	return n
}

// describe lists the properties of a family that must be the same for groups to be shown together.
func describe(f *backend.Family) string {
	s := f.Kind.String()
	if f.Mode != backend.Shared {
		s += ", mode " + f.Mode.String()
	}
	if f.Unit != "" {
		s += ", unit " + f.Unit
	}
	if f.Stripes != 0 {
		s += fmt.Sprintf(", %d stripes", f.Stripes)
	}
	if f.Kind == backend.Histogram {
		s += fmt.Sprintf(", buckets %v", f.Buckets)
	}
	return s
}

// classicGroups reports whether no label name of a family's groups needs escaping.
func classicGroups(groups []index.Joined) bool {
	for i := range groups {
		if !names.Classic(names.OfLabels(groups[i].Family)) {
			return false
		}
	}
	return true
}
