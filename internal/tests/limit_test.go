package tests_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
)

func TestMaxSeries(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 2}, "a", "b")
		v.Declare(gotheus.Labels{"a": "d", "b": "d"})
		one, two := v.With("1", "1"), v.With("2", "2")
		v.With("1", "1")
		over := v.With("3", "3")
		over.Inc()
		for range 10 {
			v.WithLabels(gotheus.Labels{"a": "4", "b": "4"}).Inc()
		}
		if v.With("1", "1") != one || v.With("2", "2") != two || v.With("d", "d") == over || v.With("5", "5") != over {
			t.Error("wrong series beyond the limit")
		}
		if v.Partial(gotheus.Labels{"a": "6"}).With("6") != over || v.With(gotheus.OverflowValue, gotheus.OverflowValue) != over {
			t.Error("not the overflow series")
		}
		v.Declare(gotheus.Labels{"a": "3", "b": "3"})
		if v.With("3", "3") == over {
			t.Error("a declared series is not reached")
		}
		_, err := v.TryWith("\xff", "")
		isErr(t, err, gotheus.ErrLabels, `value "\xff" of label "a"`)
		pageHas(t, r, `v_total{a="gotheus_overflow",b="gotheus_overflow"} 11`, `gotheus_overflowed_lookups_total{metric="v_total"} 13`)
		if n := strings.Count(log.String(), "metric=v_total max=2"); n != 1 {
			t.Errorf("%d lines in the log: %s", n, log)
		}
	})
}

func TestMaxSeriesOptions(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{MaxSeries: 1, Prefix: "p_"})
	fill := func(v *gotheus.Vec[gotheus.Gauge]) (series int) {
		seen := map[*gotheus.Gauge]bool{}
		for i := range 20 {
			seen[v.With(fmt.Sprint(i))] = true
		}
		return len(seen)
	}
	of := func(n int) *gotheus.GaugeOptions {
		return &gotheus.GaugeOptions{MaxSeries: n}
	}
	for n, want := range map[int]int{0: 2, 7: 8, -1: 20} {
		if got := fill(r.NewGaugeVec(fmt.Sprint("g", n+1), "G.", of(n), "x")); got != want {
			t.Errorf("MaxSeries %d: got %d series, want %d", n, got, want)
		}
	}
	pageHas(t, r, `p_gotheus_overflowed_lookups_total{metric="p_g1"} 19`, `p_gotheus_overflowed_lookups_total{metric="p_g8"} 13`)

	_, err := gotheus.TryNewVec[gotheus.Gauge](r, "g1", "G.", of(2), "x")
	isErr(t, err, gotheus.ErrConflict, "p_g1: it already has MaxSeries 1, not 2")
	if _, err := gotheus.TryNewVec[gotheus.Gauge](r, "g1", "G.", of(1), "x"); err != nil {
		t.Errorf("the registry's limit, given again: %v", err)
	}
	// A family that is registered again may have another limit.
	v := r.NewGaugeVec("back", "B.", of(1), "x")
	fill(v)
	r.HideFamily("back")
	if got := fill(r.NewGaugeVec("back", "B.", of(4), "x")); got != 5 {
		t.Errorf("after coming back: %d series", got)
	}

	none, log := newRegistry(t, &gotheus.RegistryOptions{MaxSeries: -1, NoSelfMetrics: true})
	if got := fill(none.NewGaugeVec("g", "G.", nil, "x")); got != 20 {
		t.Errorf("no limit: %d series", got)
	}
	fill(none.NewGaugeVec("h", "G.", of(3), "x"))
	var b strings.Builder
	if none.WriteText(&b); strings.Contains(b.String(), "gotheus_overflowed") || !strings.Contains(log.String(), "metric=h") {
		t.Errorf("without self-metrics: %s", b.String())
	}
	usual := r.NewGaugeVec("usual", "U.", of(10000), "x")
	if zero, _ := newRegistry(t, nil); usual != nil {
		_, err := gotheus.TryNewVec[gotheus.Gauge](zero, "usual", "U.", of(10000), "x")
		_, err2 := gotheus.TryNewVec[gotheus.Gauge](zero, "usual", "U.", nil, "x")
		if err != nil || err2 != nil {
			t.Errorf("10000 is not the default: %v, %v", err, err2)
		}
	}
}

// The series of other processes do not count towards the limit.
func TestMaxSeriesOfThisProcess(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	for i := range 3 { // stand for processes
		r, _ := newRegistry(t, nil)
		bind(t, r, url)
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 2}, "x")
		a, b := v.With(fmt.Sprint(2*i)), v.With(fmt.Sprint(2*i+1))
		if over := v.With("over"); a == b || a == over || b == over {
			t.Errorf("process %d: series of others count", i)
		} else {
			over.Inc()
		}
		pageHas(t, r, fmt.Sprintf(`v_total{x="gotheus_overflow"} %d`, i+1), fmt.Sprintf(`gotheus_overflowed_lookups_total{metric="v_total"} %d`, i+1))
	}
}
