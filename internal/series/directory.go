package series

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
)

var (
	// ErrInvalid is wrapped by errors about a family that can never be exposed.
	ErrInvalid = errors.New("gotheus: invalid definition")
	// ErrConflict is wrapped by errors about a family that conflicts with a registered one.
	ErrConflict = errors.New("gotheus: conflicting definition")
)

// directory holds the families of a registry.
type directory struct {
	mu         sync.Mutex
	byName     map[string][]*Family // by full name; several differ only in constant labels
	byUsedName map[string]*Family   // by every name that a family uses on a page
	hidden     map[string][]*Family // by schema: those that are not shown
}

// Families returns all families, including hidden ones.
func (h *Home) Families() []*Family {
	d := &h.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*Family, 0, len(d.byName)+len(d.hidden))
	for _, same := range d.byName {
		list = append(list, same...)
	}
	for _, hidden := range d.hidden {
		list = append(list, hidden...)
	}
	return list
}

// Named returns the families with this full name that are not hidden.
func (h *Home) Named(name string) []*Family {
	d := &h.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.byName[name])
}

// Enter adds a family to the directory and returns it. If an identical one is registered, Enter
// returns that one. The error wraps ErrConflict.
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
	old, wrong := f.match(d.byName[def.Name])
	if old != nil && wrong == "" {
		wrong = f.calledTwice(old)
	}
	switch {
	case wrong != "":
		return nil, false, fmt.Errorf("%w: %s: %s", ErrConflict, def.Name, wrong)
	case old != nil:
		old.Called = old.Called || f.Called
		return old, false, nil
	}
	schema := def.Schema()
	again := slices.IndexFunc(d.hidden[schema], func(old *Family) bool {
		return old.IsVec == f.IsVec && old.Source == f.Source && maps.Equal(old.Constant, f.Constant)
	})
	if again >= 0 {
		old := d.hidden[schema][again]
		if f.Given.TTL && old.TTL != f.TTL {
			return nil, false, fmt.Errorf("%w: %s: it had a TTL of %v before it was hidden, not %v: use the former TTL, or none", ErrConflict, def.Name, old.TTL, f.TTL)
		}
		if f.Given.MaxSeries {
			old.SetMax(f.Max())
		}
		if f.Given.MaxValueLength {
			old.SetMaxValueLength(f.MaxValueLength())
		}
		if wrong := f.calledTwice(old); wrong != "" {
			return nil, false, fmt.Errorf("%w: %s: %s", ErrConflict, def.Name, wrong)
		}
		old.Called = old.Called || f.Called
		f = old
	}
	if again < 0 {
		f.own()
	}
	used := names.Taken(def)
	for _, name := range used {
		if other := d.byUsedName[name]; other != nil && other.Def.Name != def.Name {
			return nil, false, fmt.Errorf("%w: %v %s and %v %s would both show %s: rename one of them",
				ErrConflict, def.Kind, def.Name, other.Def.Kind, other.Def.Name, name)
		}
	}
	if d.byName == nil {
		d.byName = make(map[string][]*Family)
		d.byUsedName = make(map[string]*Family)
	}
	d.byName[def.Name] = append(d.byName[def.Name], f)
	for _, name := range used {
		d.byUsedName[name] = f
	}
	if again >= 0 {
		d.hidden[schema] = slices.Delete(d.hidden[schema], again, again+1)
	}
	return f, true, nil
}

// calledTwice says what is wrong if functions provide the values of f and of old.
func (f *Family) calledTwice(old *Family) string {
	if f.Called && old.Called {
		return "another function already provides its value: remove that one first, or choose another name"
	}
	return ""
}

// Hide removes the families with this full name from pages and frees their names. It reports
// whether there was one. The families keep their series, and Enter can bring them back.
func (h *Home) Hide(name string) bool {
	d := &h.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	same := d.byName[name]
	if len(same) == 0 {
		return false
	}
	def := same[0].Def
	delete(d.byName, name)
	for _, name := range names.Taken(def) {
		delete(d.byUsedName, name)
	}
	if d.hidden == nil {
		d.hidden = make(map[string][]*Family)
	}
	schema := def.Schema()
	d.hidden[schema] = append(d.hidden[schema], same...)
	return true
}

// IsHidden returns a function that reports whether a family is hidden, or nil if none is.
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
		schema := f.Schema()
		shown := d.byName[f.Name] // may differ from f only in values of constant labels
		return len(d.hidden[schema]) > 0 && (len(shown) == 0 || shown[0].Def.Schema() != schema)
	}
}

// SetCalled records whether a function provides f's values at present.
func (f *Family) SetCalled(called bool) {
	d := &f.Home.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Called = called
}
