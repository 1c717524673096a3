package syncer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// An instance that leaves publishes its new series with their label texts and families, not with
// numbers of the directory: a process that lives only for a moment need not read the directory, and
// does not compete with others for changing it. Whoever folds it into the base numbers them. A
// process that stays does the same if too many others change the directory at once; its series get
// numbers with its next publication.
//
// All such series of an instance are in its last part:
//
//	how many families; for each: its entry (length, bytes)
//	for each series: index of its family in this list, label text (length, bytes), how many
//	words, words

// inlineLimit is how many series an instance publishes without numbers, at most. Their size is at
// most pieceSize: they are in one part.
const inlineLimit = 256

// looseEntry is a series that an instance has published without a number.
type looseEntry struct {
	fam    *family
	labels string
	words  []uint64
	own    *row // of an entry of this process: the life that it is about
}

// row returns the series that an entry of c is about. mu is held.
func (e *looseEntry) row(c *contributor) *row {
	if e.own != nil {
		return e.own
	}
	if d := e.fam.dying.Get(e.labels); d != nil && (d.id == noID || d.wait.holds(c)) {
		return d
	}
	return e.fam.row(e.labels)
}

// looseWords are the words of a looseEntry of an instance.
type looseWords struct {
	c     *contributor
	words []uint64
	seq   uint64 // with which they were published
}

// encodeInline encodes series without numbers.
func encodeInline(list []looseEntry) []byte {
	index := make(map[*family]int)
	var fams []*family
	for _, e := range list {
		if _, ok := index[e.fam]; !ok {
			index[e.fam] = len(fams)
			fams = append(fams, e.fam)
		}
	}
	b := binary.AppendUvarint(nil, uint64(len(fams)))
	for _, f := range fams {
		help := ""
		if f.def != nil {
			help = f.def.Help
		}
		b = appendBytes(b, f.entry(help))
	}
	for _, e := range list {
		b = binary.AppendUvarint(b, uint64(index[e.fam]))
		b = appendBytes(b, e.labels)
		b = binary.AppendUvarint(b, uint64(len(e.words)))
		for i, w := range e.words {
			b = binary.AppendUvarint(b, e.fam.toStored(i, w))
		}
	}
	return b
}

// decodeInline decodes the output of encodeInline. mu is held.
func (s *Syncer) decodeInline(b []byte) (list []looseEntry, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := reader{b: b}
	var fams []*family
	for n := r.num(); n > 0 && !r.bad; n-- {
		f, _, err := s.familyOf(r.bytes())
		if err != nil {
			return nil, err
		}
		fams = append(fams, f)
	}
	for len(r.b) > 0 && !r.bad {
		at, labels, n := r.num(), string(r.bytes()), r.num()
		if at >= uint64(len(fams)) || n > uint64(len(r.b)) || !(fams[at].blocks && fams[at].fits(n) || n == uint64(fams[at].stored)) {
			return nil, errWords
		}
		f, words := fams[at], make([]uint64, n)
		for i := range words {
			v := r.num()
			switch {
			case i == f.start:
				v = min(v, maxStart) * startUnit
			case v != 0 && f.isFloat(i):
				v = bits.ReverseBytes64(v)
			}
			words[i] = v
		}
		list = append(list, looseEntry{fam: f, labels: labels, words: words})
	}
	if r.bad {
		return nil, errWords
	}
	return list, nil
}

// takeInline takes over what an instance has published without numbers, unless it is damaged.
func (s *Syncer) takeInline(c *contributor, data []byte) error {
	s.mu.LockLast()
	defer s.mu.Unlock()
	list, err := s.decodeInline(data)
	if err == nil {
		c.inline, s.looseChanged = list, true
	}
	return err
}

// resolveLoose finds the series that instances have published without numbers.
func (s *Syncer) resolveLoose() {
	s.mu.LockLast()
	changed := s.looseChanged
	s.looseChanged = false
	s.mu.Unlock()
	if !changed {
		return
	}
	old, loose := s.loose, make(map[*row][]looseWords)
	others := make(map[*row]bool)
	add := func(c *contributor) {
		s.mu.LockLast() // not for all instances at once: new series would wait
		defer s.mu.Unlock()
		for i := range c.inline {
			e := &c.inline[i]
			r := e.row(c)
			loose[r] = append(loose[r], looseWords{c, e.words, c.chunks[inlinePart].seq})
			others[r] = others[r] || c != &s.self
		}
	}
	add(&s.self)
	for _, c := range s.others {
		add(c)
	}
	s.inStretches(slices.Collect(maps.Keys(loose)), func(r *row) {
		s.touchLoose(r)
		if !r.invalid {
			if err := r.fam.checkLabels(r.labels); err != nil {
				r.invalid, s.invalid = true, err
			}
		}
	})
	for r := range old {
		if loose[r] == nil {
			s.touchLoose(r)
		}
	}
	s.mu.LockLast()
	ending := slices.Collect(maps.Keys(s.endings.unnumbered))
	s.mu.Unlock()
	s.inStretches(ending, func(r *row) {
		if r.ending && r.id == noID && !others[r] { // nobody will give it a number
			s.ended(r)
			s.removed.add(r.fam, r.labels, r.born, s.now()) // it had one that was lost
		}
	})
	s.mu.LockLast()
	defer s.mu.Unlock()
	s.loose = loose // never modified, only replaced: deletions read it
}

// touchLoose makes the next merge include a series.
func (s *Syncer) touchLoose(r *row) {
	if r.id == noID {
		s.loosely[r] = true
	} else {
		s.dirty[chunkOf(r.id)] = true
	}
}

// mergeLoose merges the series without numbers that have changed. If nobody has them any more, they
// are forgotten, unless they may be among what this process is about to restore.
func (s *Syncer) mergeLoose(m *merger) error {
	var rows []*row
	for r := range s.loosely {
		if r.id == noID { // otherwise it is merged with its chunk
			rows = append(rows, r)
		}
	}
	for some := range slices.Chunk(rows, chunkSize) {
		if err := s.mergeRows(m, some, nil); err != nil {
			return err
		}
	}
	clear(s.loosely)
	s.inStretches(rows, func(r *row) {
		switch {
		case r.gone || r.own != nil || len(s.loose[r]) > 0:
		case s.restoring():
			s.loosely[r] = true
		default:
			s.detach(r)
		}
	})
	return nil
}

// restoring reports whether the store lacks something that this process or others know.
func (s *Syncer) restoring() bool {
	return s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil
}

// addLoose adds what instances have published without numbers to the merged words.
func (s *Syncer) addLoose(m *merger) {
	if len(s.loose) == 0 {
		return
	}
	for i, r := range m.rows {
		for _, l := range s.loose[r] {
			s.addWords(m, i, r, l.c, l.words, nil)
		}
	}
}

// published are the own words as the store has them.
type published struct {
	chunks map[uint32]chunk
	inline []looseEntry
}

type looseKey struct {
	fam    *family
	labels string
}

// loose returns the published words of the series without numbers.
func (p *published) loose() map[looseKey][]uint64 {
	m := make(map[looseKey][]uint64, len(p.inline))
	for _, e := range p.inline {
		m[looseKey{e.fam, e.labels}] = e.words
	}
	return m
}

// putInline adds the series without numbers, if they have changed, to a piece.
func (r *round) putInline(next *contributor, p *piece) {
	s := r.s
	list := r.looseEntries()
	old, had := next.chunks[inlinePart]
	if len(list) == 0 && !had {
		return
	}
	var data []byte
	if len(list) > 0 {
		if data = encodeInline(list); had && bytes.Equal(data, old.data) {
			return
		}
	}
	c := chunk{seq: s.seq + 1, data: data}
	p.parts[partKey(next.group(), inlinePart)] = c.part()
	p.size += len(data) + 1
	next.inline = list
	if len(list) == 0 {
		delete(next.chunks, inlinePart)
		delete(next.head.chunks, inlinePart)
		return
	}
	next.chunks[inlinePart], next.head.chunks[inlinePart] = c, c.seq
}

// looseEntries returns the own series that are published without numbers.
func (r *round) looseEntries() (list []looseEntry) {
	r.s.eachWaiting(func(row *row) { // the former life of a series may not have a number yet
		if row.own == nil || !r.inline && row.fam.dying.Get(row.labels) == nil {
			return
		}
		if words := r.sample(row); words != nil {
			list = append(list, looseEntry{row.fam, row.labels, slices.Clone(words), row})
		}
	})
	slices.SortFunc(list, func(a, b looseEntry) int {
		return cmp.Or(strings.Compare(a.fam.schema, b.fam.schema), strings.Compare(a.labels, b.labels))
	})
	return list
}
