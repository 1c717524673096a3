package series

import (
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// The sizes must be those that docs/distributions.md states.
func TestMemoryOfASeries(t *testing.T) {
	t.Parallel()
	native := &Family{Def: &backend.Family{Name: "native", Kind: backend.Histogram,
		Native: &backend.Native{Schema: 3, ZeroThreshold: 0x1p-128, MaxBuckets: 160}}}
	quantiles := &Family{Def: &backend.Family{Name: "quantiles", Kind: backend.Summary,
		Sketch: &backend.Sketch{Quantiles: []float64{.5}, PerDoubling: 35, Slots: 5, MaxAge: 10 * time.Minute}}}
	native.Prepare()
	quantiles.Prepare()
	for _, c := range []struct {
		f      *Family
		levels int
		most   int
	}{
		{native, 0, 430},
		{native, 1, 2100},
		{native, len(native.levels), 17500},
		{quantiles, 0, 1850},
		{quantiles, 1, 15500},
		{quantiles, 2, 69500},
		{quantiles, len(quantiles.levels), 205000},
	} {
		n := 0
		for _, f := range append([]*backend.Family{c.f.Def}, c.f.levels[:c.levels]...) {
			n += 8 * f.Words()
		}
		if n > c.most || n < c.most*9/10 {
			t.Errorf("%s with %d blocks: %d bytes, documented as %d", c.f.Def.Name, c.levels, n, c.most)
		}
	}
}
