package tests_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

var windowObjectives = []float64{0, .5, 1}

// observed is an observation in a window.
type observed struct {
	slot  int
	value float64
}

func within(all []observed, slot, slots int) (values []float64) {
	for _, o := range all {
		if o.slot > slot-slots {
			values = append(values, o.value)
		}
	}
	return values
}

func quantilesOf(t testing.TB, w *worker, name, labels string) (list []float64) {
	t.Helper()
	for _, f := range strings.Fields(w.do(command{Do: "quantiles", Name: name, Key: labels})) {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

// Over simulated days, processes join, count, stop for longer than a slot, leave and die. Every
// page has exactly the observations of its window.
func init() {
	stories["windows over days"] = func(s *story) {
		const slot, slots, days = 15 * 60, 4, 3
		rnd := rand.New(rand.NewPCG(19, 84))
		now := 1_700_000_000 / slot
		type process struct {
			*worker
			until int // stopped until then
		}
		join := func(w *worker) *process {
			w.do(command{Do: "clock", V: float64(now * slot)})
			w.do(command{Do: "window", Name: "s", V: slot})
			return &process{worker: w}
		}
		var live []*process
		for _, w := range s.w {
			if live = append(live, join(w)); !s.shared() {
				break
			}
		}
		all := map[string][]observed{"a": nil, "b": nil}
		for end := now + days*24*3600/slot; now < end; now++ {
			if s.shared() && rnd.IntN(12) == 0 && len(live) < 4 {
				live = append(live, join(startWorker(s.T, s.url)))
			}
			for i := len(live) - 1; i >= 0; i-- {
				p := live[i]
				switch n := rnd.IntN(60); {
				case p.until > now:
					continue
				case n < 3:
					p.until = now + 1 + rnd.IntN(7)
					continue
				case n < 5 && len(live) > 1:
					if n == 3 {
						p.kill()
					} else {
						p.stop()
					}
					live = append(live[:i], live[i+1:]...)
					continue
				}
				p.do(command{Do: "clock", V: float64(now*slot + rnd.IntN(slot))})
				for range rnd.IntN(4) * rnd.IntN(4) {
					o := observed{now, math.Exp(rnd.Float64()*float64(now%24) - 3)}
					l := []string{"a", "b"}[rnd.IntN(2)]
					all[l] = append(all[l], o)
					p.do(command{Do: "observe", Name: "s", Values: values(l), V: o.value})
				}
			}
			for _, p := range live {
				if p.until > now || rnd.IntN(3) > 0 {
					continue
				}
				for l, list := range all {
					got := quantilesOf(s, p.worker, "s", `l="`+l+`"`)
					if len(list) > 0 {
						checkQuantiles(s.T, fmt.Sprint("slot ", now, " ", l), got, within(list, now, slots), windowObjectives, .01)
					}
				}
				if s.Failed() {
					return
				}
			}
		}
	}
}

// Observations in the heap that have left the window before the registry is bound do not reappear.
func TestWindowOfALateBind(t *testing.T) {
	t.Parallel()
	for where, url := range backends {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			clock := newFakeClock()
			r, _ := newRegistry(t, clock.options())
			o := &gotheus.SummaryOptions{Objectives: windowObjectives, MaxAge: time.Minute, Slots: 6}
			s := r.NewSummary("s", "S.", o)
			pass := func(slots int) {
				for range slots {
					clock.advance(10 * time.Second)
					sweep(r, clock.now())
				}
			}
			check := func(when string, values ...float64) {
				t.Helper()
				r.Flush(t.Context())
				checkQuantiles(t, when, distributions(r, "s")[""].Quantiles, values, windowObjectives, .01)
			}
			for i := range 100 {
				s.Observe(math.Exp2(float64(i))) // fills several blocks
			}
			s.Observe(0)
			pass(5)
			s.Observe(3)
			s.Observe(5)
			pass(2)
			bindTo := url(t)
			if name, ok := strings.CutPrefix(bindTo, "fleet:"); ok {
				bindTo = "fleet:" + joinFleet(name).name
			}
			bind(t, r, bindTo)
			check("bound", 3, 5)
			pass(1)
			s.Observe(7)
			check("later", 3, 5, 7)
			pass(5)
			check("as old as can be", 7)
			pass(1)
			check("in the end")
			if n := s.Count(); n != 104 {
				t.Errorf("%d counted", n)
			}
		})
	}
}

// In a store, which merges all processes, a dead process whose clock was days ahead does not hide
// the quantiles of the others.
func TestWindowAndAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"syncer", "sharded"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			place := backends[where](t)
			clock := newFakeClock()
			join := func(c *fakeClock) (*gotheus.Registry, *gotheus.Summary, *fleetStore) {
				r, _ := newRegistry(t, c.options())
				host := joinFleet(strings.TrimPrefix(place, "fleet:"))
				bind(t, r, "fleet:"+host.name)
				return r, r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: windowObjectives, MaxAge: time.Minute, Slots: 6}), host
			}
			r, s, _ := join(clock)
			var ahead fakeClock
			ahead.nanos.Store(clock.nanos.Load() + int64(72*time.Hour))
			wrong, theirs, _ := join(&ahead)
			pass := func() {
				for _, c := range []*fakeClock{clock, &ahead} {
					c.advance(10 * time.Second)
				}
				sweep(r, clock.now())
				sweep(wrong, ahead.now())
			}
			for i := range 20 {
				pass()
				s.Observe(float64(i))
				if i < 10 {
					theirs.Observe(1000)
					if err := wrong.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if i == 10 {
					if err := wrong.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				var values []float64
				for j := max(0, i-5); j <= i; j++ {
					values = append(values, float64(j))
				}
				checkQuantiles(t, fmt.Sprint("slot ", i), distributions(r, "s")[""].Quantiles, values, windowObjectives, .01)
			}
		})
	}
}
