package pagetest

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Awkward are texts that need escaping or look as if they need it.
var Awkward = []string{
	"", " ", "plain", `\`, `\\`, `"`, `\"`, "\n", `\n`, "a\nb\\n\"c\"", "Zürich, 東京 \U0001f980", `a="b",c="d`,
	"{}", "# HELP x y", "tab\tand\rreturn", "nul\x00bell\a", "\u2028\ufeff", "trailing \\", "+Inf", "comma,", `,"`, "# EOF",
}

// Floats are extreme values.
var Floats = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.1, 1e21, 1e-9, 123456789, 1 << 53, 1<<53 + 2, -(1 << 53), 1 << 63, math.Pi,
	math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64,
	math.Inf(1), math.Inf(-1), math.NaN(),
}

// names are metric names that differ in all escapings.
var names = []string{
	"classic", "with:colon", "dotted.name", "dash-ed", "9digits", "spaces in it", "日本", `quo"te`, `back\slash`, "slash/es.and_both",
	"U__looks_escaped", "_", "emoji🦀", "{brace}", "a#b", "a=b,c",
}

var labelNames = []string{"a", "service.name", "b-c", "é", "x:y", "0", `q"`, "under_score", "z z"}

const start = 1700000000_123456789 // nanoseconds

// Corpus returns a page with families of every type, all sorts of metric and label names, and
// extreme floats.
func Corpus() Page {
	var p Page
	family := func(name string, t expo.Type) *Family {
		p = append(p, Family{Family: expo.Family{Name: name, Help: "Help \\ of \"" + name + "\",\nall of it.", Type: t}})
		return &p[len(p)-1]
	}
	for i, name := range names {
		c := family(name+".c_total", expo.Counter)
		c.Add(Row{Number: expo.Number{Int: uint64(i), Float: .5, Start: start}})
		c.Add(Row{Number: expo.Number{Int: 1<<53 + 1}}, labelNames[i%len(labelNames)], "v")
		family(name+".g", expo.Gauge).Add(Row{Number: expo.Number{Float: float64(i)}}, "a", "x", labelNames[i%len(labelNames)]+"2", "comma,")
		h := family(name+".h", expo.Histogram)
		h.Bounds = []float64{.1, 1, 1e6}
		h.Add(Row{Dist: expo.Distribution{Count: 4, Sum: 2.5, Buckets: []uint64{1, 2, 3}, Start: start}})
		s := family(name+".s", expo.Summary)
		s.Bounds = []float64{0, .5, 1}
		s.Add(Row{Dist: expo.Distribution{Count: 4, Sum: 2.5, Quantiles: []float64{1, 2, math.NaN()}}}, labelNames[i%len(labelNames)], "")
	}
	floats := family("floats", expo.Gauge)
	untyped := family("untyped", expo.Untyped)
	for i, v := range Floats {
		floats.Add(Row{Number: expo.Number{Float: v}}, "i", strconv.Itoa(i))
		untyped.Add(Row{Number: expo.Number{Float: v}}, "i", strconv.Itoa(i))
	}
	counters := family("float_counters_total", expo.Counter)
	for i, v := range Floats {
		counters.Add(Row{Number: expo.Number{Float: v, Start: start}}, "i", strconv.Itoa(i))
	}
	family("no_suffix", expo.Counter).Add(Row{Number: expo.Number{Int: 3, Start: start}})
	unit := family("unit_seconds_total", expo.Counter)
	unit.Unit = "seconds"
	unit.Add(Row{Number: expo.Number{Int: 1 << 62}})
	unit2 := family("unit_kilo_bytes", expo.Gauge)
	unit2.Unit = "kilo_bytes"
	unit2.Add(Row{Number: expo.Number{Float: 1}})
	values := family("values", expo.Gauge)
	for i, v := range Awkward {
		values.Add(Row{Number: expo.Number{Float: float64(i)}}, "n", strconv.Itoa(i), "value", v)
	}
	negative := family("negative", expo.Histogram)
	negative.Bounds = []float64{-10.5, -1, 0, 2.5}
	negative.Add(Row{Dist: expo.Distribution{Count: 9, Sum: -3, Buckets: []uint64{1, 2, 3, 4}}}, "a", "x")
	sums := family("sums", expo.Histogram)
	sums.Bounds = []float64{1}
	observed := family("observed", expo.Summary)
	observed.Bounds = []float64{.5, .99}
	for i, v := range []float64{-1, math.NaN(), math.Inf(1), 0, math.MaxFloat64} {
		sums.Add(Row{Dist: expo.Distribution{Count: 1 << 53, Sum: v, Buckets: []uint64{7}}}, "i", strconv.Itoa(i))
		observed.Add(Row{Dist: expo.Distribution{Count: 3, Sum: v, Quantiles: []float64{-v, v}}}, "i", strconv.Itoa(i))
	}
	family("only_inf", expo.Histogram).Add(Row{Dist: expo.Distribution{Count: 2, Sum: 3}})
	family("no_quantiles", expo.Summary).Add(Row{Dist: expo.Distribution{Count: 2, Sum: 3}}, "a", "b")
	family("build_info", expo.Info).Add(Row{Number: expo.Number{Int: 1}}, "version", "1.2", "path.name", "x")
	family("not_an_inf0", expo.Info).Add(Row{Number: expo.Number{Int: 1}}, "version", "1.2")
	for _, name := range []string{"state", "st.ate"} {
		state := family(name, expo.StateSet)
		for i, v := range []string{"on", "off", "bro ken"} {
			state.Add(Row{Number: expo.Number{Int: uint64(i) & 1}}, name, v, "a", "x")
		}
	}
	for t := expo.Untyped; t <= expo.StateSet; t++ {
		f := family("empty_"+strings.ReplaceAll(t.String(), "info", "x_info"), t)
		if t == expo.Histogram {
			f.Bounds = []float64{1}
		}
	}
	return p
}

// Many returns a page with n counters, and n series in total of a gauge, a histogram and a summary.
func Many(n int) Page {
	p := Page{
		{Family: expo.Family{Name: "requests_total", Help: "Requests.", Type: expo.Counter}},
		{Family: expo.Family{Name: "queue_length", Help: "Jobs that wait.", Type: expo.Gauge}},
		{Family: expo.Family{Name: "wait_seconds", Help: "Time.", Type: expo.Histogram, Unit: "seconds", Bounds: []float64{.5, 1}}},
		{Family: expo.Family{Name: "size_bytes", Help: "Sizes.", Type: expo.Summary, Unit: "bytes", Bounds: []float64{.5}}},
	}
	for i := range n {
		path := "/a/" + strconv.Itoa(i)
		p[0].Add(Row{Number: expo.Number{Int: uint64(i), Start: start}}, "path", path, "method", "GET")
		if i%3 == 0 {
			v, c := float64(i)/8, uint64(i)
			p[1].Add(Row{Number: expo.Number{Float: -v}}, "path", path)
			p[2].Add(Row{Dist: expo.Distribution{Count: 3 * c, Sum: v, Buckets: []uint64{c, 2 * c}, Start: start}}, "path", path)
			p[3].Add(Row{Dist: expo.Distribution{Count: c, Sum: v, Quantiles: []float64{v}}}, "path", path)
		}
	}
	return p
}

// Named returns the families of the corpus with conventional names, which include all types and
// extreme values.
func Named() Page {
	return slices.DeleteFunc(Corpus(), func(f Family) bool {
		switch f.Name {
		case "floats", "untyped", "float_counters_total", "values", "negative", "sums", "observed", "only_inf", "no_quantiles", "build_info", "state":
			return false
		}
		return f.Name != "classic.c_total" && f.Name != "classic.g" && !strings.HasPrefix(f.Name, "empty_") && f.Name != "unit_seconds_total"
	})
}

// Exemplars returns a page with exemplars, exponential buckets and times, which not all formats and
// parsers support.
func Exemplars() Page {
	x := expo.Exemplar{Labels: `trace_id="abc"`, Value: .5, Time: start}
	c := Family{Family: expo.Family{Name: "c_total", Help: "C.", Type: expo.Counter}}
	c.Add(Row{Number: expo.Number{Int: 1, Start: start, Exemplar: x}})
	c.Add(Row{Number: expo.Number{Int: 2, Exemplar: expo.Exemplar{Labels: `l="` + strings.Repeat("é", 128) + `"`, Value: 1, Time: start}}}, "too", "long")
	c.Add(Row{Number: expo.Number{Int: 3, Time: start}}, "with", "time")
	h := Family{Family: expo.Family{Name: "h", Help: "H.", Type: expo.Histogram, Bounds: []float64{1, 2}}}
	native := &expo.Native{Schema: 3, ZeroThreshold: 1e-128, ZeroCount: 1,
		Positive:  []expo.NativeBucket{{Index: -3, Count: 2}, {Index: -2, Count: 1}, {Index: 1, Count: 300}, {Index: 2, Count: 1}},
		Negative:  []expo.NativeBucket{{Index: 5, Count: 1}},
		Exemplars: []expo.Exemplar{x, {Labels: "", Value: 2, Time: start + 1}},
	}
	h.Add(Row{Dist: expo.Distribution{Count: 306, Sum: 400, Buckets: []uint64{4, 305}, Exemplars: []expo.Exemplar{x, {}, x}, Start: start}}, "a", "classic")
	both := Family{Family: expo.Family{Name: "hn", Help: "H.", Type: expo.Histogram, Bounds: []float64{1, 2}}}
	both.Add(Row{Dist: expo.Distribution{Count: 306, Sum: 400, Buckets: []uint64{4, 305}, Native: native, Start: start}})
	n := Family{Family: expo.Family{Name: "n", Help: "N.", Type: expo.Histogram}}
	n.Add(Row{Dist: expo.Distribution{Count: 306, Sum: 400, Native: native}})
	n.Add(Row{Dist: expo.Distribution{Native: &expo.Native{}}}, "a", "empty")
	return Page{c, h, both, n}
}

// Random returns a random page that contains the texts.
func Random(r *rand.Rand, texts ...string) Page {
	word := func() string {
		if r.IntN(4) == 0 && len(texts) > 0 {
			return texts[r.IntN(len(texts))]
		}
		return Awkward[r.IntN(len(Awkward))]
	}
	name := func(unique string, list []string) string {
		s := unique + list[r.IntN(len(list))]
		if w := unique + word(); r.IntN(2) == 0 && validName(w) {
			s = w
		}
		return s
	}
	float := func() float64 {
		if r.IntN(2) == 0 {
			return Floats[r.IntN(len(Floats))]
		}
		return math.Float64frombits(r.Uint64())
	}
	var p Page
	for i := range 1 + r.IntN(4) {
		f := Family{Family: expo.Family{Name: name("f"+strconv.Itoa(i)+"x", names), Type: expo.Type(r.IntN(5)), Help: strings.ToValidUTF8(word(), "?")}}
		switch r.IntN(3) {
		case 0:
			f.Name += "_total"
		case 1:
			f.Name += "_seconds"
			f.Unit = "seconds"
		}
		var labels []string
		for j := range r.IntN(4) {
			labels = append(labels, name("l"+strconv.Itoa(j), labelNames))
		}
		if f.isDistribution() {
			for range r.IntN(4) {
				if v := float(); v-v == 0 {
					f.Bounds = append(f.Bounds, v+0)
				}
			}
			slices.Sort(f.Bounds)
			f.Bounds = slices.Compact(f.Bounds)
			if f.Type == expo.Summary {
				f.Bounds = []float64{0, .5, .999}[:r.IntN(4)]
			}
		}
		for j := range r.IntN(4) {
			row := Row{Number: expo.Number{Int: r.Uint64() >> (2 + r.IntN(62)), Float: float()}}
			if f.Type == expo.Gauge || r.IntN(2) == 0 {
				row.Number.Int = 0
			}
			d := &row.Dist
			if r.IntN(2) == 0 {
				row.Number.Start, d.Start = start+int64(j), start+int64(j)
			}
			d.Sum = float()
			for range f.Bounds {
				d.Count += r.Uint64() >> (20 + r.IntN(44))
				d.Buckets = append(d.Buckets, d.Count)
				d.Quantiles = append(d.Quantiles, float())
			}
			d.Count += r.Uint64() >> (20 + r.IntN(44))
			var pairs []string
			for k, l := range labels {
				value := strings.ToValidUTF8(word(), "?")
				if k == 0 {
					value = strconv.Itoa(j) + value
				}
				pairs = append(pairs, l, value)
			}
			if len(labels) == 0 && j > 0 {
				break
			}
			f.Add(row, pairs...)
		}
		slices.SortFunc(f.Rows, func(a, b Row) int { return strings.Compare(a.Text, b.Text) })
		if err := (&backend.Family{Name: f.Name, Help: f.Help, Unit: f.Unit, Kind: backend.Gauge}).Check(); err != nil {
			continue
		}
		p = append(p, f)
	}
	return p
}
