package series

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
)

// ErrConflict is wrapped by errors about a family that clashes with one that is there.
var ErrConflict = errors.New("gotheus: conflicting definition")

// directory has the families of a registry.
type directory struct {
	mu     sync.Mutex
	byName map[string]*Family // by full name
	taken  map[string]*Family // by every name that a family takes up on a page
	hidden map[string]*Family // by schema: those that are not shown
}

// Families returns all families, also those that are hidden.
func (h *Home) Families() []*Family {
	d := &h.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*Family, 0, len(d.byName)+len(d.hidden))
	for _, f := range d.byName {
		list = append(list, f)
	}
	for _, f := range d.hidden {
		list = append(list, f)
	}
	return list
}

// Enter takes a family into the directory and returns it, or the one that is there if they are
// identical. The error wraps ErrConflict.
func (h *Home) Enter(f *Family) (*Family, error) {
	f, isNew, err := h.directory.enter(f)
	if err == nil && isNew {
		f.Watch()
		f.Declare()
	}
	return f, err
}

func (d *directory) enter(f *Family) (_ *Family, isNew bool, err error) {
	def := f.Def
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.byName[def.Name]; old != nil {
		what := differs(old, f)
		if what == "" && f.Called && old.Called {
			what = "another function gives its value"
		}
		if what != "" {
			return nil, false, fmt.Errorf("%w: %s: %s", ErrConflict, def.Name, what)
		}
		old.Called = old.Called || f.Called
		return old, false, nil
	}
	schema := def.Schema()
	if old := d.hidden[schema]; old != nil && old.IsVec == f.IsVec && old.Source == f.Source {
		if old.TTL != f.TTL {
			return nil, false, fmt.Errorf("%w: %s: it had a TTL of %v before it was hidden, not %v", ErrConflict, def.Name, old.TTL, f.TTL)
		}
		old.SetMax(f.Max())
		old.Called = f.Called
		f = old
	}
	taken := names.Taken(def)
	for _, name := range taken {
		if other := d.taken[name]; other != nil {
			return nil, false, fmt.Errorf("%w: %v %s and %v %s would both show %s: rename one of them",
				ErrConflict, def.Kind, def.Name, other.Def.Kind, other.Def.Name, name)
		}
	}
	if d.byName == nil {
		d.byName = make(map[string]*Family)
		d.taken = make(map[string]*Family)
	}
	d.byName[def.Name] = f
	for _, name := range taken {
		d.taken[name] = f
	}
	delete(d.hidden, schema)
	return f, true, nil
}

// Hide takes the family of that full name off pages and frees its names. It reports whether there was
// one.
func (h *Home) Hide(name string) bool {
	d := &h.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.byName[name]
	if f == nil {
		return false
	}
	delete(d.byName, name)
	for _, name := range names.Taken(f.Def) {
		delete(d.taken, name)
	}
	if d.hidden == nil {
		d.hidden = make(map[string]*Family)
	}
	d.hidden[f.Def.Schema()] = f
	return true
}

// IsHidden returns a function that reports whether a family is hidden; nil: none is.
func (h *Home) IsHidden() func(*backend.Family) bool {
	d := &h.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.hidden) == 0 {
		return nil
	}
	return func(f *backend.Family) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.hidden[f.Schema()] != nil
	}
}

// SetCalled notes whether f's function is being called.
func (f *Family) SetCalled(called bool) {
	d := &f.Home.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Called = called
}

// differs says in what a second definition of a name differs from the first; "" if in nothing.
func differs(old, f *Family) string {
	a, b := old.Def, f.Def
	switch {
	case a.Kind != b.Kind:
		return fmt.Sprintf("it is a %v already, not a %v", a.Kind, b.Kind)
	case old.Source != f.Source:
		return fmt.Sprintf("%s gives its values already, not %s", cmp.Or(old.Source, "code"), cmp.Or(f.Source, "code"))
	case !slices.Equal(a.Labels, b.Labels):
		return fmt.Sprintf("it has labels %q already, not %q", old.Open, f.Open)
	case !slices.Equal(a.Buckets, b.Buckets):
		return fmt.Sprintf("it has buckets %v already, not %v", a.Buckets, b.Buckets)
	case fmt.Sprint(value(a.Native)) != fmt.Sprint(value(b.Native)):
		return fmt.Sprintf("it has exponential buckets %+v already, not %+v", value(a.Native), value(b.Native))
	case fmt.Sprint(value(a.Sketch)) != fmt.Sprint(value(b.Sketch)):
		return fmt.Sprintf("it has quantiles %+v already, not %+v", value(a.Sketch), value(b.Sketch))
	case a.Unit != b.Unit:
		return fmt.Sprintf("it has unit %q already, not %q", a.Unit, b.Unit)
	case a.Stripes != b.Stripes:
		return fmt.Sprintf("it has %d stripes already, not %d", a.Stripes, b.Stripes)
	case a.Mode != b.Mode:
		return fmt.Sprintf("it has mode %v already, not %v", a.Mode, b.Mode)
	case !slices.Equal(a.States, b.States):
		return fmt.Sprintf("it has states %q already, not %q", a.States, b.States)
	case old.TTL != f.TTL:
		return fmt.Sprintf("it has a TTL of %v already, not %v", old.TTL, f.TTL)
	case a.Help != b.Help:
		return fmt.Sprintf("it has help %q already, not %q", a.Help, b.Help)
	case old.Max() != f.Max():
		return fmt.Sprintf("it has MaxSeries %d already, not %d", old.Max(), f.Max())
	}
	return ""
}

// value returns what p points to, for a text.
func value[T any](p *T) any {
	if p == nil {
		return "none"
	}
	return *p
}
