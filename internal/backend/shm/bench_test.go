//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

func benchPath(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "gotheus-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "shop")
}

// Opens a file with 100,000 series, finds one of them, and closes it.
func BenchmarkOpen100k(b *testing.B) {
	path := benchPath(b)
	first := open(b, path, &Options{Limit: 64 << 20})
	for i := range 100_000 {
		cells(b, first, requests, fmt.Sprintf(`code="%d",method="GET"`, i))
	}
	for _, alive := range []bool{true, false} {
		b.Run(fmt.Sprintf("alive=%v", alive), func(b *testing.B) {
			if !alive {
				first.Close(context.Background())
			}
			for b.Loop() {
				s, err := Open(path, nil)
				if err != nil {
					b.Fatal(err)
				}
				cells(b, s, requests, `code="77777",method="GET"`)
				s.Close(context.Background())
				unmap(s.mem)
			}
		})
	}
}

// A creator that follows one that died while holding the lock, at each step of creation.
func BenchmarkCreateAfterDeath(b *testing.B) {
	path := benchPath(b)
	s := open(b, path, &Options{Limit: 256 << 20})
	cells(b, s, requests, `code="",method=""`)
	n := 0
	for b.Loop() {
		b.StopTimer()
		dead, err := Open(path, nil)
		if err != nil {
			b.Fatal(err)
		}
		cells(b, dead, requests, `code="",method=""`)
		dead.takeTurn()
		newRecord(b, dead, fmt.Sprintf(`code="%d",method="x"`, n))
		dead.file.Close() // the kernel releases its locks
		unmap(dead.mem)
		b.StartTimer()
		cells(b, s, requests, fmt.Sprintf(`code="%d",method="y"`, n))
		n++
	}
}

// Bytes of the file per series, and with churn: a thousand label sets exist at a time, and each is
// deleted to make room for another.
func BenchmarkBytesPerSeries(b *testing.B) {
	lat := &backend.Family{Name: "seconds", Help: "S.", Kind: backend.Histogram, Buckets: make([]float64, 11), Labels: []string{"code", "method"}}
	for i := range lat.Buckets {
		lat.Buckets[i] = float64(i)
	}
	for name, f := range map[string]*backend.Family{"counter": requests, "histogram of 11 buckets": lat} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s := open(b, benchPath(b), &Options{Limit: 64 << 20})
				cells(b, s, f, `code="200",method="GET"`)
				before := s.mem.u64(offTail).Load()
				const n = 10_000
				for i := range n {
					cells(b, s, f, fmt.Sprintf(`code="%d",method="GET"`, i))
				}
				b.ReportMetric(float64(s.mem.u64(offTail).Load()-before)/n, "bytes/series")
			}
		})
	}
	b.Run("churn", func(b *testing.B) {
		for b.Loop() {
			path := benchPath(b)
			s := open(b, path, &Options{Limit: 64 << 20})
			const n, at = 50_000, 1000
			for i := range n {
				cells(b, s, requests, fmt.Sprintf(`code="%d",method="GET"`, i))
				if i%at == at-1 {
					s.Delete(requests, func(string) bool { return true })
				}
			}
			grown := s.mem.u64(offTail).Load()
			s.Close(context.Background())
			began := time.Now()
			again := open(b, path, nil)
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/rewrite")
			b.ReportMetric(float64(grown), "bytes/before-restart")
			b.ReportMetric(float64(again.mem.u64(offTail).Load()), "bytes/after-restart")
		}
	})
}
