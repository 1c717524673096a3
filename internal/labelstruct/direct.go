//go:build !purego

package labelstruct

import (
	"reflect"
	"unsafe"
)

// Direct reads the label values of a struct in place, if they are one or two plain strings. A
// look-up by struct then costs as much as one by values, half as much as one by a hash of the whole
// struct. With the build tag purego, there is no such reading.
type Direct struct {
	N       int        // number of strings; 0: not possible
	offsets [2]uintptr // in the struct, in the family's order of labels
}

// DirectOf returns how to read the fields of t in place.
func DirectOf(t reflect.Type, fields []Field) (d Direct) {
	if len(fields) > len(d.offsets) {
		return Direct{}
	}
	for i := range fields {
		f := &fields[i]
		if f.Kind != String {
			return Direct{}
		}
		d.offsets[f.Place] = offset(t, f.Index)
	}
	d.N = len(fields)
	return d
}

// offset returns the offset in t of the field with this index sequence, which has no embedded
// pointers: these are not labels.
func offset(t reflect.Type, index []int) (at uintptr) {
	for _, i := range index {
		f := t.Field(i)
		at, t = at+f.Offset, f.Type
	}
	return at
}

// StringAt returns the i-th value of *l.
//
// Safety: offsets has the offsets of fields of type string in the type that d was made for, and the
// caller passes a pointer to that type.
func StringAt[L any](d *Direct, l *L, i int) string {
	return *(*string)(unsafe.Add(unsafe.Pointer(l), d.offsets[i]))
}
