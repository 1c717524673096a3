// Package heap keeps words in the memory of the process. It is what a registry uses before another
// backend is bound, and the reference for what any backend must do. Nothing in it outlives the process.
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
	known    map[*backend.Family]*family // a short cut to families
	families map[*index.Family]*family
	slab     backend.Words // free words, beginning at a cache line
	lines    int           // size of the next slab in cache lines
	tickets  atomic.Uint64
	self     backend.Instance
}

type family struct {
	place *index.Family
	def   *backend.Family
	words int
	parts bool
}

// New returns an empty backend.
func New() *Backend {
	b := &Backend{known: make(map[*backend.Family]*family), families: make(map[*index.Family]*family)}
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
	fam := b.known[f]
	if fam == nil {
		place := b.index.Declare(f, uint64(len(b.families)))
		if fam = b.families[place]; fam == nil {
			fam = &family{place: place, def: f, words: f.Words(), parts: f.Parts()}
			b.families[place] = fam
		}
		b.known[f] = fam
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
		words = b.alloc(fam.words)
		b.index.AddPart(fam.place, labels, backend.Part{Words: words, Instance: &b.self})
	default:
		words = b.alloc(fam.words)
		b.index.Add(fam.place, backend.Series{Labels: labels, Words: words})
	}
	return words, nil
}

// CellsIn is Cells for a series whose label text is in a row; f has no parts. The row gets the words. If the series is
// new, they are those in room, which must be zero and be used for nothing else from then on, unless that is nil; and
// Walk shows the row itself, which therefore must not change from then on.
func (b *Backend) CellsIn(f *backend.Family, row *backend.Series, room backend.Words) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fam, slab := b.family(f), b.slab
	if row.Words = room; room == nil {
		row.Words = b.alloc(fam.words)
	}
	if old := b.index.FindOrAdd(fam.place, row); old != nil {
		row.Words, b.slab = old.Words, slab
		f.Unseal(row.Words)
	}
}

// find returns the words of a series, unsealed, or nil.
func (b *Backend) find(fam *family, labels string) (words backend.Words) {
	if fam.parts {
		words = own(b.index.Parts(fam.place, labels))
	} else if s := b.index.Find(fam.place, labels); s != nil {
		words = s.Words
	}
	if words != nil {
		fam.def.Unseal(words) // Delete forgets what it seals, but somebody else may have sealed them
	}
	return words
}

// own returns the words of a series that has parts, of which there is but one.
func own(p *backend.Parts) backend.Words {
	if p == nil {
		return nil
	}
	return p.List()[0].Words
}

// Delete implements backend.Backend. What is deleted is forgotten: a series that comes back has other words.
func (b *Backend) Delete(f *backend.Family, match func(labels string) bool) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index.Remove(b.family(f).place, func(s *backend.Series, p *backend.Parts) bool {
		if !match(s.Labels) {
			return false
		}
		if words := s.Words; words != nil {
			f.Seal(words)
		} else {
			f.Seal(own(p))
		}
		n++
		return true
	})
	return n, nil
}

// Tickets implements backend.Backend.
func (b *Backend) Tickets() *atomic.Uint64 { return &b.tickets }

const lineWords = 8 // words in a cache line

// alloc returns n zero words that share no cache line with others: two goroutines that update
// different series must not slow each other down. Slabs start small, since most registries do, and
// have sizes whose allocations the runtime aligns to their size.
func (b *Backend) alloc(n int) backend.Words {
	need := (n + lineWords - 1) / lineWords * lineWords
	if need > len(b.slab) {
		b.lines = min(max(8, 2*b.lines), 64)
		b.slab = make([]atomic.Uint64, max(b.lines*lineWords, need))
	}
	words := b.slab[:n:n]
	b.slab = b.slab[need:]
	return words
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
