package tests_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/open"
)

func TestExemplars(t *testing.T) {
	t.Parallel()
	type key struct{}
	now := time.Unix(1e9, 0)
	url := shmURL(t)
	o := &gotheus.RegistryOptions{Now: func() time.Time { return now }, Exemplar: func(ctx context.Context) gotheus.Labels {
		if id, ok := ctx.Value(key{}).(string); ok {
			return gotheus.Labels{"trace_id": id}
		}
		return nil
	}}
	a, log := newRegistry(t, o)
	b, _ := newRegistry(t, o)
	bind(t, a, url)
	bind(t, b, url)
	h := &gotheus.HistogramOptions{Buckets: []float64{1, 2}}
	ca, cb := a.NewCounterVec("c_total", "C.", nil, "l"), b.NewCounterVec("c_total", "C.", nil, "l")
	ha, hb := a.NewHistogram("h", "H.", h), b.NewHistogram("h", "H.", h)
	n := a.NewHistogram("n", "N.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)})
	ctx := context.WithValue(t.Context(), key{}, "abc")

	ca.With("a").AddContext(t.Context(), 1)
	if e := distributions(b, "c_total")[`l="a"`].Exemplars; e != nil {
		t.Errorf("from an empty context: %v", e)
	}
	ca.With("a").AddContext(ctx, 2)
	want := expo.Exemplar{Labels: `trace_id="abc"`, Value: 2, Time: now.UnixNano()}
	if e := distributions(b, "c_total")[`l="a"`].Exemplars; len(e) != 1 || e[0] != want {
		t.Errorf("got %v", e)
	}
	now = now.Add(time.Second)
	long := strings.Repeat("é", 120)
	cb.With("a").AddExemplar(3, gotheus.Labels{"x": long, "y": `"\`}) // in a larger slot
	want = expo.Exemplar{Labels: `x="` + long + `",y="\"\\"`, Value: 3, Time: now.UnixNano()}
	if e := distributions(a, "c_total")[`l="a"`].Exemplars; len(e) != 1 || e[0] != want {
		t.Errorf("got %v", e)
	}
	for _, bad := range []gotheus.Labels{{"x": strings.Repeat("é", 128)}, {"a\xff": "c"}, {"a": "\xff"}, {"": "a"}, {"a": "b\x00c"}, {"__name__": "a"}, {"a.b": "c", "a_b": "d"}} {
		cb.With("a").AddExemplar(1, bad)
	}
	ca.With("a").AddExemplar(1, gotheus.Labels{"": "c"})
	cb.With("a").AddExemplar(-1, gotheus.Labels{"a": "b"}) // not counted, and no exemplar
	if e := distributions(a, "c_total")[`l="a"`].Exemplars; len(e) != 1 || e[0] != want || !strings.Contains(log.String(), "an exemplar was dropped") {
		t.Errorf("got %v; %s", e, log)
	}
	pageHas(t, a, `c_total{l="a"} 14`)

	// A deleted series takes its exemplar with it.
	ca.DeleteAll()
	now = now.Add(time.Second)
	cb.With("a").Inc()
	if e := distributions(a, "c_total")[`l="a"`]; e.Exemplars != nil || e.Start != now.UnixNano() {
		t.Errorf("got %v, start %d", e.Exemplars, e.Start)
	}
	cb.With("a").AddExemplar(1, gotheus.Labels{"a": "b"})
	if e := distributions(a, "c_total")[`l="a"`].Exemplars; len(e) != 1 || e[0].Labels != `a="b"` {
		t.Errorf("got %v", e)
	}

	ha.ObserveExemplar(.5, gotheus.Labels{"a": "1"})
	hb.ObserveContext(ctx, 1.5)
	hb.ObserveExemplar(9, gotheus.Labels{"a": "3"})
	ha.ObserveExemplar(8, gotheus.Labels{"a": "4"})
	e := distributions(b, "h")[""].Exemplars
	if len(e) != 3 || e[0].Value != .5 || e[1].Labels != `trace_id="abc"` || e[2].Value != 8 {
		t.Errorf("got %v", e)
	}
	for i := range 10 {
		n.ObserveExemplar(float64(int(1)<<i), gotheus.Labels{"i": fmt.Sprint(i)})
	}
	if e := distributions(b, "n")[""].Native.Exemplars; len(e) != 10 {
		t.Errorf("got %v", e)
	}
	if ha.Count() != 4 || n.Count() != 10 {
		t.Errorf("counts %d, %d", ha.Count(), n.Count())
	}
}

// Data that another process has written and that would break the page is dropped or replaced. That
// is logged once, and the rest of the page is unaffected.
func TestHostileNeighbour(t *testing.T) {
	t.Parallel()
	for where, url := range backends {
		if where == "heap" {
			continue
		}
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			place := url(t)
			join := func() string {
				if name, ok := strings.CutPrefix(place, "fleet:"); ok {
					return "fleet:" + joinFleet(name).name
				}
				return place
			}
			b, err := open.URL(t.Context(), join(), quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(t.Context())
			cells := func(f *backend.Family, labels string) backend.Words {
				w, err := b.Cells(f, labels)
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			before := "" // the page's lines for what existed before
			for i, text := range []string{"trace_id=\"a\x00b\"", "a=\"\"} 1\nevil_total 5\n# {b=\"\"", `a="b",a="c"`, "\xff"} {
				f := &backend.Family{Name: fmt.Sprintf("c%d_total", i), Help: "Bad \xff\nevil_total 5", Kind: backend.Counter}
				w := cells(f, "")
				w[backend.CounterInt].Store(3)
				f.Start(w).Store(1e15)
				aux := f.With(backend.Block{Role: backend.ExemplarRole, Size: 128})
				if !aux.WriteExemplar(cells(aux, ""), 0, 1e15, &backend.Exemplar{Labels: text, Value: 1, Time: time.Now().UnixNano()}) {
					t.Fatal("not written")
				}
				if err := b.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				r, log := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
				bind(t, r, join())
				want := before + fmt.Sprintf("# TYPE c%d counter\n# HELP c%d Bad \ufffd\\nevil_total 5\nc%d_total 3\n", i, i, i)
				for range 3 {
					var page strings.Builder
					if err := r.Write(t.Context(), &page, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1}}); err != nil {
						t.Fatal(err)
					}
					if page.String() != want+"# EOF\n" {
						t.Errorf("with the exemplar %q: the page is %q, want %q", text, &page, want)
					}
				}
				said := []string{"not UTF-8", "invalid exemplar"}
				// A store's exemplars are checked when they are read.
				if where != "shm" {
					said = said[:1]
				}
				for _, what := range said {
					lines := 0
					for line := range strings.Lines(log.String()) {
						if strings.Contains(line, "metric="+f.Name) && strings.Contains(line, what) {
							lines++
						}
					}
					if lines != 1 {
						t.Errorf("with the exemplar %q: %d log lines contain %q: %s", text, lines, what, log)
					}
				}
				// The next valid one replaces it.
				r.NewCounter(f.Name, "C.", nil).AddExemplar(0, gotheus.Labels{"good": "1"})
				e := distributions(r, f.Name)[""].Exemplars
				if len(e) != 1 || e[0].Labels != `good="1"` {
					t.Fatalf("after a valid one: %v", e)
				}
				at := time.Unix(0, e[0].Time)
				before += fmt.Sprintf("# TYPE c%d counter\n# HELP c%d C.\nc%d_total 3 # {good=\"1\"} 0.0 %d.%s\n", i, i, i, at.Unix(), strings.TrimRight(fmt.Sprintf("%09d", at.Nanosecond()), "0"))
				if err := r.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}

			// Series with malformed labels are left out; the rest of the family is
			// shown.
			v := &backend.Family{Name: "v_total", Help: "V.", Kind: backend.Counter, Labels: []string{"l"}}
			for i, labels := range []string{`l="a"`, "l=\"\"} 1\nevil_total{l=\"\"", `l="z"`} {
				cells(v, labels)[backend.CounterInt].Store(uint64(i) + 1)
			}
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
			bind(t, r, join())
			var page strings.Builder
			// Shm reports it as damage.
			if err := r.WriteText(&page); err != nil && where != "shm" {
				t.Fatal(err)
			}
			if want := "# HELP v_total V.\n# TYPE v_total counter\nv_total{l=\"a\"} 1\nv_total{l=\"z\"} 3\n"; !strings.HasSuffix(page.String(), want) {
				t.Errorf("the page is %q, want the end %q", &page, want)
			}
		})
	}
}

// If there is no room for an exemplar, it is dropped and the observation counts. Later there may be
// room.
func TestExemplarsWithoutRoom(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New()}
	now := time.Unix(1e9, 0)
	r, log := newRegistry(t, &gotheus.RegistryOptions{Now: func() time.Time { return now }})
	r.BindBackend(t.Context(), b)
	c := r.NewCounter("c_total", "C.", nil)
	b.set(fmt.Errorf("%w: for the test", backend.ErrFull))
	c.AddExemplar(1, gotheus.Labels{"a": "b"})
	b.set(nil)
	c.AddExemplar(1, gotheus.Labels{"a": "b"})
	if e := distributions(r, "c_total")[""].Exemplars; e != nil || c.Value() != 2 || !strings.Contains(log.String(), "no room") {
		t.Errorf("got %v, %v, %s", e, c.Value(), log)
	}
	now = now.Add(time.Minute)
	c.AddExemplar(1, gotheus.Labels{"a": "b"})
	if e := distributions(r, "c_total")[""].Exemplars; len(e) != 1 {
		t.Errorf("got %v", e)
	}
	r.Close(t.Context())
	bind(t, r, shmURL(t))
	c.AddExemplar(1, gotheus.Labels{"a": "b"})
	if e := distributions(r, "c_total")[""].Exemplars; len(e) != 1 {
		t.Errorf("after a bind: %v", e)
	}
}

// A partly written slot, left by a killed process or by two concurrent writers, is not shown. Each
// exemplar contains enough to verify that it is intact.
func TestTornExemplars(t *testing.T) {
	t.Parallel()
	f := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Block: backend.Block{Role: backend.ExemplarRole, Size: 12}}
	w := make(backend.Words, f.Words())
	e := backend.Exemplar{Labels: `trace_id="0123456789abcdef"`, Value: 5, Time: 7e9}
	if !f.WriteExemplar(w, 0, 1, &e) {
		t.Fatal("not written")
	}
	if got, ok := f.ReadExemplar(w, 0, 1); !ok || got != e {
		t.Fatalf("got %v, %v", got, ok)
	}
	if _, ok := f.ReadExemplar(w, 0, 2); ok {
		t.Error("an exemplar of a deleted series is shown")
	}
	for i := 1; i < 6+4; i++ { // changes each word but the first, which is not checked
		old := w[i].Load()
		for bit := range 64 {
			w[i].Store(old ^ 1<<bit)
			if got, ok := f.ReadExemplar(w, 0, 1); ok {
				t.Errorf("word %d with bit %d flipped: %v", i, bit, got)
			}
		}
		w[i].Store(old)
	}
	// A process that was killed while writing does not block the slot for long.
	w[0].Store(8e9)
	e.Time = 8e9 + 1
	if f.WriteExemplar(w, 0, 1, &e) {
		t.Error("two write at once")
	}
	if e.Time = 10e9; !f.WriteExemplar(w, 0, 1, &e) {
		t.Error("a dead writer blocks the slot")
	}
	if w[0].Store(3600e9); !f.WriteExemplar(w, 0, 1, &e) {
		t.Error("a dead writer whose clock was ahead blocks the slot")
	}
	// Readers and writers, some of which pause halfway for longer than the others wait.
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for g := range 3 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			rnd := rand.New(rand.NewPCG(uint64(g), 12))
			for at := int64(20e9); ; at += int64(rnd.IntN(2e9)) {
				select {
				case <-stop:
					return
				default:
				}
				n := rnd.IntN(60)
				f.WriteExemplar(w, 0, 1, &backend.Exemplar{Labels: strings.Repeat(string(rune('a'+n%26)), n), Value: float64(n), Time: at})
			}
		}()
	}
	seen := 0
	for range 20000 {
		if e, ok := f.ReadExemplar(w, 0, 1); ok && e.Labels != `trace_id="0123456789abcdef"` {
			seen++
			if n := int(e.Value); e.Labels != strings.Repeat(string(rune('a'+n%26)), n) {
				t.Fatalf("torn: %+v", e)
			}
		}
	}
	close(stop)
	wait.Wait()
	t.Logf("%d seen whole", seen)
}

// Exemplars of any length are shown, whichever size of slot they need.
func TestExemplarLengths(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	for n := range 126 { // with the name, 128 characters are allowed
		v.With(fmt.Sprint(n)).AddExemplar(1, gotheus.Labels{"id": strings.Repeat("x", n)})
	}
	var page strings.Builder
	if err := r.Write(t.Context(), &page, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1}}); err != nil {
		t.Fatal(err)
	}
	for n := range 126 {
		if want := fmt.Sprintf(`c_total{l="%d"} 1 # {id="%s"} 1`, n, strings.Repeat("x", n)); !strings.Contains(page.String(), "\n"+want) {
			t.Errorf("there is no exemplar with a value of %d bytes", n)
		}
	}
}
