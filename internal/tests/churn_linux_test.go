package tests_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/metrictest"
)

// Tenants come and go, in several registries that share a file, which stays as small as those that
// there are at once: what deleted tenants had serves others. One instrument that the program keeps
// counts on.
func TestTenantsComeAndGo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	var registries []*gotheus.Registry
	for range 2 {
		r := new(gotheus.Registry)
		if err := r.Bind(t.Context(), "shm://"+path+"?fs=any&limit=2MiB"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(t.Context()) })
		registries = append(registries, r)
	}
	a, b := registries[0], registries[1]
	read := func(r *gotheus.Registry) *metrictest.Page {
		page, err := metrictest.Read(r)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	value := func(page *metrictest.Page, sample string) float64 {
		v, ok := page.Value(sample)
		if !ok {
			t.Fatalf("the page has no %s", sample)
		}
		return v
	}
	counters := a.NewCounterVec("requests_total", "Requests.", nil, "tenant")
	sizes := a.NewHistogramVec("sizes", "Sizes.", nil, "tenant")
	others := b.NewCounterVec("requests_total", "Requests.", nil, "tenant")
	total := a.NewCounter("all_total", "All.", nil)
	kept := counters.With("kept")
	const atOnce, generations = 300, 40 // without reuse, some 6 MB
	for g := range generations {
		for i := range atOnce {
			name := fmt.Sprintf("tenant-%04d-%04d", g, i)
			counters.With(name).Add(float64(g + 1))
			others.With(name).Inc()
			sizes.With(name).Observe(float64(i))
			total.Inc()
		}
		if g%10 == 3 {
			counters.Delete("kept")
		}
		kept.Inc()
		page := read(b)
		if got := page.Series("requests_total"); got != atOnce+1 {
			t.Fatalf("generation %d: %d series", g, got)
		}
		if got := value(page, fmt.Sprintf(`requests_total{tenant="tenant-%04d-0007"}`, g)); got != float64(g+2) {
			t.Fatalf("generation %d: a tenant has counted %v", g, got)
		}
		for i := range atOnce {
			name := fmt.Sprintf("tenant-%04d-%04d", g, i)
			if !counters.Delete(name) || !sizes.Delete(name) {
				t.Fatal("there was no series")
			}
		}
		reclaim(t, path, a, b)
	}
	page := read(a)
	if got := value(page, "all_total"); got != atOnce*generations {
		t.Errorf("counted %v", got)
	}
	if got := value(page, `requests_total{tenant="kept"}`); got != 7 {
		t.Errorf("the kept instrument has counted %v since it was last deleted", got)
	}
	if n := value(page, "gotheus_backend_used_bytes"); n > 1.2e6 {
		t.Errorf("%v bytes are used", n)
	}
	if page.Series("gotheus_overflowed_lookups_total") > 0 {
		t.Error("there was no room for some")
	}
	if st, err := os.Stat(path + ".gotheus-v2"); err != nil || st.Size() > 2<<20 {
		t.Error(st, err)
	}
}

// reclaim collects garbage until most of the space that deleted series had is free.
func reclaim(t *testing.T, path string, list ...*gotheus.Registry) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		runtime.GC()
		for _, r := range list {
			inside.Home(r).Reclaim()
		}
		r, err := shm.Inspect(path + shm.Suffix)
		if err != nil || len(r.Problems) > 0 {
			t.Fatal(err, r)
		}
		if r.Free > r.Waste/2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are wasted, %d of them free", r.Waste, r.Free)
		}
	}
}

// What pages cost after 100,000 series were deleted, and without that.
func BenchmarkScrapeAfterDeletions(b *testing.B) {
	for _, deleted := range []int{0, 100_000} {
		b.Run(fmt.Sprint(deleted), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "shop")
			r := new(gotheus.Registry)
			if err := r.Bind(b.Context(), "shm://"+path+"?fs=any"); err != nil {
				b.Fatal(err)
			}
			defer r.Close(b.Context())
			v := r.NewCounterVec("requests_total", "Requests.", &gotheus.CounterOptions{MaxSeries: -1}, "tenant")
			for i := range deleted {
				v.With(fmt.Sprintf("tenant-%06d", i)).Inc()
			}
			v.DeleteAll()
			for range 3 {
				inside.Home(r).Reclaim()
			}
			for b.Loop() {
				if err := r.WriteText(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A counter that found no room counts in the overflow series. When that is deleted, and its space
// serves another series, the counter does not count there.
func TestRefusedAfterOverflowWasDeleted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a, b := new(gotheus.Registry), new(gotheus.Registry)
	bind := func(r *gotheus.Registry) {
		if err := r.Bind(t.Context(), "shm://"+path+"?fs=any&limit=2MiB"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(t.Context()) })
	}
	bind(b)
	others := b.NewCounterVec("requests_total", "Requests.", nil, "tenant")
	for i := range 3 {
		others.With(fmt.Sprint("x", i)).Inc()
	}
	mine := a.NewCounterVec("requests_total", "Requests.", &gotheus.CounterOptions{MaxSeries: 2}, "tenant")
	c := mine.With("a")
	c.Inc()
	bind(a)
	c.Inc()
	if !others.Delete("gotheus_overflow") {
		t.Fatal("the counter was not refused")
	}
	for range 6 {
		runtime.GC()
		inside.Home(a).Reclaim()
		inside.Home(b).Reclaim()
	}
	for i := range 5 {
		others.With(fmt.Sprint("new", i))
	}
	for range 1000 {
		c.Inc()
	}
	p, err := metrictest.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if v, _ := p.Value(fmt.Sprintf(`requests_total{tenant="new%d"}`, i)); v != 0 {
			t.Errorf("new%d has %v although nobody counted there", i, v)
		}
	}
	if v, _ := p.Value(`requests_total{tenant="gotheus_overflow"}`); v != 1000 {
		t.Errorf("the overflow series has %v", v)
	}
}

// In a full file, MaxSeries bounds what a process remembers; when there is room again, label sets
// that were refused get series of their own.
func TestFullFileHasRoomAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	r := new(gotheus.Registry)
	if err := r.Bind(t.Context(), "shm://"+path+"?fs=any&limit=1MiB"); err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context())
	const most = 10_000
	v := r.NewCounterVec("requests_total", "Requests.", &gotheus.CounterOptions{MaxSeries: most}, "tenant")
	name := func(i int) string { return fmt.Sprintf("t%07d", i) }
	for i := range 3 * most {
		v.With(name(i)).Inc()
	}
	exists := func(name string) bool {
		p, err := metrictest.Read(r)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := p.Value(fmt.Sprintf(`requests_total{tenant=%q}`, name))
		return ok
	}
	last, overflow := -1, v.With("gotheus_overflow")
	for i := range most {
		if v.With(name(i)) != overflow {
			last = i
		}
	}
	if last < most/10 || exists(name(last)) || v.With(name(3*most-1)) != overflow {
		t.Fatalf("%d label sets have instruments of their own", last)
	}
	for i := range 5000 { // more than were refused
		v.Delete(name(i))
	}
	for range 50 {
		runtime.GC()
		inside.Home(r).Reclaim()
	}
	v.With(name(last)).Inc()
	if !exists(name(last)) {
		t.Error("a label set that was refused has no series although there is room")
	}
	v.With("new").Inc()
	if !exists("new") {
		t.Error("a new label set has no series although there is room")
	}
}

// An instrument that is kept, but not used, holds one former record at most: not those of later
// lives of its label set.
func TestKeptInstrumentHoldsLittle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	r := new(gotheus.Registry)
	if err := r.Bind(t.Context(), "shm://"+path+"?fs=any&limit=2MiB"); err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context())
	v := r.NewCounterVec("requests_total", "Requests.", nil, "tenant")
	kept := v.With("kept")
	for i := range 200 {
		v.With("kept").Inc()
		v.Delete("kept")
		if i%20 == 0 {
			runtime.GC()
			inside.Home(r).Reclaim()
		}
	}
	var report *shm.Report
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		reclaim(t, path, r)
		if report, err = shm.Inspect(path + shm.Suffix); err != nil || report.Waste-report.Free <= 2*128 {
			break
		}
	}
	if err != nil || report.Waste-report.Free > 2*128 {
		t.Errorf("%v; %d bytes are wasted, %d of them free", err, report.Waste, report.Free)
	}
	runtime.KeepAlive(kept)
}
