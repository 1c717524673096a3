package interleave

import (
	"fmt"
	"testing"
)

// Records of shared memory are deleted and their space is used again while others update them, look
// them up, show them on pages, delete them, join and leave.
func TestReuse(t *testing.T) {
	explore(t, []scenario{
		{
			"update", func(wrong string) *Model {
				r := newReuse(2, 1, keyA)
				r.wrong, r.used = wrong, 2
				r.goroutine(0, 0, "updater", func(t *thread) { t.with(keyA); t.update(keyA, 2) })
				r.acknowledger(0, 2)
				r.goroutine(1, 0, "deleter", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
				return r.Model
			}, []string{
				"drop before waiting", "keep is ignored", "acknowledgements are not waited for", "operations are not waited for",
				"ends before the instrument is there", "the collector is asked first", "seal by load and store", "unseal",
			},
		},
		{
			"update inside", func(wrong string) *Model {
				r := newReuse(2, 1, keyC, keyA)
				r.wrong = wrong
				r.goroutine(0, 0, "creator", func(t *thread) { t.update(keyB, 1) })
				r.acknowledger(0, 2)
				r.goroutine(1, 0, "deleter", func(t *thread) { t.delete(keyA); t.reclaim() })
				return r.Model
			}, []string{"publish before filling"},
		},
		{
			"deletions", func(wrong string) *Model {
				r := newReuse(2, 0, keyA)
				r.wrong, r.used = wrong, 2
				r.goroutine(0, 0, "deleter 0", func(t *thread) { t.delete(keyA) })
				r.acknowledger(0, 2)
				r.goroutine(1, 0, "deleter 1", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
				return r.Model
			}, []string{"deletions are not waited for"},
		},
		{
			"page", func(wrong string) *Model {
				r := newReuse(2, 0, keyA)
				r.wrong, r.used, r.pages = wrong, 2, true
				r.goroutine(0, 0, "page", func(t *thread) { t.page(); t.page() })
				r.acknowledger(0, 2)
				r.goroutine(1, 0, "deleter", func(t *thread) { t.update(keyA, 1); t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
				return r.Model
			}, []string{"pages are not waited for", "drop before waiting", "one wait", "heads are kept"},
		},
		{
			"a deleter that dies", func(wrong string) *Model {
				r := newReuse(3, 1, keyA)
				r.wrong, r.used = wrong, 1
				r.words[r.instances[0].instrument[keyA]] = 1
				r.goroutine(0, 0, "updater", func(t *thread) { t.update(keyA, 2); t.update(keyA, 2) })
				r.goroutine(1, 0, "deleter", func(t *thread) { t.delete(keyA) })
				r.goroutine(2, 0, "other updater", func(t *thread) { t.update(keyA, 2) })
				return r.Model
			}, []string{"no help"},
		},
		{
			"two batches", func(wrong string) *Model {
				r := newReuse(2, 0, keyA)
				r.wrong, r.used = wrong, 2
				r.words[r.instances[0].instrument[keyA]] = 1
				r.goroutine(0, 0, "updater", func(t *thread) { t.update(keyA, 2) })
				r.acknowledger(0, 2)
				r.goroutine(1, 0, "deleter", func(t *thread) { t.delete(keyA); t.reclaim(); t.reclaim(); t.update(keyB, 1) })
				return r.Model
			}, []string{"kept once"},
		},
		{
			"successors", func(wrong string) *Model {
				r := newReuse(2, 0, keyA, keyC)
				r.wrong = wrong
				r.goroutine(0, 0, "deleter", func(t *thread) { t.delete(keyA); t.delete(keyC); t.reclaim() })
				r.acknowledger(0, 3)
				r.goroutine(1, 0, "successor", func(t *thread) { t.reclaim(); t.reclaim(); t.update(keyB, 1); t.update(keyA, 1) })
				r.acknowledger(1, 3)
				return r.Model
			}, []string{"free before leaving the batch", "a batch is taken for granted"},
		},
		{
			"pushing", func(wrong string) *Model {
				r := newReuse(2, 0, keyA, keyC)
				r.wrong = wrong
				r.goroutine(0, 0, "deleter of C", func(t *thread) { t.delete(keyC) })
				r.acknowledger(0, 3)
				r.goroutine(1, 0, "deleter of A", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1); t.reclaim() })
				r.acknowledger(1, 3)
				return r.Model
			}, nil,
		},
		{
			"joining", func(wrong string) *Model {
				r := newReuse(1, 1, keyA)
				r.wrong, r.used = wrong, 2
				r.instance(1)
				r.goroutine(1, 0, "joiner", func(t *thread) {
					if wrong == "uses the file before joining" {
						t.with(keyA)
					}
					t.join()
					t.update(keyA, 2)
				})
				r.acknowledger(1, 2)
				r.goroutine(0, 0, "deleter", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
				return r.Model
			}, []string{"ticket before unlinking", "uses the file before joining"},
		},
		{
			"leaving", func(wrong string) *Model {
				r := newReuse(2, 0, keyA)
				r.wrong, r.used, r.closes = wrong, 2, true
				r.words[r.instances[0].instrument[keyA]] = 1
				r.goroutine(0, 0, "updater", func(t *thread) { t.update(keyA, 2) })
				r.goroutine(0, 1, "leaver", func(t *thread) { t.leave() })
				r.acknowledger(0, 2)
				r.goroutine(1, 0, "deleter", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
				return r.Model
			}, []string{"leaves while instruments are used", "leaves before the acknowledger has ended"},
		},
		{
			"free list", func(wrong string) *Model {
				r := newReuse(2, 2)
				r.wrong = wrong
				r.freed()
				r.goroutine(0, 0, "creator of A", func(t *thread) { t.update(keyA, 1) })
				r.goroutine(1, 0, "creator of A and B", func(t *thread) { t.update(keyA, 1); t.update(keyB, 1) })
				return r.Model
			}, []string{"free list without the lock"},
		},
	})
}

// Records are created by processes that look them up at the same time.
func TestCreation(t *testing.T) {
	explore(t, []scenario{
		{
			"one key", func(wrong string) *Model {
				r := newReuse(3, 3)
				r.wrong, r.used = wrong, 1
				for i := range 3 {
					r.goroutine(i, 0, fmt.Sprintf("creator %d", i), func(t *thread) { t.update(keyA, 1) })
				}
				return r.Model
			}, []string{"no second look", "publish before filling"},
		},
		{
			"two keys", func(wrong string) *Model {
				r := newReuse(3, 4, keyC)
				r.wrong = wrong
				r.goroutine(0, 0, "creator of A", func(t *thread) { t.update(keyA, 1) })
				r.goroutine(1, 0, "other creator of A", func(t *thread) { t.update(keyA, 1) })
				r.goroutine(2, 0, "creator of B", func(t *thread) { t.update(keyB, 1) })
				return r.Model
			}, []string{"no second look", "publish before filling", "the tail is given back by a store", "the tail is moved by a store"},
		},
		{
			"one after the other", func(wrong string) *Model {
				r := newReuse(2, 4)
				r.wrong = wrong
				r.goroutine(0, 0, "creator of A and B", func(t *thread) { t.update(keyA, 1); t.update(keyB, 1) })
				r.goroutine(1, 0, "creator of B and A", func(t *thread) { t.update(keyB, 1); t.update(keyA, 1) })
				return r.Model
			}, []string{"no second look"},
		},
	})
}
