package tests_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/inside"
)

// rows returns the number of rows that a page walks.
func rows(r *gotheus.Registry) (n int) {
	for _, g := range inside.Home(r).Current().Walk() {
		n += len(g.Series)
	}
	return n
}

// In the heap, what collectors and infos no longer give leaves neither rows, which each page would
// walk, nor memory.
func TestChurnLeavesNothing(t *testing.T) { // not parallel: it measures the heap
	for name, give := range map[string]func(r *gotheus.Registry) func(round, alive int){
		"process collector": func(r *gotheus.Registry) func(round, alive int) {
			var first, n int
			r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
				g := s.Gauge("g", "G.", "id")
				for i := range n {
					g.Put(1, fmt.Sprint("some longer value ", first+i))
				}
				return nil
			}))
			return func(round, alive int) { first, n = round*alive, alive }
		},
		"info": func(r *gotheus.Registry) func(round, alive int) {
			i := r.NewInfo("an_info", "I.", gotheus.Labels{"id": "first"})
			return func(round, alive int) {
				for n := range alive {
					i.Set(gotheus.Labels{"id": fmt.Sprint("some longer value ", round*alive+n)})
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
			set := give(r)
			churn := func(from, to, alive int) {
				for round := from; round < to; round++ {
					set(round, alive)
					if p := page(t, r); !strings.Contains(p, fmt.Sprint(" ", (round+1)*alive-1, `"`)) {
						t.Fatalf("round %d: %s", round, p)
					}
				}
			}
			churn(0, 20, 20)
			before, walked := heapInUse(), rows(r)
			const more = 500
			churn(20, 20+more, 20)
			if n := rows(r); n > walked {
				t.Errorf("pages walk %d rows, at first %d", n, walked)
			}
			if grown := int64(heapInUse()) - int64(before); grown > 20*more*10 {
				t.Errorf("%d bytes for each of %d series that are gone", grown/(20*more), 20*more)
			}
			if name == "process collector" { // many at once
				churn(100, 101, 20000)
				churn(40000, 40002, 20)
				if n := rows(r); n > walked {
					t.Errorf("pages walk %d rows, at first %d", n, walked)
				}
				if grown := int64(heapInUse()) - int64(before); grown > 20000*10 {
					t.Errorf("%d bytes are left of 20000 series", grown)
				}
			}
			runtime.KeepAlive(r)
		})
	}
}

// A series that stays does not keep the memory of its former neighbours.
func TestSurvivorsAreSmall(t *testing.T) { // not parallel: it measures the heap
	const all, one = 64000, 64
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, MaxSeries: -1})
	before := heapInUse()
	vecs := []*gotheus.GaugeVec{
		r.NewGaugeVec("shared", "S.", nil, "id"),
		r.NewGaugeVec("sum", "S.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "id"),
	}
	for _, v := range vecs {
		for i := range all {
			v.With(fmt.Sprint(i)).Set(1)
		}
		page(t, r)
	}
	deleteOthers := func(labels string) bool {
		var id int
		fmt.Sscanf(labels, `id="%d"`, &id)
		return id%one != 0
	}
	for _, f := range inside.Home(r).Families() {
		if n, err := f.Delete(deleteOthers); n != all-all/one || err != nil {
			t.Fatalf("%d deleted: %v", n, err)
		}
	}
	page(t, r)
	if grown := int64(heapInUse()) - int64(before); grown > int64(len(vecs))*all/one*600 {
		t.Errorf("%d bytes for each series that is left", grown/(int64(len(vecs))*all/one))
	}
	runtime.KeepAlive(r)
}
