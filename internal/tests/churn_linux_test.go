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
