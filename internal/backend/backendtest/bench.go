package backendtest

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// BenchmarkStore measures a store, which must be empty, with records as large as the syncer's:
// heads of 1 KB, as 10 processes with 100,000 series each have, and parts of 2 KB.
func BenchmarkStore(b *testing.B, s backend.Store) {
	ctx := b.Context()
	const heads, parts = 10, 256
	value := func(n int) []byte {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(i * i >> 3)
		}
		return v
	}
	head, part := value(1000), value(2000)
	must := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	group := func(i int) string { return fmt.Sprintf("i%016x", i) }
	var keys []backend.Key
	for i := range heads {
		c := &backend.Commit{Heads: map[string][]byte{group(i): head}, Parts: make(map[backend.Key][]byte)}
		for n := range uint32(parts) {
			c.Parts[backend.Key{Group: group(i), Part: n}] = part
		}
		must(b, s.Commit(ctx, c))
	}
	for n := range uint32(parts) {
		keys = append(keys, backend.Key{Group: group(0), Part: n})
	}
	for _, n := range []int{1, 40} { // 40 parts are the largest commit of a publication
		b.Run(fmt.Sprintf("Commit/parts=%d", n), func(b *testing.B) {
			c := &backend.Commit{If: map[string][]byte{group(0): head}, Heads: map[string][]byte{group(0): head}, Parts: make(map[backend.Key][]byte)}
			for _, k := range keys[:n] {
				c.Parts[k] = part
			}
			for b.Loop() {
				must(b, s.Commit(ctx, c))
			}
		})
	}
	b.Run(fmt.Sprintf("Heads/heads=%d", heads), func(b *testing.B) {
		for b.Loop() {
			if got, err := s.Heads(ctx); err != nil || len(got) != heads {
				b.Fatal(len(got), err)
			}
		}
	})
	b.Run(fmt.Sprintf("Get/parts=%d", parts), func(b *testing.B) {
		b.SetBytes(parts * int64(len(part)))
		for b.Loop() {
			if got, err := s.Get(ctx, keys); err != nil || len(got) != parts {
				b.Fatal(len(got), err)
			}
		}
	})
}

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
