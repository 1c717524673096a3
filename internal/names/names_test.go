package names

import (
	"fmt"
	"maps"
	"testing"

	"github.com/gotheus/gotheus/expo"
)

func TestClash(t *testing.T) {
	t.Parallel()
	shown := Shown{}
	add := func(typ expo.Type, name string) {
		stem, s := Stem(typ, name)
		shown[stem] = Family{name, s}
	}
	add(expo.Counter, "hits_total")
	add(expo.Histogram, "latency")
	add(expo.Gauge, "queue_sum")
	for _, c := range []struct {
		typ        expo.Type
		name, with string
	}{
		{expo.Gauge, "hits", "hits_total"},         // the counter's name in OpenMetrics
		{expo.Gauge, "hits_total", "hits_total"},   // a sample of the counter
		{expo.Gauge, "hits_created", "hits_total"}, // its start time
		{expo.Counter, "latency_count", "latency"}, // a sample of the histogram
		{expo.Gauge, "latency_total", ""},          // histograms have no such sample
		{expo.Summary, "queue", "queue_sum"},       // has a sample with the name
		{expo.Gauge, "queue", ""},
		{expo.Gauge, "hits_total_total", ""},
	} {
		stem, s := Stem(c.typ, c.name)
		if got := shown.Clash(stem, s, nil); got != c.with {
			t.Errorf("%v %s clashes with %q, want %q", c.typ, c.name, got, c.with)
		}
	}
}

func TestSelects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		asked []string
		typ   expo.Type
		name  string
		want  bool
	}{
		{nil, expo.Gauge, "g", true},
		{[]string{"x", "g"}, expo.Gauge, "g", true},
		{[]string{"x"}, expo.Gauge, "g", false},
		{[]string{"hits"}, expo.Counter, "hits_total", true},
		{[]string{"hits_created"}, expo.Counter, "hits_total", true},
		{[]string{"hits_sum"}, expo.Counter, "hits_total", false},
		{[]string{"latency_bucket"}, expo.Histogram, "latency", true},
		{[]string{"latency_bucket"}, expo.Summary, "latency", false},
		{[]string{"build"}, expo.Info, "build_info", true},
		{[]string{"a.b"}, expo.Gauge, "a.b", true},
		{[]string{"a_b"}, expo.Gauge, "a.b", true}, // as escaped
		{[]string{"a_b"}, expo.Gauge, "a_b_c", false},
	} {
		if got := Ask(c.asked).Selects(expo.AllowUTF8, c.typ, c.name); got != c.want {
			t.Errorf("%q selects %v %s: %v, want %v", c.asked, c.typ, c.name, got, c.want)
		}
	}
	families := maps.All(map[expo.Type]string{expo.Counter: "hits_total", expo.Gauge: "a.b"})
	for _, c := range []struct {
		asked []string
		want  bool
	}{
		{nil, true},
		{[]string{"hits", "hits"}, true},
		{[]string{"hits", "hits_total", "hits_created", "a_b", "a.b"}, true},
		{[]string{"hits", "a"}, false},
		{[]string{"hits_sum"}, false},
	} {
		if got := Ask(c.asked).AllSelect(expo.AllowUTF8, families); got != c.want {
			t.Errorf("all of %q select something: %v", c.asked, got)
		}
	}
}

// Names cost once what they cost, not once for each family.
func BenchmarkSelects(b *testing.B) {
	var asked []string
	for i := range 4000 {
		asked = append(asked, fmt.Sprint("asked_", i))
	}
	a := Ask(asked)
	b.ReportAllocs()
	for b.Loop() {
		a.Selects(expo.Underscores, expo.Histogram, "http_request_duration_seconds")
	}
}
