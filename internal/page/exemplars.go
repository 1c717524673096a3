package page

import (
	"log/slog"
	"slices"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// readExemplars yields the exemplars of a series, the newest of each slot. It leaves out invalid
// ones, which only another process can have written.
func (p *Page) readExemplars(f *backend.Family, w backend.Words, yield func(slot int, e expo.Exemplar)) {
	for slot := range f.ExemplarSlots() {
		var newest backend.Exemplar
		for _, b := range p.Blocks {
			if b.Family.Block.Role != backend.ExemplarRole {
				continue
			}
			e, ok := b.Family.ReadExemplar(b.Words, slot, f.Start(w).Load())
			if !ok || e.Time <= newest.Time {
				continue
			}
			if err := e.Check(); err != nil {
				p.o.Log.Log(slog.LevelWarn, "exemplar in backend "+f.Name, "an exemplar written by another process is invalid and was left out of the page",
					"metric", f.Name, "error", err)
				continue
			}
			newest = e
		}
		if newest.Time != 0 {
			yield(slot, expo.Exemplar{Labels: newest.Labels, Value: newest.Value, Time: newest.Time})
		}
	}
}

// exemplars adds the exemplars of a histogram to d. Each is there once: what OpenMetrics 2.0 and
// protobuf show for classic buckets is read for the exponential ones, too.
func (p *Page) exemplars(d *expo.Distribution, f *backend.Family, w backend.Words) {
	if !slices.ContainsFunc(p.Blocks, func(b index.Block) bool { return b.Family.Block.Role == backend.ExemplarRole }) {
		return
	}
	if f.Classic() {
		d.Exemplars = make([]expo.Exemplar, len(d.Buckets)+1)
	}
	p.readExemplars(f, w, func(slot int, e expo.Exemplar) {
		if d.Exemplars != nil {
			d.Exemplars[slot] = e
		} else {
			d.Native.Exemplars = append(d.Native.Exemplars, e)
		}
	})
}
