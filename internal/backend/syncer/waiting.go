package syncer

import (
	"slices"
	"strings"
)

// waiting are the series that wait for a number in the directory. Each of its lists may also have
// series that do not wait any more: what the program calls does not wait until they are removed.
type waiting struct {
	sorted  []*row // in the order of the directory; they get numbers from the front
	added   []*row // since that was sorted
	blocked []*row // cannot get a number yet
	n       int    // series that wait
	size    int    // of these, see row.size
}

// queue queues a series for the directory. mu is held.
func (s *Syncer) queue(r *row) {
	if !r.queued {
		r.queued = true
		s.waiting.added = append(s.waiting.added, r)
	}
	if !r.waits {
		r.waits = true
		s.waiting.n++
		s.waiting.size += r.size()
	}
}

// unqueue is called for a series that does not need a number any more. mu is held.
func (s *Syncer) unqueue(r *row) {
	if r.waits {
		r.waits = false
		s.waiting.n--
		s.waiting.size -= r.size()
	}
}

// eachWaiting calls f for the series that wait for a number, with mu held, but not for all at once.
func (s *Syncer) eachWaiting(f func(*row)) {
	s.mu.LockLast()
	w := s.waiting
	s.mu.Unlock()
	for _, list := range [][]*row{w.blocked, w.sorted, w.added} {
		s.inStretches(list, func(r *row) {
			if r.waits {
				f(r)
			}
		})
	}
}

// inStretches calls f for all rows with mu held. It lets others have the lock in between.
func (s *Syncer) inStretches(list []*row, f func(*row)) {
	for some := range slices.Chunk(list, stretch) {
		s.mu.LockLast()
		for _, r := range some {
			f(r)
		}
		s.mu.Unlock()
	}
}

// nextWaiting returns series that wait, in the order of the directory, so that those of a family
// get adjacent numbers. Series that are made meanwhile come later, and do not wait for the sorting.
// The result is empty if none wait, or sorted is set, which says that there was a sorting before.
func (s *Syncer) nextWaiting(sorted *bool) []*row {
	s.mu.LockLast()
	list, added := s.waiting.sorted, s.waiting.added
	s.mu.Unlock()
	if len(list) > 0 || len(added) == 0 || *sorted {
		return list
	}
	*sorted = true
	list = slices.Clone(added)
	slices.SortFunc(list, byFamily)
	s.mu.LockLast()
	defer s.mu.Unlock()
	s.waiting.sorted, s.waiting.added = list, append([]*row(nil), s.waiting.added[len(list):]...)
	return list
}

func byFamily(a, b *row) int {
	if a.fam != b.fam {
		return a.fam.id - b.fam.id
	}
	return strings.Compare(a.labels, b.labels)
}

// passed removes the first n series of nextWaiting. Those that still wait are blocked.
func (s *Syncer) passed(n int) {
	for n > 0 {
		s.mu.LockLast()
		w := &s.waiting
		some := min(n, stretch)
		for _, r := range w.sorted[:some] {
			if r.waits {
				w.blocked = append(w.blocked, r)
			} else {
				r.queued = false
			}
		}
		if w.sorted = w.sorted[some:]; len(w.sorted) == 0 {
			w.sorted = nil
		}
		s.mu.Unlock()
		n -= some
	}
}

// retryBlocked makes the series wait again that were blocked.
func (s *Syncer) retryBlocked() {
	s.mu.LockLast()
	defer s.mu.Unlock()
	s.waiting.added, s.waiting.blocked = append(s.waiting.added, s.waiting.blocked...), nil
}
