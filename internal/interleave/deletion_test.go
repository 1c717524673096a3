package interleave

import "testing"

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
			}, []string{"pages are not waited for", "drop before waiting", "one wait"},
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
	})
}
