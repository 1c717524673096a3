package compress

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

func registry(series int) *gotheus.Registry {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{MaxSeries: -1, NoSelfMetrics: true})
	v := r.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	for i := range series {
		v.With("GET", "/api/v1/route/"+strconv.Itoa(i)).Add(float64(i * 7919 % 100003))
	}
	return r
}

func scrape(h http.Handler, accept string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("GET", "/metrics", nil)
	req.Header.Set("Accept-Encoding", accept)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

// TestCodings checks that Prometheus gets the coding that it asks for, also with concurrent
// scrapers, which share compressors.
func TestCodings(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*gotheus.Registry{"empty": registry(0), "small": registry(3), "large": registry(20000)} {
		var want strings.Builder
		if err := r.WriteText(&want); err != nil {
			t.Fatal(err)
		}
		h := &metrichttp.Handler{Registry: r, Timeout: 5 * time.Minute}
		var wait sync.WaitGroup
		for accept, coding := range map[string]string{
			"zstd,gzip": "zstd", "gzip": "gzip", "gzip;q=0.9, zstd;q=0.1": "gzip", "zstd": "zstd", "identity": "", "": "", "zstd;q=0, *": "gzip", "br": "",
		} {
			for range 3 {
				wait.Add(1)
				go func() {
					defer wait.Done()
					rec := scrape(h, accept)
					if got := rec.Header().Get("Content-Encoding"); got != coding {
						t.Errorf("%q: %q, want %q", accept, got, coding)
						return
					}
					body, err := decode(coding, rec.Body)
					if err != nil || string(body) != want.String() {
						t.Errorf("%s, %q: %d bytes, want %d, %v", name, accept, len(body), want.Len(), err)
					}
				}()
			}
		}
		wait.Wait()
	}
}

func decode(coding string, r io.Reader) ([]byte, error) {
	switch coding {
	case "gzip":
		z, err := stdgzip.NewReader(r) // another implementation than the one that wrote it
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	}
	return io.ReadAll(r)
}

// BenchmarkLevels compares time and size of the possible levels: go test -bench Levels .
func BenchmarkLevels(b *testing.B) {
	var page bytes.Buffer
	if err := registry(100000).WriteText(&page); err != nil {
		b.Fatal(err)
	}
	run := func(name string, z metrichttp.Compressor) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(page.Len()))
			b.ReportAllocs()
			var size counter
			for b.Loop() {
				size = 0
				z.Reset(&size)
				for p := page.Bytes(); len(p) > 0; {
					n := min(len(p), 32<<10)
					if _, err := z.Write(p[:n]); err != nil {
						b.Fatal(err)
					}
					p = p[n:]
				}
				if err := z.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(100*float64(size)/float64(page.Len()), "%size")
		})
	}
	for _, level := range []int{1, 3, 6} {
		std, _ := stdgzip.NewWriterLevel(nil, level)
		run(fmt.Sprintf("standard-gzip-%d", level), std)
		fast, _ := gzip.NewWriterLevel(nil, level)
		run(fmt.Sprintf("gzip-%d", level), fast)
	}
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression} {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			b.Fatal(err)
		}
		run("zstd-"+level.String(), z)
	}
	run("chosen-gzip", newGzip())
	run("chosen-zstd", newZstd())
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
