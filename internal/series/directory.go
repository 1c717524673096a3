package series

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
)

// ErrConflict is wrapped by errors about a definition that clashes with an existing family.
var ErrConflict = errors.New("gotheus: conflicting definition")

// directory has the families of a registry.
type directory struct {
	mu     sync.Mutex
	byName map[string]*Family // by full name
	taken  map[string]*Family // by each name that a family takes up on a page
	hidden map[string]*Family // by schema
}

// Families returns all families, including hidden ones.
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

// Enter adds a family to the directory and returns it, or the existing one if they do not differ.
// The error wraps ErrConflict.
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
		what := ""
		if old != f {
			what = f.Differs(old)
		}
		if what == "" && f.Called && old.Called {
			what = "its value already comes from another function: remove that one first, or choose another name"
		}
		if what != "" {
			return nil, false, fmt.Errorf("%w: %s: %s", ErrConflict, def.Name, what)
		}
		old.Called = old.Called || f.Called
		return old, false, nil
	}
	schema := def.Schema()
	if old := d.hidden[schema]; old != nil && old.IsVec == f.IsVec && old.Source == f.Source && maps.Equal(old.Constant, f.Constant) {
		if f.GivesTTL && old.TTL != f.TTL {
			return nil, false, fmt.Errorf("%w: %s: it had a TTL of %v before it was hidden, not %v: use that, or none", ErrConflict, def.Name, old.TTL, f.TTL)
		}
		if f.GivesMax {
			old.SetMax(f.Max())
		}
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

// Hide removes the family with that full name from pages and frees its names. It reports whether
// there was one.
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

// SetCalled records whether f's values come from a function at present.
func (f *Family) SetCalled(called bool) {
	d := &f.Home.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Called = called
}
