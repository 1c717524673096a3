package backend

import (
	"fmt"
	"strings"
)

const (
	// MaxText is the maximum length in bytes of a label text, and of all texts of a definition
	// together. It is the same for all backends, so that a metric that works in one works in
	// all of them.
	MaxText = 64 << 10
	// MaxBuckets is the maximum number of buckets or quantiles of a family.
	MaxBuckets = 10000
)

// checkLength checks the length of a definition's texts and lists.
func (f *Family) checkLength() error {
	total, most, longest := 0, 0, ""
	add := func(what, text string) {
		total += len(text)
		if len(text) > most {
			most, longest = len(text), what
		}
	}
	add("name", f.Name)
	add("help", f.Help)
	add("unit", f.Unit)
	for _, l := range f.Labels {
		add(fmt.Sprintf("label %q", Clip(l)), l)
	}
	for _, s := range f.States {
		add(fmt.Sprintf("state %q", Clip(s)), s)
	}
	switch {
	case total > MaxText:
		return invalid("%s: name, help, unit, labels and states have %d bytes together, of which %d are allowed: shorten the %s, which has %d", Clip(f.Name), total, MaxText, longest, most)
	case len(f.Buckets) > MaxBuckets:
		return invalid("%s: %d buckets: there can be %d", f.Name, len(f.Buckets), MaxBuckets)
	case f.Sketch != nil && len(f.Sketch.Quantiles) > MaxBuckets:
		return invalid("%s: %d quantiles: there can be %d", f.Name, len(f.Sketch.Quantiles), MaxBuckets)
	}
	return nil
}

// CheckText returns an error that wraps ErrFamily if a label text is too long.
func (f *Family) CheckText(labels string) error {
	if len(labels) <= MaxText {
		return nil
	}
	longest, most := "", -1
	for name, value := range ParseLabels(labels) {
		if len(value) > most {
			longest, most = name, len(value)
		}
	}
	return invalid("%s: the labels have %d bytes together, of which %d are allowed: shorten the value of label %q, which has %d", f.Name, len(labels), MaxText, longest, most)
}

// Clip shortens a text of any length for an error or a log line.
func Clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// RepairUTF8 replaces each run of bytes in s that are not UTF-8 by U+FFFD.
func RepairUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
