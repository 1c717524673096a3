package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The words of an auxiliary family with ExemplarRole: each slot has a head and then words for the
// label text. A slot holds an exemplar of a bucket or a counter.
const (
	exemplarClaim = iota // when a writer claimed the slot, in nanoseconds since 1970, or 0
	// start of the series, so that it is not shown after the series is recreated
	exemplarStart
	exemplarValue // float64 bits
	exemplarTime  // in nanoseconds since 1970
	exemplarSize  // of the label text in bytes
	exemplarSum   // checksum of everything but the claim, to detect torn writes
	exemplarHead
)

// nativeExemplars is the number of exemplars of a histogram without explicit bounds.
const nativeExemplars = 10

// ExemplarSlots returns how many exemplars each series of f can have: a histogram has one for each
// bucket including +Inf or, with exponential buckets only, a few for values of different magnitude.
func (f *Family) ExemplarSlots() int {
	switch {
	case f.Classic():
		return len(f.Buckets) + 1
	case f.Kind == Histogram:
		return nativeExemplars
	}
	return 1
}

// Exemplar is an example of an event that a series has counted.
type Exemplar struct {
	Labels string // label text
	Value  float64
	Time   int64 // nanoseconds since 1970
}

// ErrExemplar is wrapped by errors about exemplars that cannot be exposed.
var ErrExemplar = errors.New("invalid exemplar")

// maxExemplarRunes limits the total length of an exemplar's label names and values (OpenMetrics
// 1.0).
const maxExemplarRunes = 128

// Check returns an error that wraps ErrExemplar if e cannot be exposed: if its labels are not a
// label text, which another process may have written; if a name is not a valid label name or occurs
// twice; if names and values have more than 128 code points in total; if a label value contains a
// NUL byte, for which Prometheus rejects the whole OpenMetrics page; or if its value is not finite.
func (e *Exemplar) Check() error {
	if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
		return fmt.Errorf("%w: value %v must be finite", ErrExemplar, e.Value)
	}
	var few [8]string
	names, runes, rest := few[:0], 0, e.Labels
	for name, value := range ParseLabels(e.Labels) {
		if slices.Contains(names, name) {
			return fmt.Errorf("%w: label %q is given twice", ErrExemplar, name)
		}
		n, err := checkExemplarLabel(name, value)
		if err != nil {
			return err
		}
		// ParseLabels is lenient.
		var ok bool
		if rest, ok = cutCanonical(rest, name, value, len(names) > 0); !ok {
			return fmt.Errorf("%w: %q is not a label text", ErrExemplar, e.Labels)
		}
		names, runes = append(names, name), runes+n
	}
	if rest != "" { // where ParseLabels has ended
		return fmt.Errorf("%w: %q is no label text", ErrExemplar, e.Labels)
	}
	return checkExemplarRunes(runes)
}

// ExemplarLabels returns the label text of an exemplar with these labels, whose names must be in
// ascending order. It returns the same errors as Check.
func ExemplarLabels(names, values []string) (string, error) {
	runes := 0
	for i, name := range names {
		n, err := checkExemplarLabel(name, values[i])
		if err != nil {
			return "", err
		}
		runes += n
	}
	if err := checkExemplarRunes(runes); err != nil {
		return "", err
	}
	return (&Family{Name: "exemplar", Labels: names}).LabelText(values...)
}

// checkExemplarLabel checks a label, and returns its number of code points.
func checkExemplarLabel(name, value string) (runes int, err error) {
	switch {
	case !ValidName(name) || strings.HasPrefix(name, "__"):
		err = fmt.Errorf("%w: label %q: must be UTF-8 without control characters, not empty, and not begin with __", ErrExemplar, Clip(name))
	case !utf8.ValidString(value):
		err = fmt.Errorf("%w: value %q of label %q is not UTF-8", ErrExemplar, Clip(value), Clip(name))
	case strings.IndexByte(value, 0) >= 0:
		err = fmt.Errorf("%w: value %q of label %q has a NUL byte", ErrExemplar, Clip(value), Clip(name))
	}
	return utf8.RuneCountInString(name) + utf8.RuneCountInString(value), err
}

func checkExemplarRunes(runes int) error {
	if runes > maxExemplarRunes {
		return fmt.Errorf("%w: the names and values of its labels have more than %d code points", ErrExemplar, maxExemplarRunes)
	}
	return nil
}

// cutCanonical removes a label in canonical form from the beginning of a label text.
func cutCanonical(text, name, value string, comma bool) (rest string, ok bool) {
	if comma {
		if text, ok = strings.CutPrefix(text, ","); !ok {
			return "", false
		}
	}
	if !classicName(name, false) || strings.ContainsAny(value, "\\\"\n") { // rare
		return strings.CutPrefix(text, AppendLabel("", name, value))
	}
	for _, part := range [...]string{name, `="`, value, `"`} {
		if text, ok = strings.CutPrefix(text, part); !ok {
			return "", false
		}
	}
	return text, true
}

// exemplarPatience is the distance from now at which a claim counts as that of a dead writer.
const exemplarPatience = int64(time.Second)

// WriteExemplar stores e in a slot of the words w of a series of f, an auxiliary family for
// exemplars. start is the start of the series, see Start. It returns false if the label text is too
// long or another writer is using the slot; it does not wait.
func (f *Family) WriteExemplar(w Words, slot int, start uint64, e *Exemplar) bool {
	size := exemplarHead + int(f.Block.Size)
	s := w[slot*size:][:size]
	if len(e.Labels) > 8*int(f.Block.Size) {
		return false
	}
	claim := uint64(max(e.Time, 1))
	old := s[exemplarClaim].Load()
	// A claim far in the future is from a dead writer whose clock was ahead.
	if age := int64(claim - old); old != 0 && -exemplarPatience < age && age < exemplarPatience || !s[exemplarClaim].CompareAndSwap(old, claim) {
		return false
	}
	// Compute the checksum from the intended content, not from the slot: another writer may
	// have replaced this claim.
	var buf [exemplarHead + maxExemplar]uint64
	own := buf[:exemplarHead+(len(e.Labels)+7)/8]
	own[exemplarStart], own[exemplarValue] = start, math.Float64bits(e.Value)
	own[exemplarTime], own[exemplarSize] = uint64(e.Time), uint64(len(e.Labels))
	for i, text := exemplarHead, e.Labels; text != ""; i++ {
		var b [8]byte
		text = text[copy(b[:], text):]
		own[i] = binary.LittleEndian.Uint64(b[:])
	}
	own[exemplarSum] = exemplarCheck(own)
	for i := exemplarClaim + 1; i < len(own); i++ {
		s[i].Store(own[i])
	}
	s[exemplarClaim].CompareAndSwap(claim, 0)
	return true
}

// ReadExemplar returns the exemplar in a slot, if it belongs to a series that began at start or
// later, or at an unknown time if start is 0. It returns false if there is none, or if it is being
// written or was left incomplete. Another process may have written it, so expose it only if it
// passes Check.
func (f *Family) ReadExemplar(w Words, slot int, start uint64) (e Exemplar, ok bool) {
	e, its, ok := f.readExemplar(w, slot)
	// A series that comes back has no start at first, and no exemplars of its own.
	return e, ok && its >= start && (start != 0 || its == 0)
}

// readExemplar is ReadExemplar for a series that began at any time, which it returns.
func (f *Family) readExemplar(w Words, slot int) (e Exemplar, start uint64, ok bool) {
	size := exemplarHead + int(f.Block.Size)
	s := w[slot*size:][:size]
	n := s[exemplarSize].Load()
	if s[exemplarTime].Load() == 0 || n > 8*uint64(f.Block.Size) {
		return e, 0, false
	}
	var buf [exemplarHead + maxExemplar]uint64
	own := buf[:exemplarHead+(n+7)/8]
	for i := range own {
		own[i] = s[i].Load()
	}
	if own[exemplarTime] == 0 || own[exemplarSize] != n || own[exemplarSum] != exemplarCheck(own) {
		return e, 0, false
	}
	text := make([]byte, 0, n+7)
	for _, w := range own[exemplarHead:] {
		text = binary.LittleEndian.AppendUint64(text, w)
	}
	return Exemplar{string(text[:n]), math.Float64frombits(own[exemplarValue]), int64(own[exemplarTime])}, own[exemplarStart], true
}

// exemplarCheck returns the checksum of everything but the claim.
func exemplarCheck(s []uint64) uint64 {
	sum := uint64(0x6f74686575736578)
	for i, w := range s {
		if i != exemplarClaim && i != exemplarSum {
			sum = (sum ^ w) * 0x9e3779b97f4a7c15
			sum ^= sum >> 32
		}
	}
	return sum
}
