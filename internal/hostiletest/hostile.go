// Package hostiletest creates registries with texts and words that would break a page if they were
// written unchecked. It is used only by tests, in several modules.
package hostiletest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// Texts contains every byte except letters and digits, alone and within a text, all kinds of
// invalid UTF-8, and texts that would end their field if written unescaped. A page with a family
// evil_total was injected by one of them.
func Texts() (texts []string) {
	for b := range 256 {
		if c := byte(b) | 0x20; c >= 'a' && c <= 'z' && b < 0x80 || b >= '0' && b <= '9' {
			continue
		}
		texts = append(texts, string([]byte{byte(b)}), string([]byte{'a', byte(b), 'z'}))
	}
	return append(texts,
		"", "\xc3\x28", "\xa0\xa1", "\xe2\x28\xa1", "\xf0\x28\x8c\x28", "\xed\xa0\x80", "\xf8\xa1\xa1\xa1\xa1", "\xc0\x80", "cut \xe2\x82",
		"\u0085", "\u2028", "\u2029", "\ufeff", "\ufffe", "\u200b", "\u00a0", "\u202e", "\U0010ffff", "\ufffd",
		`"`, `\`, `\"`, `\\"`, `"} 1`, "\n", "\r\n", "\n\n", "\n# EOF\n", "} 1", "# {",
		"\nevil_total 5\n", "\n# TYPE evil_total counter\nevil_total 5\n", "\"} 1\n# TYPE evil_total counter\nevil_total 5\n# {a=\"",
		"x\"} 1 1\nevil_total{a=\"", "a\x00\"} 1\nevil_total 1\n",
		`le`, `quantile`, `__name__`, "__x", "+Inf", "a.b", "a_b", "a-b", "a:b", "é_name__",
	)
}

// Fine are the samples that every page also contains.
const Fine = "sound"

const start = 1700000000_123456789 // nanoseconds

// Check fails the test unless the samples that a parser has found on such a page include Fine and
// nothing that was injected.
func Check(t testing.TB, f expo.Format, samples map[string]float64) {
	t.Helper()
	fine := 0
	for key := range samples {
		if name, _, _ := strings.Cut(strings.Trim(key, `{"`), `"`); strings.HasPrefix(name, "evil") {
			t.Errorf("%+v: %s was taken in", f, key)
		} else if strings.Contains(key, Fine) {
			fine++
		}
	}
	if fine == 0 {
		t.Errorf("%+v: what is fine is not there, among %d samples", f, len(samples))
	}
}

// Registries returns registries with hostile texts and words, each from another source: each
// argument of the API, collectors, and a backend to which another process can write anything.
func Registries(t testing.TB) map[string]*gotheus.Registry {
	all := make(map[string]*gotheus.Registry)
	registry := func(name string, o *gotheus.RegistryOptions) *gotheus.Registry {
		if o == nil {
			o = new(gotheus.RegistryOptions)
		}
		o.Logger = slog.New(slog.DiscardHandler)
		r, err := gotheus.TryNewRegistry(o)
		if err != nil {
			return nil // refused
		}
		t.Cleanup(func() { r.Close(context.Background()) })
		all[name] = r
		r.NewGauge(Fine, "S.", nil).Set(1)
		return r
	}
	texts := Texts()
	fed := func(name string, feed func(r *gotheus.Registry, i int, x string)) {
		r := registry(name, nil)
		for i, x := range texts {
			feed(r, i, x)
		}
	}
	inc := func(c *gotheus.Counter, err error) {
		if err == nil {
			c.Inc()
		}
	}
	fed("name", func(r *gotheus.Registry, i int, x string) {
		inc(gotheus.TryNew[gotheus.Counter](r, fmt.Sprint("n", i, x, "_total"), "H.", nil))
	})
	fed("help", func(r *gotheus.Registry, i int, x string) {
		inc(gotheus.TryNew[gotheus.Counter](r, fmt.Sprint("n", i, "_total"), x, nil))
	})
	fed("unit", func(r *gotheus.Registry, i int, x string) {
		inc(gotheus.TryNew[gotheus.Counter](r, fmt.Sprint("n", i, "_", x, "_total"), "H.", &gotheus.CounterOptions{Unit: x}))
	})
	fed("label name", func(r *gotheus.Registry, i int, x string) {
		if v, err := gotheus.TryNewVec[gotheus.Counter](r, fmt.Sprint("n", i, "_total"), "H.", nil, x); err == nil {
			inc(v.TryWith("v"))
		}
	})
	fed("label value", func(r *gotheus.Registry, i int, x string) {
		v := r.NewCounterVec("n_total", "H.", nil, "l")
		inc(v.TryWith(x))
		inc(v.TryWithLabels(gotheus.Labels{"l": x + "."}))
		if h, err := r.NewHistogramVec("h", "H.", nil, "l").TryWith(x); err == nil {
			h.Observe(1)
		}
	})
	type struct1 struct{ L string }
	fed("label value in a struct", func(r *gotheus.Registry, i int, x string) {
		inc(gotheus.Must(gotheus.TryNewVecOf[struct1, gotheus.Counter](r, "n_total", "H.", nil)).TryWith(struct1{x}))
	})
	for i, x := range texts {
		if i%8 == 1 || i > len(texts)-45 { // each makes a page
			registry(fmt.Sprintf("constant label %q", x), &gotheus.RegistryOptions{Labels: gotheus.Labels{"c": x}})
			registry(fmt.Sprintf("constant label name %q", x), &gotheus.RegistryOptions{Labels: gotheus.Labels{"c" + x: "v"}})
			registry(fmt.Sprintf("prefix %q", x), &gotheus.RegistryOptions{Prefix: "p" + x})
		}
	}
	fed("info", func(r *gotheus.Registry, i int, x string) {
		gotheus.TryNewInfo(r, fmt.Sprint("n", i, "_info"), "H.", gotheus.Labels{"l": x})
	})
	fed("state", func(r *gotheus.Registry, i int, x string) {
		gotheus.TryNewStateSet(r, fmt.Sprint("n", i), "H.", []string{"on", x}, nil)
	})
	fed("exemplar", func(r *gotheus.Registry, i int, x string) {
		c := r.NewCounterVec("n_total", "H.", nil, "i")
		c.With(fmt.Sprint(i, " value")).AddExemplar(1, gotheus.Labels{"l": x})
		c.With(fmt.Sprint(i, " name")).AddExemplar(1, gotheus.Labels{x: "v"})
		c.With(fmt.Sprint(i, " two")).AddExemplar(1, gotheus.Labels{"a" + x: "v", "a_": "w", "a__": "u"})
		h := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Buckets: []float64{1}, Native: new(gotheus.NativeOptions)}, "i")
		h.With(fmt.Sprint(i)).ObserveExemplar(2, gotheus.Labels{"l": x})
	})
	type key struct{}
	ctx := registry("exemplar of a context", &gotheus.RegistryOptions{Exemplar: func(ctx context.Context) gotheus.Labels {
		return gotheus.Labels{"trace_id": ctx.Value(key{}).(string)}
	}})
	for i, x := range texts {
		ctx.NewCounterVec("n_total", "H.", nil, "i").With(fmt.Sprint(i)).AddContext(context.WithValue(context.Background(), key{}, x), 1)
	}
	registry("collector", nil).Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		for i, x := range texts {
			n := fmt.Sprint("n", i)
			s.Counter(n+x+"_total", "H.").Put(1)
			s.Gauge(n+"_help", x).Put(1)
			s.Gauge(n+"_name", "H.", x).Put(1, "v")
			s.Gauge(n+"_value", "H.", "l").Put(1, x)
			s.StateSet(n+"_state", "H.", []string{"on", x}).Put([]string{"on"})
			s.Info(n+"_info", "H.", "l").Put(x)
			label, _ := (&backend.Family{Labels: []string{"l"}}).LabelText(x)
			for j, text := range []string{x, label, `l="` + x + `"`} {
				e := expo.Exemplar{Labels: text, Value: 1, Time: start}
				s.Counter(fmt.Sprint(n, "_", j, "_total"), "H.").PutNumber(expo.Number{Int: 1, Exemplar: e})
				s.Histogram(fmt.Sprint(n, "_", j, "_h"), "H.", nil).PutDistribution(expo.Distribution{Exemplars: []expo.Exemplar{e}})
			}
		}
		return nil
	}))
	neighbour := registry("neighbour's texts", &gotheus.RegistryOptions{NoSelfMetrics: true})
	b := heap.New()
	if err := neighbour.BindBackend(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	for i, x := range texts {
		value, _ := (&backend.Family{Labels: []string{"l"}}).LabelText(x)
		for j, f := range neighbours(fmt.Sprint("n", i), x) {
			series := must(b.Cells(f, ""))
			f.Start(series).Store(1)
			aux := f.With(backend.Block{Role: backend.ExemplarRole, Size: 128})
			w := must(b.Cells(aux, ""))
			for slot := range f.ExemplarSlots() {
				text := []string{x, `l="` + x + `"`, `"` + x + `"="v"`, value, `l="v",l="` + x + `"`}[(slot+j)%5]
				aux.WriteExemplar(w, slot, 1, &backend.Exemplar{Labels: text, Value: pagetest.Floats[(i+slot)%len(pagetest.Floats)], Time: start})
			}
		}
	}
	for seed := range uint64(40) {
		r := registry(fmt.Sprint("neighbour's words ", seed), &gotheus.RegistryOptions{NoSelfMetrics: true})
		b := heap.New()
		if err := r.BindBackend(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		wild(b, rand.New(rand.NewPCG(seed, 3)))
	}
	return all
}

// neighbours are families with a help text.
func neighbours(name, help string) []*backend.Family {
	native := &backend.Native{Schema: 3, MaxBuckets: 20}
	return []*backend.Family{
		{Name: name + "_total", Help: help, Kind: backend.Counter},
		{Name: name + "_h", Help: help, Kind: backend.Histogram, Buckets: []float64{1, 2, 3, 4}},
		{Name: name + "_n", Help: help, Kind: backend.Histogram, Native: native},
		{Name: name + "_both", Help: help, Kind: backend.Histogram, Buckets: []float64{1, 2, 3, 4}, Native: native},
	}
}

// wild puts random bits into the words of series of all kinds.
func wild(b *heap.Backend, rnd *rand.Rand) {
	sketch := &backend.Sketch{Quantiles: []float64{0, .5, 1}, PerDoubling: 20, Slots: 3, MaxAge: time.Minute}
	list := append(neighbours("w", "W."),
		&backend.Family{Name: "striped_total", Help: "W.", Kind: backend.Counter, Stripes: 2},
		&backend.Family{Name: "striped_h", Help: "W.", Kind: backend.Histogram, Buckets: []float64{1}, Stripes: 2},
		&backend.Family{Name: "negative", Help: "W.", Kind: backend.Histogram, Buckets: []float64{-1, 1}},
		&backend.Family{Name: "coarse", Help: "W.", Kind: backend.Histogram, Native: &backend.Native{Schema: -4, MaxBuckets: 4, ZeroThreshold: 1}},
		&backend.Family{Name: "fine", Help: "W.", Kind: backend.Histogram, Native: &backend.Native{Schema: 8, MaxBuckets: 1000}},
		&backend.Family{Name: "s", Help: "W.", Kind: backend.Summary},
		&backend.Family{Name: "q", Help: "W.", Kind: backend.Summary, Sketch: sketch},
		&backend.Family{Name: "states", Help: "W.", Kind: backend.StateSet, States: []string{"a", "b"}},
		&backend.Family{Name: "x_info", Help: "W.", Kind: backend.Info, Mode: backend.Max},
	)
	for mode := backend.Shared; mode <= backend.PerInstance; mode++ {
		list = append(list, &backend.Family{Name: fmt.Sprint("g", int(mode)), Help: "W.", Kind: backend.Gauge, Mode: mode})
	}
	for _, f := range list {
		words := must(b.Cells(f, ""))
		blocks := []backend.Words{words}
		if !f.Parts() && (f.Kind == backend.Counter || f.Kind == backend.Histogram) {
			blocks = append(blocks, must(b.Cells(f.With(backend.Block{Role: backend.ExemplarRole, Size: 4}), "")))
		}
		if f.Native != nil || f.Sketch != nil {
			blocks = append(blocks, must(b.Cells(f.With(backend.Block{Role: backend.BucketRole, Size: 64}), "")))
		}
		for _, w := range blocks {
			for i := range w {
				if rnd.IntN(3) == 0 {
					continue
				}
				v := rnd.Uint64() >> rnd.IntN(64)
				if rnd.IntN(3) == 0 {
					v = 1<<rnd.IntN(64) - uint64(rnd.IntN(2))
				}
				w[i].Store(v)
			}
		}
	}
}

func must(w backend.Words, err error) backend.Words {
	if err != nil {
		panic(err)
	}
	return w
}
