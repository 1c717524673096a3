package syncer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// readings counts the parts of instances that are read.
type readings struct {
	store.Store
	parts atomic.Int64
}

func (r *readings) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	for _, k := range keys {
		if strings.HasPrefix(k.Group, "i") {
			r.parts.Add(1)
		}
	}
	return r.Store.Get(ctx, keys)
}

// Learning which series exist takes the directory, and no words of instances.
func TestLearn(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	var want []string
	for i := range 20 {
		p := m.start()
		for j := range 3 {
			l := fmt.Sprintf("x=%q", fmt.Sprint(i+j))
			if p.words(counter, l)[backend.CounterInt].Add(1); !slices.Contains(want, l) {
				want = append(want, l)
			}
		}
		if err := p.s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r := &readings{Store: m.store}
	s := syncer.NewManual(r, store.Options{Alive: alive}, func() time.Time { return m.now })
	if err := s.Declare(counter); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.Learn(t.Context())
		if got := slices.Sorted(slices.Values(s.Existing(counter))); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Fatalf("learnt of %v, want %v", got, want)
		}
	}
	if n := r.parts.Load(); n > 0 {
		t.Errorf("%d parts of instances were read", n)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for _, g := range s.Walk() {
		for _, series := range g.Series {
			sum += series.Words[backend.CounterInt].Load()
		}
	}
	if sum != 60 {
		t.Errorf("the page has %d, want 60", sum)
	}
}
