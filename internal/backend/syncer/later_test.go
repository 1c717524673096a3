package syncer_test

import (
	"context"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// A process of an earlier version does not fold what it does not understand: that would lose it. A
// process that does understand it folds it.
func TestFamiliesOfLaterVersions(t *testing.T) {
	t.Parallel()
	for name, publish := range map[string]bool{"with numbers": true, "without numbers": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mem backendtest.Memory
			clock := time.Unix(1e9, 0)
			now := func() time.Time { return clock }
			mem.Now = now
			plain := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter}
			future := &backend.Family{Name: "d_total", Help: "D.", Kind: backend.Counter}
			count := func(s *syncer.Syncer, f *backend.Family) {
				t.Helper()
				w, err := s.Cells(f, "")
				if err != nil {
					t.Fatal(err)
				}
				w[0].Add(1)
			}
			run := func(s *syncer.Syncer) {
				t.Helper()
				for range 20 {
					if err := s.Step(t.Context()); err != nil {
						t.Fatal(err)
					}
					clock = clock.Add(store.DefaultAlive / 4)
				}
			}
			left := func() (n int) {
				t.Helper()
				heads, err := mem.Heads(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for name := range heads {
					if name[0] == 'i' {
						n++
					}
				}
				return n
			}
			open := func() *syncer.Syncer {
				s := syncer.NewManual(&mem, store.Options{}, now)
				t.Cleanup(func() { s.Close(context.Background()) })
				return s
			}
			older := open()
			for _, later := range []bool{true, false} {
				s := syncer.NewManual(&mem, store.Options{}, now)
				count(s, plain)
				if later {
					count(s, future)
					s.Disguise(future)
				}
				if publish {
					if err := s.Publish(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if run(older); left() != 2 {
				t.Errorf("%d instances are left, want the older one and the one of a later version", left())
			}
			newer := open()
			count(newer, future)
			newer.Disguise(future)
			if run(newer); left() > 2 {
				t.Errorf("%d instances are left, want the newer one, and perhaps the older one", left())
			}
			for _, s := range []*syncer.Syncer{newer, older} {
				if err := s.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				shown := make(map[string]uint64)
				for _, g := range s.Walk() {
					for _, row := range g.Series {
						shown[g.Family.Name] += row.Words[0].Load()
					}
				}
				if shown["c_total"] != 2 || s == newer && shown["d_total"] != 2 {
					t.Errorf("pages show %v", shown)
				}
			}
		})
	}
}
