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

// parseAccept parses the elements of a header (RFC 9110, section 12.5). An element with a malformed
// weight counts as refused.
func parseAccept(headers []string) []accepted {
	var list []accepted
	for _, h := range headers {
		for element := range strings.SplitSeq(h, ",") {
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

// negotiateFormat returns the format that the client gives the greatest weight, of equals the one that it
// names first; false if it accepts none. No header, and */* where it weighs most, mean text 0.0.4.
func negotiateFormat(headers []string, openMetrics2 bool) (expo.Format, bool) {
	list := parseAccept(headers)
	if len(list) == 0 {
		return expo.Format{}, true
	}
	// Only the order of weights has a meaning: Prometheus' versions differ in their values.
	slices.SortStableFunc(list, func(a, b accepted) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	for _, a := range list {
		f, ok := a.format()
		switch {
		case a.q <= 0:
			return expo.Format{}, false // so are all that follow
		case ok && (f.Syntax != expo.OpenMetrics2 || openMetrics2) && !a.refused(f, list):
			return f, true
		}
	}
	return expo.Format{}, false
}

// refused reports whether a is a wildcard that the list makes an exception to.
func (a *accepted) refused(f expo.Format, list []accepted) bool {
	return strings.HasSuffix(a.value, "/*") && slices.ContainsFunc(list, func(b accepted) bool {
		named, ok := b.format()
		return b.q == 0 && ok && named.Syntax == f.Syntax && len(b.value) > len(a.value)
	})
}

// format returns the format that an element means; false if there is none.
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
	case "allow-utf-8", "allow-utf8": // documents have had both
		f.Escaping = expo.AllowUTF8
	case "dots":
		f.Escaping = expo.Dots
	case "values":
		f.Escaping = expo.Values
	}
	f.Escaping = f.NameEscaping()
	return f, true
}

// negotiateCoding returns the coding that the client gives the greatest weight, of equals the first; nil
// for none. A client that refuses all gets none: a page that it may still understand is better than an error.
func negotiateCoding(headers []string, codings []*coding) *coding {
	// What is not named has the star's weight; without a star, identity is welcome and others are not.
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
