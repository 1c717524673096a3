package syncer

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// fuzzFamilies have words of every kind.
func fuzzFamilies() []*backend.Family {
	native := &backend.Family{Name: "n", Help: "N.", Kind: backend.Histogram, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}
	counter := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter}
	return []*backend.Family{
		counter,
		{Name: "s_total", Help: "S.", Kind: backend.Counter, Stripes: 3},
		{Name: "g", Help: "G.", Kind: backend.Gauge},
		{Name: "m", Help: "M.", Kind: backend.Gauge, Mode: backend.Max},
		{Name: "h", Help: "H.", Kind: backend.Histogram, Buckets: []float64{1, 2}},
		native,
		native.With(backend.Block{Role: backend.BucketRole, Size: 64}),
		{Name: "q", Help: "Q.", Kind: backend.Summary, Sketch: &backend.Sketch{Quantiles: []float64{.5}, PerDoubling: 8, Slots: 5, MaxAge: 6e10}},
		counter.With(backend.Block{Role: backend.ExemplarRole, Size: 4}),
	}
}

// newFuzzed returns a syncer whose directory has one series of each family.
func newFuzzed(t testing.TB) *Syncer {
	s := newSingle(nil, options{manual: true})
	s.dir.version = 1
	for _, f := range fuzzFamilies() {
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		fam := s.family(f)
		s.appendFamily(fam, f.Help)
		s.assignNext(fam.row(""))
	}
	return s
}

// Any record is either refused or read; what is read can be written, folded, merged and shown.
func FuzzChunk(f *testing.F) {
	s := newFuzzed(f)
	for i := range 4 {
		list, n := i&1, []uint32{0, gaugeChunks}[i&1]
		var w chunkWriter
		w.begin(nil, n, 1)
		for _, r := range s.assigned(list) {
			words := make([]uint64, r.fam.stored)
			for i := range words {
				if i < 3 {
					words[i] = uint64(i)
				}
			}
			var low []uint64
			if i > 1 {
				low = slices.Repeat([]uint64{math.Float64bits(0.5)}, len(r.fam.floats))
			}
			w.entry(r.id, r.fam, words, low)
		}
		f.Add(chunk{7, w.end()}.part(), list == 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, shared bool) {
		n := uint32(0)
		if shared {
			n = gaugeChunks
		}
		c, err := parsePart(b)
		if err != nil {
			return
		}
		s := newFuzzed(t)
		entries, err := s.decode(n, &contributor{chunks: map[uint32]chunk{n: c}})
		if checked := s.checkChunk(n, c); (checked == nil) != (err == nil) {
			t.Fatalf("read: %v, checked: %v", err, checked)
		}
		if err == nil {
			again, err := s.decode(n, &contributor{chunks: map[uint32]chunk{n: s.encode(n, entries, c.seq)}})
			if err != nil || !reflect.DeepEqual(again, entries) {
				t.Fatalf("%v became %v, %v", entries, again, err)
			}
			for id, e := range again {
				if f := e.row.fam; e.words != nil && !f.parts {
					e.words, e.low = f.fold(e.words, e.low, entries[id].words, entries[id].low)
					again[id] = e
				}
			}
			if _, err := s.decode(n, &contributor{chunks: map[uint32]chunk{n: s.encode(n, again, c.seq)}}); err != nil {
				t.Fatalf("%v, folded: %v", again, err)
			}
		}
		// As the words of another process, twice.
		s.others[1] = &contributor{id: 1, live: true, chunks: map[uint32]chunk{n: c}}
		s.others[2] = &contributor{id: 2, live: true, head: instanceHead{number: 1}, chunks: map[uint32]chunk{n: c}}
		s.checkGroups()
		for range 3 {
			s.dirty[n] = true
			if merr := s.mergeAll(s.newMerger()); (merr == nil) != (err == nil) {
				t.Fatalf("read: %v, merged: %v", err, merr)
			}
		}
		for _, g := range s.Walk() {
			for i := range g.Series {
				g.Exists(i)
			}
		}
	})
}

func FuzzHeads(f *testing.F) {
	m := meta{epoch: 5, recovered: true, shard: 9, shards: 10, server: "a"}
	f.Add(m.encode())
	i := instanceHead{seq: 300, startMS: 1, number: 2, aliveMS: 10000, stamp: 1 << 40, pid: 9, host: "web", chunks: chunkSeqs{0: 1, 3: 2, gaugeChunks: 300}}
	f.Add(i.encode())
	b := baseHead{version: 4, stamp: 5, chunks: chunkSeqs{1: 2}, folds: []fold{{6, 7}}}
	f.Add(b.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		check := func(got, again any, err error) {
			if err != nil || !reflect.DeepEqual(got, again) {
				t.Fatalf("%+v became %+v, %v", got, again, err)
			}
		}
		var m, m2 meta
		if m.decode(raw) == nil {
			err := m2.decode(m.encode())
			check(m, m2, err)
		}
		var i, i2 instanceHead
		if i.decode(raw) == nil {
			err := i2.decode(i.encode())
			check(i, i2, err)
		}
		var b, b2 baseHead
		if len(raw) > 0 && b.decode(raw) == nil {
			err := b2.decode(b.encode())
			check(b, b2, err)
		}
	})
}

// Directory records that this version does not write are refused or kept unchanged.
func FuzzDirectory(f *testing.F) {
	for _, def := range fuzzFamilies() {
		f.Add(newFamily(def.Schema(), def, storedWords(def), def.StartWord(), isShared(def)).entry("Help."), []byte("\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, family, entries []byte) {
		s := newSingle(nil, options{manual: true})
		if s.readFamily(family) != nil {
			return
		}
		fam := s.dir.families[0]
		help := ""
		if fam.def != nil {
			help = fam.def.Help
			if !bytes.Equal(s.dir.families[0].entry(help), family) && fam.def.Schema() != fam.schema {
				t.Fatalf("schema %q became %q", fam.schema, fam.def.Schema())
			}
		}
		if _, all, err := s.dir.decodeSlots(entries, fam.list()); err == nil {
			n := firstChunk(fam.list())
			s.takePart(n, all)
			again := s.dir.slots(n).encode(1)
			if _, more, err := s.dir.decodeSlots(again, fam.list()); err != nil || len(more) > len(all) {
				t.Fatalf("%x became %x: %v", entries, again, err)
			}
		}
		s.dirty[0], s.dirty[gaugeChunks] = true, true
		if err := s.mergeAll(s.newMerger()); err != nil {
			t.Fatal(err)
		}
		s.Walk()
	})
}
