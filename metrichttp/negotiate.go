package metrichttp

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus/expo"
)

// accepted is an element of an Accept or Accept-Encoding header.
type accepted struct {
	value  string // lower case
	params map[string]string
	q      float64
}

// maxAccept limits the bytes of the values of a header that are read, and maxAccepted the elements:
// anybody can send any number of them. Prometheus sends six elements in some 400 bytes.
const maxAccept, maxAccepted = 4 << 10, 64

// parseAccept parses the elements of a header (RFC 9110, section 12.5). An element with a malformed
// weight counts as refused. What is beyond the limits is ignored, which a server may do with
// preferences.
func parseAccept(headers []string) []accepted {
	var list []accepted
	rest := maxAccept
	for _, h := range headers {
		whole := len(h)
		if whole > rest {
			// The element that is cut does not count.
			h = h[:max(0, strings.LastIndexByte(h[:rest], ','))]
		}
		rest = max(0, rest-whole)
		for element := range strings.SplitSeq(h, ",") {
			if len(list) == maxAccepted {
				return list
			}
			parts := strings.Split(element, ";")
			a := accepted{value: strings.ToLower(strings.TrimSpace(parts[0])), q: 1}
			if a.value == "" {
				continue
			}
			for _, p := range parts[1:] {
				key, value, _ := strings.Cut(p, "=")
				key = strings.ToLower(strings.TrimSpace(key))
				value = strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))
				if key == "q" {
					if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
						a.q = q
					} else {
						a.q = 0
					}
					continue
				}
				if a.params == nil {
					a.params = make(map[string]string)
				}
				a.params[key] = value
			}
			list = append(list, a)
		}
	}
	return list
}

// negotiateFormat returns the format with the greatest weight in the Accept header, of equal ones
// the first, or false if the client accepts none. No header, or */* with the greatest weight, means
// text 0.0.4.
func negotiateFormat(headers []string, openMetrics2 bool) (expo.Format, bool) {
	list := parseAccept(headers)
	if len(list) == 0 {
		return expo.Format{}, true
	}
	// Only the order of weights matters: versions of Prometheus differ in their values.
	slices.SortStableFunc(list, func(a, b accepted) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	// The length of the most specific element that refuses a syntax.
	refused := make(map[expo.Syntax]int)
	for i := range list {
		if f, ok := list[i].format(); ok && list[i].q == 0 {
			refused[f.Syntax] = max(refused[f.Syntax], len(list[i].value))
		}
	}
	for i := range list {
		a := &list[i]
		f, ok := a.format()
		isException := strings.HasSuffix(a.value, "/*") && refused[f.Syntax] > len(a.value)
		switch {
		case a.q <= 0:
			return expo.Format{}, false // all that follow are refused, too
		case ok && (f.Syntax != expo.OpenMetrics2 || openMetrics2) && !isException:
			return f, true
		}
	}
	return expo.Format{}, false
}

// format returns the format of an element, or false if there is none.
func (a *accepted) format() (f expo.Format, ok bool) {
	if charset := a.params["charset"]; charset != "" && charset != "utf-8" {
		return f, false
	}
	version, versioned := a.params["version"]
	switch a.value {
	case "*/*", "text/*":
		return f, true
	case "text/plain":
		if version == "1.0.0" {
			f.Syntax = expo.Text1
		} else if versioned && version != "0.0.4" {
			return f, false
		}
	case "application/openmetrics-text", "application/*":
		switch version {
		case "", "1.0.0":
			f.Syntax = expo.OpenMetrics1
		case "0.0.1":
			f.Syntax = expo.OpenMetrics0
		case "2.0.0":
			f.Syntax = expo.OpenMetrics2
		default:
			return f, false
		}
	case "application/vnd.google.protobuf":
		if a.params["proto"] != "io.prometheus.client.metricfamily" || a.params["encoding"] != "delimited" {
			return f, false
		}
		f.Syntax = expo.Protobuf
	default:
		return f, false
	}
	switch a.params["escaping"] {
	case "allow-utf-8", "allow-utf8": // documents use both
		f.Escaping = expo.AllowUTF8
	case "dots":
		f.Escaping = expo.Dots
	case "values":
		f.Escaping = expo.Values
	}
	f.Escaping = f.NameEscaping()
	return f, true
}

// negotiateCoding returns the coding with the greatest weight, of equal ones our first, or nil for
// none. A client that refuses all codings gets an uncompressed page, which is better than an error.
func negotiateCoding(headers []string, codings []*coding) *coding {
	// Codings that are not named have the weight of *; without it, only identity is acceptable.
	star, identity := 0.0, 0.0001
	list := parseAccept(headers)
	for _, a := range list {
		if a.value == "*" {
			star, identity = a.q, a.q
		}
	}
	for _, a := range list {
		if a.value == "identity" {
			identity = a.q
		}
	}
	var best *coding
	bestQ := 0.0
	for _, c := range codings {
		q := star
		for _, a := range list {
			if strings.TrimPrefix(a.value, "x-") == c.name {
				q = a.q
			}
		}
		if q > bestQ {
			best, bestQ = c, q
		}
	}
	if bestQ < identity {
		return nil
	}
	return best
}
