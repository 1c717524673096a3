package collect

import (
	"errors"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// A value that the page or the backend could not show makes its family invalid, and the error says
// why.
func TestInvalidValues(t *testing.T) {
	t.Parallel()
	shared, own := &Rules{Prefix: "p_"}, &Rules{Prefix: "p_", PerProcess: true}
	number := func(r *Rules, n expo.Number) *Draft {
		d := Begin(r, expo.Counter, "c_total", "C.", nil, nil)
		d.Number(n, nil)
		return d
	}
	histogram := func(r *Rules, v expo.Distribution) *Draft {
		d := Begin(r, expo.Histogram, "h", "H.", []float64{1}, nil)
		if v.Buckets == nil {
			v.Buckets = []uint64{0}
		}
		d.Histogram(v, nil)
		return d
	}
	summary := func(v expo.Distribution) *Draft {
		d := Begin(shared, expo.Summary, "s", "S.", []float64{.5}, nil)
		v.Quantiles = []float64{1}
		d.Summary(v, nil)
		return d
	}
	native := func(n expo.Native) *Draft { return histogram(shared, expo.Distribution{Count: 1, Native: &n}) }
	one := []expo.NativeBucket{{Index: 1, Count: 1}}
	x := expo.Exemplar{Labels: `trace="a"`, Value: 1, Time: 1}
	clashing := expo.Exemplar{Labels: `"a.b"="1",a_b="2"`, Value: 1, Time: 1}

	const perProcess = "a process collector must not have"
	for _, c := range []struct {
		what  string
		draft *Draft
		want  string // "": it is valid
	}{
		{"exemplar", number(shared, expo.Number{Exemplar: x}), ""},
		{"exemplar per process", number(own, expo.Number{Exemplar: x}), perProcess},
		{"time per process", number(own, expo.Number{Time: 1}), perProcess},
		{"start per process", number(own, expo.Number{Start: 1}), perProcess},
		{"labels that clash", number(shared, expo.Number{Exemplar: clashing}), "become equal"},

		{"exemplars", histogram(shared, expo.Distribution{Exemplars: make([]expo.Exemplar, 2)}), ""},
		{"too few exemplars", histogram(shared, expo.Distribution{Exemplars: make([]expo.Exemplar, 1)}), "1 exemplars for 2 buckets"},
		{"exemplars per process", histogram(own, expo.Distribution{Exemplars: make([]expo.Exemplar, 2)}), perProcess},
		{"time of a distribution", histogram(own, expo.Distribution{Time: 1}), perProcess},
		{"start of a distribution", histogram(own, expo.Distribution{Start: 1}), perProcess},
		{"exponential buckets per process", histogram(own, expo.Distribution{Native: new(expo.Native)}), perProcess},
		{"quantiles of a histogram", histogram(shared, expo.Distribution{Quantiles: []float64{1}}), "cannot have quantiles"},
		{"highest count", histogram(own, expo.Distribution{Count: backend.IntLimit - 1}), ""},
		{"count beyond the words", histogram(own, expo.Distribution{Count: backend.IntLimit}), "not below 2^62"},

		{"exponential buckets", native(expo.Native{Schema: -4, Positive: one}), ""},
		{"least schema", native(expo.Native{Schema: -5, Positive: one}), "schema -5"},
		{"zero threshold", native(expo.Native{ZeroThreshold: -1, Positive: one}), "zero threshold -1"},
		{"empty bucket", native(expo.Native{Negative: []expo.NativeBucket{{Index: 1, Count: 1}, {Index: 2}}}), "not empty"},
		{"order of buckets", native(expo.Native{Positive: []expo.NativeBucket{{Index: 1, Count: 1}, {Index: 1, Count: 1}}}), "ascending order"},
		{"exemplars of exponential buckets", native(expo.Native{Positive: one, Exemplars: []expo.Exemplar{clashing}}), "become equal"},

		{"summary", summary(expo.Distribution{}), ""},
		{"buckets of a summary", summary(expo.Distribution{Buckets: []uint64{1}}), "cannot have buckets or exemplars"},
		{"exemplars of a summary", summary(expo.Distribution{Exemplars: []expo.Exemplar{x}}), "cannot have buckets or exemplars"},
		{"exponential buckets of a summary", summary(expo.Distribution{Native: new(expo.Native)}), "cannot have buckets or exemplars"},
	} {
		err := c.draft.Err()
		if c.draft.leftOut != nil {
			err = c.draft.leftOut
		}
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if !errors.Is(err, series.ErrInvalid) || !strings.Contains(err.Error(), c.draft.Name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", c.what, err, c.want)
		}
	}
}

// An exemplar that is invalid, since a client has sent a trace ID that is not UTF-8, costs neither
// the series nor what the caller has.
func TestInvalidExemplars(t *testing.T) {
	t.Parallel()
	good, bad := expo.Exemplar{Labels: `trace="a"`, Value: 1, Time: 1}, expo.Exemplar{Labels: "trace=\"\xff\"", Value: 1, Time: 1}
	rules := new(Rules)
	list := []expo.Exemplar{bad, good}
	n := &expo.Native{Positive: []expo.NativeBucket{{Index: 1, Count: 1}}, Exemplars: []expo.Exemplar{good, bad}}
	h := Begin(rules, expo.Histogram, "h", "H.", []float64{1}, nil)
	h.Histogram(expo.Distribution{Count: 1, Buckets: []uint64{1}, Exemplars: list, Native: n}, nil)
	c := Begin(rules, expo.Counter, "c_total", "C.", nil, nil)
	c.Number(expo.Number{Int: 1, Exemplar: bad}, nil)
	valid, wrong := Check([]*Draft{h, c})
	if len(valid) != 2 || len(wrong) != 2 || !errors.Is(wrong[0], backend.ErrExemplar) || !strings.Contains(wrong[1].Error(), "an exemplar of c_total was left out") {
		t.Fatalf("%d families, and %v", len(valid), wrong)
	}
	d := valid[0].Rows[0].Dist
	if d.Exemplars[0].Time != 0 || d.Exemplars[1] != good || d.Native.Exemplars[0] != good || d.Native.Exemplars[1].Time != 0 || valid[1].Rows[0].Number.Exemplar.Time != 0 {
		t.Errorf("the exemplars are %v, %v and %v", d.Exemplars, d.Native.Exemplars, valid[1].Rows[0].Number.Exemplar)
	}
	if list[0] != bad || n.Exemplars[1] != bad {
		t.Error("the caller's exemplars were changed")
	}
}
