package metrichttp

import (
	"strconv"
	"strings"

	"github.com/gotheus/gotheus/expo"
)

// offer is a format that pages can be had in, best first among equals.
type offer struct {
	mediaType string            // type/subtype
	params    map[string]string // that an Accept element must not contradict
	format    expo.Format
}

var offers = []offer{
	{"text/plain", map[string]string{"version": "0.0.4", "charset": "utf-8"}, expo.Text},
}

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

// negotiateFormat returns the offer that the client gives the greatest weight; false if it accepts none.
// No header accepts all.
func negotiateFormat(headers []string) (expo.Format, bool) {
	list := parseAccept(headers)
	if len(list) == 0 {
		return offers[0].format, true
	}
	best, bestQ := -1, 0.0
	for i, o := range offers {
		// The most specific element that matches an offer says its weight.
		q, specific := 0.0, 0
		for _, a := range list {
			if s := o.match(a); s > specific {
				q, specific = a.q, s
			}
		}
		if q > bestQ {
			best, bestQ = i, q
		}
	}
	if best < 0 {
		return 0, false
	}
	return offers[best].format, true
}

// match says how specifically an element names the offer; 0: it does not.
func (o *offer) match(a accepted) int {
	major, _, _ := strings.Cut(o.mediaType, "/")
	switch a.value {
	case "*/*":
		return 1
	case major + "/*":
		return 2
	case o.mediaType:
		for key, value := range a.params {
			if want, ok := o.params[key]; ok && want != value {
				return 0
			}
		}
		return 3 + len(a.params)
	}
	return 0
}

// negotiateCoding returns gzip or identity. A client that refuses both gets identity: a page that it
// may still understand is better than none.
func negotiateCoding(headers []string) string {
	// What is not named has the star's weight; without a star, identity is welcome and gzip is not.
	gzip, identity := 0.0, 0.0001
	list := parseAccept(headers)
	for _, a := range list {
		if a.value == "*" {
			gzip, identity = a.q, a.q
		}
	}
	for _, a := range list {
		switch a.value {
		case "gzip", "x-gzip":
			gzip = a.q
		case "identity":
			identity = a.q
		}
	}
	if gzip > 0 && gzip >= identity {
		return "gzip"
	}
	return "identity"
}
