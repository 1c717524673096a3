package series

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/backend"
)

// Label values of look-ups may come from anyone, such as the clients of a service. This file is
// about those that cannot be on a page, or should not be: a look-up must neither fail because of
// them nor let them take any amount of memory. Values that the program itself chooses are errors
// instead.

// Values is what a family knows of such values.
type Values struct {
	maxLen     atomic.Int64          // of a value, in bytes; negative: no limit but MaxText
	replaced   atomic.Pointer[tally] // nil: not counted, or not yet
	saidLength atomic.Bool           // that a label set was too long
	saidUTF8   atomic.Bool           // that a value was not UTF-8
}

// MaxValueLength returns the limit of a value's length in bytes. A negative one means that there is
// none.
func (v *Values) MaxValueLength() int64 { return v.maxLen.Load() }

// SetMaxValueLength replaces the limit.
func (v *Values) SetMaxValueLength(n int64) {
	v.maxLen.Store(n)
	v.saidLength.Store(false)
}

// limit returns the most bytes that a value may have.
func (v *Values) limit() int {
	if n := v.maxLen.Load(); n > 0 && n < backend.MaxText {
		return int(n)
	}
	return backend.MaxText
}

// TooLong reports whether a value, or the label text of a series with these values, would be too
// long. It does not retain the slice.
func (f *Family) TooLong(values []string) bool {
	most := f.limit()
	for _, v := range values {
		if len(v) > most {
			return true
		}
	}
	return f.text.Exceeds(values, backend.MaxText)
}

// CheckValues returns an error about values that the program has chosen if they cannot be those of
// a series of their own.
func (f *Family) CheckValues(values []string) error {
	for i, v := range values {
		if err := f.CheckValue(i, v); err != nil {
			return err
		}
	}
	if f.text.Exceeds(values, backend.MaxText) {
		return f.Def.CheckText(f.text.Write(values))
	}
	return nil
}

// CheckValue is CheckValues for the value of one open label.
func (f *Family) CheckValue(open int, value string) error {
	most := f.limit()
	switch {
	case !utf8.ValidString(value):
		return fmt.Errorf("%s: value %s of label %q is not UTF-8", f.Def.Name, quoteClipped(value), f.Open[open])
	case len(value) > most:
		return fmt.Errorf("%s: the value of label %q has %d bytes, of which %d are allowed: %s", f.Def.Name, f.Open[open], len(value), most, shorten(most))
	}
	return nil
}

// shorten says what to do about a value that exceeds a limit.
func shorten(most int) string {
	if most < backend.MaxText {
		return "shorten it, or set MaxValueLength"
	}
	return "shorten it"
}

// logTooLong logs that a look-up got the overflow series since a value, or its label set, is too
// long. It does so once, since a client may cause very many such look-ups.
func (f *Family) logTooLong(values []string) {
	if f.saidLength.Load() || f.saidLength.Swap(true) {
		return
	}
	longest, total := 0, 0
	for i, v := range values {
		total += len(v)
		if len(v) > len(values[longest]) {
			longest = i
		}
	}
	what, bytes, most := "value", len(values[longest]), f.limit()
	remedy := shorten(most) + "; Normalize can do that"
	if bytes <= most {
		what, bytes, most, remedy = "set", total, backend.MaxText, "shorten its values; Normalize can do that"
	}
	f.Home.Log.Log(slog.LevelWarn, "length "+f.Def.Name,
		"a label "+what+" is too long; all such look-ups are counted in the overflow series: "+remedy,
		"metric", f.Def.Name, "label", f.Open[longest], "bytes", bytes, "max", most,
		"value", quoteClipped(values[longest]), "value of its labels", OverflowValue)
}

// Valid reports whether all values are UTF-8.
func Valid(values []string) bool {
	for _, v := range values {
		if !utf8.ValidString(v) {
			return false
		}
	}
	return true
}

// Repair returns clones of the values in which each run of bytes that are not UTF-8 is replaced.
func (f *Family) Repair(values []string) []string {
	repaired := make([]string, len(values))
	for i, v := range values {
		repaired[i] = f.RepairValue(i, strings.Clone(v))
	}
	return repaired
}

// RepairValue replaces each run of bytes in the value of an open label that are not UTF-8 by
// U+FFFD. It counts and logs that. A value that is too long stays as it is: it has no series.
func (f *Family) RepairValue(open int, value string) string {
	if len(value) > f.limit() || utf8.ValidString(value) {
		return value
	}
	c := f.replaced.Load()
	if c == nil {
		c = f.Home.tallyOf(replacedValues, f)
		f.replaced.Store(c)
	}
	if c != nil {
		c.add()
	}
	if !f.saidUTF8.Load() && !f.saidUTF8.Swap(true) {
		f.Home.Log.Log(slog.LevelWarn, "UTF-8 "+f.Def.Name,
			"a label value is not UTF-8; in this and all others like it, U+FFFD replaces what is not: choose another replacement with Normalize",
			"metric", f.Def.Name, "label", f.Open[open], "value", quoteClipped(value))
	}
	return backend.RepairUTF8(value)
}

// quoteClipped returns a value for an error or a log line, whatever its bytes and its length.
func quoteClipped(value string) string {
	const most = 100
	if len(value) <= most {
		return strconv.Quote(value)
	}
	return strconv.Quote(value[:most]) + "…"
}
