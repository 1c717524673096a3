package syncer

import (
	"errors"
	"fmt"

	"github.com/gotheus/gotheus/internal/backend"
)

// Records come from other processes, and whoever can write to the store can write anything. What
// this process makes of a record takes memory and time in proportion to the record's bytes. A
// record that is damaged is treated in one of two ways:
//
//   - What one instance has published is left out, part by part, and logged; pages and the base
//     have what was read of the part before, if anything was. The instance mends it when it next
//     publishes that part; if it is dead, it is folded with what can be read.
//   - What all instances share, the directory and the base, has been lost: a new epoch begins.

// damage notes that a part of an instance cannot be read, until it is written again.
func (s *Syncer) damage(c *contributor, n uint32, err error) {
	if c.damaged == nil {
		c.damaged = make(map[uint32]bool)
	}
	c.damaged[n] = true
	s.reportInvalid(fmt.Errorf("part %d of %s: %w: nothing need be done if the instance lives, since it writes the part again with the next change; "+
		"otherwise this part is lost; if this goes on, find out who else writes to this namespace", n, c.group(), err))
}

// mended notes that a part of an instance can be read, or is gone.
func (s *Syncer) mended(c *contributor, n uint32) { delete(c.damaged, n) }

// reportInvalid has invalid data logged, see logInvalid. The caller does not hold mu.
func (s *Syncer) reportInvalid(err error) {
	s.mu.LockLast()
	defer s.mu.Unlock()
	s.invalid = err
}

// countDamaged counts the heads and the parts of instances that are left out of pages.
func (s *Syncer) countDamaged() {
	n := s.badHeads
	for _, c := range s.others {
		n += len(c.damaged)
	}
	s.damagedNow.Store(int64(n))
}

// Damaged implements backend.Damageable.
func (s *Syncer) Damaged() int64 { return s.damagedNow.Load() }

// Damaged implements backend.Damageable.
func (b *Sharded) Damaged() (n int64) {
	for _, s := range b.shards {
		n += s.Damaged()
	}
	return n
}

// checkChunk returns an error if a chunk has records that cannot be read. It takes less time than
// reading, since it does not look at the values in columns.
func (s *Syncer) checkChunk(n uint32, c chunk) error {
	r := newChunkReader(c.data, n, nil)
	for !r.bad && len(r.b) > 0 {
		if !r.skip(&s.dir) {
			return errWords
		}
	}
	if r.bad {
		return errWords
	}
	return nil
}

// skip skips a record, with the low record after it. It returns false if it cannot be read.
func (r *chunkReader) skip(d *directory) bool {
	kind, at, f, ok := r.record(d)
	if !ok {
		return false
	}
	r.next, r.fam = at, f
	n := 1
	switch {
	case kind == recordRun && !f.blocks:
		if n, ok = r.many(); !ok {
			return false
		}
		for i := 0; i < f.stored && ok; i++ {
			if i == f.start {
				_, _, r.b, ok = takeStarts(r.b, n)
			} else {
				_, r.b, ok = takeColumn(r.b, n)
			}
		}
	case kind == recordVarying && f.blocks:
		words, found := r.num()
		ok = found && words <= uint64(len(r.b)) && f.fits(words)
		for i := 0; i < int(words) && ok; i++ {
			var v uint64
			v, ok = r.num()
			ok = ok && (i != f.start || v <= maxStart)
		}
	default:
		return false
	}
	r.next += uint32(n)
	if ok && startsLow(r.b) {
		_, r.b, ok = lowColumns(r.b, f, n)
	}
	return ok
}

// checkLabels returns an error if a label text, which another process has written, is none of the
// family's. It shows no more than the beginning.
func (f *family) checkLabels(labels string) error {
	if f.def == nil {
		return nil
	}
	if len(labels) > backend.MaxText {
		return fmt.Errorf("%w: %s: a label text of %d bytes, of which %d are allowed", errFormat, f.def.Name, len(labels), backend.MaxText)
	}
	if _, err := f.def.LabelValues(labels); err != nil {
		return fmt.Errorf("%w: %w", errFormat, err)
	}
	return nil
}

// isDamage reports whether an error is about a record that cannot be read.
func isDamage(err error) bool { return errors.Is(err, errFormat) }
