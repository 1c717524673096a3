package gotheus

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/gotheus/gotheus/internal/backend"
)

// field is how one label is read from a struct. Reflection is used when a VecOf is made and for structs
// that it does not remember.
type field struct {
	label string
	name  string
	index []int
	how   howText
	text  bool // its kind is string
	typ   reflect.Type
	at    int // the label's place in the family's order
}

type howText uint8

const (
	asString howText = iota
	asBool
	asInt
	asUint
	asStringer
)

var stringer = reflect.TypeFor[fmt.Stringer]()

const labelTypes = "a label is a string, a bool, an integer, or has a method String() string and consists of nothing else but these"

// fieldsOf returns the fields of a struct with labels. Errors wrap ErrInvalid.
func fieldsOf(t reflect.Type, def *backend.Family) ([]field, error) {
	invalid := func(format string, args ...any) ([]field, error) {
		return nil, fmt.Errorf("%w: %s: %s", ErrInvalid, def.Name, fmt.Sprintf(format, args...))
	}
	if t.Kind() != reflect.Struct {
		return invalid("labels are of type %v: it must be a struct with a field for each label", t)
	}
	fields, err := appendFields(nil, t, nil)
	if err != nil {
		return invalid("%v: %v", t, err)
	}
	if len(fields) == 0 {
		return invalid("%v has no fields: it must have one for each label", t)
	}
	seen := make(map[string]string)
	for _, f := range fields {
		if err := def.CheckLabelName(f.label); err != nil {
			return nil, fmt.Errorf("%w: field %s of %v: %w: give it another name by a tag, as in `label:\"name\"`", ErrInvalid, f.name, t, err)
		}
		if other, ok := seen[f.label]; ok {
			return invalid("fields %s and %s of %v are both label %q: give one another name by a tag, as in `label:\"name\"`", other, f.name, t, f.label)
		}
		seen[f.label] = f.name
	}
	return fields, nil
}

func appendFields(fields []field, t reflect.Type, prefix []int) ([]field, error) {
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
		f := field{label: sf.Tag.Get("label"), name: sf.Name, index: index, text: sf.Type.Kind() == reflect.String, typ: sf.Type}
		if f.label == "" {
			f.label = snakeCase(sf.Name)
		}
		switch kind := sf.Type.Kind(); {
		case sf.Type.Implements(stringer) && (f.text || fixedContent(sf.Type)):
			f.how = asStringer
		case sf.Type.Implements(stringer):
			return nil, fmt.Errorf("field %s of type %v has a method String, but may change, contains a string or is not always equal to itself: %s", sf.Name, sf.Type, labelTypes)
		case reflect.PointerTo(sf.Type).Implements(stringer):
			return nil, fmt.Errorf("field %s: the method String of %v must not have a pointer receiver", sf.Name, sf.Type)
		case kind == reflect.String:
			f.how = asString
		case kind == reflect.Bool:
			f.how = asBool
		case kind >= reflect.Int && kind <= reflect.Int64:
			f.how = asInt
		case kind >= reflect.Uint && kind <= reflect.Uintptr:
			f.how = asUint
		default:
			return nil, fmt.Errorf("field %s is of type %v: %s", sf.Name, sf.Type, labelTypes)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// fixedContent reports whether values of type t consist of nothing but booleans and integers: equal ones
// are the same forever, and keeping one keeps nothing else.
func fixedContent(t reflect.Type) bool {
	switch kind := t.Kind(); kind {
	case reflect.Array:
		return fixedContent(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !fixedContent(t.Field(i).Type) {
				return false
			}
		}
		return true
	default:
		return kind >= reflect.Bool && kind <= reflect.Uintptr
	}
}

// snakeCase turns the name of a field into that of a label: StatusCode into status_code, HTTPMethod into
// http_method.
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
