package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/sparse"
)

var (
	// ErrInvalid is wrapped by errors about definitions that can never be exposed: a bad name,
	// help, label, bucket or option; and about arguments that cannot work, such as a nil collector.
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
	heldLog    []func()                    // lines that wait for the end of the turn
	holdLog    bool                        // all lines do: series are being moved
	logTo      atomic.Pointer[slog.Logger] // nil: as the options say
	self       atomic.Pointer[selfMetrics] // nil: none, or not yet

	bound    atomic.Pointer[binding]
	asked    atomic.Pointer[asked] // the backend that was asked for, also if it is not there yet
	unsaved  atomic.Pointer[error] // why a Close has left something behind; nil: it has not, or r was bound since
	opMu     sync.Mutex            // one Bind, BindBackend, retry or Close at a time
	scrapeMu sync.RWMutex          // shared by scrapes, held by a bind: a page shows one backend
	moveMu   sync.Mutex            // held for the instructions in which one series moves, see series.go
	binding  atomic.Bool           // a bind waits for scrapeMu
	reopen   retrier               // of a backend that could not be opened
	promote  retrier               // of families and series that the backend had no room for

	envTimer         sync.Once
	envDone          atomic.Bool // set under opMu, or by an explicit Bind
	sweeper, windows sweeper     // of times to live; of quantiles
	sampler          sampler
	candidate        candidate
	sampledNew       atomic.Uint64 // how often sampling has made series, which the backend's Walk may not know yet
}

// asked is a request for a backend.
type asked struct {
	name string
	err  atomic.Pointer[error] // why it could not be opened at first
}

// binding is a backend while a registry uses it.
type binding struct {
	backend.Backend
	local  bool // the registry's own heap: nobody else sees these words
	number int  // tells live processes apart
}

// NewRegistry returns an empty registry. Registries that are bound to the same backend have one page: to keep
// metrics apart, give each a backend, or a namespace of a store, of its own. It panics with an error that wraps
// ErrInvalid if o's prefix or labels cannot be part of any metric; see TryNewRegistry.
func NewRegistry(o *RegistryOptions) *Registry { return Must(TryNewRegistry(o)) }

// TryNewRegistry is NewRegistry with an error in place of the panic.
func TryNewRegistry(o *RegistryOptions) (*Registry, error) {
	r := new(Registry)
	if o != nil {
		r.opts = *o
		r.opts.Labels = maps.Clone(o.Labels)
	}
	if p := r.opts.Prefix; p != "" && !backend.ValidName(p) {
		return nil, fmt.Errorf("%w: registry prefix %q: must be UTF-8 without control characters", ErrInvalid, p)
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
	given given         // what the definition says itself, see differs

	constant Labels // the registry's constant labels and the metric's own

	table any    // *table[M], or sampleTable
	from  string // what gives the values if it is not the program's updates

	called bool // it is a function's, which is being called; guarded by the registry's mu

	observing *observing        // of a histogram
	scale     *sparse.Scale     // of exponential buckets; nil: there are none
	levels    []*backend.Family // where a series goes on when its first ones are in use
	epoch     atomic.Uint64     // of the last snapshots for quantiles

	exemplars [len(exemplarSizes)]*backend.Family // their auxiliary families; nil: not needed so far

	age atomic.Uint64 // how often series have been deleted

	mu       sync.Mutex            // creation of series
	returned []instrument          // deleted series that somebody who had kept them has brought back
	unmade   *spot                 // of series that are being made
	usual    *spot                 // of most others, see spotOf
	idle     map[string]*idleState // of series that may vanish, see ttl.go
	pinned   map[string]bool       // label texts of series that stay whatever the TTL
	lateBy   error                 // why something was postponed that is to be logged when mu is free
	refusal  error                 // of a series that the backend has no room for by its limit
	limit
}

// define returns the family for a definition, an existing one if they do not differ.
func define[M Instrument](r *Registry, name, help string, o OptionsFor[M], vec bool, labels []string) (*family, error) {
	f, err := prepare(r, name, help, o, vec, labels)
	if err != nil {
		return nil, err
	}
	return r.enter(f)
}

// prepare checks a definition by itself.
func prepare[M Instrument](r *Registry, name, help string, o OptionsFor[M], vec bool, labels []string) (*family, error) {
	def := &backend.Family{Name: r.opts.Prefix + name, Help: help}
	options := optionsFor(o)
	if o, ok := options.(interface{ invalid() error }); ok {
		if err := o.invalid(); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, def.Name, err)
		}
	}
	c := options.common()
	def.Unit, def.Stripes, def.Mode = c.unit, c.stripes, c.mode
	options.define(def, nil)
	constant, err := r.constantLabels(def.Name, c.labels, labels)
	if err != nil {
		return nil, err
	}
	open, _ := backend.SortLabels(labels)
	def.Labels, _ = backend.SortLabels(append(sortedKeys(constant), labels...))
	switch err := def.Check(); {
	case help == "":
		return nil, fmt.Errorf("%w: %s: help is missing: say what it counts or measures", ErrInvalid, def.Name)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case vec && len(labels) == 0:
		return nil, fmt.Errorf("%w: %s: a vec needs labels", ErrInvalid, def.Name)
	}
	if _, clash := escapedLabels(expo.Underscores, def.Labels); clash != "" {
		return nil, fmt.Errorf("%w: %s: of labels %q, two are the same, or one is __name__, to scrapers that take no other names than [a-zA-Z_][a-zA-Z0-9_]*: rename %q",
			ErrInvalid, def.Name, def.Labels, clash)
	}
	if err := c.check(def.Name, labels); err != nil {
		return nil, err
	}

	f := &family{reg: r, def: def, open: open, constant: constant, vec: vec, given: givenBy(options),
		table: &table[M]{text: planText(def.Labels, constant)}}
	if ttl := cmp.Or(c.ttl, r.opts.TTL); vec && ttl > 0 {
		f.ttl = ttl
	}
	f.observing = observingOf(def)
	if m := def.PerDoubling(); m > 0 {
		f.scale, f.levels = sparse.ScaleOf(m), levelsOf(def)
	}
	f.max.Store(maxSeries(r, c, vec))
	return f, nil
}

// enter takes a family into the registry and returns it, or the one that is there if they do not differ.
func (r *Registry) enter(f *family) (*family, error) {
	def := f.def
	r.mu.Lock()
	if old := r.families[def.Name]; old != nil {
		what := differs(old, f)
		if what == "" && f.called && old.called {
			what = "another function gives its value: remove that one first, or choose another name"
		}
		old.called = old.called || f.called && what == ""
		r.mu.Unlock()
		if what != "" {
			return nil, fmt.Errorf("%w: %s: %s", ErrConflict, def.Name, what)
		}
		return old, nil
	}
	schema := def.Schema()
	if old := r.hidden[schema]; old != nil && old.vec == f.vec && old.from == f.from && maps.Equal(old.constant, f.constant) {
		if f.given.ttl && old.ttl != f.ttl {
			r.mu.Unlock()
			return nil, fmt.Errorf("%w: %s: it had a TTL of %v before it was hidden, not %v: give that one, or none", ErrConflict, def.Name, old.ttl, f.ttl)
		}
		if f.given.maxSeries {
			old.limit.reset(f.max.Load())
		}
		old.called = f.called
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
		f.postpone(err, try)
		f.logPostponed(err)
	}
}

// place gives a series words: those that the backend has for it, or private ones for as long as it has
// none. f.mu is held, and is to be released by unlock.
func (f *family) place(m instrument) {
	r, s := f.reg, m.base()
	f.watch()
	old := s.spot.Load()
	if !old.listed && s.row.Words != nil {
		f.returned = append(f.returned, m)
	}
	for {
		b := r.current()
		words, refused, err := f.firstCells(b, m)
		if err != nil {
			words, b = make(backend.Words, f.def.Words()), nil
		}
		f.begin(words)
		r.moveMu.Lock()
		if b != nil && r.current() != b {
			r.moveMu.Unlock()
			continue // bound or closed meanwhile
		}
		if err != nil && !old.waiting { // before anybody can count in it: Flush must know
			f.postpone(err, func() error { return r.settle(m) })
			f.lateBy = err
		}
		f.put(m, spot{listed: true, waiting: old.waiting || err != nil, refused: refused, home: b}, words, nil)
		r.moveMu.Unlock()
		return
	}
}

// firstCells is cells for a series that has come. In the registry's own heap, one that has never had words has the row
// that pages go through in itself, and a counter also has room for the words: one piece of memory in place of three. f.mu
// is held, and is to be released by unlock.
func (f *family) firstCells(b *binding, m instrument) (words backend.Words, refused bool, err error) {
	s := m.base()
	if s.row.Words != nil || !b.local || f.def.Parts() {
		return f.cells(b, s.row.Labels)
	}
	var room backend.Words
	if c, ok := m.(*Counter); ok && f.def.Words() == len(c.own) {
		room = c.own[:]
	}
	b.Backend.(*heap.Backend).CellsIn(f.def, &s.row, room)
	return s.row.Words, false, nil
}

// cells returns the words of a series or, if the backend's limit leaves no room for another label set, those
// of the overflow series. f.mu is held, and is to be released by unlock.
func (f *family) cells(b *binding, labels string) (words backend.Words, refused bool, err error) {
	words, err = b.Cells(f.def, labels)
	if f.vec && errors.Is(err, backend.ErrLimit) {
		if overflow, overflowErr := b.Cells(f.def, f.overflowLabels()); overflowErr == nil {
			f.refusal = err
			return overflow, true, nil
		}
	}
	return words, false, err
}

// watch sees to it that the family's time to live and the window of its quantiles are watched, if it has them.
func (f *family) watch() {
	r := f.reg
	if f.ttl > 0 {
		r.sweeper.start(f.ttl/8, func(ctx context.Context) { r.sweep(ctx, r.Now()) })
	}
	if f.def.Sketch != nil { // not by the sweeper, which waits for backends
		r.windows.start(f.def.Sketch.Slot()/4, func(context.Context) { r.advance(r.Now()) })
	}
}

// unlock releases f.mu after cells or place. They have something to log, and a logger may itself make series
// of the family.
func (f *family) unlock() {
	late, refusal := f.lateBy, f.refusal
	f.lateBy, f.refusal = nil, nil
	f.mu.Unlock()
	if refusal != nil {
		f.refused(refusal)
	}
	if late != nil {
		f.logPostponed(late)
	}
}

// HideFamily takes the family of that name (without the registry's prefix) off this process's pages
// and reports whether there was one. Its instruments can be used on, unseen; its values stay in the
// backend, and other processes go on showing them. Defining the same family again brings it back, with
// its values and the help text it had; another definition of the name is allowed.
func (r *Registry) HideFamily(name string) bool {
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
