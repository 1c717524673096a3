package backendtest

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// BenchmarkBackend measures what programs and pages need from a backend: adding to a word, from one
// and from all processors; finding and creating a series; syncing and walking 10,000 series.
func BenchmarkBackend(b *testing.B, o Backends) {
	f := &backend.Family{Name: "bench_total", Kind: backend.Counter, Labels: []string{"x"}}
	open := func(b *testing.B) backend.Backend {
		bk, err := o.Open(o.Fresh(b))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := bk.Close(b.Context()); err != nil && b.Context().Err() == nil {
				b.Error(err)
			}
		})
		return bk
	}
	cells := func(b *testing.B, bk backend.Backend, n int) backend.Words {
		w, err := bk.Cells(f, fmt.Sprintf(`x="%d"`, n))
		if err != nil {
			b.Fatal(err)
		}
		return w
	}
	b.Run("Inc", func(b *testing.B) {
		w := &cells(b, open(b), 0)[backend.CounterInt]
		for b.Loop() {
			w.Add(1)
		}
	})
	b.Run("Inc/parallel", func(b *testing.B) {
		w := &cells(b, open(b), 0)[backend.CounterInt]
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				w.Add(1)
			}
		})
	})
	b.Run("Cells/found", func(b *testing.B) {
		bk := open(b)
		cells(b, bk, 0)
		for b.Loop() {
			if _, err := bk.Cells(f, `x="0"`); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Cells/new", func(b *testing.B) {
		const many = 10_000 // per place, so that there is always room
		var bk backend.Backend
		for n := 0; b.Loop(); n++ {
			if n%many == 0 {
				b.StopTimer()
				bk = open(b)
				b.StartTimer()
			}
			cells(b, bk, n%many)
		}
	})
	b.Run("Walk/series=10000", func(b *testing.B) {
		bk := open(b)
		for n := range 10_000 {
			cells(b, bk, n)[backend.CounterInt].Add(uint64(n))
		}
		if err := bk.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := bk.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			sum := uint64(0)
			for _, g := range bk.Walk() {
				for i := range g.Series {
					sum += g.Series[i].Words[backend.CounterInt].Load()
				}
			}
			if sum != 10_000*9_999/2 {
				b.Fatalf("the series add up to %d", sum)
			}
		}
	})
}
