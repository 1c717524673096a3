package tests_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// A value that is too long counts in the overflow series, however it gets into a look-up, in every
// backend. The longest one that is allowed has its own series.
func TestLongValues(t *testing.T) {
	t.Parallel()
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		type labels struct{ A, B string }
		shorten := func(s string) string { return s[:min(len(s), 1024)] }
		v := r.NewCounterVec("v_total", "V.", nil, "a", "b")
		of := gotheus.Must(gotheus.TryNewVecOf[labels, gotheus.Counter](r, "v_total", "V.", nil))
		ofB := gotheus.Partial(of, func(b string) labels { return labels{"", b} })
		short := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{Normalize: normalizers{"b": shorten}}, "a", "b")
		grown := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{Normalize: normalizers{"a": func(s string) string { return s + "yy" }}}, "a", "b")
		longest := strings.Repeat("x", 1024)
		long := longest + "x"
		v.With(longest, longest).Inc()
		over := v.With(long, "")
		over.Inc()
		for what, c := range map[string]*gotheus.Counter{
			"With":        v.With("", long),
			"TryWith":     gotheus.Must(v.TryWith("", strings.Repeat("\xff", 2000))),
			"WithLabels":  v.WithLabels(gotheus.Labels{"a": "", "b": long}),
			"Partial":     v.Partial(gotheus.Labels{"a": long}).With(""),
			"a struct":    of.With(labels{"", long}),
			"a function":  ofB.With(long),
			"Normalize":   grown.With(longest, ""),
			"replacing":   v.With(strings.Repeat("x\xff", 500), ""),
			"a huge text": v.With(strings.Repeat("x", 1<<20), ""),
		} {
			if c != over {
				t.Errorf("%s: not the overflow series", what)
			}
			c.Inc()
		}
		if short.With("", long) == over || v.With("", longest) != short.With("", long) {
			t.Error("a value was not measured after Normalize")
		}
		isErr(t, v.TryDeclare(gotheus.Labels{"a": "", "b": long}), gotheus.ErrLabels, "v_total", `label "b" has 1025 bytes`, "1024", "MaxValueLength")
		isErr(t, of.TryDeclare(labels{long, ""}), gotheus.ErrLabels, "v_total", `label "a"`)
		_, err := gotheus.TryNewVec[gotheus.Counter](r, "v_total", "V.", &gotheus.CounterOptions{Defaults: gotheus.Labels{"a": long}}, "a", "b")
		isErr(t, err, gotheus.ErrInvalid, "Defaults", `label "a" has 1025 bytes`)
		if v.Delete(long, "") || v.DeleteMatching(gotheus.Labels{"a": long}) != 0 {
			t.Error("a series that does not exist was deleted")
		}
		pageHas(t, r, fmt.Sprintf(`v_total{a=%q,b=%[1]q} 1`, longest), `v_total{a="gotheus_overflow",b="gotheus_overflow"} 10`, `gotheus_overflowed_lookups_total{metric="v_total"} 10`)
		if n := strings.Count(log.String(), "metric=v_total label=a bytes="); n != 1 || !strings.Contains(log.String(), "MaxValueLength") || !strings.Contains(log.String(), "bytes=1025 max=1024") || len(log.String()) > 2000 {
			t.Errorf("%d lines in the log: %.3000s", n, log)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The limit is an option of the family, and by default that of the registry.
func TestMaxValueLength(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{MaxValueLength: 3})
	of := func(n int) *gotheus.GaugeOptions { return &gotheus.GaugeOptions{MaxValueLength: n} }
	longest := func(v *gotheus.GaugeVec) int {
		over := v.With(gotheus.OverflowValue)
		for n := 1; ; n++ {
			if v.With(strings.Repeat("x", n)) == over {
				return n - 1
			}
		}
	}
	for n, want := range map[int]int{0: 3, 7: 7, -1: backend.MaxText - len(`x=""`), 1 << 20: backend.MaxText - len(`x=""`)} {
		v := r.NewGaugeVec(fmt.Sprint("g", n+1), "G.", of(n), "x")
		if want > 10 {
			if over := v.With(gotheus.OverflowValue); v.With(strings.Repeat("x", want)) == over || v.With(strings.Repeat("x", want+1)) != over {
				t.Errorf("MaxValueLength %d: another limit than %d", n, want)
			}
			continue
		}
		if got := longest(v); got != want {
			t.Errorf("MaxValueLength %d: %d bytes are allowed, want %d", n, got, want)
		}
	}
	_, err := gotheus.TryNewVec[gotheus.Gauge](r, "g1", "G.", of(2), "x")
	isErr(t, err, gotheus.ErrConflict, "g1: it already has MaxValueLength 3, not 2")
	for _, n := range []int{0, 3} {
		if _, err := gotheus.TryNewVec[gotheus.Gauge](r, "g1", "G.", of(n), "x"); err != nil {
			t.Errorf("the registry's limit, given again as %d: %v", n, err)
		}
	}
	// A family that is registered again may have another limit.
	v := r.NewGaugeVec("back", "B.", of(1), "x")
	longest(v)
	r.HideFamily("back")
	if got := longest(r.NewGaugeVec("back", "B.", of(4), "x")); got != 4 {
		t.Errorf("after coming back: %d bytes are allowed", got)
	}
	info := r.NewInfo("an_info", "I.", gotheus.Labels{"version": "more than 3 bytes"})
	info.Set(gotheus.Labels{"version": strings.Repeat("x", 5000)})
	h := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{MaxValueLength: 1}, "x")
	s := r.NewSummaryVec("s", "S.", &gotheus.SummaryOptions{MaxValueLength: 1}, "x")
	states := r.NewStateSetVec("states", "S.", []string{"a"}, &gotheus.StateSetOptions{MaxValueLength: 1}, "x")
	if h.With("xx") != h.With("yy") || s.With("xx") != s.With("yy") || states.With("xx") != states.With("yy") {
		t.Error("the option has no effect")
	}
}

// Pages show series of other processes whose values are longer than this process allows. It can
// delete them.
func TestLongValuesOfOthers(t *testing.T) {
	t.Parallel()
	sharedBackends(t, func(t *testing.T, open func(*gotheus.RegistryOptions) *gotheus.Registry) {
		long := strings.Repeat("x", 5000)
		a, b := open(&gotheus.RegistryOptions{MaxValueLength: -1}), open(nil)
		a.NewCounterVec("v_total", "V.", nil, "x").With(long).Inc()
		v := b.NewCounterVec("v_total", "V.", nil, "x")
		v.With(long).Inc()
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		pageHas(t, b, fmt.Sprintf(`v_total{x=%q} 1`, long), `v_total{x="gotheus_overflow"} 1`)
		if !v.Delete(long) {
			t.Error("there was nothing to delete")
		}
		if p := page(t, b); strings.Contains(p, long) {
			t.Error("the series is still shown")
		}
	})
}

// In values of look-ups that are not UTF-8, U+FFFD replaces what is not. It does not matter how a
// value got there.
func TestValuesThatAreNotUTF8(t *testing.T) {
	t.Parallel()
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		type labels struct{ A, B, C string }
		v := r.NewCounterVec("v_total", "V.", nil, "a", "b", "c")
		of := gotheus.Must(gotheus.TryNewVecOf[labels, gotheus.Counter](r, "v_total", "V.", nil))
		ofC := gotheus.Partial(of, func(c string) labels { return labels{"", "y", c} })
		normal := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{Normalize: normalizers{"c": func(s string) string { return s + "\xfe\xfe" }}}, "a", "b", "c")
		c := v.With("", "y", "x\uFFFD")
		for what, same := range map[string]*gotheus.Counter{
			"With":       v.With("", "y", "x\xff"),
			"TryWith":    gotheus.Must(v.TryWith("", "y", "x\xff\xff\xc3")),
			"WithLabels": v.WithLabels(gotheus.Labels{"a": "", "b": "y", "c": "x\xc3"}),
			"Partial":    v.Partial(gotheus.Labels{"c": "x\xff"}).With("", "y"),
			"a struct":   of.With(labels{"", "y", "x\xff"}),
			"a function": ofC.With("x\x80"),
			"Normalize":  normal.With("", "y", "x"),
		} {
			if same != c {
				t.Errorf("%s: another series", what)
			}
			same.Inc()
		}
		pageHas(t, r, `v_total{a="",b="y",c="x`+"\uFFFD"+`"} 7`, `gotheus_replaced_values_total{metric="v_total"} 7`)
		if n := strings.Count(log.String(), "metric=v_total label=c"); n != 1 || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%d lines in the log: %s", n, log)
		}
		if !v.Delete("", "y", "x\xff") || v.Delete("", "y", "x\xff") {
			t.Error("not deleted")
		}
		v.With("", "y", "x\xff")
		if !of.Delete(labels{"", "y", "x\xff"}) {
			t.Error("not deleted through a struct")
		}
		v.With("", "y", "x\xff")
		if v.DeleteMatching(gotheus.Labels{"c": "x\xff"}) != 1 {
			t.Error("no match")
		}
		v.With("", "y", "x\xff")
		if v.Partial(gotheus.Labels{"c": "x\xff"}).DeleteAll() != 1 {
			t.Error("not deleted through a partial")
		}
		// What the program chooses is an error.
		isErr(t, v.TryDeclare(gotheus.Labels{"a": "", "b": "y", "c": "\xff"}), gotheus.ErrLabels, `value "\xff" of label "c" is not UTF-8`)
		_, err := gotheus.TryNewInfo(r, "x_info", "X.", gotheus.Labels{"version": "\xff"})
		isErr(t, err, gotheus.ErrInvalid, `value "\xff" of label "version" is not UTF-8`)
		info := r.NewInfo("an_info", "I.", gotheus.Labels{"version": "1"})
		isErr(t, info.TrySet(gotheus.Labels{"version": "\xff"}), gotheus.ErrLabels, `value "\xff" of label "version" is not UTF-8`)
		pageHas(t, r, `an_info{version="1"} 1`)
	})
}

// Look-ups with any number of values that are too long or not UTF-8 are bounded as all others are,
// and take no lock: here, those of the family and of the counts are held.
func TestHostileLookUps(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 5}, "x", "y")
		hostile := func(i int) {
			v.With(fmt.Sprint("\xff", i), "y").Inc()
			v.With(fmt.Sprint(strings.Repeat("x", 2000), i), "y").Inc()
			v.With(fmt.Sprint(i), "y").Inc()
		}
		for i := range 20 {
			hostile(i)
		}
		page(t, r)
		for _, name := range []string{"v_total", "gotheus_overflowed_lookups_total", "gotheus_replaced_values_total"} {
			lock := inside.Home(r).Named(name)[0].Lock()
			lock.Lock()
			defer lock.Unlock()
		}
		for i := 20; i < 40; i++ {
			hostile(i) // would hang
		}
	})
}

// A client's string that reaches a collector does not take the family off the page: it is repaired,
// or the series is left out.
func TestHostileValuesOfCollectors(t *testing.T) {
	t.Parallel()
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		for _, prefix := range []string{"c", "p"} {
			collect := func(_ context.Context, s *gotheus.Sink) error {
				g := s.Gauge(prefix+"_value", "V.", "x")
				g.Put(1, "good")
				g.Put(2, "\xff")
				g.Put(3, "\xfe")
				g.Put(4, "\uFFFD")
				s.Gauge(prefix+"_long", "V.", "x").Put(5, strings.Repeat("x", 1<<20))
				return nil
			}
			if prefix == "p" {
				r.Register(gotheus.ProcessCollectorFunc(collect))
			} else {
				r.Register(gotheus.CollectorFunc(collect))
			}
		}
		p := page(t, r)
		for _, prefix := range []string{"c", "p"} {
			n := 0
			for line := range strings.Lines(p) {
				good, repaired := strings.Contains(line, `{x="good"`), strings.Contains(line, "{x=\"\uFFFD\"")
				if strings.HasPrefix(line, prefix+"_value{") && (good && strings.HasSuffix(line, " 1\n") || repaired && strings.HasSuffix(line, " 2\n")) {
					n++
				}
			}
			if n != 2 || strings.Count(p, prefix+"_value{") != 2 {
				t.Errorf("the page is\n%.3000s", p)
			}
		}
		for _, want := range []string{"c_value was left out: {x=", "p_value was left out: {x=", "since U+FFFD has replaced", "c_long: the labels have", "p_long: the labels have"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %q in the log: %.6000s", want, log)
			}
		}
		if len(log.String()) > 5000 {
			t.Errorf("the log has %d bytes", len(log.String()))
		}
	})
}

// Concurrent look-ups with the same value that is not UTF-8 get one series, and all are counted.
func TestConcurrentRepairs(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewCounterVec("v_total", "V.", nil, "x")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 250 {
				v.With(fmt.Sprint("\xff", i%7)).Inc()
			}
		})
	}
	wait.Wait()
	if n := count(page(t, r), "v_total"); n != 7 {
		t.Errorf("%d series, want 7", n)
	}
	pageHas(t, r, `gotheus_replaced_values_total{metric="v_total"} 1000`)
}

// Whatever bytes label values have, nothing panics, everything is counted, and the page is valid.
func TestAnyBytesAsValues(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		type labels struct{ A, B string }
		o := &gotheus.CounterOptions{MaxSeries: 300, MaxValueLength: 50}
		v := r.NewCounterVec("v_total", "V.", o, "a", "b")
		of := gotheus.Must(gotheus.TryNewVecOf[labels, gotheus.Counter](r, "v_total", "V.", o))
		rnd := rand.New(rand.NewPCG(1, 2))
		value := func() string {
			b := make([]byte, rnd.IntN(4)*rnd.IntN(30))
			for i := range b {
				b[i] = byte(rnd.Uint32())
				if rnd.IntN(3) == 0 {
					b[i] = "\x00\n\\\"\r=,}\xc3\xa4\xed\xff"[rnd.IntN(12)]
				}
			}
			return string(b)
		}
		n := 0
		for i := range 3000 {
			a, b := value(), value()
			m := v.With(a, b)
			if v.WithLabels(gotheus.Labels{"a": a, "b": b}) != m || of.With(labels{a, b}) != m || v.Partial(gotheus.Labels{"b": b}).With(a) != m {
				t.Fatalf("the ways to look up %q and %q lead to different series", a, b)
			}
			m.Inc()
			n++
			if err := v.TryDeclare(gotheus.Labels{"a": a, "b": b}); (err == nil) != (utf8.ValidString(a) && utf8.ValidString(b) && max(len(a), len(b)) <= 50) {
				t.Fatalf("declaring %q and %q: %v", a, b, err)
			}
			if i%10 == 9 {
				if counted := int(v.With(a, b).Value()); v.Delete(a, b) {
					n -= counted
				}
			}
		}
		var b strings.Builder
		if err := r.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if err := pagetest.CheckText(b.String()); err != nil {
			t.Error(err)
		}
		sum := 0
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, "v_total{") {
				c, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]))
				if err != nil {
					t.Fatal(err)
				}
				sum += c
			}
		}
		if sum != n {
			t.Errorf("the page shows %d, want %d", sum, n)
		}
	})
}
