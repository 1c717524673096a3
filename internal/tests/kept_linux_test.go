package tests_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/metrictest"
)

func init() { workers["kept strings"] = keepStrings }

// keeper keeps strings as they come, with copies of what they were.
type keeper struct{ kept, were []string }

func (k *keeper) keep(list ...string) {
	for _, s := range list {
		k.kept, k.were = append(k.kept, s), append(k.were, strings.Clone(s))
	}
}

func (k *keeper) check(when string) {
	for i, s := range k.kept {
		if s != k.were[i] {
			fail(fmt.Errorf("%s: %q has become %q", when, k.were[i], s))
		}
	}
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// attributes is a handler that keeps what is logged.
type attributes struct{ *keeper }

func (attributes) Enabled(context.Context, slog.Level) bool   { return true }
func (a attributes) WithAttrs(attrs []slog.Attr) slog.Handler { return a }
func (a attributes) WithGroup(string) slog.Handler            { return a }
func (a attributes) Handle(_ context.Context, r slog.Record) error {
	a.keep(r.Message)
	r.Attrs(func(attr slog.Attr) bool {
		a.keep(attr.Key, attr.Value.String())
		return true
	})
	return nil
}

// keepStrings keeps the strings that leave the library by every exit, while the space of their
// series is used again, and after the file has been closed and cut to nothing: reading that would
// kill the process.
func keepStrings() {
	ctx, path := context.Background(), filepath.Join(os.Getenv("DIR"), "shop")
	logged, k := new(keeper), new(keeper)
	url := "shm://" + path + "?fs=any&limit=1MiB"
	other, r := gotheus.NewRegistry(nil), gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(attributes{logged})})
	fail(other.Bind(ctx, url)) // makes the series, so that r knows them from the file only
	name := func(generation, i int) string { return fmt.Sprintf("tenant-%03d-%03d", generation, i) }
	counters := other.NewCounterVec("requests_total", "Requests.", nil, "tenant", "a.b")
	sizes := other.NewHistogramVec("sizes", "Sizes.", nil, "tenant")
	queues := other.NewGaugeVec("queues", "Queues.", &gotheus.GaugeOptions{Mode: gotheus.ModePerProcess}, "tenant")
	states := other.NewStateSetVec("states", "States.", []string{"on", "off"}, nil, "tenant")
	other.NewInfo("build_info", "Build.", gotheus.Labels{"version": "1"})
	fill := func(generation int) {
		for i := range 100 {
			counters.With(name(generation, i), "x\"y").AddExemplar(1, gotheus.Labels{"trace": name(generation, i)})
			sizes.With(name(generation, i)).ObserveExemplar(2, gotheus.Labels{"trace": name(generation, i)})
			queues.With(name(generation, i)).Set(1)
			states.With(name(generation, i)).Set("on")
		}
	}
	other.NewGauge("disputed", "Disputed.", nil)
	fill(0)
	fail(r.Bind(ctx, url))
	r.NewCounter("disputed", "Disputed.", nil).Inc()
	outer := gotheus.NewRegistry(nil) // shows the file's families as an included registry does
	outer.Include(r)

	for _, page := range []*gotheus.Registry{r, outer} {
		for f, err := range page.Families(ctx) {
			fail(err)
			k.keep(f.Name, f.Help, f.Unit)
			for s := range f.Samples() {
				k.keep(s.Name)
				for _, l := range s.Labels {
					k.keep(l.Name, l.Value)
				}
			}
			for p := range f.Points() {
				for _, l := range p.Labels {
					k.keep(l.Name, l.Value)
				}
				if p.Number != nil {
					k.keep(p.Number.Exemplar.Labels)
				} else {
					for _, e := range p.Distribution.Exemplars {
						k.keep(e.Labels)
					}
				}
			}
		}
	}
	read, err := metrictest.Read(r)
	fail(err)
	for _, p := range read.Lint() {
		k.keep(fmt.Sprint(p))
	}
	diff, err := read.Diff("")
	fail(err)
	k.keep(diff)
	report, err := shm.Inspect(path + shm.Suffix)
	fail(err)
	for _, f := range report.Families {
		k.keep(f.Family.Name, f.Help)
		k.keep(f.Family.Labels...)
		k.keep(f.Family.States...)
		k.keep(f.Series...)
	}
	// What the library itself has, for errors and elsewhere.
	for _, g := range inside.Home(r).Current().Walk() {
		k.keep(g.Family.Name, g.Family.Help, g.Family.Unit)
		k.keep(g.Family.Labels...)
		k.keep(g.Family.States...)
		for _, s := range g.Series {
			k.keep(s.Labels)
		}
	}
	if len(k.kept) < 5000 || !slices.Contains(k.kept, name(0, 7)) || !slices.Contains(k.kept, `trace="`+name(0, 7)+`"`) {
		fail(fmt.Errorf("only %d strings were kept", len(k.kept)))
	}

	for generation := range 20 {
		for i := range 100 {
			counters.Delete(name(generation, i), "x\"y")
			sizes.Delete(name(generation, i))
			queues.Delete(name(generation, i))
			states.Delete(name(generation, i))
		}
		for range 6 {
			runtime.GC()
			inside.Home(r).Reclaim()
			inside.Home(other).Reclaim()
		}
		fill(generation + 1)
		k.check("after a deletion")
	}
	fail(errors.Join(r.Close(ctx), other.Close(ctx)))
	fail(os.Truncate(path+shm.Suffix, 0))
	k.check("after the end of the file")
	logged.check("after the end of the file")
	if !slices.Contains(logged.kept, "disputed") {
		fail(errors.New("nothing was logged"))
	}
	fmt.Println("all strings are as they were")
}

// Strings that a program has from the library do not change when their series are deleted, and can
// be read for ever.
func TestStringsStay(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=kept strings", "DIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "all strings are as they were\n") {
		t.Errorf("%v: %s", err, out)
	}
}
