package syncer_test

import (
	"context"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// reads counts how often the heads of all processes are read.
type reads struct {
	*backendtest.Memory
	all, common int
}

func (r *reads) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	if names == nil {
		r.all++
	} else {
		r.common++
	}
	return r.Memory.Heads(ctx, names)
}

// What an idle process costs does not depend on how many there are: only keepers read the heads of
// all.
func TestIdle(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	st := &reads{Memory: &backendtest.Memory{Now: clock}}
	var all []*syncer.Syncer
	for range 20 {
		s := syncer.NewManual(st, store.Options{Alive: alive}, clock)
		w, err := s.Cells(counter, `x="1"`)
		if err != nil {
			t.Fatal(err)
		}
		w[0].Add(1)
		all = append(all, s)
	}
	step := func(n int) {
		for range n {
			for _, s := range all {
				if err := s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(alive / 4)
		}
	}
	step(8)
	st.all, st.common = 0, 0
	step(10)
	if st.all != 3*10 {
		t.Errorf("%d readings of all heads in 10 rounds, want those of 3 keepers", st.all)
	}
	if st.common > 2*10*len(all) {
		t.Errorf("%d readings of the common heads in 10 rounds of %d processes", st.common, len(all))
	}
}
