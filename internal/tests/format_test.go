//go:build linux

package tests_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/internal/needs"
)

// A reader in another language, written from internal/backend/shm/FORMAT.md alone, reads the same
// values from a file in use as the page shows, for metrics of all kinds.
func TestForeignReader(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	// The parts of a process that ends disappear; its shared counts stay.
	for range 2 {
		dead, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		bind(t, dead, "shm://"+path+"?fs=any&limit=8MiB")
		foreignMetrics(dead, 7)
		dead.Close(t.Context())
	}
	var live []*gotheus.Registry
	for n := range 3 {
		r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		bind(t, r, "shm://"+path+"?fs=any&limit=8MiB")
		foreignMetrics(r, n)
		live = append(live, r)
	}
	// Definitions that are shown together, and some that are not.
	live[2].NewCounterVec("shared_total", "Shared.", nil, "a").With("x").Add(3)
	live[1].NewCounterVec("shared_total", "Shared.", nil, "b").With("x").Add(4)
	live[0].NewHistogram("conflict", "C.", &gotheus.HistogramOptions{Buckets: []float64{1}}).Observe(1)
	live[1].NewHistogram("conflict", "C., newer.", &gotheus.HistogramOptions{Buckets: []float64{2}}).Observe(1)
	page(t, live[0])

	got, want := decodePage(t, readForeign(t, path+shm.Suffix)), decodePage(t, foreignPage(t, live[0]))
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: the reader prints\n%v, the page has\n%v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) || len(want) < 20 {
		t.Errorf("%d families, want %d", len(got), len(want))
	}
}

// readForeign returns what the reader prints.
func readForeign(t *testing.T, name string) []byte {
	t.Helper()
	python, err := exec.LookPath("python3")
	needs.Check(t, "python3", err, "apt-get install python3")
	cmd := exec.Command(python, "../backend/shm/testdata/reader.py", name)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	return out
}

// foreignMetrics updates metrics of all kinds as the process with that number.
func foreignMetrics(r *gotheus.Registry, n int) {
	x := float64(n)
	requests := r.NewCounterVec("requests_total", "Requests.", nil, "code", "path")
	requests.With("200", "/").Add(x + .5)
	requests.With("404", "/\\\"\n").AddExemplar(2, gotheus.Labels{"trace": fmt.Sprint("trace ", n)})
	requests.With("500", "gone").Inc()
	requests.DeleteMatching(gotheus.Labels{"code": "500"})
	r.NewCounter("hot_total", "Hot.", &gotheus.CounterOptions{Stripes: 4}).Add(x + 1.25)
	for mode := backend.Shared; mode <= backend.PerInstance; mode++ {
		g := r.NewGaugeVec("gauge_"+strings.ReplaceAll(mode.String(), " ", "_"), "G.", &gotheus.GaugeOptions{Mode: mode}, "z")
		if g.With("idle"); n > 0 {
			g.With("x").Set(x - 1.5)
		}
	}
	r.NewInfo("build_info", "Build.", gotheus.Labels{"version": "1.0", "n": fmt.Sprint(n)})
	r.NewStateSet("state", "State.", []string{"idle", "busy", "odd"}, nil).Set("busy")
	r.NewStateSetVec("states", "States.", []string{"a", "b"}, &gotheus.StateSetOptions{Mode: gotheus.ModePerProcess}, "w").With("1").Set("b")
	classic := r.NewHistogramVec("call_seconds", "Seconds.", &gotheus.HistogramOptions{Unit: "seconds", Buckets: []float64{.1, 1, 10}}, "path")
	classic.With("/").Observe(x)
	// An exemplar that needs the larger slot.
	classic.With("/").ObserveExemplar(.05, gotheus.Labels{"trace": strings.Repeat("long", 28)})
	r.NewHistogram("striped", "Striped.", &gotheus.HistogramOptions{Stripes: 2, Buckets: []float64{1, 2, 3, 4, 5, 6, 7}}).Observe(x)
	// Negative sum.
	r.NewHistogram("below", "Below zero.", &gotheus.HistogramOptions{Buckets: []float64{-1, 0}}).Observe(-x - .5)
	native := r.NewHistogram("native", "Native.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{}})
	both := r.NewHistogram("both", "Both.", &gotheus.HistogramOptions{Buckets: []float64{1, 5}, Native: &gotheus.NativeOptions{Factor: 4}})
	coarse := r.NewHistogram("coarse", "Coarse.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 300, ZeroThreshold: .5}})
	for i := range 100 {
		v := math.Pow(1.1, float64(i))
		native.ObserveExemplar(v, gotheus.Labels{"i": strconv.Itoa(i)})
		native.Observe(-v / 7 * float64(i%3))
		both.Observe(v - 2)
		coarse.Observe(v*v - 50)
	}
	native.ObserveN(.3, 5)
	coarse.Observe(-.25)
	quantiles := r.NewSummaryVec("took", "Took.", &gotheus.SummaryOptions{Objectives: []float64{0, .5, .99, 1}}, "job")
	plain := r.NewSummary("plain", "Plain.", nil)
	for i := range 300 {
		quantiles.With("a").Observe(float64(i-20) * (x + 1))
		plain.Observe(float64(i) / 2)
	}
}

// decodePage returns the families of a page by name, as the reader prints them.
func decodePage(t *testing.T, p []byte) map[string]any {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal(p, &list); err != nil {
		t.Fatalf("%v: %s", err, p)
	}
	names := make(map[string]any)
	for _, f := range list {
		for _, s := range f["series"].([]any) {
			for _, q := range orNone(s.(map[string]any)["quantiles"]) {
				q := q.([]any) // computed from counts
				q[1] = fmt.Sprintf("%.9g", q[1])
				q[0] = strings.TrimSuffix(q[0].(string), ".0")
			}
			if s := s.(map[string]any); s["native"] != nil && s["buckets"] == nil {
				// A page does not show their bucket.
				for i, e := range orNone(s["exemplars"]) {
					s["exemplars"].([]any)[i] = e.([]any)[max(len(e.([]any))-3, 0):]
				}
			}
			for _, b := range orNone(s.(map[string]any)["buckets"]) {
				b := b.([]any)
				b[0] = strings.TrimSuffix(b[0].(string), ".0")
			}
		}
		names[f["name"].(string)] = f
	}
	return names
}

func orNone(v any) []any {
	list, _ := v.([]any)
	return list
}

// foreignPage is a registry's page as the reader prints it.
func foreignPage(t *testing.T, r *gotheus.Registry) []byte {
	t.Helper()
	var list []any
	for f, err := range r.Families(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var series []map[string]any
		for p := range f.Points() {
			series = append(series, foreignPoint(t, f, &p))
		}
		slices.SortFunc(series, func(a, b map[string]any) int { return cmp.Compare(a["labels"].(string), b["labels"].(string)) })
		if len(series) > 0 {
			list = append(list, map[string]any{"name": f.Name, "help": f.Help, "series": series})
		}
	}
	p, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func foreignPoint(t *testing.T, f *gotheus.Family, p *gotheus.Point) map[string]any {
	slices.SortFunc(p.Labels, func(a, b gotheus.Label) int { return cmp.Compare(a.Name, b.Name) })
	var names, values []string
	for _, l := range p.Labels {
		names, values = append(names, l.Name), append(values, l.Value)
	}
	labels, err := (&backend.Family{Labels: names}).LabelText(values...)
	if err != nil {
		t.Fatal(err)
	}
	s := map[string]any{"labels": labels}
	exemplars := func(list ...expo.Exemplar) {
		var shown []any
		for slot, e := range list {
			if e.Time != 0 {
				shown = append(shown, []any{slot, e.Time, e.Value, e.Labels})
			}
		}
		if shown != nil {
			s["exemplars"] = shown
		}
	}
	if n := p.Number; n != nil {
		s["value"] = n.Value()
		if n.Start != 0 {
			s["start"] = n.Start
		}
		exemplars(n.Exemplar)
		return s
	}
	d := p.Distribution
	s["count"], s["sum"] = d.Count, d.Sum
	if d.Start != 0 {
		s["start"] = d.Start
	}
	if d.Quantiles != nil && f.Type == expo.Summary && len(f.Bounds) > 0 {
		var list []any
		for i, q := range f.Bounds {
			list = append(list, []any{fmt.Sprint(q), d.Quantiles[i]})
		}
		s["quantiles"] = list
	}
	if f.Type == expo.Histogram && (len(d.Buckets) > 0 || d.Native == nil) {
		var list []any
		for i, b := range f.Bounds {
			list = append(list, []any{fmt.Sprint(b), d.Buckets[i]})
		}
		s["buckets"] = append(list, []any{"inf", d.Count})
		exemplars(d.Exemplars...)
	}
	if n := d.Native; n != nil {
		list := func(buckets []expo.NativeBucket) any {
			all := []any{}
			for _, b := range buckets {
				all = append(all, []any{b.Index, b.Count})
			}
			return all
		}
		s["native"] = map[string]any{"schema": n.Schema, "threshold": n.ZeroThreshold, "zeros": n.ZeroCount,
			"positive": list(n.Positive), "negative": list(n.Negative)}
		if s["buckets"] == nil {
			var shown []any
			for _, e := range n.Exemplars {
				shown = append(shown, []any{e.Time, e.Value, e.Labels})
			}
			if shown != nil {
				s["exemplars"] = shown
			}
		}
	}
	return s
}
