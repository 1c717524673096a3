package syncer

import (
	"fmt"
	"math"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// BenchmarkMerge merges 100,000 series of ten instances, without a store. Sums of histograms are
// floats, or integers that need no low words.
func BenchmarkMerge(b *testing.B) {
	for name, def := range map[string]*backend.Family{
		"counters":   {Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}},
		"floats":     {Name: "f_total", Help: "F.", Kind: backend.Counter, Labels: []string{"x"}},
		"sums":       {Name: "s", Help: "S.", Kind: backend.Histogram, Labels: []string{"x"}, Buckets: []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"histograms": {Name: "h", Help: "H.", Kind: backend.Histogram, Labels: []string{"x"}, Buckets: []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		b.Run(name, func(b *testing.B) {
			const series, instances = 100_000, 10
			s := newSingle(nil, options{manual: true})
			fam := s.family(def)
			s.appendFamily(fam, def.Help)
			for i := range series {
				s.assignNext(fam.row(fmt.Sprintf("x=%q", fmt.Sprint(i))))
			}
			words := make([]uint64, fam.stored)
			for id := range uint64(instances) {
				c := &contributor{id: id + 1, live: true, chunks: make(map[uint32]chunk)}
				for n := range uint32((series + chunkSize - 1) / chunkSize) {
					var w chunkWriter
					w.begin(nil, n, 1)
					for _, r := range s.dir.chunk(n) {
						if r == nil {
							break
						}
						for i := range words {
							if words[i] = uint64(r.id) * 7 % 1000; fam.isFloat(i) {
								words[i] = 0 // as in most counters
								if name == "floats" || name == "sums" {
									words[i] = math.Float64bits(float64(r.id*7%1000+uint32(id)+1) / 7)
								}
							}
						}
						words[fam.start] = 1764000000000000000 + uint64(r.id)*1000 + id*1e9
						w.entry(r.id, fam, words, nil)
					}
					c.chunks[n] = chunk{1, w.end()}
				}
				s.others[c.id] = c
			}
			for b.Loop() {
				for n := range s.others[1].chunks {
					s.dirty[n] = true
				}
				if err := s.mergeAll(s.newMerger()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series/instances/float64(fam.stored), "ns/word")
		})
	}
}
