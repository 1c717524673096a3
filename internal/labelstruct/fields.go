// Package labelstruct reads label values from the fields of a struct.
package labelstruct

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Field is a field of a struct that holds a label's value.
type Field struct {
	Label string
	Name  string
	Index []int // for reflect.Value.FieldByIndex
	Kind  Kind
	Text  bool // its reflect.Kind is String
	Type  reflect.Type
	Place int // index of the label in the family's order; set by the caller
}

// Kind is how the value of a field is converted to a label value.
type Kind uint8

const (
	String Kind = iota
	Bool
	Int
	Uint
	Stringer
)

var stringer = reflect.TypeFor[fmt.Stringer]()

const labelTypes = "a label is a string, a bool, an integer, or has a method String() string and " +
	"consists of nothing but these"

// Fields returns the fields of struct type t, including those of embedded structs. check returns an
// error if a label name is invalid.
func Fields(t reflect.Type, check func(label string) error) ([]Field, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("the type of the labels is %v: it must be a struct with a field for each label", t)
	}
	fields, err := appendFields(nil, t, nil)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%v has no fields: it must have one for each label", t)
	}
	byLabel := make(map[string]string)
	for _, f := range fields {
		if err := check(f.Label); err != nil {
			return nil, fmt.Errorf("field %s of %v: %w: rename it with a tag, as in `label:\"name\"`", f.Name, t, err)
		}
		if other, ok := byLabel[f.Label]; ok {
			return nil, fmt.Errorf("fields %s and %s of %v are both label %q: rename one with a tag, as in `label:\"name\"`", other, f.Name, t, f.Label)
		}
		byLabel[f.Label] = f.Name
	}
	return fields, nil
}

func appendFields(fields []Field, t reflect.Type, prefix []int) ([]Field, error) {
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(prefix[:len(prefix):len(prefix)], i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct && !sf.Type.Implements(stringer) {
			var err error
			if fields, err = appendFields(fields, sf.Type, index); err != nil {
				return nil, err
			}
			continue
		}
		if !sf.IsExported() {
			return nil, fmt.Errorf("field %s is not exported: its name must begin with a capital letter", sf.Name)
		}
		f := Field{Label: sf.Tag.Get("label"), Name: sf.Name, Index: index, Text: sf.Type.Kind() == reflect.String, Type: sf.Type}
		if f.Label == "" {
			f.Label = snakeCase(sf.Name)
		}
		switch kind := sf.Type.Kind(); {
		case sf.Type.Implements(stringer) && (f.Text || isPlain(sf.Type)):
			f.Kind = Stringer
		case sf.Type.Implements(stringer):
			return nil, fmt.Errorf("field %s of type %v has a method String, but may change, contains a string or is not always equal to itself: %s", sf.Name, sf.Type, labelTypes)
		case reflect.PointerTo(sf.Type).Implements(stringer):
			return nil, fmt.Errorf("field %s: the method String of %v must not have a pointer receiver", sf.Name, sf.Type)
		case kind == reflect.String:
			f.Kind = String
		case kind == reflect.Bool:
			f.Kind = Bool
		case kind >= reflect.Int && kind <= reflect.Int64:
			f.Kind = Int
		case kind >= reflect.Uint && kind <= reflect.Uintptr:
			f.Kind = Uint
		default:
			return nil, fmt.Errorf("field %s is of type %v: %s", sf.Name, sf.Type, labelTypes)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// isPlain reports whether values of type t consist only of booleans and integers: equal values then
// stay equal, and a cached value keeps no other memory alive.
func isPlain(t reflect.Type) bool {
	switch kind := t.Kind(); kind {
	case reflect.Array:
		return isPlain(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isPlain(t.Field(i).Type) {
				return false
			}
		}
		return true
	default:
		return kind >= reflect.Bool && kind <= reflect.Uintptr
	}
}

// snakeCase derives a label name from a field name: status_code from StatusCode, http_method from
// HTTPMethod.
func snakeCase(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, c := range runes {
		if i > 0 && unicode.IsUpper(c) && runes[i-1] != '_' &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}
