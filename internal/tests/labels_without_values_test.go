package tests_test

import (
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// During a deployment, one build has a metric without labels, and the next one has a label whose
// value is often empty. Pages of both show the same series of the newer one, and say so.
func TestLabelsWithoutValues(t *testing.T) {
	t.Parallel()
	b := heap.New()
	bind := func(r *gotheus.Registry) {
		if err := r.BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	before, log := newRegistry(t, nil)
	bind(before)
	x := before.NewCounter("x_total", "X.", nil)
	x.Add(5)
	after, _ := newRegistry(t, nil)
	bind(after)
	v := after.NewCounterVec("x_total", "X.", nil, "tenant")
	v.With("").Add(2)
	v.With("a").Add(1)
	for _, r := range []*gotheus.Registry{before, after} {
		pageHas(t, r, `x_total{tenant=""} 2`, `x_total{tenant="a"} 1`, "gotheus_hidden_series 1")
		if strings.Contains(page(t, r), "\nx_total 5") {
			t.Errorf("the page has two series that are the same: %s", page(t, r))
		}
		if err := r.Write(t.Context(), new(strings.Builder), &gotheus.WriteOptions{Strict: true}); err == nil || !strings.Contains(err.Error(), "labels of x_total") {
			t.Errorf("a strict page: %v", err)
		}
	}
	if s := log.String(); strings.Count(s, "without a value") != 1 || !strings.Contains(s, "x_total") {
		t.Errorf("the log is %s", s)
	}
	v.DeleteAll()
	pageHas(t, after, "x_total 5", "gotheus_hidden_series 0")
}
