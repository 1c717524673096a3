package tests_test

import (
	"context"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Log lines about names that clash have the names that the programs gave, and what to do.
func TestLogOfClashes(t *testing.T) {
	t.Parallel()
	env := gotheus.Labels{"env": "prod"}
	type registry = gotheus.Registry
	collects := func(f func(*gotheus.Sink)) func(*registry) {
		return func(r *registry) {
			r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error { f(s); return nil }))
		}
	}
	for name, c := range map[string]struct {
		old, new func(r *registry)
		want     []string
	}{
		"stem": {
			func(r *registry) { r.NewCounter("hits_total", "H.", nil).Inc() },
			func(r *registry) { r.NewGauge("hits", "H.", nil).Set(1) },
			[]string{"metric=hits_total \"clashes with\"=hits\n", "rename one of them"},
		},
		"sample": {
			func(r *registry) { r.NewHistogram("a.b", "H.", nil).Observe(1) },
			func(r *registry) { r.NewGauge("a_b_sum", "H.", nil).Set(1) },
			[]string{"metric=a_b_sum \"clashes with\"=a.b\n"},
		},
		"collector": {
			func(r *registry) { r.NewGauge("x.y", "H.", nil).Set(1) },
			collects(func(s *gotheus.Sink) { s.Gauge("x_y", "X.").Put(1) }),
			[]string{"metric=x_y \"clashes with\"=x.y\n"},
		},
		"same name": {
			func(r *registry) { r.NewGauge("kind", "K.", nil).Set(1) },
			collects(func(s *gotheus.Sink) { s.Gauge("kind", "K.").Put(1) }),
			[]string{"metric=kind\n", "defined twice", "rename one of them"},
		},
		"types": {
			func(r *registry) { r.NewCounter("kind", "K.", nil).Inc() },
			func(r *registry) { r.NewGauge("kind", "K.", nil).Set(1) },
			[]string{"programs disagree about a metric", "metric=kind shown=gauge hidden=counter"},
		},
		"labels": {
			func(r *registry) { r.NewGaugeVec("g", "G.", nil, "x.y").With("1").Set(1) },
			func(r *registry) { r.NewGaugeVec("g", "G.", nil, "x-y").With("1").Set(1) },
			[]string{"metric=g", "x.y", "x-y", "labels in another program", "rename a label"},
		},
		"labels of a collector": {
			func(r *registry) {},
			collects(func(s *gotheus.Sink) { s.Gauge("g", "G.", "x-y", "x.y").Put(1, "a", "b") }),
			[]string{"metric=g labels=\"[env x-y x.y]\"", "rename a label"},
		},
	} {
		url := shmURL(t)
		old, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: env})
		r, log := newRegistry(t, &gotheus.RegistryOptions{Labels: env})
		bind(t, old, url)
		bind(t, r, url)
		c.old(old)
		c.new(r)
		pageIn(t, r, expo.Format{})
		for _, want := range c.want {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s: no %q in the log: %s", name, want, log)
			}
		}
		if strings.Contains(log.String(), "\"=env") {
			t.Errorf("%s: a label is called a metric: %s", name, log)
		}
	}
}
