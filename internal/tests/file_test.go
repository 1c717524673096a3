//go:build linux

package tests_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

// Once a file has reached its limit, further label sets count in the overflow series, including
// those from before the bind. The total stays exact, and the refusals are counted.
func TestFileLimit(t *testing.T) {
	t.Parallel()
	url := "shm://" + filepath.Join(t.TempDir(), "shop") + "?fs=any&limit=400KiB"
	r, log := newRegistry(t, &gotheus.RegistryOptions{MaxSeries: -1})
	early := r.NewCounterVec("early_total", "Early.", nil, "n")
	const series = 3000
	for n := range series {
		early.With(fmt.Sprint(n)).Inc()
	}
	bind(t, r, url)
	late := r.NewCounterVec("late_total", "Late.", nil, "n")
	lat := r.NewHistogramVec("seconds", "Seconds.", nil, "n")
	alone := r.NewCounter("alone_total", "Alone.", nil)
	for n := range 20 {
		late.With(fmt.Sprint(n)).Inc()
		early.With(fmt.Sprint(n)).Inc()
		lat.With(fmt.Sprint(n)).Observe(1)
	}
	alone.Inc()
	pageHas(t, r, `late_total{n="gotheus_overflow"} 20`, `seconds_count{n="gotheus_overflow"} 20`, `alone_total 1`,
		`gotheus_overflowed_lookups_total{metric="late_total"} 20`, `gotheus_postponed_series{process="0"} 0`)
	total := 0
	var all strings.Builder
	if err := r.WriteText(&all); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(all.String()) {
		var n int
		if _, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(line, "early_total") {
			fmt.Sscan(value, &n)
			total += n
		}
	}
	if total != series+20 {
		t.Errorf("%d early updates, want %d", total, series+20)
	}
	if !strings.Contains(log.String(), "the backend's limit of series is reached") || !strings.Contains(log.String(), "metric=late_total") {
		t.Errorf("log: %s", log)
	}
	other, _ := newRegistry(t, nil) // stands for another process
	bind(t, other, url)
	if a, b := page(t, r), page(t, other); a != b {
		t.Errorf("the pages differ:\n%s\n%s", a, b)
	}
}

// Refused series also share the exponential buckets and exemplars of the overflow series: they are
// refused once, and not again for each block.
func TestFileLimitFurther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	url := "shm://" + path + "?fs=any&limit=512KiB"
	r, log := newRegistry(t, &gotheus.RegistryOptions{MaxSeries: -1})
	bind(t, r, url)
	filler := r.NewCounterVec("filler_total", "Filler.", nil, "n")
	for n := range 4000 {
		filler.With(fmt.Sprint(n)).Inc()
	}
	sizes := r.NewHistogramVec("sizes", "Sizes.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{}}, "n")
	for n := range 3 {
		h := sizes.With(fmt.Sprint(n))
		for i := range 60 { // more buckets than a series has at first
			h.ObserveExemplar(math.Pow(1.1, float64(i)), gotheus.Labels{"trace": fmt.Sprint(n, i)})
		}
	}
	for n, name := range []string{"0", "1", "2", "gotheus_overflow"} {
		if n == 3 {
			page(t, r) // makes this registry read the file
		}
		if h := sizes.With(name); h.Count() != 180 && n == 3 || h.Count() < 60 {
			t.Errorf("%s: %d observed", name, h.Count())
		}
	}
	report, err := shm.Inspect(path + shm.Suffix)
	if err != nil || len(report.Problems) > 0 {
		t.Fatal(report, err)
	}
	auxiliary := 0
	for _, f := range report.Families {
		if f.Family.Name != "sizes" {
			continue
		}
		if !slices.Equal(f.Series, []string{`n="gotheus_overflow"`}) {
			t.Errorf("%v has the series %q", f.Family.Block, f.Series)
		}
		if f.Family.Block.Role != 0 {
			auxiliary++
		}
	}
	if auxiliary != 2 { // a block of buckets, and exemplars
		t.Errorf("%d auxiliary families", auxiliary)
	}
	for _, other := range []string{"exemplars are dropped", "has no room for a series"} {
		if strings.Contains(log.String(), other) {
			t.Errorf("log: %s", log)
		}
	}
}

// A damaged file is set aside, and that is logged.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	if err := os.WriteFile(path+".gotheus-v2", []byte("not a file of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, log := newRegistry(t, nil)
	bind(t, r, "shm://"+path+"?fs=any&limit=1MiB")
	r.NewCounter("c_total", "C.", nil).Inc()
	pageHas(t, r, "c_total 1", `gotheus_backend_up{process="0"} 1`)
	if !strings.Contains(log.String(), "was set aside as "+path+".gotheus-v2.damaged-") {
		t.Errorf("log: %s", log)
	}
}

// A rolling deployment: half of the processes have different buckets, labels and help for the same
// names. All keep counting exactly, every page is valid and shows the definition that a live
// process declared last, and when the old processes have ended, their data can be removed.
func TestRollingDeploy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	url := "shm://" + path + "?fs=any&limit=8MiB"
	type build struct {
		*gotheus.Registry
		log  *testLog
		lat  *gotheus.Histogram
		reqs func()
	}
	start := func(buckets []float64, help string, labels ...string) *build {
		r, log := newRegistry(t, nil)
		bind(t, r, url)
		b := &build{Registry: r, log: log}
		b.lat = r.NewHistogram("seconds", help, &gotheus.HistogramOptions{Buckets: buckets})
		v := r.NewCounterVec("requests_total", help, nil, labels...)
		values := make([]string, len(labels))
		for i := range values {
			values[i] = "x"
		}
		b.reqs = func() { v.With(values...).Inc() }
		return b
	}
	old := start([]float64{1, 2}, "Old.", "code")
	update := func(b *build) {
		b.lat.Observe(1.5)
		b.reqs()
	}
	update(old)
	pageHas(t, old.Registry, `seconds_bucket{le="2"} 1`, `requests_total{code="x"} 1`)
	young := start([]float64{5}, "New.", "code", "method")
	for range 3 {
		update(young)
		update(old)
	}
	for _, b := range []*build{old, young} {
		pageHas(t, b.Registry, `# HELP seconds New.`, `seconds_bucket{le="5"} 3`, `seconds_count 3`,
			`requests_total{code="x"} 4`, `requests_total{code="x",method="x"} 3`, `gotheus_hidden_series 1`)
		if strings.Contains(page(t, b.Registry), `le="2"`) {
			t.Error("both schemas are shown")
		}
		if !strings.Contains(b.log.String(), "programs disagree about a metric") || !strings.Contains(b.log.String(), "buckets [1 2]") {
			t.Errorf("log: %s", b.log)
		}
	}
	// A restarted old process declares last, and no counts are lost.
	again := start([]float64{1, 2}, "Old.", "code")
	pageHas(t, young.Registry, `seconds_bucket{le="2"} 4`, `seconds_count 4`)
	again.Close(t.Context())
	old.Close(t.Context())
	// Only the new process is live.
	pageHas(t, young.Registry, `seconds_count 3`, `gotheus_hidden_series 1`)
	b, err := shm.Open(path, &shm.Options{AnyFileSystem: true, Limit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Forget("seconds"); n != 1 || err != nil {
		t.Errorf("forgot %d series, %v", n, err)
	}
	if n, err := b.Forget("requests_total"); n != 1 || err != nil {
		t.Errorf("forgot %d series, %v", n, err)
	}
	b.Close(t.Context())
	pageHas(t, young.Registry, `seconds_count 3`, `gotheus_hidden_series 0`, `requests_total{code="x",method="x"} 3`)
	if strings.Contains(page(t, young.Registry), `requests_total{code="x"}`) {
		t.Error("the series still exists")
	}
	// The page stays valid: the old build may come back, from zero.
	update(start([]float64{1, 2}, "Old.", "code"))
	pageHas(t, young.Registry, `seconds_bucket{le="2"} 1`, `seconds_count 1`)
}
