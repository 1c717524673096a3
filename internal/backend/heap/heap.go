// Package heap keeps words in the memory of the process. A registry uses it until another backend
// is bound, and it is the reference for the behaviour of backends. Nothing in it outlives the
// process.
package heap

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Backend implements backend.Backend in the heap. Its methods never fail.
type Backend struct {
	index    index.Index
	mu       sync.Mutex
	byDef    map[*backend.Family]*family // a cache for families
	families map[*index.Family]*family
	tickets  atomic.Uint64
	self     backend.Instance
}

type family struct {
	entry *index.Family
	def   *backend.Family
	words int
	parts bool
}

// New returns an empty backend.
func New() *Backend {
	b := &Backend{byDef: make(map[*backend.Family]*family), families: make(map[*index.Family]*family)}
	b.self.ID.Store(1)
	b.self.Number = -1
	return b
}

// Declare implements backend.Backend.
func (b *Backend) Declare(f *backend.Family) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.family(f)
	return nil
}

func (b *Backend) family(f *backend.Family) *family {
	fam := b.byDef[f]
	if fam == nil {
		entry := b.index.Declare(f, uint64(len(b.families)))
		if fam = b.families[entry]; fam == nil {
			fam = &family{entry: entry, def: f, words: f.Words(), parts: f.Parts()}
			b.families[entry] = fam
		}
		b.byDef[f] = fam
	}
	return fam
}

// Cells implements backend.Backend.
func (b *Backend) Cells(f *backend.Family, labels string) (backend.Words, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fam := b.family(f)
	words := b.find(fam, labels)
	switch {
	case words != nil:
	case fam.parts:
		words = alloc(fam.words)
		b.index.AddPart(fam.entry, labels, backend.Part{Words: words, Instance: &b.self})
	default:
		words = alloc(fam.words)
		b.index.Add(fam.entry, backend.Series{Labels: labels, Words: words})
	}
	return words, nil
}

// CellsIn is Cells for a family without parts and a series whose label text is in row. It sets
// row.Words. If the series is new and room is not nil, room becomes its words; it must be zero and
// not be used for anything else. Walk then returns row itself, so it must not change from then on.
func (b *Backend) CellsIn(f *backend.Family, row *backend.Series, room backend.Words) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fam := b.family(f)
	if row.Words = room; room == nil {
		row.Words = alloc(fam.words)
	}
	if old := b.index.FindOrAdd(fam.entry, row); old != nil {
		row.Words = old.Words
		f.Unseal(row.Words)
	}
}

// find returns the words of a series, unsealed, or nil.
func (b *Backend) find(fam *family, labels string) (words backend.Words) {
	if fam.parts {
		words = onlyPart(b.index.Parts(fam.entry, labels))
	} else if s := b.index.Find(fam.entry, labels); s != nil {
		words = s.Words
	}
	if words != nil {
		// Delete removes the series that it seals, but others may have sealed the words
		fam.def.Unseal(words)
	}
	return words
}

// onlyPart returns the words of a series with parts; there is only one part.
func onlyPart(p *backend.Parts) backend.Words {
	if p == nil {
		return nil
	}
	return p.List()[0].Words
}

// Delete implements backend.Backend. Deleted series are removed: a series that comes back has other
// words.
func (b *Backend) Delete(f *backend.Family, match func(labels string) bool) (n int, err error) {
	b.mu.Lock()
	fam := b.family(f)
	b.mu.Unlock()
	for labels := range b.index.Labels(fam.entry) {
		if match(labels) && b.remove(fam, labels) {
			n++
		}
	}
	return n, nil
}

// DeleteSeries implements backend.Backend.
func (b *Backend) DeleteSeries(f *backend.Family, labels string) (bool, error) {
	fam := b.known(f)
	return fam != nil && b.remove(fam, labels), nil
}

// known returns a family, or nil if it was never declared.
func (b *Backend) known(f *backend.Family) *family {
	b.mu.Lock()
	defer b.mu.Unlock()
	if fam := b.byDef[f]; fam != nil {
		return fam
	}
	return b.families[b.index.Known(f)]
}

// remove removes and seals a series, and reports whether there was one.
func (b *Backend) remove(fam *family, labels string) bool {
	defer b.index.Tidy() // others do not wait for it
	b.mu.Lock()
	defer b.mu.Unlock()
	s, parts := b.index.Remove(fam.entry, labels)
	switch {
	case s == nil:
		return false
	case s.Words != nil:
		fam.def.Seal(s.Words)
	default:
		fam.def.Seal(onlyPart(parts))
	}
	return true
}

// Exists implements backend.Backend.
func (b *Backend) Exists(f *backend.Family, labels string) bool {
	fam := b.known(f)
	if fam == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if fam.parts {
		words := onlyPart(b.index.Parts(fam.entry, labels))
		return words != nil && !f.Sealed(words)
	}
	s := b.index.Find(fam.entry, labels)
	return s != nil && !f.Sealed(s.Words)
}

// Aids implements backend.Backend.
func (b *Backend) Aids(f *backend.Family) []*backend.Family { return b.index.Aids(f) }

// Tickets implements backend.Backend.
func (b *Backend) Tickets() *atomic.Uint64 { return &b.tickets }

const lineWords = 8 // words in a cache line

// alloc returns n zero words that share no cache line with others, so that goroutines that update
// different series do not slow each other down: the runtime aligns allocations of whole cache
// lines. Series are allocated one by one, since one that stays would keep the memory of its
// neighbours.
func alloc(n int) backend.Words {
	return make(backend.Words, n, (n+lineWords-1)/lineWords*lineWords)
}

// Sync implements backend.Backend; nobody else writes to the heap.
func (b *Backend) Sync(context.Context) error { return nil }

// Walk implements backend.Backend.
func (b *Backend) Walk() []backend.Group { return b.index.Walk() }

// WalkOwn implements backend.Owner.
func (b *Backend) WalkOwn() []backend.Group { return b.Walk() }

// Flush implements backend.Backend; there is nothing more durable to flush to.
func (b *Backend) Flush(context.Context) error { return nil }

// Close implements backend.Backend.
func (b *Backend) Close(context.Context) error { return nil }
