// Package metrictest helps to test programs that have metrics.
//
// Every instrument has methods that return its value, which is often all that a test needs; [Delta]
// returns by how much a piece of code changes it. For everything else, read a [Page] from a
// registry, an http.Handler or a URL. It returns values, counts series, compares itself with
// expected text, and checks naming conventions with [Page.Lint].
//
// Nothing here is global. A test passes its own registry to the code under test, with its own clock
// if times matter:
//
//	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Now: clock.Now})
//
// A nil registry is the default one.
package metrictest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/store"
)

// Page is the content of a page in the text format when it was read.
type Page struct {
	families []*family
	samples  map[string]float64 // by name and sorted labels
	lenient  bool               // families may be split, like those of histograms without TYPE
}

// family is a family of a page.
type family struct {
	name, typ, help string
	hasHelp         bool
	samples         []sample
}

type sample struct {
	key   string // name and sorted labels
	name  string
	label gotheus.Labels
	value float64
	line  string // key, value and perhaps time
}

// readTimeout limits the time to read a page.
const readTimeout = 10 * time.Second

// Read reads the page of a registry, or of the default registry if r is nil. It returns an error of
// [gotheus.Registry.Write], or one that says what is wrong with the page.
func Read(r *gotheus.Registry) (*Page, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if r == nil {
		r = gotheus.Default()
	}
	var b strings.Builder
	if err := r.Write(ctx, &b, nil); err != nil {
		return nil, err
	}
	return Parse(b.String())
}

// ReadHandler reads the page that a handler returns for GET /metrics.
func ReadHandler(h http.Handler) (*Page, error) {
	if h == nil {
		return nil, errors.New("metrictest: the handler is nil")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return fromResponse(w.Result())
}

// ReadURL reads the page at a URL. A nil client is http.DefaultClient.
func ReadURL(ctx context.Context, client *http.Client, url string) (*Page, error) {
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("metrictest: %w", store.RedactError(err, url))
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrictest: %w", store.RedactError(err, url))
	}
	return fromResponse(resp)
}

func fromResponse(resp *http.Response) (*Page, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("metrictest: the response is %s: %.200s", resp.Status, text)
	}
	if t := resp.Header.Get("Content-Type"); !strings.HasPrefix(t, "text/plain") {
		return nil, fmt.Errorf("metrictest: the response is of type %q, not the text format's", t)
	}
	return Parse(string(text))
}

// Parse parses a page in the text format 0.0.4. It is strict: the samples of a family must be
// contiguous, and series must not occur twice. Names that the format does not allow appear with
// underscores.
func Parse(text string) (*Page, error) { return parse(text, false) }

func parse(text string, lenient bool) (*Page, error) {
	p := &Page{samples: make(map[string]float64), lenient: lenient}
	if text != "" && !strings.HasSuffix(text, "\n") {
		return nil, errors.New("metrictest: the page does not end with a newline")
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := p.parseLine(strings.TrimSuffix(line, "\n")); err != nil {
			return nil, fmt.Errorf("metrictest: line %d, %q: %w", n, strings.TrimSuffix(line, "\n"), err)
		}
	}
	return p, nil
}

func (p *Page) parseLine(line string) error {
	if comment, ok := strings.CutPrefix(line, "#"); ok {
		word, rest, _ := strings.Cut(strings.TrimLeft(comment, " "), " ")
		if word != "HELP" && word != "TYPE" {
			return nil // an ordinary comment
		}
		name, text, _ := strings.Cut(rest, " ")
		if !validName(name) {
			return fmt.Errorf("%q is not the name of a family", name)
		}
		f := p.last()
		if f == nil || f.name != name {
			for _, old := range p.families {
				if old.name == name {
					return errors.New("the family occurs twice")
				}
			}
			f = &family{name: name}
			p.families = append(p.families, f)
		}
		switch {
		case len(f.samples) > 0:
			return fmt.Errorf("%s comes after the family's samples", word)
		case word == "HELP" && f.hasHelp, word == "TYPE" && f.typ != "":
			return fmt.Errorf("a second %s", word)
		case word == "HELP":
			f.help, f.hasHelp = unescapeHelp(text), true
		default:
			if !contains([]string{"counter", "gauge", "histogram", "summary", "untyped"}, text) {
				return fmt.Errorf("unknown type %q", text)
			}
			f.typ = text
		}
		return nil
	}
	if strings.TrimSpace(line) == "" {
		return nil
	}
	s, err := parseSample(line)
	if err != nil {
		return err
	}
	f := p.last()
	if f == nil || !f.owns(s.name) {
		f = nil
		for _, old := range p.families {
			if old.owns(s.name) {
				if !p.lenient {
					return fmt.Errorf("it is separate from the other samples of %s", old.name)
				}
				f = old
			}
		}
		if f == nil {
			f = &family{name: s.name}
			p.families = append(p.families, f)
		}
	}
	if _, twice := p.samples[s.key]; twice {
		return errors.New("the series occurs twice")
	}
	p.samples[s.key] = s.value
	f.samples = append(f.samples, s)
	return nil
}

func (p *Page) last() *family {
	if len(p.families) == 0 {
		return nil
	}
	return p.families[len(p.families)-1]
}

// owns reports whether samples with that name belong to the family.
func (f *family) owns(name string) bool {
	suffix, ok := strings.CutPrefix(name, f.name)
	switch {
	case !ok:
		return false
	case suffix == "":
		return f.typ != "histogram"
	case suffix == "_sum", suffix == "_count":
		return f.typ == "histogram" || f.typ == "summary"
	}
	return suffix == "_bucket" && f.typ == "histogram"
}

func parseSample(line string) (s sample, err error) {
	name, labels, rest, err := splitSample(line)
	if err != nil {
		return s, err
	}
	s.name, s.label = name, labels
	s.key = key(name, labels)
	fields := strings.Fields(rest)
	if len(fields) == 0 || len(fields) > 2 {
		return s, errors.New("a value, and perhaps a timestamp, must follow the name and labels")
	}
	if s.value, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return s, fmt.Errorf("the value: %w", err)
	}
	if len(fields) == 2 {
		if _, err := strconv.ParseInt(fields[1], 10, 64); err != nil {
			return s, fmt.Errorf("the timestamp: %w", err)
		}
		rest = " " + fields[1]
	} else {
		rest = ""
	}
	s.line = s.key + " " + formatValue(s.value) + rest
	return s, nil
}

// splitSample splits a line, or a caller's sample, after the name and labels.
func splitSample(line string) (name string, labels gotheus.Labels, rest string, err error) {
	i := strings.IndexAny(line, "{ \t")
	if i < 0 {
		i = len(line)
	}
	name, rest = line[:i], line[i:]
	if !validName(name) {
		return "", nil, "", fmt.Errorf("%q is not the name of a sample", name)
	}
	if !strings.HasPrefix(rest, "{") {
		return name, nil, rest, nil
	}
	labels, rest, err = parseLabels(rest[1:])
	return name, labels, rest, err
}

// parseLabels parses labels up to the closing brace.
func parseLabels(text string) (labels gotheus.Labels, rest string, err error) {
	labels = make(gotheus.Labels)
	for {
		text = strings.TrimLeft(text, " ")
		if rest, ok := strings.CutPrefix(text, "}"); ok {
			return labels, rest, nil
		}
		name, after, ok := strings.Cut(text, "=")
		name, after = strings.TrimSpace(name), strings.TrimLeft(after, " ")
		if !ok || !validName(name) || strings.Contains(name, ":") || !strings.HasPrefix(after, `"`) {
			return nil, "", fmt.Errorf("the labels: cannot read %q", text)
		}
		if _, twice := labels[name]; twice {
			return nil, "", fmt.Errorf("the label %s occurs twice", name)
		}
		value, after, ok := unquote(after[1:])
		if !ok {
			return nil, "", fmt.Errorf("the label %s: its value is not terminated, or has an unknown escape", name)
		}
		labels[name] = value
		text = strings.TrimLeft(after, " ")
		if next, ok := strings.CutPrefix(text, ","); ok {
			text = next
		} else if !strings.HasPrefix(text, "}") {
			return nil, "", fmt.Errorf("the labels: cannot read %q", text)
		}
	}
}

func unquote(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			i++
			if i == len(text) {
				return "", "", false
			}
			switch text[i] {
			case 'n':
				b.WriteByte('\n')
			case '\\', '"':
				b.WriteByte(text[i])
			default:
				return "", "", false
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

func unescapeHelp(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(text)
}

var classic = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

// validName reports whether the text format 0.0.4 allows a name.
func validName(name string) bool { return classic.MatchString(name) }
