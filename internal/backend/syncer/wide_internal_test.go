package syncer

import (
	"reflect"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Words of wide families are written in runs that a reader accepts, and that are added in columns.
func TestWideFamilies(t *testing.T) {
	t.Parallel()
	for _, buckets := range []int{1, 61, 62, 300, 10_000} {
		def := &backend.Family{Name: "h", Help: "H.", Kind: backend.Histogram, Labels: []string{"l"}}
		for i := range buckets {
			def.Buckets = append(def.Buckets, float64(i))
		}
		s := newSingle(nil, options{manual: true})
		s.dir.version = 1
		f := s.family(def)
		s.appendFamily(f, def.Help)
		want := make(map[uint32]entry)
		for i := range 100 {
			labels, _ := def.LabelText(string(rune('a' + i)))
			r := f.row(labels)
			s.dir.assign(r, uint32(i), slot{since: 1}) // all in one chunk
			if i%7 == 3 {
				continue // a run ends here
			}
			words := make([]uint64, f.stored)
			words[backend.HistogramBuckets+i%(buckets+1)], words[f.start] = uint64(i), uint64(i)*startUnit
			want[r.id] = entry{row: r, words: words}
		}
		c := &contributor{id: 1, chunks: map[uint32]chunk{0: s.encode(0, want, 1)}}
		if err := s.checkChunk(0, c.chunks[0]); err != nil {
			t.Errorf("%d buckets: %v", buckets, err)
		}
		if got, err := s.decode(0, c); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d buckets: %d series became %d: %v", buckets, len(want), len(got), err)
		}
		var m merger
		m.begin(s.dir.chunk(0))
		r := newChunkReader(c.chunks[0].data, 0, nil)
		if m.addRuns(&r, &s.dir); r.bad || len(r.b) > 0 {
			t.Errorf("%d buckets: %d bytes are not added in columns", buckets, len(r.b))
		}
		for id, e := range want {
			if got := m.words(int(id)); !reflect.DeepEqual(got, e.words) {
				t.Fatalf("%d buckets: series %d has %v, must have %v", buckets, id, got, e.words)
			}
		}
	}
}
