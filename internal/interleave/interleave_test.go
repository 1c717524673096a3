package interleave

import (
	"testing"
	"time"
)

func TestReuse1(t *testing.T) {
	for _, crashes := range []int{0, 1} {
		for _, wrong := range []string{"", "drop before waiting", "keep is ignored", "acknowledgements are not waited for", "deletions are not waited for"} {
			r := newReuse(2, 1, keyA)
			r.wrong = wrong
			r.Crashes = crashes
			r.goroutine(0, 0, "updater", func(t *thread) { t.update(keyA, 2) })
			r.goroutine(0, 1, "acknowledger", func(t *thread) { t.acknowledger() })
			r.goroutine(1, 0, "deleter", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
			r.Stuck = true
			start := time.Now()
			res, err := r.Explore()
			t.Log(crashes, wrong, res, time.Since(start), err)
		}
	}
}
