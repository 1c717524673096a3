//go:build !purego

package labelstruct

import (
	"reflect"
	"unsafe"
)

// Direct reads the label values of a struct in place if they are one or two plain strings. A
// look-up by struct then takes as long as one by values, which is half as long as one that hashes
// the whole struct. With the build tag purego, nothing is read in place.
type Direct struct {
	N       int        // number of strings; 0: the struct cannot be read in place
	offsets [2]uintptr // in the struct, in the family's order of labels
}

// DirectOf returns the Direct for the fields of struct type t.
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

// offset returns the offset in t of the field that reflect.Type.FieldByIndex returns. Fields
// rejects embedded pointers, so that the path to the field has none.
func offset(t reflect.Type, index []int) (at uintptr) {
	for _, i := range index {
		f := t.Field(i)
		at, t = at+f.Offset, f.Type
	}
	return at
}

// StringAt returns the i-th value of *l. It is safe because the offsets are those of fields whose
// kind is string in the type that d was made for, and the caller must pass a pointer to a value of
// that type.
func StringAt[L any](d *Direct, l *L, i int) string {
	return *(*string)(unsafe.Add(unsafe.Pointer(l), d.offsets[i]))
}
