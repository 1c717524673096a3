package series

import (
	"cmp"
	"context"
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

// Read calls read with the words of m and the blocks besides them, which must not be used after it
// returns. If processes share the words, that includes the blocks that others have made.
func Read(m Instrument, read func(words backend.Words, further []index.Block)) {
	s := m.Series()
	f := s.Family()
	if f.scale != nil {
		f.Home.learnBlocks(s.placement.Load().backend)
	}
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	home := s.placement.Load().backend
	if f.scale == nil || !sharesBlocks(home) {
		read(s.Words(), furtherBlocks(m))
		return
	}
	defer home.Enter()() // release waits for Home.Moves
	all := slices.Clone(furtherBlocks(m))
	labels := s.storedLabels()
	for _, g := range index.Named(home.Walk(), f.Def.Name) {
		if !g.Family.Aids(f.Def) {
			continue
		}
		i, ok := slices.BinarySearchFunc(g.Series, labels, func(s *backend.Series, labels string) int { return cmp.Compare(s.Labels, labels) })
		if ok && !index.HasWords(all, g.Series[i].Words) {
			all = append(all, index.Block{Family: g.Family, Words: g.Series[i].Words})
		}
	}
	read(s.Words(), all)
}

// sharesBlocks reports whether other processes may have made blocks of series in b: a remote
// backend walks copies, which include them.
func sharesBlocks(b *Binding) bool { return b != nil && !b.Local && !backend.IsRemote(b.Backend) }

// learnBlocks makes Walk of b return the blocks that exist by now. If b is damaged or closed, it
// returns those that can be read.
func (h *Home) learnBlocks(b *Binding) {
	if sharesBlocks(b) {
		ctx, cancel := context.WithTimeout(context.Background(), Timeout)
		defer cancel()
		_ = b.Sync(ctx) // pages report its errors
	}
}
