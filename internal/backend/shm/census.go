//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"context"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// changed records that a series comes into being.
func (s *segment) changed(labels string) {
	s.mem.u64(offMade).Add(uint64(backend.Weight(labels)))
}

// Changes implements backend.Census.
func (b *Backend) Changes() uint64 { return b.mem.u64(offMade).Load() }

// Most implements backend.Census: no record of a series with labels takes less than two cache
// lines.
func (b *Backend) Most() int64 {
	end := min(max(b.mem.u64(offTail).Load(), b.recordsAt), b.limit)
	return int64((end - b.recordsAt) / (2 * align))
}

// Existing implements backend.Census.
func (b *Backend) Existing(f *backend.Family) (labels []string) {
	defer b.readers.enter()()
	b.Sync(context.Background()) // if it fails, what is known is all there is
	schema := f.Schema()
	groups := index.Named(b.Walk(), f.Name)
	for i := range groups {
		g := &groups[i]
		if g.Family.Schema() != schema {
			continue
		}
		for i, s := range g.Series {
			if g.Exists(i) {
				labels = append(labels, s.Labels)
			}
		}
	}
	return labels
}

// Exists implements backend.Backend.
func (b *Backend) Exists(f *backend.Family, labels string) bool {
	if b.closed.Load() {
		return false
	}
	defer b.readers.enter()()
	ref, err := b.known(f)
	if ref == 0 || err != nil {
		return false
	}
	if f.Parts() { // a part that is not live does not count
		b.Sync(context.Background())
		b.mu.Lock()
		fam := b.families[ref]
		b.mu.Unlock()
		if fam == nil {
			return false
		}
		parts := b.index.Parts(fam.entry, labels)
		return parts != nil && anyLive(f, parts.List())
	}
	want := &record{typ: typeSeries, family: ref, text: labels, words: uint32(f.Words())}
	r, err := b.search(want, func(r *record) bool { return b.retired(r.off) })
	return r != nil && err == nil && !f.Sealed(b.mem.words(r.wordsAt, r.words))
}

func anyLive(f *backend.Family, parts []backend.Part) bool {
	for i := range parts {
		if parts[i].Live() && !f.Sealed(parts[i].Words) {
			return true
		}
	}
	return false
}
