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
	w.begin(nil, 0)
	start := uint64(time.UnixMilli(1764000000000).UnixNano())
	var family, entries []byte
	for _, def := range []*backend.Family{counter, native} {
		f := s.family(def)
		s.appendFamily(f, def.Help)
		for i, labels := range []string{`x="1"`, `x="2"`, `x="3"`}[:3-2*f.id] {
			r := f.row(labels)
			s.dir.append(r)
			if entries = r.entry(entries); f == s.known[native] {
				words := make([]uint64, f.stored)
				words[backend.HistogramSum], words[f.start] = math.Float64bits(1.5), start
				w.entry(r.id, 1, f, words, nil)
				continue
			}
			family = f.entry(def.Help)
			if i == 2 {
				w.entry(r.id, 3, f, nil, nil)
				continue
			}
			w.entry(r.id, 0, f, []uint64{uint64(5 + 300*i), math.Float64bits(0.25 * float64(i)), start + uint64(i)*2e6}, nil)
		}
	}
	words := chunk{7, w.end()}.part()
	w.begin(nil, 0)
	for i, low := range [][]uint64{nil, {math.Float64bits(0x1p-60)}} {
		w.entry(uint32(i), 0, s.known[counter], []uint64{1, math.Float64bits(0.25), 0}, low)
	}
	m := meta{epoch: 5, recovered: true, lists: [lists]tally{{1, 2}, {3, 4}, {5, 6}}, deletions: 7, joins: 8, shard: 1, shards: 4}
	i := instanceHead{seq: 300, startMS: 1, number: 2, aliveMS: 10000, stamp: 9, pid: 10, join: 11, host: "web", variants: []uint32{12}, chunks: chunkSeqs{0: 1, 3: 2}}
	b := baseHead{version: 4, gen: 8, stamp: 5, chunks: chunkSeqs{1: 2}, folds: []fold{{6, 7}}}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"meta":     {m.encode(), "02 0500000000000000 02 01 0200000000000000 03 0400000000000000 05 0600000000000000 07 08 01 04"},
		"instance": {i.encode(), "ac02 01 02 904e 09 0a 0b 03 776562 01 0c 02 0001 0302"},
		"base":     {b.encode(), "04 0800000000000000 05 01 0102 01 0600000000000000 07"},
		"family":   {family, "03 01 03 " + hex.EncodeToString(appendBytes(nil, counter.Schema())) + " 02 432e"},
		"series":   {entries[:7], "00 05 783d223122"},
		// A run of two: lives; 5 and 305; 0 and 0.25; starts 2 ms apart. A deleted series.
		// A histogram with blocks.
		"words": {words[:27], "07 00 02 00 02 0500 3101 02 0000 3fd0 80d0dfb4ab33 01 01 03 02 03 01 01"},
		// A run of two: lives; 1; 0.25; starts. What the floats lack: one column, 0 and
		// 2^-60.
		"low": {w.end(), "00 02 00 01 0101 02 3fd0 3fd0 00 00 03 01 02 0000 3c30"},
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
	if err := m.decode(raw); err == nil || !strings.Contains(err.Error(), "format version 1, but this process has 2") {
		t.Errorf("%v", err)
	}
}
