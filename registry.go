package gotheus

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gotheus/gotheus/backend"
	"github.com/gotheus/gotheus/backend/heap"
)

var (
	// ErrInvalid is wrapped by errors about definitions that can never be exposed: a bad name,
	// help, label, bucket or option.
	ErrInvalid = errors.New("gotheus: invalid definition")
	// ErrConflict is wrapped by errors about definitions that clash with one the registry already
	// has. Their text says what differs.
	ErrConflict = errors.New("gotheus: conflicting definition")
)

// Registry holds families, collectors and the backend that their values live in. The zero value is
// ready and keeps values in the heap. A Registry must not be copied; all its methods may be called
// concurrently.
type Registry struct {
	opts RegistryOptions
	env  bool // GOTHEUS_BACKEND applies

	mu         sync.Mutex
	families   map[string]*family // by full name
	claims     map[string]*family // every name that a family takes up on a page
	hidden     map[string]*family // unregistered ones, by schema
	collectors []*collector
	logged     map[string]*logState

	bound    atomic.Pointer[binding]
	asked    atomic.Pointer[asked] // the backend that was asked for, also if it is not there yet
	opMu     sync.Mutex            // one Bind, BindBackend or Close at a time
	scrapeMu sync.RWMutex          // shared by scrapes, held by a bind: a page shows one backend
	moveMu   sync.Mutex            // held for the instructions in which one series moves, see series.go
	binding  atomic.Bool           // a bind waits for scrapeMu
	reopen   retrier               // of a backend that could not be opened
	promote  retrier               // of families and series that the backend had no room for

	envTimer, envRun sync.Once
	sweeper          sweeper
}

// asked is a request for a backend.
type asked struct {
	name string
	err  atomic.Pointer[error] // why it could not be opened at first
}

// binding is a backend while a registry uses it.
type binding struct {
	backend.Backend
	local bool // the registry's own heap: nobody else sees these words
}

// NewRegistry returns an empty registry. It panics with an error that wraps ErrInvalid if o's prefix or
// labels cannot be part of any metric; see MakeRegistry.
func NewRegistry(o *RegistryOptions) *Registry { return Must(MakeRegistry(o)) }

// MakeRegistry is NewRegistry with an error in place of the panic.
func MakeRegistry(o *RegistryOptions) (*Registry, error) {
	r := new(Registry)
	if o != nil {
		r.opts = *o
		r.opts.Labels = maps.Clone(o.Labels)
	}
	if p := r.opts.Prefix; p != "" && !backend.ValidName(p) {
		return nil, fmt.Errorf("%w: registry prefix %q: must match [a-zA-Z_:][a-zA-Z0-9_:]*", ErrInvalid, p)
	}
	for _, kind := range []backend.Kind{backend.Histogram, backend.Summary} { // le and quantile are never good
		f := backend.Family{Name: "registry", Kind: kind}
		for _, name := range sortedKeys(r.opts.Labels) {
			if err := f.CheckLabelName(name); err != nil {
				return nil, fmt.Errorf("%w: constant label: %w", ErrInvalid, err)
			}
			if v := r.opts.Labels[name]; !utf8.ValidString(v) {
				return nil, fmt.Errorf("%w: constant label %q: value %q is not UTF-8", ErrInvalid, name, v)
			}
		}
	}
	return r, nil
}

// current returns the backend in use, at first the heap.
func (r *Registry) current() *binding {
	if b := r.bound.Load(); b != nil {
		return b
	}
	r.bound.CompareAndSwap(nil, newHeap())
	return r.bound.Load()
}

func newHeap() *binding { return &binding{Backend: heap.New(), local: true} }

// family is a family of a registry with its series in this process.
type family struct {
	reg   *Registry
	def   *backend.Family // name, labels with prefix and constant labels
	open  []string        // labels that look-ups give, ascending
	vec   bool
	ttl   time.Duration // 0: series stay for ever
	table any           // *table[M]

	age atomic.Uint64 // how often series have been deleted

	mu     sync.Mutex // creation of series
	series []instrument
	idle   map[string]*idleState // of series that may vanish, see ttl.go
	pinned map[string]bool       // label texts of series that stay whatever the TTL
	late   []func() error        // what is to be postponed when mu is free
	lateBy error                 // why
	limit
}

// define returns the family for a definition, an existing one if it is identical.
func define[M Instrument](r *Registry, name, help string, o OptionsFor[M], vec bool, labels []string) (*family, error) {
	def := &backend.Family{Name: r.opts.Prefix + name, Help: help}
	options := optionsFor(o)
	options.define(def, nil)
	open, _ := backend.SortLabels(labels)
	def.Labels, _ = backend.SortLabels(append(sortedKeys(r.opts.Labels), labels...))
	switch err := def.Check(); {
	case help == "":
		return nil, fmt.Errorf("%w: %s: help is missing: say what it counts or measures", ErrInvalid, def.Name)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case vec && len(labels) == 0:
		return nil, fmt.Errorf("%w: %s: a vec needs labels", ErrInvalid, def.Name)
	}
	if err := options.common().check(def.Name, labels); err != nil {
		return nil, err
	}

	f := &family{reg: r, def: def, open: open, vec: vec, table: new(table[M])}
	if ttl := cmp.Or(options.common().TTL, r.opts.TTL); vec && ttl > 0 {
		f.ttl = ttl
	}
	f.max.Store(maxSeries(r, options.common(), vec))
	r.mu.Lock()
	if old := r.families[def.Name]; old != nil {
		r.mu.Unlock()
		if what := differs(old, f); what != "" {
			return nil, fmt.Errorf("%w: %s: %s", ErrConflict, def.Name, what)
		}
		return old, nil
	}
	schema := def.Schema()
	if old := r.hidden[schema]; old != nil && old.vec == vec {
		if old.ttl != f.ttl {
			r.mu.Unlock()
			return nil, fmt.Errorf("%w: %s: it had a TTL of %v before it was unregistered, not %v", ErrConflict, def.Name, old.ttl, f.ttl)
		}
		old.limit.reset(f.max.Load())
		f = old
	}
	claims := claimsOf(def)
	for _, c := range claims {
		if other := r.claims[c]; other != nil {
			r.mu.Unlock()
			return nil, fmt.Errorf("%w: %v %s and %v %s would both show %s: rename one of them",
				ErrConflict, def.Kind, def.Name, other.def.Kind, other.def.Name, c)
		}
	}
	if r.families == nil {
		r.families = make(map[string]*family)
		r.claims = make(map[string]*family)
	}
	r.families[def.Name] = f
	for _, c := range claims {
		r.claims[c] = f
	}
	delete(r.hidden, schema)
	r.mu.Unlock()

	r.startEnv()
	f.watch()
	f.declare()
	return f, nil
}

// declare makes the family known to the backend, now or as soon as it has room.
func (f *family) declare() {
	try := func() error { return f.reg.current().Declare(f.def) }
	if err := try(); err != nil {
		f.reg.postpone(f, err, try)
	}
}

// differs says in what a second definition of the same name differs from the first; "" if in nothing.
func differs(old, f *family) string {
	a, b := old.def, f.def
	switch {
	case a.Kind != b.Kind:
		return fmt.Sprintf("it is a %v already, not a %v", a.Kind, b.Kind)
	case !slices.Equal(a.Labels, b.Labels):
		return fmt.Sprintf("it has labels %q already, not %q", old.open, f.open)
	case !slices.Equal(a.Buckets, b.Buckets):
		return fmt.Sprintf("it has buckets %v already, not %v", a.Buckets, b.Buckets)
	case a.Unit != b.Unit:
		return fmt.Sprintf("it has unit %q already, not %q", a.Unit, b.Unit)
	case a.Mode != b.Mode:
		return fmt.Sprintf("it has mode %v already, not %v", a.Mode, b.Mode)
	case old.ttl != f.ttl:
		return fmt.Sprintf("it has a TTL of %v already, not %v", old.ttl, f.ttl)
	case a.Help != b.Help:
		return fmt.Sprintf("it has help %q already, not %q", a.Help, b.Help)
	case old.max.Load() != f.max.Load():
		return fmt.Sprintf("it has MaxSeries %d already, not %d", old.max.Load(), f.max.Load())
	}
	return ""
}

// claimsOf returns the names that a family takes up on pages of any format: two families that share
// one would make a page that parsers reject.
func claimsOf(f *backend.Family) []string {
	switch f.Kind {
	case backend.Counter: // OpenMetrics drops _total from the family's name
		base := strings.TrimSuffix(f.Name, "_total")
		if base == f.Name {
			return []string{base, base + "_total", base + "_created"}
		}
		return []string{base, f.Name, base + "_created"}
	case backend.Histogram:
		return []string{f.Name, f.Name + "_bucket", f.Name + "_sum", f.Name + "_count", f.Name + "_created"}
	case backend.Summary:
		return []string{f.Name, f.Name + "_sum", f.Name + "_count", f.Name + "_created"}
	}
	return []string{f.Name}
}

// add places a new series of the family; values are those of the open labels. f.mu is held.
func (f *family) add(m instrument, values []string) {
	all := make([]string, 0, len(f.def.Labels))
	for _, name := range f.def.Labels {
		if i, ok := slices.BinarySearch(f.open, name); ok {
			all = append(all, values[i])
		} else {
			all = append(all, f.reg.opts.Labels[name])
		}
	}
	labels, err := f.def.LabelText(all...)
	if err != nil {
		panic(err) // number and encoding have been checked
	}
	s := m.base()
	s.fam, s.labels = f, labels
	f.place(m)
}

// place gives a series words: those that the backend has for it, or private ones for as long as it has
// none. f.mu is held, and is to be released by unlock.
func (f *family) place(m instrument) {
	r, s := f.reg, m.base()
	f.watch()
	if !s.listed {
		f.series, s.listed = append(f.series, m), true
	}
	for {
		b := r.current()
		words, err := b.Cells(f.def, s.labels)
		if err != nil {
			words, b = make(backend.Words, f.def.Words()), nil
		}
		r.moveMu.Lock()
		if b != nil && r.current() != b {
			r.moveMu.Unlock()
			continue // bound or closed meanwhile
		}
		m.move(words, nil)
		s.words, s.home = words, b
		r.moveMu.Unlock()
		if err != nil && !s.waiting {
			s.waiting = true
			f.late, f.lateBy = append(f.late, func() error { return r.settle(m) }), err
		}
		return
	}
}

// watch sees to it that the family's time to live is watched, if it has one.
func (f *family) watch() {
	if f.ttl > 0 {
		f.reg.sweeper.start(f.reg, f.ttl)
	}
}

// unlock releases f.mu after place. Postponing logs, and a logger may itself make series of the family.
func (f *family) unlock() {
	late, err := f.late, f.lateBy
	f.late, f.lateBy = nil, nil
	f.mu.Unlock()
	for _, try := range late {
		f.reg.postpone(f, err, try)
	}
}

// Unregister drops the family of that name (without the registry's prefix) from this process's pages
// and reports whether there was one. Its instruments can be used on, unseen; its values stay in the
// backend, and other processes go on showing them. Defining the same family again brings it back, with
// its values and the help text it had; another definition of the name is allowed.
func (r *Registry) Unregister(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.families[r.opts.Prefix+name]
	if f == nil {
		return false
	}
	delete(r.families, f.def.Name)
	for _, c := range claimsOf(f.def) {
		delete(r.claims, c)
	}
	if r.hidden == nil {
		r.hidden = make(map[string]*family)
	}
	r.hidden[f.def.Schema()] = f
	return true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func contains(names []string, name string) bool { return slices.Contains(names, name) }
