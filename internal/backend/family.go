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

// Kinds. Their numbers are stored and never change.
const (
	Counter Kind = iota + 1
	Gauge
	Histogram
	Summary
	Info     // facts in label values; the value of each series is 1
	StateSet // each series has States, each of which is on or off
	Untyped  // a value of unknown type
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
	case Info:
		return "info"
	case StateSet:
		return "state set"
	case Untyped:
		return "untyped"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Mode says how the values of several processes are combined into a gauge's value. Families of all
// kinds can be PerInstance: each instance then writes its complete value to words of its own.
type Mode uint8

// Modes. All but Shared combine the values of live instances; those of dead ones are dropped.
// Instances that have never updated the gauge are ignored in Min, Max, Mean and Latest. The numbers
// are stored and never change.
const (
	Shared      Mode = iota // one value: the last Set wins, Add adds
	Sum                     // the sum of the instances' values
	Min                     // the minimum
	Max                     // the maximum
	Mean                    // the arithmetic mean
	Latest                  // the value that was set last
	PerInstance             // a series per instance, distinguished by InstanceLabel
)

// InstanceLabel is the label of series with mode PerInstance. Its values are small numbers that are
// reused when a process has ended, so that the number of series stays bounded. There is no such
// label if there is only one instance, see Instance.Number.
const InstanceLabel = "process"

func (m Mode) String() string {
	names := [...]string{"shared", "sum", "min", "max", "mean", "latest", "per process"}
	if int(m) < len(names) {
		return names[m]
	}
	return "mode(" + strconv.Itoa(int(m)) + ")"
}

// ErrFamily is wrapped by all errors about a family's definition.
var ErrFamily = errors.New("invalid family")

// familyError is an ErrFamily whose text is only what is wrong, since callers say the rest in words
// of their own.
type familyError string

func invalid(format string, args ...any) error { return familyError(fmt.Sprintf(format, args...)) }

func (e familyError) Error() string { return string(e) }

// Is implements errors.Is.
func (e familyError) Is(target error) bool { return target == ErrFamily }

// Family is the schema of its series. Everything but Help and Live is part of its identity: two
// families that differ in anything else never share words, even if they have the same name.
type Family struct {
	Name   string
	Help   string
	Unit   string // "" or a suffix of Name (before _total), like "seconds"
	Kind   Kind
	Mode   Mode
	Labels []string // in ascending order, constant ones included
	// in ascending order: upper bounds of a histogram, without +Inf; quantiles of a summary
	// with mode PerInstance
	Buckets []float64
	States  []string // of a StateSet, at most MaxStates
	Native  *Native  // of a histogram with exponential buckets, alone if Buckets is nil
	Sketch  *Sketch  // of a summary with quantiles
	// copies of a counter's or histogram's words on separate cache lines; 0 for one
	Stripes int
	Block   Block // of an auxiliary family
	// Live is set by a process whose own pages show its own part as it is, and not as it was
	// last published: a fact about how this process and its backend get on.
	Live bool
}

// Own replaces the texts of f by copies.
func (f *Family) Own() {
	f.Name, f.Help, f.Unit = strings.Clone(f.Name), strings.Clone(f.Help), strings.Clone(f.Unit)
	f.Labels, f.States = CloneAll(f.Labels), CloneAll(f.States)
}

// MaxStripes is the maximum number of stripes of a counter or histogram.
const MaxStripes = 64

// MaxStates is the maximum number of states of a StateSet: a float64 holds integers of so many bits
// exactly.
const MaxStates = 53

// likeGauge reports whether the words of f have the meaning of a gauge's.
func (f *Family) likeGauge() bool {
	switch f.Kind {
	case Counter:
		return f.Parts()
	case Histogram, Summary:
		return false
	}
	return true
}

// Parts reports whether each instance has its own words for a series of f.
func (f *Family) Parts() bool { return f.Mode != Shared }

// Check returns an error that wraps ErrFamily if f cannot be exposed. It names the field, the value
// and the rule. The rules are those of the Prometheus data model.
func (f *Family) Check() error {
	if err := f.checkLength(); err != nil {
		return err
	}
	if !ValidName(f.Name) {
		return invalid("name %q: must be UTF-8 without control characters, and not empty", f.Name)
	}
	if f.Kind < Counter || f.Kind > Untyped {
		return invalid("%s: unknown %v", f.Name, f.Kind)
	}
	if !f.hasMode() {
		return invalid("%s: a %v has no mode %v", f.Name, f.Kind, f.Mode)
	}
	if f.Kind == Info && !strings.HasSuffix(f.Name, "_info") {
		return invalid("%s: the name of an info must end in _info", f.Name)
	}
	if f.Kind == Counter && f.Name == "_total" || f.Kind == Info && f.Name == "_info" {
		// OpenMetrics and some parsers of the text format remove the suffix.
		return invalid("%[1]s: the name of a %[2]v must have something before %[1]s", f.Name, f.Kind)
	}
	if err := f.checkStates(); err != nil {
		return err
	}
	if !utf8.ValidString(f.Help) {
		return invalid("%s: help %q is not UTF-8", f.Name, f.Help)
	}
	if f.Unit != "" {
		base := strings.TrimSuffix(f.Name, "_total")
		if !classicName(f.Unit, true) || !strings.HasSuffix(base, "_"+f.Unit) {
			return invalid("%s: unit %q must be a suffix of the name, as in %s_%s", f.Name, f.Unit, base, f.Unit)
		}
	}
	for i, l := range f.Labels {
		if err := f.CheckLabelName(l); err != nil {
			return err
		}
		if i > 0 && f.Labels[i-1] >= l {
			if slices.Contains(f.Labels[:i], l) {
				return invalid("%s: label %q is given twice", f.Name, l)
			}
			return invalid("%s: labels %q are not in ascending order", f.Name, f.Labels)
		}
	}
	switch {
	case f.Kind == Summary && f.Mode == PerInstance:
		if err := f.CheckQuantiles(f.Buckets); err != nil {
			return err
		}
	case f.Kind != Histogram && f.Buckets != nil:
		return invalid("%s: a %v has no buckets", f.Name, f.Kind)
	}
	if err := f.checkBuckets(); err != nil {
		return err
	}
	if f.Stripes != 0 && (f.Kind != Counter && (f.Kind != Histogram || f.Native != nil) || f.Parts() || f.Stripes < 2 || f.Stripes > MaxStripes) {
		return fmt.Errorf("%w: %s: %d stripes: counters, and histograms without exponential buckets, may have from 2 to %d unless they have a mode; nothing else may have any",
			ErrFamily, f.Name, f.Stripes, MaxStripes)
	}
	if err := f.checkSparse(); err != nil {
		return err
	}
	return f.checkBlock()
}

func (f *Family) hasMode() bool {
	switch {
	case f.Mode > PerInstance:
		return false
	case f.Mode == PerInstance, f.Kind == Gauge:
		return true
	case f.Kind == Info:
		return f.Mode == Max // 1 as long as a live instance says so
	case f.Kind == Untyped:
		return false
	}
	return f.Mode == Shared
}

func (f *Family) checkStates() error {
	switch n := len(f.States); {
	case f.Kind != StateSet && n > 0:
		return invalid("%s: a %v has no states", f.Name, f.Kind)
	case f.Kind == StateSet && n == 0:
		return invalid("%s: a state set needs states", f.Name)
	case n > MaxStates:
		return invalid("%s: %d states: there can be %d", f.Name, n, MaxStates)
	case f.Kind == StateSet && strings.Contains(f.Name, ":"):
		return invalid("%s: the name of a state set is a label, too, and must not have a colon", f.Name)
	}
	for i, s := range f.States {
		switch {
		case s == "" || !utf8.ValidString(s):
			return invalid("%s: state %q must be UTF-8 and not empty", f.Name, s)
		case slices.Contains(f.States[:i], s):
			return invalid("%s: state %q is given twice", f.Name, s)
		}
	}
	return nil
}

// CheckQuantiles returns an error that wraps ErrFamily if list cannot be the quantiles of f.
func (f *Family) CheckQuantiles(list []float64) error {
	for i, q := range list {
		if !(q >= 0 && q <= 1) || i > 0 && list[i-1] >= q {
			return invalid("%s: quantiles %v must be ascending and from 0 to 1", f.Name, list)
		}
	}
	return nil
}

func (f *Family) checkBuckets() error {
	for i, b := range f.Buckets {
		switch {
		case math.IsNaN(b):
			return invalid("%s: bucket %d is NaN", f.Name, i)
		case math.IsInf(b, 1):
			return invalid("%s: bucket %d is +Inf, which is always there: leave it out", f.Name, i)
		case math.IsInf(b, -1):
			return invalid("%s: bucket %d is -Inf", f.Name, i)
		case i > 0 && f.Buckets[i-1] == b:
			return invalid("%s: bucket %v is given twice", f.Name, b)
		case i > 0 && f.Buckets[i-1] > b:
			return invalid("%s: bucket %v comes after %v: bounds must be in ascending order", f.Name, b, f.Buckets[i-1])
		}
	}
	return nil
}

// CheckLabelName returns an error that wraps ErrFamily if name cannot be a label of f.
func (f *Family) CheckLabelName(name string) error {
	switch {
	case !ValidName(name):
		return invalid("%s: label %q: must be UTF-8 without control characters, and not empty", f.Name, name)
	case strings.HasPrefix(name, "__"):
		return invalid("%s: label %q: names that begin with __ are reserved", f.Name, name)
	case name == InstanceLabel && f.Mode == PerInstance:
		return invalid("%s: label %q is reserved in a %v per process", f.Name, name, f.Kind)
	case name == "le" && f.Kind == Histogram, name == "quantile" && f.Kind == Summary, name == f.Name && f.Kind == StateSet:
		return invalid("%s: label %q is reserved in a %v", f.Name, name, f.Kind)
	}
	return nil
}

// ValidName reports whether s can be the name of a metric or label: UTF-8 without control
// characters. Names other than [a-zA-Z_:][a-zA-Z0-9_:]*, for labels without the colon, are shown in
// quotes, or escaped where a format has no quoted names.
func ValidName(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

// classicName reports whether s needs no quotes as the name of a metric or, without colons, of a
// label.
func classicName(s string, colons bool) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c != ':' || !colons) && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Alike reports whether series of f and g can be shown under one name: they may differ in help and
// label names only.
func (f *Family) Alike(g *Family) bool {
	return f.Kind == g.Kind && f.Mode == g.Mode && f.Stripes == g.Stripes && f.Unit == g.Unit && f.Classic() == g.Classic() && slices.Equal(f.Buckets, g.Buckets) &&
		slices.Equal(f.States, g.States) && f.Native.equal(g.Native) && f.Sketch.equal(g.Sketch)
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
	fieldState  = 7
	fieldNative = 8
	fieldSketch = 9
	fieldBlock  = 10
	fieldStripe = 11
)

// Schema returns the identity of f as bytes: fields in ascending order, each a number, the length
// of its content as uvarint, and the content. Labels, buckets and states are a field each. Numbers
// are in little-endian order, floats as their bits. Help is not part of it. Equal families, and
// only they, have equal schemas.
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
	for _, s := range f.States {
		field(fieldState, s)
	}
	if f.Native != nil {
		field(fieldNative, f.Native.schema())
	}
	if f.Sketch != nil {
		field(fieldSketch, f.Sketch.schema())
	}
	if f.Block.Role != 0 {
		field(fieldBlock, f.Block.schema())
	}
	if f.Stripes != 0 {
		field(fieldStripe, string([]byte{byte(f.Stripes)}))
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
			return nil, invalid("schema %q is cut short", s)
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
		case n == fieldNative && length == nativeSize:
			f.Native = parseNative(content)
		case n == fieldSketch && length >= sketchSize && (length-sketchSize)%8 == 0:
			f.Sketch = parseSketch(content)
		case n == fieldBlock && length == blockSize:
			f.Block = parseBlock(content)
		case n == fieldStripe && length == 1:
			f.Stripes = int(content[0])
		case n == fieldUnit:
			f.Unit = content
		case n == fieldLabel:
			f.Labels = append(f.Labels, content)
		case n == fieldState:
			f.States = append(f.States, content)
		case n == fieldBucket && length == 8:
			f.Buckets = append(f.Buckets, math.Float64frombits(binary.LittleEndian.Uint64([]byte(content))))
		default:
			return nil, invalid("schema %q: unknown field %d of %d bytes", s, n, length)
		}
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	if f.Schema() != s {
		return nil, invalid("schema %q is not in canonical form", s)
	}
	return f, nil
}
