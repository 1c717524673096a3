package judges

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

// shmURL names a shared file that lives as long as the test, on whatever file system.
func shmURL(t testing.TB) string {
	return "shm://" + filepath.Join(t.TempDir(), "words") + "?fs=any"
}

func bind(t testing.TB, r *gotheus.Registry, url string) {
	t.Helper()
	if err := r.Bind(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// take removes one of the registry's own families, which has one series, from a page.
func (p page) take(t testing.TB, name string, value float64) {
	t.Helper()
	f := p[name]
	if f == nil || f.help == "" || len(f.list) != 1 || f.list[0].value != value {
		t.Errorf("%s is %+v, want the value %v", name, f, value)
	}
	delete(p, name)
}

// takeOwn checks the library's own families about a backend that so many processes use, and takes
// them off.
func (p page) takeOwn(t testing.TB, prefix string, processes int) {
	t.Helper()
	p.take(t, prefix+"gotheus_hidden_series", 0)
	for name, want := range map[string]float64{"gotheus_backend_up": 1, "gotheus_postponed_series": 0} {
		f := p[prefix+name]
		if f == nil || len(f.list) != processes {
			t.Errorf("%s is %+v, want it for %d processes", name, f, processes)
			continue
		}
		for _, s := range f.list {
			if s.value != want {
				t.Errorf("%s: %+v, want the value %v", name, s, want)
			}
		}
	}
	maps.DeleteFunc(p, func(name string, _ *family) bool { return strings.HasPrefix(name, prefix+"gotheus_") })
}

// withoutOwn returns a page without the library's own families, which change with each page.
func withoutOwn(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "gotheus_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// TestCorpus compares pages, sample by sample, with what was put into the registry.
func TestCorpus(t *testing.T) {
	t.Parallel()
	options := map[string]gotheus.RegistryOptions{
		"plain": {},
		"prefixed": {Prefix: "shop_", Labels: gotheus.Labels{
			"app": "shop", "m": "between \"a\"\\\nand z", "zone": "",
		}},
	}
	for name, o := range options {
		many := 10_000
		if name != "plain" {
			many = 10
		}
		o.Logger = slog.New(slog.DiscardHandler)
		for _, backend := range []string{"heap", "shm", "shm bound later"} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				t.Parallel()
				r := gotheus.NewRegistry(&o)
				if backend == "shm" {
					bind(t, r, shmURL(t))
				}
				want := corpus(r, o, many)
				if backend == "shm bound later" {
					bind(t, r, shmURL(t))
				}
				if err := r.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				got, body := scrape(t, r)
				got.take(t, o.Prefix+"gotheus_collector_errors_total", 0)
				if backend != "heap" {
					got.takeOwn(t, o.Prefix, 1)
				}
				if d := diff(got, want.page); d != "" {
					t.Errorf("the page is not what was put in: %s", d)
				}
				// The judges round integers that a float64 cannot hold.
				if !bytes.Contains(body, []byte("} 9007199254740993\n")) {
					t.Error("2^53+1 is not on the page to the last digit")
				}
			})
		}
	}
}

// scrape has a registry's page, as the handler serves it, judged.
func scrape(t testing.TB, r *gotheus.Registry) (page, []byte) {
	t.Helper()
	rec := httptest.NewRecorder()
	(&metrichttp.Handler{Registry: r}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if withoutOwn(text.String()) != withoutOwn(rec.Body.String()) {
		t.Error("the handler does not serve what WriteText writes")
	}
	checkFormat(t, rec.Header())
	return judge(t, rec.Header().Get("Content-Type"), rec.Body.Bytes()), rec.Body.Bytes()
}

// checkFormat demands the Content-Type that names the text format 0.0.4 to clients that are strict.
func checkFormat(t testing.TB, h http.Header) {
	t.Helper()
	format := expfmt.ResponseFormat(h)
	if format.FormatType() != expfmt.TypeTextPlain || !strings.Contains(string(format), "version="+expfmt.TextVersion) {
		t.Errorf("Content-Type %q is %q to expfmt", h.Get("Content-Type"), format)
	}
}

// TestEmptyPage: a registry without metrics has a page, too.
func TestEmptyPage(t *testing.T) {
	t.Parallel()
	if got, body := scrape(t, gotheus.NewRegistry(nil)); len(got) != 0 {
		t.Errorf("a page of an empty registry: %s", body)
	}
}
