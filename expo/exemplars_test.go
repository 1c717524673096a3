package expo_test

import (
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
)

// OpenMetrics 2.0 recommends one set of exemplars, that of the classic buckets. Protobuf has a
// field for each set.
func TestExemplarSets(t *testing.T) {
	t.Parallel()
	exemplar := func(id string) expo.Exemplar { return expo.Exemplar{Labels: `id="` + id + `"`, Value: 1, Time: 1} }
	tooLong := exemplar(strings.Repeat("l", 200))
	for _, c := range []struct {
		name    string
		classic []expo.Exemplar
		om2     string // whose exemplar it shows
	}{
		{"both", []expo.Exemplar{{}, exemplar("classic")}, "classic"},
		{"none of the classic buckets", []expo.Exemplar{{}, {}}, "native"},
		{"nothing for classic buckets", nil, "native"},
		{"one that cannot be shown", []expo.Exemplar{tooLong, {}}, "native"},
	} {
		d := &expo.Distribution{Count: 1, Sum: 1, Buckets: []uint64{1}, Exemplars: c.classic,
			Native: &expo.Native{Positive: []expo.NativeBucket{{Count: 1}}, Exemplars: []expo.Exemplar{exemplar("native")}}}
		page := func(s expo.Syntax) string {
			e := expo.NewEncoder(expo.Format{Syntax: s})
			b := e.Family(nil, &expo.Family{Name: "h", Type: expo.Histogram, Bounds: []float64{1}})
			return string(e.End(e.Distribution(b, "", d)))
		}
		got := page(expo.OpenMetrics2)
		if strings.Count(got, " # {") != 1 || !strings.Contains(got, `# {id="`+c.om2+`"}`) {
			t.Errorf("%s: the page is\n%s", c.name, got)
		}
		got = page(expo.Protobuf)
		if !strings.Contains(got, "native") || strings.Contains(got, "classic") != (c.om2 == "classic") {
			t.Errorf("%s: the message is %q", c.name, got)
		}
	}
}
