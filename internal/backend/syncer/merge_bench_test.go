package syncer

import (
	"fmt"
	"math"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
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

// fleet returns a Syncer that knows many instances with the same counters, and a function that
// changes all words of one instance in a chunk.
func fleet(def *backend.Family, instances, series int) (s *Syncer, change func(id uint64, n uint32)) {
	s = newSingle(nil, options{manual: true})
	fam := s.family(def)
	s.appendFamily(fam, def.Help)
	for i := range series {
		s.assignNext(fam.row(fmt.Sprintf("x=%q", fmt.Sprint(i))))
	}
	words, round := make([]uint64, fam.stored), uint64(0)
	change = func(id uint64, n uint32) {
		var w chunkWriter
		w.begin(nil, n, 1)
		round++
		for _, r := range s.dir.chunk(n) {
			if r == nil {
				break
			}
			clear(words)
			words[0] = uint64(r.id)*7%1000 + round%1000
			words[fam.start] = 1764000000000000000 + uint64(r.id)*1000 + id*1e9
			w.entry(r.id, fam, words, nil)
		}
		c := s.others[id]
		c.chunks[n] = chunk{round, w.end()}
		s.setChanged(c, n)
	}
	for id := range uint64(instances) {
		c := &contributor{id: id + 1, live: true, chunks: make(map[uint32]chunk)}
		c.head.number = id
		c.head.join = id + 1
		s.others[c.id] = c
		for n := range uint32((series + chunkSize - 1) / chunkSize) {
			change(c.id, n)
		}
	}
	return s, change
}

// BenchmarkFleet brings the page of 10,000 counters of each of 1,000 instances up to date, without
// a store: after changes of all of them, of some, or of none.
func BenchmarkFleet(b *testing.B) {
	const instances, series, chunks = 1000, 10_000, (10_000 + chunkSize - 1) / chunkSize
	def := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}}
	for _, bench := range []struct {
		name    string
		changed int
		chunks  uint32
	}{{"all", instances, chunks}, {"every hundredth", 10, chunks}, {"one", 1, chunks}, {"chunk", 1, 1}, {"none", 0, 0}} {
		b.Run(bench.name, func(b *testing.B) {
			s, change := fleet(def, instances, series)
			if err := s.mergeAll(s.newMerger()); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.StopTimer()
				for id := range uint64(bench.changed) {
					for n := range bench.chunks {
						change(1+id*uint64(instances/bench.changed), n)
					}
				}
				b.StartTimer()
				if err := s.mergeAll(s.newMerger()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeads takes over the heads of 1,000 instances, none of which has changed.
func BenchmarkHeads(b *testing.B) {
	s, _ := fleet(&backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}}, 1000, 10_000)
	s.meta.epoch = 1
	heads := make(map[string]store.Head)
	for id, c := range s.others {
		h := instanceHead{epoch: 1, seq: 1 << 20, startMS: 1764000000000, number: id, aliveMS: 15000, pid: id, join: id, dir: 3, host: "host-1", chunks: make(chunkSeqs)}
		for n := range c.chunks {
			h.chunks[n] = 1<<20 - uint64(n)
		}
		heads[livePfx+instanceName(id)] = store.Head{Value: h.encode()}
	}
	for b.Loop() {
		s.observe(heads)
		s.readInstances(heads)
		s.newMerger()
	}
}
