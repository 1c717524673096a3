package series

import (
	"cmp"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/sparse"
)

// openWindow lets the window of a block that the series begins to count in begin, or go on.
func (f *Family) openWindow(b *sparse.Block) {
	if f.Def.Sketch == nil {
		return
	}
	if epoch := f.Def.Sketch.Epoch(f.Home.Now()); epoch > 0 {
		b.Advance(epoch)
	}
}

// AdvanceWindows takes the snapshots that are due, in the words that this process counts in. What
// Walk has are copies where a store is between processes, and may lack something elsewhere; and
// whoever else counts in a series does the same.
func (h *Home) AdvanceWindows(now time.Time) {
	for _, f := range h.Families() {
		if f.Def.Sketch == nil {
			continue
		}
		epoch := f.Def.Sketch.Epoch(now)
		if epoch == 0 || f.epoch.Swap(epoch) == epoch {
			continue
		}
		f.mu.Lock()
		list := slices.Collect(f.all())
		f.mu.Unlock()
		for _, m := range list {
			h.Moves.Lock()
			blocks := append(slices.Clone(furtherBlocks(m)), index.Block{Family: f.Def, Words: m.Series().Words()})
			h.Moves.Unlock()
			for i := range blocks {
				b := blocks[i].Family.View(blocks[i].Words)
				b.Advance(epoch)
			}
		}
	}
}

// Blocks returns the blocks of m besides its words, also those that others have made where these
// share words with it. Home.Moves is held.
func Blocks(m Instrument) []index.Block {
	s := m.Series()
	f, home := s.Family(), s.placement.Load().backend
	// What Walk has there is a copy, with what this process has.
	if home == nil || f.scale == nil || backend.IsRemote(home.Backend) {
		return furtherBlocks(m)
	}
	all := slices.Clone(furtherBlocks(m)) // Walk may not have them yet
	labels := s.storedLabels()
	for _, g := range index.Named(home.Walk(), f.Def.Name) {
		if g.Family.Aids(f.Def) {
			if i, ok := slices.BinarySearchFunc(g.Series, labels, func(s *backend.Series, labels string) int { return cmp.Compare(s.Labels, labels) }); ok && !index.HasWords(all, g.Series[i].Words) {
				all = append(all, index.Block{Family: g.Family, Words: g.Series[i].Words})
			}
		}
	}
	return all
}
