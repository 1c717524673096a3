package syncer

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// The stored bytes, as LAYOUT.md of module redisstore describes them. Any difference makes a new
// format version.
func TestGolden(t *testing.T) {
	t.Parallel()
	s := newSingle(nil, options{manual: true})
	counter := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}}
	native := &backend.Family{Name: "n", Help: "N.", Kind: backend.Histogram, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}
	var w chunkWriter
	w.begin(nil, 0, 9)
	start := uint64(time.UnixMilli(1764000000000).UnixNano())
	var family []byte
	for _, def := range []*backend.Family{counter, native} {
		f := s.family(def)
		s.appendFamily(f, def.Help)
		for i, labels := range []string{`x="1"`, `x="2"`, `x="3"`}[:3-2*f.id] {
			r := f.row(labels)
			s.assignNext(r)
			if f == s.known[native] {
				words := make([]uint64, f.stored)
				words[backend.HistogramSum], words[f.start] = math.Float64bits(1.5), start
				w.entry(r.id, f, words, nil)
				continue
			}
			family = f.entry(def.Help)
			if i == 2 {
				continue
			}
			w.entry(r.id, f, []uint64{uint64(5 + 300*i), math.Float64bits(0.25 * float64(i)), start + uint64(i)*2e6}, nil)
		}
	}
	words := chunk{7, w.end()}.part()
	w.begin(nil, 0, 9)
	for i, low := range [][]uint64{nil, {math.Float64bits(0x1p-60)}} {
		w.entry(uint32(i), s.known[counter], []uint64{1, math.Float64bits(0.25), 0}, low)
	}
	m := meta{epoch: 5, recovered: true, shard: 1, shards: 4, server: "a"}
	i := instanceHead{epoch: 6, left: true, dir: 13, seq: 300, startMS: 1, number: 2, aliveMS: 10000, stamp: 9, pid: 10, join: 11, host: "web", variants: []uint32{12}, chunks: chunkSeqs{0: 1, 3: 2}}
	b := baseHead{version: 4, gen: 8, stamp: 5, join: 7, chunks: chunkSeqs{1: 2}, folds: []fold{{6, 7}}}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"meta":      {m.encode(), "04 0500000000000000 02 01 04 01 61"},
		"instance":  {i.encode(), "0600000000000000 01 ac02 01 02 904e 09 0a 0b 0d 00 03 776562 01 0c 02 0001 0302"},
		"base":      {b.encode(), "04 0800000000000000 05 07 01 0102 01 0600000000000000 07"},
		"family":    {family, "03 01 03 " + hex.EncodeToString(appendBytes(nil, counter.Schema())) + " 02 432e"},
		"series":    {s.dir.slots(0).encode(9)[:13], "09 09 01 01000000 05 783d223122"},
		"directory": {(&directory{version: 9, token: 8, epoch: 7}).encodeHead(), "09 0800000000000000 0700000000000000"},
		"list": {(&directory{version: 9, token: 8, epoch: 7, tally: tally{1, 2}, tokens: []uint32{6, 8}, breaks: 3, chunks: chunkSeqs{0: 9}}).encodeList(),
			"09 0800000000000000 0700000000000000 01 0200000000000000 03 02 06000000 08000000 01 0009"},
		// A run of two: 1; 0.25; starts. What the floats lack: one column, 0 and 2^-60.
		"low":    {w.end(), "09 00 00 02 01 0101 02 3fd0 3fd0 00 00 03 01 02 0000 3c30"},
		"inline": {encodeInline([]looseEntry{{fam: s.known[counter], labels: `x="1"`, words: []uint64{5, 0, start}}})[6+len(counter.Schema()):], "02 432e 00 05 783d223122 03 05 00 80d0dfb4ab33"},
		// A run of two: 5 and 305; 0 and 0.25; starts 2 ms apart. A histogram with blocks.
		"words": {words[:27], "07 09 00 00 02 02 0500 3101 02 0000 3fd0 80d0dfb4ab33 01 0103 05 01 35"},
	} {
		if want := strings.ReplaceAll(c.want, " ", ""); hex.EncodeToString(c.got) != want {
			t.Errorf("%s:\n%x, want\n%s", name, c.got, want)
		}
	}
}

// A store with another format version is refused, and the error names both versions.
func TestVersion(t *testing.T) {
	t.Parallel()
	var m meta
	raw := (&meta{epoch: 1}).encode()
	raw[0] = 1
	if err := m.decode(raw); err == nil || !strings.Contains(err.Error(), "format version 1, but this process has 4") {
		t.Errorf("%v", err)
	}
}
