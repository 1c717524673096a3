package gotheus

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/labelstruct"
	"github.com/gotheus/gotheus/internal/lookup"
	"github.com/gotheus/gotheus/internal/series"
)

// VecOf is a Vec whose label values are passed as a struct, so that a label that does not exist
// does not compile, and none can be mistaken for another. The fields of the struct are the labels,
// in this order:
//
//	type request struct {
//		Method string // label method
//		Status int    `label:"code"`
//		Cached bool   // "true" or "false"
//	}
//
// A label has the name in the field's tag or else the field's name in snake case. A field must be
// exported, and be a string, a bool, an integer, or of a type with a method String() string that is
// a string or consists of booleans and integers only; String then returns the value. The fields of
// embedded structs are labels, too. An empty string stands for the label's default, if it has one.
//
// Looking up a struct that was seen before takes no lock and allocates nothing, whatever its fields
// are. It calls neither normalisers nor String, so these must always return the same. A VecOf
// remembers twice as many structs as its family has series, and a thousand more, if the strings of
// a struct have at most 1000 bytes in total; looking up any other takes some ten times as long, and
// allocates for types with a method String. All methods may be called concurrently. Strings passed
// in are not kept, but unlike with Vec.With, converting bytes to a string for a look-up allocates
// it.
type VecOf[L comparable, M Instrument] struct {
	vec    *Vec[M]
	fields []labelstruct.Field
	direct labelstruct.Direct
	memo   lookup.Memo[L, M] // for structs that direct does not read
	reads  sync.Pool         // of *reading[L]

	// Set by Partial, instead of the fields other than vec.
	with   func(L) *M
	values func(L) []string
}

// TryNewVecOf returns the family with that name and the fields of L as labels in r, or in the
// default registry if r is nil, and creates it if it does not exist. Help is required. It is the
// same family as TryNewVec's with these labels. The error wraps ErrInvalid, for instance if L or
// one of its fields is of an unsupported type, or ErrConflict if the name is taken by another
// definition. For state sets, use [TryNewStateSetOf].
func TryNewVecOf[L comparable, M Counter | Gauge | Histogram | Summary](r *Registry, name, help string, o OptionsFor[M]) (*VecOf[L, M], error) {
	return newVecOf[L, M](r, name, help, o)
}

// TryNewStateSetOf is like TryNewVecOf, for a family of state sets with these states.
func TryNewStateSetOf[L comparable](r *Registry, name, help string, states []string, o *StateSetOptions) (*VecOf[L, StateSet], error) {
	return newVecOf[L, StateSet](r, name, help, stateSet{states, o})
}

func newVecOf[L comparable, M Instrument](r *Registry, name, help string, o OptionsFor[M]) (*VecOf[L, M], error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	r = orDefault(r)
	def := &backend.Family{Name: r.opts.Prefix + name}
	optionsFor(o).define(def, nil)
	fields, err := labelstruct.Fields(reflect.TypeFor[L](), def.CheckLabelName)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, def.Name, err)
	}
	labels := make([]string, len(fields))
	for i, f := range fields {
		labels[i] = f.Label
		if f.Kind != labelstruct.String {
			if _, ok := optionsFor(o).common().defaults[f.Label]; ok {
				return nil, fmt.Errorf("%w: %s: Defaults: label %q is field %s of type %v: only strings without a method String can have a default, which replaces the empty value",
					ErrInvalid, def.Name, f.Label, f.Name, f.Type)
			}
		}
	}
	vec, err := newVecOn(r, name, help, o, labels...)
	if err != nil {
		return nil, err
	}
	for i := range fields {
		fields[i].Place = vec.order[i]
	}
	v := &VecOf[L, M]{vec: vec, fields: fields}
	if vec.normal == nil && len(vec.open) == len(fields) {
		v.direct = labelstruct.DirectOf(reflect.TypeFor[L](), fields)
	}
	return v, nil
}

// NewCounterOf returns a family of counters of the default registry, with the fields of L as
// labels. Help is required. It panics with [TryNewVecOf]'s error.
func NewCounterOf[L comparable](name, help string, o *CounterOptions) *VecOf[L, Counter] {
	return Must(TryNewVecOf[L, Counter](nil, name, help, o))
}

// NewGaugeOf returns a family of gauges of the default registry, with the fields of L as labels.
// Help is required. It panics with [TryNewVecOf]'s error.
func NewGaugeOf[L comparable](name, help string, o *GaugeOptions) *VecOf[L, Gauge] {
	return Must(TryNewVecOf[L, Gauge](nil, name, help, o))
}

// NewHistogramOf returns a family of histograms of the default registry, with the fields of L as
// labels. Help is required. It panics with [TryNewVecOf]'s error.
func NewHistogramOf[L comparable](name, help string, o *HistogramOptions) *VecOf[L, Histogram] {
	return Must(TryNewVecOf[L, Histogram](nil, name, help, o))
}

// NewSummaryOf returns a family of summaries of the default registry, with the fields of L as
// labels. Help is required. It panics with [TryNewVecOf]'s error.
func NewSummaryOf[L comparable](name, help string, o *SummaryOptions) *VecOf[L, Summary] {
	return Must(TryNewVecOf[L, Summary](nil, name, help, o))
}

// NewStateSetOf returns a family of state sets of the default registry, with the fields of L as
// labels. Help and states are required. It panics with [TryNewStateSetOf]'s error.
func NewStateSetOf[L comparable](name, help string, states []string, o *StateSetOptions) *VecOf[L, StateSet] {
	return Must(TryNewStateSetOf[L](nil, name, help, states, o))
}

// With returns the instrument for the labels in l. Whatever their values are, it does not fail; see
// [Vec] for values that are too long or not UTF-8.
func (v *VecOf[L, M]) With(l L) *M {
	if m := v.find(&l); m != nil {
		return m
	}
	return v.lookUp(l)
}

// TryWith is With with an error, which is always nil, as [Vec.TryWith] has one.
func (v *VecOf[L, M]) TryWith(l L) (*M, error) { return v.With(l), nil }

// find returns the instrument for a struct that was seen before, or nil. It does not keep l.
func (v *VecOf[L, M]) find(l *L) *M {
	var e *lookup.Entry[M]
	switch v.direct.N {
	case 2:
		e = v.vec.table.Find2(labelstruct.StringAt(&v.direct, l, 0), labelstruct.StringAt(&v.direct, l, 1))
	case 1:
		e = v.vec.table.Find1(labelstruct.StringAt(&v.direct, l, 0))
	default:
		return v.memo.Find(*l, v.vec.fam.Age())
	}
	if e == nil {
		return nil
	}
	return &e.M
}

// Declare creates the series for these label sets, so that they are exposed at zero before anything
// happens. They do not count towards MaxSeries, and a time to live does not remove them. It returns
// v. It panics with an error that wraps ErrLabels if a value is too long or not UTF-8, before it
// has created any; see TryDeclare.
func (v *VecOf[L, M]) Declare(sets ...L) *VecOf[L, M] {
	if err := v.TryDeclare(sets...); err != nil {
		panic(err)
	}
	return v
}

// TryDeclare is like Declare, but returns the error instead of panicking.
func (v *VecOf[L, M]) TryDeclare(sets ...L) error {
	all := make([][]string, len(sets))
	for i, l := range sets {
		all[i] = v.valuesOf(l)
		if err := v.vec.checkDeclared(all[i]); err != nil {
			return err
		}
	}
	v.vec.table.Pin(all)
	return nil
}

// Delete deletes the series with the labels in l, for all processes that share the backend, and
// reports whether there was one. It is like [Vec.Delete].
func (v *VecOf[L, M]) Delete(l L) bool {
	was, err := v.TryDelete(l)
	deleted(v.vec.fam, err)
	return was
}

// TryDelete is like Delete, but returns an error of the backend, after which the series may still
// exist.
func (v *VecOf[L, M]) TryDelete(l L) (bool, error) { return v.vec.deleteOne(v.valuesOf(l)) }

// DeleteMatching is [Vec.DeleteMatching] on the whole family, even if v was made by Partial.
func (v *VecOf[L, M]) DeleteMatching(match Labels) int { return v.vec.DeleteMatching(match) }

// TryDeleteMatching is like DeleteMatching, but returns errors, see [Vec.TryDeleteMatching].
func (v *VecOf[L, M]) TryDeleteMatching(match Labels) (int, error) {
	return v.vec.TryDeleteMatching(match)
}

// DeleteAll deletes all series of the family, even if v was made by Partial, see [Vec.DeleteAll].
func (v *VecOf[L, M]) DeleteAll() int { return v.vec.DeleteAll() }

// TryDeleteAll is like DeleteAll, but returns an error of the backend.
func (v *VecOf[L, M]) TryDeleteAll() (int, error) { return v.vec.TryDeleteAll() }

// Vec returns the family as a Vec, with the labels in the order of the fields.
func (v *VecOf[L, M]) Vec() *Vec[M] { return v.vec }

// Partial returns a VecOf of the same family that takes a P, which complete turns into an L by
// filling in the other labels. complete is called on each look-up, concurrently. Partial panics
// with an error that wraps ErrInvalid if complete is nil.
func Partial[P, L comparable, M Instrument](v *VecOf[L, M], complete func(P) L) *VecOf[P, M] {
	if complete == nil {
		panic(fmt.Errorf("%w: %s: Partial: the function is nil", ErrInvalid, v.vec.fam.Def.Name))
	}
	return &VecOf[P, M]{
		vec:    v.vec,
		with:   func(p P) *M { return v.With(complete(p)) },
		values: func(p P) []string { return v.valuesOf(complete(p)) },
	}
}

// reading is the reusable scratch space for reading label values from an L.
type reading[L comparable] struct {
	l      L
	fields []reflect.Value // of l
	full   []string
	digits []byte
	arena  arena
}

func (v *VecOf[L, M]) read(l L) *reading[L] {
	r, _ := v.reads.Get().(*reading[L])
	if r == nil {
		r = &reading[L]{full: make([]string, len(v.fields))}
		for _, f := range v.fields {
			r.fields = append(r.fields, reflect.ValueOf(&r.l).Elem().FieldByIndex(f.Index))
		}
	}
	r.l = l
	for i := range v.fields {
		f := &v.fields[i]
		text := r.text(v.vec.fam, f, r.fields[i])
		if text == "" && f.Kind == labelstruct.String && v.vec.fixed[f.Place].set {
			text = v.vec.fixed[f.Place].value
		} else {
			text = v.vec.normalize(&r.arena, f.Place, text)
		}
		r.full[f.Place] = text
	}
	return r
}

func (v *VecOf[L, M]) release(r *reading[L]) {
	r.l = *new(L)
	clear(r.full)
	v.reads.Put(r)
}

// text returns a field's label value, which may be in the arena.
func (r *reading[L]) text(fam *series.Family, f *labelstruct.Field, value reflect.Value) string {
	switch f.Kind {
	case labelstruct.String:
		return value.String()
	case labelstruct.Bool:
		return strconv.FormatBool(value.Bool())
	case labelstruct.Int:
		r.digits = strconv.AppendInt(r.digits[:0], value.Int(), 10)
	case labelstruct.Uint:
		r.digits = strconv.AppendUint(r.digits[:0], value.Uint(), 10)
	case labelstruct.Stringer:
		return stringOf(fam, value)
	}
	return r.arena.clone(string(r.digits)) // this conversion does not allocate
}

// stringOf calls String, and returns otherValue if that panics.
func stringOf(fam *series.Family, value reflect.Value) (text string) {
	text = otherValue
	defer fam.Contain("String of a label")
	return value.Interface().(fmt.Stringer).String()
}

// lookUp finds or creates the series for an l that find has not found.
func (v *VecOf[L, M]) lookUp(l L) *M {
	if v.with != nil {
		return v.with(l)
	}
	age := v.vec.fam.Age()
	r := v.read(l)
	m := v.vec.lookUp(r.full)
	v.release(r)
	// Not the overflow series: any number of structs map to it, and Declare may later create
	// their series.
	if v.direct.N == 0 && !v.vec.table.IsOverflow(m) {
		v.remember(l, m, age)
	}
	return m
}

func (v *VecOf[L, M]) valuesOf(l L) []string {
	if v.values != nil {
		return v.values(l)
	}
	r := v.read(l)
	defer v.release(r)
	return backend.CloneAll(r.full)
}

const (
	memoSpare    = 1000 // structs to remember besides two for each series
	memoMaxBytes = 1000 // bytes in the strings of a struct to remember
)

// remember stores m as the instrument for l, unless too many are remembered already: with
// normalisers, any number of structs can map to a few series.
func (v *VecOf[L, M]) remember(l L, m *M, age uint64) {
	lock := v.vec.fam.Lock()
	if v.memo.Len() >= 2*v.vec.table.Len()+memoSpare && !v.memo.Forget(lock, age) {
		return
	}
	size := 0
	for i := range v.fields {
		if f := &v.fields[i]; f.Text {
			value := reflect.ValueOf(&l).Elem().FieldByIndex(f.Index)
			if size += value.Len(); size > memoMaxBytes {
				return
			}
			value.SetString(strings.Clone(value.String()))
		}
	}
	lock.Lock()
	defer lock.Unlock()
	v.memo.Add(l, m, age)
}
