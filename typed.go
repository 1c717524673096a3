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
)

// VecOf is a Vec whose label values are given as a struct, so that the compiler sees a label that does
// not exist, and none can be confused with another. Its fields are the labels, in this order:
//
//	type request struct {
//		Method string // label method
//		Status int    `label:"code"`
//		Cached bool   // "true" or "false"
//	}
//
// Labels are named by a tag, or else after the field in snake case. A field is a string, a bool, an
// integer, or of a type with a method String() string that consists of nothing but booleans and integers
// or is a string; what String returns is the value. All fields are exported. Those of embedded structs
// are labels, too. An empty string stands for the label's default, if it has one.
//
// A look-up of a struct that was seen before takes no lock and allocates nothing, whatever its fields
// are; neither normalisers nor String are called for it, so these must always return the same. A VecOf
// remembers as many as twice its family's series and a thousand more, if their strings have at most 1000
// bytes in total; a look-up of another takes some ten times as long and allocates for types with a
// method String. All methods may be called concurrently. Strings passed in are not kept, but one that is
// made of bytes for a look-up is allocated, which it is not for Vec.With.
type VecOf[L comparable, M Instrument] struct {
	vec    *Vec[M]
	fields []labelstruct.Field
	direct labelstruct.Direct
	memo   lookup.Memo[L, M] // of structs that are not read in place
	reads  sync.Pool         // of *reading[L]

	// Of those made by Partial, in place of the fields above.
	with   func(L) (*M, error)
	values func(L) ([]string, error)
}

// NewVecOf returns the family with that name and the fields of L as labels in r, which it makes if there is
// none; nil is the default registry. It is the same family as NewVec's with these labels. The error wraps
// ErrInvalid, also if L or a field of it is of a wrong kind, or ErrConflict if the name is taken by another
// definition.
func NewVecOf[L comparable, M Instrument](r *Registry, name, help string, o OptionsFor[M]) (*VecOf[L, M], error) {
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
		if common := optionsFor(o).common(); common != nil && f.Kind != labelstruct.String {
			if _, ok := common.Defaults[f.Label]; ok {
				return nil, fmt.Errorf("%w: %s: Defaults: label %q is field %s of type %v: only strings without a method String can have a default, which an empty one stands for",
					ErrInvalid, def.Name, f.Label, f.Name, f.Type)
			}
		}
	}
	vec, err := NewVec(r, name, help, o, labels...)
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

// NewCounterOf returns a family of counters of the default registry; it panics with NewVecOf's error.
func NewCounterOf[L comparable](name, help string, o *Options) *VecOf[L, Counter] {
	return Must(NewVecOf[L, Counter](nil, name, help, o))
}

// NewGaugeOf returns a family of gauges of the default registry; it panics with NewVecOf's error.
func NewGaugeOf[L comparable](name, help string, o *GaugeOptions) *VecOf[L, Gauge] {
	return Must(NewVecOf[L, Gauge](nil, name, help, o))
}

// NewHistogramOf returns a family of histograms of the default registry; it panics with NewVecOf's error.
func NewHistogramOf[L comparable](name, help string, o *HistogramOptions) *VecOf[L, Histogram] {
	return Must(NewVecOf[L, Histogram](nil, name, help, o))
}

// NewSummaryOf returns a family of summaries of the default registry; it panics with NewVecOf's error.
func NewSummaryOf[L comparable](name, help string, o *SummaryOptions) *VecOf[L, Summary] {
	return Must(NewVecOf[L, Summary](nil, name, help, o))
}

// With returns the instrument for the labels in l. It panics with an error that wraps ErrLabels if a
// value is not UTF-8; see TryWith.
func (v *VecOf[L, M]) With(l L) *M {
	if m := v.find(&l); m != nil {
		return m
	}
	return Must(v.lookUp(l))
}

// TryWith is With with an error in place of the panic.
func (v *VecOf[L, M]) TryWith(l L) (*M, error) {
	if m := v.find(&l); m != nil {
		return m, nil
	}
	return v.lookUp(l)
}

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

// Declare makes the series of these label sets, so that they are shown at zero before anything happened.
// They do not count for MaxSeries. It returns v, and panics as With does, having made none.
func (v *VecOf[L, M]) Declare(sets ...L) *VecOf[L, M] {
	all := make([][]string, len(sets))
	for i, l := range sets {
		all[i] = Must(v.valuesOf(l))
	}
	v.vec.table.Pin(all)
	return v
}

// Vec returns the family as a Vec, whose labels are declared in the order of the fields.
func (v *VecOf[L, M]) Vec() *Vec[M] { return v.vec }

// Partial returns a VecOf of the same family that takes a P, which complete turns into an L: it fills in
// the labels that are known already. complete is called on each look-up, concurrently; P can be of any
// type.
func Partial[P, L comparable, M Instrument](v *VecOf[L, M], complete func(P) L) *VecOf[P, M] {
	return &VecOf[P, M]{
		vec:    v.vec,
		with:   func(p P) (*M, error) { return v.TryWith(complete(p)) },
		values: func(p P) ([]string, error) { return v.valuesOf(complete(p)) },
	}
}

// reading is what is needed to read label values from an L; it is used again.
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
		text := r.text(f, r.fields[i])
		if text == "" && f.Kind == labelstruct.String && v.vec.fixed[f.Place].set {
			text = v.vec.fixed[f.Place].value
		} else {
			text = v.vec.normalize(&r.arena, f.Place, text)
		}
		r.full[f.Place] = text
	}
	return r
}

func (v *VecOf[L, M]) giveBack(r *reading[L]) {
	r.l = *new(L)
	clear(r.full)
	v.reads.Put(r)
}

// text returns a field's value, perhaps in the arena.
func (r *reading[L]) text(f *labelstruct.Field, value reflect.Value) string {
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
		return value.Interface().(fmt.Stringer).String()
	}
	return r.arena.clone(string(r.digits)) // the compiler does not allocate this string
}

// lookUp finds or makes the series of an l that was not seen before.
func (v *VecOf[L, M]) lookUp(l L) (*M, error) {
	if v.with != nil {
		return v.with(l)
	}
	age := v.vec.fam.Age()
	r := v.read(l)
	m, err := v.vec.lookUp(r.full)
	v.giveBack(r)
	// Structs of the overflow series are many, and may get series of their own by Declare.
	if err == nil && v.direct.N == 0 && !v.vec.table.IsOverflow(m) {
		v.remember(l, m, age)
	}
	return m, err
}

func (v *VecOf[L, M]) valuesOf(l L) ([]string, error) {
	if v.values != nil {
		return v.values(l)
	}
	r := v.read(l)
	defer v.giveBack(r)
	if err := v.vec.checkValues(r.full); err != nil {
		return nil, err
	}
	return cloneAll(r.full), nil
}

const (
	memoSpare    = 1000 // how many structs are remembered besides two for each series
	memoMaxBytes = 1000 // how many bytes the strings of one may have
)

// remember notes that m is the instrument for l, unless too many are remembered already: with
// normalisers, any number of structs can lead to a few series.
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
