package index

import (
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
)

// Named returns the groups of a name among groups in ascending order of names.
func Named(groups []backend.Group, name string) []backend.Group {
	from, _ := slices.BinarySearchFunc(groups, name, func(g backend.Group, name string) int {
		return strings.Compare(g.Family.Name, name)
	})
	to := from
	for to < len(groups) && groups[to].Family.Name == name {
		to++
	}
	return groups[from:to]
}

// Block is words that a series has besides its own, in an auxiliary family.
type Block struct {
	Family *backend.Family
	Words  backend.Words
}

// HasWords reports whether one of the blocks has these words.
func HasWords(blocks []Block, w backend.Words) bool {
	return slices.ContainsFunc(blocks, func(b Block) bool { return len(w) > 0 && &b.Words[0] == &w[0] })
}

// Joined is a group with the groups of its auxiliary families.
type Joined struct {
	backend.Group
	aux []auxiliary
}

// auxiliary is a group of an auxiliary family while it is walked side by side with that of the
// family.
type auxiliary struct {
	backend.Group
	next int
}

// Joiner joins groups with those of their auxiliary families. It is reused for the next page.
type Joiner struct{ aux []auxiliary }

// Join joins g with the auxiliary groups of its family among those of its name.
func (j *Joiner) Join(g backend.Group, named []backend.Group) Joined {
	first := len(j.aux)
	for i := range named {
		if named[i].Family.Aids(g.Family) {
			j.aux = append(j.aux, auxiliary{Group: named[i]})
		}
	}
	return Joined{g, j.aux[first:len(j.aux):len(j.aux)]}
}

// Reset forgets all groups.
func (j *Joiner) Reset() {
	clear(j.aux)
	j.aux = j.aux[:0]
}

// HasBlocks reports whether the family has auxiliary families.
func (g *Joined) HasBlocks() bool { return len(g.aux) > 0 }

// Rewind makes Blocks start over at the first series.
func (g *Joined) Rewind() {
	for i := range g.aux {
		g.aux[i].next = 0
	}
}

// Blocks appends the blocks of the series with this label text. It must be called for series in
// ascending order.
func (g *Joined) Blocks(to []Block, labels string) []Block {
	for i := range g.aux {
		b := &g.aux[i]
		for b.next < len(b.Series) && b.Series[b.next].Labels < labels {
			b.next++
		}
		if b.next < len(b.Series) && b.Series[b.next].Labels == labels {
			to = append(to, Block{b.Family, b.Series[b.next].Words})
		}
	}
	return to
}
