package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is the type of a family.
type Kind uint8

// The kinds. Their numbers are stored, so they never change.
const (
	Counter Kind = iota + 1
	Gauge
	Histogram
	Summary
)

func (k Kind) String() string {
	switch k {
	case Counter:
		return "counter"
	case Gauge:
		return "gauge"
	case Histogram:
		return "histogram"
	case Summary:
		return "summary"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Mode says what a gauge's value is when several processes have it.
type Mode uint8

// The modes. All but Shared are over the live instances: what a dead one had is gone. Instances that have
// never updated the gauge do not join Min, Max, Mean and Latest. The numbers are stored, so they never
// change.
const (
	Shared      Mode = iota // one value: the last Set wins, Add adds
	Sum                     // of the instances' values
	Min                     // the least
	Max                     // the greatest
	Mean                    // the arithmetic mean
	Latest                  // the one that was set last
	PerInstance             // one series for each instance, told apart by the label InstanceLabel
)

// InstanceLabel is the name of the label of gauges with mode PerInstance. Its values are small numbers that
// are given to the next process when one has ended, so that there is no end of series.
const InstanceLabel = "process"

func (m Mode) String() string {
	names := [...]string{"shared", "sum", "min", "max", "mean", "latest", "per instance"}
	if int(m) < len(names) {
		return names[m]
	}
	return "mode(" + strconv.Itoa(int(m)) + ")"
}

// ErrFamily is wrapped by all errors about a family's definition.
var ErrFamily = errors.New("invalid family")

// Family is the schema of its series. All but Help takes part in its identity: two families that
// differ in anything else never share words, even if they have the same name.
type Family struct {
	Name    string
	Help    string
	Unit    string // "" or a suffix of Name (before _total), such as "seconds"
	Kind    Kind
	Mode    Mode      // of a gauge
	Labels  []string  // in ascending order, constant ones included
	Buckets []float64 // upper bounds of a histogram in ascending order, without +Inf
}

// Words returns how many words each series of f has, or each part of a series, see Family.Parts.
func (f *Family) Words() int {
	switch {
	case f.Kind == Histogram:
		return HistogramBuckets + len(f.Buckets) + 1
	case f.Parts():
		return 3
	}
	return 2
}

// Parts reports whether series of f have words for each instance.
func (f *Family) Parts() bool { return f.Mode != Shared }

// Check returns an error that wraps ErrFamily if f cannot be exposed: it names the field, the value
// and the rule, which are those of the Prometheus data model.
func (f *Family) Check() error {
	if !ValidName(f.Name) {
		return fmt.Errorf("%w: name %q: must match [a-zA-Z_:][a-zA-Z0-9_:]*", ErrFamily, f.Name)
	}
	if f.Kind < Counter || f.Kind > Summary {
		return fmt.Errorf("%w: %s: unknown %v", ErrFamily, f.Name, f.Kind)
	}
	if f.Mode > PerInstance || f.Mode != Shared && f.Kind != Gauge {
		return fmt.Errorf("%w: %s: a %v has no mode %v", ErrFamily, f.Name, f.Kind, f.Mode)
	}
	if !utf8.ValidString(f.Help) {
		return fmt.Errorf("%w: %s: help %q is not UTF-8", ErrFamily, f.Name, f.Help)
	}
	if f.Unit != "" {
		base := strings.TrimSuffix(f.Name, "_total")
		if !ValidName(f.Unit) || !strings.HasSuffix(base, "_"+f.Unit) {
			return fmt.Errorf("%w: %s: unit %q must be a suffix of the name, as in %s_%s", ErrFamily, f.Name, f.Unit, base, f.Unit)
		}
	}
	for i, l := range f.Labels {
		if err := f.CheckLabelName(l); err != nil {
			return err
		}
		if i > 0 && f.Labels[i-1] >= l {
			if slices.Contains(f.Labels[:i], l) {
				return fmt.Errorf("%w: %s: label %q is given twice", ErrFamily, f.Name, l)
			}
			return fmt.Errorf("%w: %s: labels %q are not in ascending order", ErrFamily, f.Name, f.Labels)
		}
	}
	if f.Kind != Histogram && f.Buckets != nil {
		return fmt.Errorf("%w: %s: a %v has no buckets", ErrFamily, f.Name, f.Kind)
	}
	return f.checkBuckets()
}

func (f *Family) checkBuckets() error {
	for i, b := range f.Buckets {
		switch {
		case math.IsNaN(b):
			return fmt.Errorf("%w: %s: bucket %d is NaN", ErrFamily, f.Name, i)
		case math.IsInf(b, 1):
			return fmt.Errorf("%w: %s: bucket %d is +Inf, which is always there: leave it out", ErrFamily, f.Name, i)
		case math.IsInf(b, -1):
			return fmt.Errorf("%w: %s: bucket %d is -Inf", ErrFamily, f.Name, i)
		case i > 0 && f.Buckets[i-1] == b:
			return fmt.Errorf("%w: %s: bucket %v is given twice", ErrFamily, f.Name, b)
		case i > 0 && f.Buckets[i-1] > b:
			return fmt.Errorf("%w: %s: bucket %v comes after %v: bounds must be in ascending order", ErrFamily, f.Name, b, f.Buckets[i-1])
		}
	}
	return nil
}

// CheckLabelName returns an error that wraps ErrFamily if name cannot be a label of f.
func (f *Family) CheckLabelName(name string) error {
	switch {
	case !ValidName(name) || strings.Contains(name, ":"):
		return fmt.Errorf("%w: %s: label %q: must match [a-zA-Z_][a-zA-Z0-9_]*", ErrFamily, f.Name, name)
	case strings.HasPrefix(name, "__"):
		return fmt.Errorf("%w: %s: label %q: names that begin with __ are reserved", ErrFamily, f.Name, name)
	case name == InstanceLabel && f.Mode == PerInstance:
		return fmt.Errorf("%w: %s: label %q is reserved in a gauge per instance", ErrFamily, f.Name, name)
	case name == "le" && f.Kind == Histogram, name == "quantile" && f.Kind == Summary:
		return fmt.Errorf("%w: %s: label %q is reserved in a %v", ErrFamily, f.Name, name, f.Kind)
	}
	return nil
}

// ValidName reports whether s matches [a-zA-Z_:][a-zA-Z0-9_:]*.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != ':' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Alike reports whether series of f and g can be shown under one name: they may differ in help and
// label names only.
func (f *Family) Alike(g *Family) bool {
	return f.Kind == g.Kind && f.Mode == g.Mode && f.Unit == g.Unit && slices.Equal(f.Buckets, g.Buckets)
}

// Fields of an encoded schema. Their numbers are stored, so they never change; unknown ones make a
// schema unreadable for this version, see ParseSchema.
const (
	fieldName   = 1
	fieldKind   = 2
	fieldUnit   = 3
	fieldLabel  = 4
	fieldBucket = 5
	fieldMode   = 6
)

// Schema returns the identity of f as bytes: fields in ascending order, each a number, the length
// of its content as uvarint, and the content. Labels and buckets are a field each, buckets as
// float64 bits in little-endian order. Help is not part of it. Equal families, and only they, have
// equal schemas.
func (f *Family) Schema() string {
	var b []byte
	field := func(n byte, content string) {
		b = append(b, n)
		b = binary.AppendUvarint(b, uint64(len(content)))
		b = append(b, content...)
	}
	field(fieldName, f.Name)
	field(fieldKind, string([]byte{byte(f.Kind)}))
	if f.Unit != "" {
		field(fieldUnit, f.Unit)
	}
	for _, l := range f.Labels {
		field(fieldLabel, l)
	}
	for _, v := range f.Buckets {
		field(fieldBucket, string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))))
	}
	if f.Mode != Shared {
		field(fieldMode, string([]byte{byte(f.Mode)}))
	}
	return string(b)
}

// ParseSchema is the reverse of Schema. The family it returns passes Check. An error says that the
// bytes are damaged or come from a later version, whose series this version cannot show.
func ParseSchema(s string) (*Family, error) {
	f := new(Family)
	for in := s; in != ""; {
		n, size := in[0], 0
		length, size := binary.Uvarint([]byte(in[1:min(len(in), 1+binary.MaxVarintLen64)]))
		if size <= 0 || length > uint64(len(in)-1-size) {
			return nil, fmt.Errorf("%w: schema %q is cut short", ErrFamily, s)
		}
		content := in[1+size:][:length]
		in = in[1+size+int(length):]
		switch {
		case n == fieldName:
			f.Name = content
		case n == fieldKind && length == 1:
			f.Kind = Kind(content[0])
		case n == fieldMode && length == 1:
			f.Mode = Mode(content[0])
		case n == fieldUnit:
			f.Unit = content
		case n == fieldLabel:
			f.Labels = append(f.Labels, content)
		case n == fieldBucket && length == 8:
			f.Buckets = append(f.Buckets, math.Float64frombits(binary.LittleEndian.Uint64([]byte(content))))
		default:
			return nil, fmt.Errorf("%w: schema %q: unknown field %d of %d bytes", ErrFamily, s, n, length)
		}
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	if f.Schema() != s {
		return nil, fmt.Errorf("%w: schema %q is not in canonical form", ErrFamily, s)
	}
	return f, nil
}
