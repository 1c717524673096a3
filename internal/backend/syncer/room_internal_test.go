package syncer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Chunks are limited in bytes, and numbers of deleted series are used again although their chunks
// are small: however many come and go, there are not more chunks than the series that exist need,
// twice.
func TestChunksOfLongSeries(t *testing.T) {
	t.Parallel()
	x := newExactly(&backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}})
	var live []*row
	text := strings.Repeat("x", 5000)
	const most = 200
	for i := range 5000 {
		if len(live) == most {
			at := i * 7 % most
			x.s.dir.release(live[at])
			live[at] = live[most-1]
			live = live[:most-1]
		}
		r := &row{fam: x.f, labels: fmt.Sprintf("x=%q", fmt.Sprint(text, i)), id: noID}
		x.s.assignNext(r)
		live = append(live, r)
	}
	d := &x.s.dir
	for n, c := range d.rows[series] {
		size := 0
		for _, r := range c.rows {
			if r != nil {
				size += r.size()
			}
		}
		if size != c.size || size >= chunkBytes+live[0].size() || c.used == 0 {
			t.Errorf("chunk %d: %d series of %d bytes, not %d", n, c.used, c.size, size)
		}
	}
	if chunks, need := len(d.rows[series]), most*live[0].size()/chunkBytes; chunks > 2*need+3 {
		t.Errorf("%d chunks, where %d would do", chunks, need)
	}
}
