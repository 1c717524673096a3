package gotheus

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus/backend"
)

// ErrLabels is wrapped by errors about a look-up's labels: their number, a name, a value that is not
// UTF-8.
var ErrLabels = errors.New("gotheus: wrong labels")

// Vec is a family with labels. It cannot be updated itself: With gives the instrument for a set of
// label values. A look-up of a set that was seen before takes no lock and allocates nothing; the
// instrument it returns can also be kept. A set exists, at zero, from its first look-up on. All methods
// may be called concurrently. Strings passed in are not kept.
type Vec[M Instrument] struct {
	fam   *family
	table *table[M]
	names []string // in the order in which With takes their values
	place []int    // see table.find
}

// With returns the instrument for one value for each label, in the order in which the labels were
// declared. It panics with an error that wraps ErrLabels if their number differs or a value is not
// UTF-8; see TryWith.
func (v *Vec[M]) With(values ...string) *M {
	if len(values) == len(v.names) {
		if e := v.table.find(hashValues(values, v.place), values, v.place); e != nil {
			return &e.m
		}
	}
	return Must(v.create(values))
}

// TryWith is With with an error in place of the panic.
func (v *Vec[M]) TryWith(values ...string) (*M, error) {
	if len(values) == len(v.names) {
		if e := v.table.find(hashValues(values, v.place), values, v.place); e != nil {
			return &e.m, nil
		}
	}
	return v.create(values)
}

// WithLabels returns the instrument for label values given by name. It panics with an error that wraps
// ErrLabels unless l has a value for every label and for no other, or if a value is not UTF-8; see
// TryWithLabels.
func (v *Vec[M]) WithLabels(l Labels) *M { return Must(v.TryWithLabels(l)) }

// TryWithLabels is WithLabels with an error in place of the panic.
func (v *Vec[M]) TryWithLabels(l Labels) (*M, error) {
	var buf [8]string // enough not to allocate for up to eight labels
	values := buf[:0]
	for _, name := range v.names {
		if value, ok := l[name]; ok {
			values = append(values, value)
		}
	}
	if len(values) != len(v.names) || len(l) != len(v.names) {
		return nil, v.wrongNames(l)
	}
	return v.TryWith(values...)
}

func (v *Vec[M]) wrongNames(l Labels) error {
	var wrong []string
	for _, name := range v.names {
		if _, ok := l[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%q is missing", name))
		}
	}
	for _, name := range sortedKeys(l) {
		if !contains(v.names, name) {
			wrong = append(wrong, fmt.Sprintf("%q is not one of them", strings.Clone(name)))
		}
	}
	return fmt.Errorf("%w: %s has labels %q: %s", ErrLabels, v.fam.def.Name, v.names, strings.Join(wrong, ", "))
}

// create makes the series that find has not found. It clones what it keeps and what it reports, so
// that callers' arguments can stay on their stacks.
func (v *Vec[M]) create(values []string) (*M, error) {
	if len(values) != len(v.names) {
		return nil, fmt.Errorf("%w: %s has labels %q: %d values given %q", ErrLabels, v.fam.def.Name, v.names, len(values), cloneAll(values))
	}
	for i, value := range values {
		if !utf8.ValidString(value) {
			return nil, fmt.Errorf("%w: %s: value %q of label %q is not UTF-8", ErrLabels, v.fam.def.Name, strings.Clone(value), v.names[i])
		}
	}
	f := v.fam
	f.mu.Lock()
	defer f.unlock()
	hash := hashValues(values, v.place)
	if e := v.table.find(hash, values, v.place); e != nil {
		return &e.m, nil
	}
	e := &entry[M]{hash: hash, key: joinKey(values, v.place)}
	f.add(any(&e.m).(instrument), strings.Split(e.key, string([]byte{separator})))
	v.table.add(e)
	return &e.m, nil
}

func cloneAll(values []string) []string {
	c := make([]string, len(values))
	for i, v := range values {
		c[i] = strings.Clone(v)
	}
	return c
}

// placesOf returns the family's order of names, and in it their places; nil if they are in order.
func placesOf(names []string) (sorted []string, place []int) {
	sorted, place = backend.SortLabels(names)
	for i, p := range place {
		if p != i {
			return sorted, place
		}
	}
	return sorted, nil
}
