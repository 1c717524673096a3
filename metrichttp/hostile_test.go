package metrichttp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
)

// hostileAccept are the costliest elements: wildcards, each of which was compared with all refused
// ones.
func hostileAccept(n int) string {
	return strings.Repeat("text/*,", n/2) + strings.Repeat("text/plain;q=0,", n/2) + "*/*"
}

// Of a header of any length, a bounded part is read, and its elements cost the same each.
func TestAcceptIsBounded(t *testing.T) {
	t.Parallel()
	for _, headers := range [][]string{
		{hostileAccept(16_000)},
		strings.SplitAfter(hostileAccept(16_000), ","),
		{strings.Repeat(",", 1<<20)},
		{strings.Repeat("a", 1<<20)},
		{strings.Repeat(";a=b", 1<<18)},
	} {
		list := parseAccept(headers)
		size := 0
		for _, a := range list {
			size += len(a.value)
			for key, value := range a.params {
				size += len(key) + len(value)
			}
		}
		if len(list) > maxAccepted || size > maxAccept {
			t.Errorf("%.20q… in %d headers: %d elements, %d bytes", headers[0], len(headers), len(list), size)
		}
	}
	// An element that is cut is not read as another one, and what comes before counts.
	long := "application/openmetrics-text;version=1.0.0," + strings.Repeat("a/b,", maxAccept/4-12) + "text/plain;version=1.0.0;q=1"
	if list := parseAccept([]string{long, "c/d"}); list[len(list)-1].value != "a/b" {
		t.Errorf("the last element is %v", list[len(list)-1])
	}
	if f, ok := negotiateFormat([]string{long}, false); !ok || f.Syntax != expo.OpenMetrics1 {
		t.Errorf("the format is %v", f)
	}
	if f, ok := negotiateFormat([]string{strings.Repeat(" ", maxAccept), "text/plain"}, false); !ok || f.Syntax != expo.Text {
		t.Errorf("the format after blanks is %v", f)
	}
}

// Negotiation takes the same time for any number of elements beyond the limit.
func BenchmarkNegotiate(b *testing.B) {
	for _, n := range []int{4, 64, 16_000} {
		b.Run(fmt.Sprint("elements=", n), func(b *testing.B) {
			headers := []string{hostileAccept(n)}
			for b.Loop() {
				negotiateFormat(headers, true)
			}
		})
	}
}
