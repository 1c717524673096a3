package series

import (
	"cmp"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/sparse"
)

// openWindow advances the window of a block that the series is about to count in.
func (f *Family) openWindow(b *sparse.Block) {
	if f.Def.Sketch == nil {
		return
	}
	if epoch := f.Def.Sketch.Epoch(f.Home.Now()); epoch > 0 {
		b.Advance(epoch)
	}
}

// AdvanceWindows takes the snapshots that are due in the words that this process counts in. It does
// not use Walk, which returns copies if the backend is a store, and may not have all blocks of
// other backends. Other processes take the snapshots of the words that they count in.
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

// Blocks returns the blocks of m besides its words. If processes share the words, that includes the
// blocks that others have made. The caller holds Home.Moves.
func Blocks(m Instrument) []index.Block {
	s := m.Series()
	f, home := s.Family(), s.placement.Load().backend
	if home == nil || f.scale == nil || backend.IsRemote(home.Backend) {
		return furtherBlocks(m) // a remote backend walks copies, which include these blocks
	}
	all := slices.Clone(furtherBlocks(m)) // Walk may not have them yet
	labels := s.storedLabels()
	defer home.Enter()() // the words are read while Home.Moves is held, which release waits for
	for _, g := range index.Named(home.Walk(), f.Def.Name) {
		if g.Family.Aids(f.Def) {
			if i, ok := slices.BinarySearchFunc(g.Series, labels, func(s *backend.Series, labels string) int { return cmp.Compare(s.Labels, labels) }); ok && !index.HasWords(all, g.Series[i].Words) {
				all = append(all, index.Block{Family: g.Family, Words: g.Series[i].Words})
			}
		}
	}
	return all
}
