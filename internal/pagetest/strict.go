package pagetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CheckText returns an error if a page in the text format 0.0.4 with classic names is not valid. It
// is stricter than parsers: families must be contiguous, each sample must be of the family before
// it and there only once, and the buckets of a histogram must be in order and add up.
func CheckText(page string) error {
	c := checker{families: make(map[string]bool), samples: make(map[string]bool)}
	if !utf8.ValidString(page) {
		return errors.New("the page is not UTF-8")
	}
	if page != "" && !strings.HasSuffix(page, "\n") {
		return fmt.Errorf("the page is cut: %q", page[max(0, len(page)-80):])
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if err := c.line(line); err != nil {
			return fmt.Errorf("%w, in line %.300q", err, line)
		}
	}
	return c.end()
}

// overflowing is a number of observations that cannot be real: the counts of damaged words may
// overflow when they are added up, which parsers accept.
const overflowing = 1 << 61

type checker struct {
	families, samples map[string]bool
	name, typ         string                // of the present family
	helped, sampled   bool                  // HELP and a sample were there
	histograms        map[string]*histogram // of the present family, by labels
}

type histogram struct {
	le, cumulative, count float64
	begun, ended, counted bool
}

func (c *checker) line(line string) error {
	switch {
	case line == "":
		return errors.New("an empty line")
	case strings.HasPrefix(line, "# HELP "), strings.HasPrefix(line, "# TYPE "):
		name, text, _ := strings.Cut(line[len("# HELP "):], " ")
		return c.meta(line[2:6], name, text)
	case line[0] == '#':
		return errors.New("an unknown comment")
	}
	return c.sample(line)
}

func (c *checker) meta(what, name, text string) error {
	if !classic(name, true) {
		return fmt.Errorf("the name %q", name)
	}
	if name != c.name {
		if err := c.end(); err != nil {
			return err
		}
		if c.families[name] {
			return fmt.Errorf("family %s comes twice", name)
		}
		c.families[name] = true
		c.name, c.typ, c.helped, c.sampled, c.histograms = name, "", false, false, make(map[string]*histogram)
	}
	switch {
	case c.sampled:
		return fmt.Errorf("%s after samples", what)
	case what == "HELP" && c.helped, what == "TYPE" && c.typ != "":
		return fmt.Errorf("%s twice", what)
	case what == "HELP":
		c.helped = true
		_, err := unescape(text, `\n`)
		return err
	}
	c.typ = text
	if !slices.Contains([]string{"counter", "gauge", "histogram", "summary", "untyped"}, text) {
		return fmt.Errorf("type %q", text)
	}
	return nil
}

func (c *checker) sample(line string) error {
	end := strings.IndexAny(line, "{ ")
	if end < 0 || !classic(line[:end], true) {
		return errors.New("no name")
	}
	name, rest := line[:end], line[end:]
	labels := make(map[string]string)
	if rest[0] == '{' {
		var err error
		if rest, err = readLabels(rest[1:], labels); err != nil {
			return err
		}
	}
	number, ok := strings.CutPrefix(rest, " ")
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil {
		return fmt.Errorf("the value %q", rest)
	}
	suffix, ok := strings.CutPrefix(name, c.name)
	if c.name == "" || !ok || suffix != "" && !(c.typ == "histogram" && (suffix == "_bucket" || suffix == "_sum" || suffix == "_count") ||
		c.typ == "summary" && (suffix == "_sum" || suffix == "_count")) {
		return fmt.Errorf("a sample of another family than %s", c.name)
	}
	c.sampled = true
	var key []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key = append(key, name, labels[name])
	}
	if id := Key(name, key); c.samples[id] {
		return errors.New("a sample comes twice")
	} else {
		c.samples[id] = true
	}
	if c.typ == "histogram" {
		return c.histogram(suffix, labels, value)
	}
	return nil
}

func (c *checker) histogram(suffix string, labels map[string]string, value float64) error {
	bound, isBucket := labels["le"]
	delete(labels, "le")
	id := fmt.Sprint(labels)
	h := c.histograms[id]
	if h == nil {
		h = new(histogram)
		c.histograms[id] = h
	}
	switch suffix {
	case "_bucket":
		le, err := strconv.ParseFloat(bound, 64)
		if err != nil || !isBucket || h.ended || h.begun && (le <= h.le || value < h.cumulative && h.cumulative < overflowing) {
			return errors.New("buckets are not in order")
		}
		h.le, h.cumulative, h.begun, h.ended = le, value, true, bound == "+Inf"
	case "_count":
		h.count, h.counted = value, true
	}
	return nil
}

// end checks the present family as a whole.
func (c *checker) end() error {
	for id, h := range c.histograms {
		if h.begun && !h.ended || h.begun && h.counted && h.count != h.cumulative {
			return fmt.Errorf("%s%s: count %v, buckets up to %v: %v", c.name, id, h.count, h.le, h.cumulative)
		}
	}
	return nil
}

// readLabels reads labels up to the brace, and returns what follows it.
func readLabels(text string, labels map[string]string) (rest string, err error) {
	for {
		if rest, ok := strings.CutPrefix(text, "}"); ok {
			return rest, nil
		}
		name, after, ok := strings.Cut(text, `="`)
		if !ok || !classic(name, false) {
			return "", fmt.Errorf("the label's name %q", name)
		}
		if _, ok := labels[name]; ok {
			return "", fmt.Errorf("label %s twice", name)
		}
		end := 0
		for end < len(after) && after[end] != '"' {
			if after[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(after) {
			return "", errors.New("a label's value without end")
		}
		if labels[name], err = unescape(after[:end], `\n"`); err != nil {
			return "", err
		}
		text = after[end+1:]
		if next, ok := strings.CutPrefix(text, ","); ok {
			text = next
		} else if !strings.HasPrefix(text, "}") {
			return "", errors.New("no comma or brace after a label")
		}
	}
}

// unescape resolves escapes with one of the characters in known.
func unescape(text, known string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) || !strings.Contains(known, text[i:i+1]) {
			return "", fmt.Errorf("an unknown escape in %q", text)
		}
		if text[i] == 'n' {
			b.WriteByte('\n')
		} else {
			b.WriteByte(text[i])
		}
	}
	return b.String(), nil
}

// classic reports whether s is a name that needs no quotes, or a label's, without colons.
func classic(s string, colons bool) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '_', c|0x20 >= 'a' && c|0x20 <= 'z', c == ':' && colons, c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
