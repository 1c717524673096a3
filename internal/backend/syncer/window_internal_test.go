package syncer

import (
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

var windowed = &backend.Family{Name: "w", Help: "W.", Kind: backend.Summary,
	Sketch: &backend.Sketch{Quantiles: []float64{.5}, PerDoubling: 8, Slots: 3, MaxAge: 3 * time.Second}}

func blockOf(w backend.Words) sparse.Block {
	return sparse.View(windowed.BucketBlock(w), windowed.PerDoubling(), 0, windowed.Snapshots())
}

// The published snapshots of a window are consistent, even while they are taken, and no count comes
// without its bucket.
func TestReadWhileTheWindowMoves(t *testing.T) {
	t.Parallel()
	f := newFamily(windowed.Schema(), windowed, windowed.Words(), windowed.StartWord(), false)
	f.findSnapshots()
	own := make(backend.Words, windowed.Words())
	const buckets = 16
	live := blockOf(own)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := uint64(1); e < 100_000; e++ {
			live.Advance(e)
			for i := range int32(buckets) {
				live.Find(i, false).Add(1) // in the snapshot of epoch e each is e-1
			}
		}
	}()
	words := make([]uint64, windowed.Words())
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		f.read(words, own)
		if !f.sameSnapshots(words, own) {
			continue // snapshots were taken all the time
		}
		read := blockOf(liveWords(words))
		from, to := windowed.EpochWords()
		for _, e := range words[from:to] {
			if e == 0 || e >= backend.IncompleteEpoch {
				continue
			}
			list, _ := read.AppendSince(nil, e, e)
			all, _ := read.Append(nil)
			for i, x := range list {
				if all[i].Count-x.Count != e-1 {
					t.Fatalf("%d counted before epoch %d began, want %d", all[i].Count-x.Count, e, e-1)
				}
			}
		}
	}
}
