package expo_test

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
)

func TestText(t *testing.T) {
	t.Parallel()
	e := expo.NewEncoder(expo.Format{})
	var b []byte
	b = e.Family(b, &expo.Family{Name: "c_total", Help: "Back\\slash, \"quote\",\nline.", Type: expo.Counter})
	b = e.Number(b, "", &expo.Number{Int: 1<<53 + 1})
	b = e.Number(b, `a="b"`, &expo.Number{Int: 1, Float: .5})
	b = e.Family(b, &expo.Family{Name: "g", Type: expo.Gauge})
	for _, v := range []float64{0, math.Copysign(0, -1), 1e21, -1e-7, math.Inf(1), math.Inf(-1), math.NaN(), 1 << 53, math.MaxFloat64} {
		b = e.Number(b, "", &expo.Number{Float: v})
	}
	b = e.Family(b, &expo.Family{Name: "h", Help: "H.", Type: expo.Histogram, Bounds: []float64{-1, .5, 1e6}})
	b = e.Distribution(b, "", &expo.Distribution{Count: 9, Sum: -2.5, Buckets: []uint64{1, 2, 3}})
	b = e.Distribution(b, `x="y"`, &expo.Distribution{Count: 9, Sum: 1, Buckets: []uint64{1, 2, 3}})
	b = e.Family(b, &expo.Family{Name: "s", Help: "S.", Type: expo.Summary, Bounds: []float64{.5, 1}})
	b = e.Distribution(b, `x="y"`, &expo.Distribution{Count: 2, Sum: 3, Quantiles: []float64{1.5, math.NaN()}})
	b = e.Family(b, &expo.Family{Name: "plain", Help: "P.", Type: expo.Summary})
	b = e.Distribution(b, "", &expo.Distribution{Count: 2, Sum: 3})
	b = e.Family(b, &expo.Family{Name: "u", Help: "U.", Type: expo.Untyped})
	b = e.Number(b, "", &expo.Number{Float: 7})
	b = e.End(b)
	want, err := os.ReadFile("testdata/page.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(want) {
		t.Errorf("got:\n%s", b)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	if got := (expo.Format{}).ContentType(); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("got %q", got)
	}
	for typ, want := range map[expo.Type]string{expo.Untyped: "untyped", expo.Counter: "counter", expo.Gauge: "gauge", expo.Histogram: "histogram", expo.Summary: "summary"} {
		if typ.String() != want {
			t.Errorf("%d is %s", typ, typ)
		}
	}
}

func TestAllocations(t *testing.T) {
	e := expo.NewEncoder(expo.Format{})
	f := &expo.Family{Name: "h", Help: "H.", Type: expo.Histogram, Bounds: []float64{-1, .5, 1e6}}
	d := &expo.Distribution{Count: 9, Sum: -2.5, Buckets: []uint64{1, 2, 3}}
	b := make([]byte, 0, 1<<12)
	e.Family(b, f)
	number := &expo.Number{Int: 3, Float: .5}
	if n := testing.AllocsPerRun(100, func() {
		b := e.Family(b, f)
		b = e.Distribution(b, `x="y"`, d)
		e.Number(b, `x="y"`, number)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzText checks that help stays on one line, and that numbers read back unchanged.
func FuzzText(f *testing.F) {
	f.Add("a\\nb\n", 1.5, uint64(3))
	f.Add("", 1e300, uint64(1<<62))
	f.Add("\r\\", 0.0, uint64(0))
	f.Fuzz(func(t *testing.T, help string, v float64, n uint64) {
		e := expo.NewEncoder(expo.Format{})
		b := e.Family(nil, &expo.Family{Name: "x", Help: help, Type: expo.Gauge})
		b = e.Number(b, "", &expo.Number{Float: v})
		b = e.Number(b, "", &expo.Number{Int: n})
		lines := strings.Split(string(b), "\n")
		if len(lines) != 5 || lines[4] != "" {
			t.Fatalf("%d lines: %q", len(lines), b)
		}
		escaped := strings.TrimPrefix(lines[0], "# HELP x ")
		if got := strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(escaped); got != help {
			t.Errorf("help %q comes back as %q", help, got)
		}
		got, err := strconv.ParseFloat(strings.TrimPrefix(lines[2], "x "), 64)
		if err != nil || got != v && !(math.IsNaN(got) && math.IsNaN(v)) {
			t.Errorf("%v comes back as %q", v, lines[2])
		}
		if got, err := strconv.ParseUint(strings.TrimPrefix(lines[3], "x "), 10, 64); err != nil || got != n {
			t.Errorf("%d comes back as %q", n, lines[3])
		}
	})
}
