//go:build !purego

package gotheus

import (
	"reflect"
	"unsafe"
)

// direct reads the label values of a struct where they are, if that is one or two strings and nothing is to be done to
// them. Then a look-up by struct costs what one by values does, half of one by a hash of the whole struct. The build
// tag purego does without.
type direct struct {
	n  int        // of strings; 0: not possible
	at [2]uintptr // in the struct, in the family's order of labels
}

func directly(t reflect.Type, fields []field) (d direct) {
	if len(fields) > len(d.at) {
		return direct{}
	}
	for i := range fields {
		f := &fields[i]
		if f.how != asString {
			return direct{}
		}
		d.at[f.at] = offset(t, f.index)
	}
	d.n = len(fields)
	return d
}

// offset returns where the field is that reflect.Type.FieldByIndex returns; embedded pointers are no labels.
func offset(t reflect.Type, index []int) (at uintptr) {
	for _, i := range index {
		f := t.Field(i)
		at, t = at+f.Offset, f.Type
	}
	return at
}

// stringAt returns the i-th value of *l.
func stringAt[L any](d *direct, l *L, i int) string {
	return *(*string)(unsafe.Add(unsafe.Pointer(l), d.at[i]))
}
