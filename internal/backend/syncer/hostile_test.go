package syncer_test

import (
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/internal/hostilestore"
	"github.com/gotheus/gotheus/store"
)

func TestHostile(t *testing.T) {
	for _, a := range hostilestore.Attacks {
		t.Run(a.Name, func(t *testing.T) {
			var mem backendtest.Memory
			clock := time.Unix(1e9, 0)
			now := func() time.Time { return clock }
			mem.Now = now
			o := store.Options{Logger: slog.New(slog.DiscardHandler)}
			honest := syncer.NewManual(&mem, o, now)
			w, _ := honest.Cells(counter, `x="1"`)
			w[0].Store(7)
			if err := honest.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			n, err := a.Fill(t.Context(), &mem, a.Size)
			if err != nil {
				t.Fatal(err)
			}
			s := syncer.NewManual(&mem, o, now)
			for i := range 2 {
				runtime.GC()
				var m0, m1, m2 runtime.MemStats
				runtime.ReadMemStats(&m0)
				began := time.Now()
				err = s.Sync(t.Context())
				groups := s.Walk()
				took := time.Since(began)
				runtime.ReadMemStats(&m1)
				runtime.GC()
				runtime.ReadMemStats(&m2)
				shown := uint64(0)
				for _, g := range groups {
					if g.Family.Name == "c_total" {
						for _, r := range g.Series {
							shown += r.Words[0].Load()
						}
					}
				}
				t.Logf("%s page %d: %d bytes; %v; alloc %.1f MB (%.0fx); heap %+.1f MB; honest %d; %.200v", a.Name, i, n, took.Round(time.Millisecond/10),
					float64(m1.TotalAlloc-m0.TotalAlloc)/1e6, float64(m1.TotalAlloc-m0.TotalAlloc)/float64(n), float64(int64(m2.HeapAlloc-m0.HeapAlloc))/1e6, shown, err)
			}
			err = honest.Step(t.Context())
			t.Logf("honest step: %.200v", err)
			runtime.KeepAlive(s)
		})
	}
}
