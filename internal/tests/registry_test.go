package tests_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

func TestInvalid(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	buckets := func(b ...float64) *gotheus.HistogramOptions { return &gotheus.HistogramOptions{Buckets: b} }
	for want, err := range map[string]error{
		`name ""`:                              second(gotheus.TryNew[gotheus.Counter](r, "", "X.", nil)),
		`name "a\nb"`:                          second(gotheus.TryNew[gotheus.Gauge](r, "a\nb", "X.", nil)),
		`a: help is missing`:                   second(gotheus.TryNew[gotheus.Counter](r, "a", "", nil)),
		`help "\xff" is not UTF-8`:             second(gotheus.TryNew[gotheus.Counter](r, "a", "\xff", nil)),
		`label "__a"`:                          second(gotheus.TryNewVec[gotheus.Counter](r, "a", "X.", nil, "__a")),
		`label "le" is reserved`:               second(gotheus.TryNewVec[gotheus.Histogram](r, "a", "X.", nil, "le")),
		`label "quantile" is`:                  second(gotheus.TryNewVec[gotheus.Summary](r, "a", "X.", nil, "quantile")),
		`label "x" is given twice`:             second(gotheus.TryNewVec[gotheus.Counter](r, "a", "X.", nil, "x", "y", "x")),
		`label "x\ty"`:                         second(gotheus.TryNewVec[gotheus.Counter](r, "a", "X.", nil, "x\ty")),
		`two of them become equal`:             second(gotheus.TryNewVec[gotheus.Counter](r, "a", "X.", nil, "x.y", "x_y")),
		`rename ".:name__"`:                    second(gotheus.TryNewVec[gotheus.Counter](r, "a", "X.", nil, ".:name__")),
		`a vec needs labels`:                   second(gotheus.TryNewVec[gotheus.Counter](r, "a", "X.", nil)),
		`bucket 1 comes after 2`:               second(gotheus.TryNew[gotheus.Histogram](r, "a", "X.", buckets(2, 1))),
		`bucket 2 is given twice`:              second(gotheus.TryNew[gotheus.Histogram](r, "a", "X.", buckets(2, 2))),
		`bucket 1 is NaN`:                      second(gotheus.TryNew[gotheus.Histogram](r, "a", "X.", buckets(2, nan))),
		`bucket 1 is +Inf`:                     second(gotheus.TryNew[gotheus.Histogram](r, "a", "X.", buckets(2, inf))),
		`unit "bytes" must be a suf`:           second(gotheus.TryNew[gotheus.Counter](r, "a_total", "X.", &gotheus.CounterOptions{Unit: "bytes"})),
		`gotheus_ is reserved`:                 second(gotheus.TryNew[gotheus.Counter](r, "gotheus_backend_up", "X.", nil)),
		`name "gotheus_x"`:                     second(gotheus.TryNewVec[gotheus.Counter](r, "gotheus_x", "X.", nil, "l")),
		`registry prefix "\xff"`:               second(gotheus.TryNewRegistry(&gotheus.RegistryOptions{Prefix: "\xff"})),
		`constant label: registry: label "le"`: second(gotheus.TryNewRegistry(&gotheus.RegistryOptions{Labels: gotheus.Labels{"le": "1"}})),
		`constant label "a": value`:            second(gotheus.TryNewRegistry(&gotheus.RegistryOptions{Labels: gotheus.Labels{"a": "\xff"}})),
	} {
		if !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "gotheus: ") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if p := page(t, r); p != "" {
		t.Errorf("refused families are on the page: %s", p)
	}
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, gotheus.ErrInvalid) {
			t.Errorf("NewCounter panics with %v", err)
		}
	}()
	r.NewCounter("\x00", "X.", nil)
}

func second[T any](_ T, err error) error { return err }

func TestConflicts(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"zone": "a"}})
	seconds := &gotheus.HistogramOptions{Unit: "seconds"}
	c := r.NewCounter("c_total", "C.", nil)
	v := r.NewCounterVec("v_total", "V.", nil, "b", "a")
	h := r.NewHistogram("h_seconds", "H.", seconds)
	r.NewSummary("s", "S.", nil)
	r.NewGauge("g", "G.", nil)

	// The same definition returns the same family, whatever the order of its labels.
	if r.NewCounter("c_total", "C.", nil) != c || r.NewHistogram("h_seconds", "H.", seconds) != h {
		t.Error("identical families are not shared")
	}
	if r.NewCounterVec("v_total", "V.", nil, "a", "b").With("1", "2") != v.With("2", "1") {
		t.Error("the order of labels splits a series")
	}
	for want, err := range map[string]error{
		"c_total: it is already of type counter, not gauge":       second(gotheus.TryNew[gotheus.Gauge](r, "c_total", "C.", nil)),
		`c_total: it already has help "C.", not "D."`:             second(gotheus.TryNew[gotheus.Counter](r, "c_total", "D.", nil)),
		`c_total: it already has labels [], not ["x"]`:            second(gotheus.TryNewVec[gotheus.Counter](r, "c_total", "C.", nil, "x")),
		`v_total: it already has labels ["a" "b"], not ["a" "c"]`: second(gotheus.TryNewVec[gotheus.Counter](r, "v_total", "V.", nil, "a", "c")),
		`h_seconds: it already has buckets [0.005`:                second(gotheus.TryNew[gotheus.Histogram](r, "h_seconds", "H.", &gotheus.HistogramOptions{Buckets: []float64{1}})),
		`label "zone" is given twice`:                             second(gotheus.TryNewVec[gotheus.Counter](r, "z", "Z.", nil, "zone")),
		"would both show h_seconds_bucket":                        second(gotheus.TryNew[gotheus.Gauge](r, "h_seconds_bucket", "X.", nil)),
		"would both show h_seconds_count":                         second(gotheus.TryNew[gotheus.Counter](r, "h_seconds_count", "X.", nil)),
		"would both show s_sum":                                   second(gotheus.TryNew[gotheus.Gauge](r, "s_sum", "X.", nil)),
		"gauge c and counter c_total would both show c":           second(gotheus.TryNew[gotheus.Gauge](r, "c", "X.", nil)),
		"would both show c_created":                               second(gotheus.TryNew[gotheus.Gauge](r, "c_created", "X.", nil)),
		"counter g_total and gauge g would both show g":           second(gotheus.TryNew[gotheus.Counter](r, "g_total", "X.", nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, gotheus.ErrConflict) && !errors.Is(err, gotheus.ErrInvalid) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestPrefixAndLabels(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Prefix: "app_", Labels: gotheus.Labels{"zone": `a"b`, "env": "prod"}})
	r.NewCounterVec("x_total", "X.", nil, "host").With("h\n").Inc()
	r.NewGauge("y", "Y \\ \n \".", nil)
	want := "# HELP app_x_total X.\n# TYPE app_x_total counter\n" +
		`app_x_total{env="prod",host="h\n",zone="a\"b"} 1` + "\n" +
		`# HELP app_y Y \\ \n ".` + "\n# TYPE app_y gauge\n" +
		`app_y{env="prod",zone="a\"b"} 0` + "\n"
	if got := page(t, r); got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestHideFamily(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"heap", "shm"} {
		r, _ := newRegistry(t, &gotheus.RegistryOptions{Prefix: "p_"})
		if where == "shm" {
			bind(t, r, shmURL(t))
		}
		x := r.NewCounterVec("x_total", "X.", nil, "l")
		x.With("1").Inc()
		r.NewHistogram("h", "H.", nil)
		if r.HideFamily("nosuch") || r.HideFamily("p_x_total") || !r.HideFamily("x_total") || r.HideFamily("x_total") || !r.HideFamily("h") {
			t.Error("wrong answers")
		}
		x.With("1").Inc()
		x.With("2").Inc()
		if got := page(t, r); got != "" {
			t.Errorf("%s: still shown: %s", where, got)
		}
		// The names are free again, for any definition.
		g := r.NewGaugeVec("x_total", "Not a counter.", nil, "l")
		g.With("1").Set(7)
		r.NewGauge("h_count", "Not a count.", nil).Set(8)
		if got, want := page(t, r), "# HELP p_h_count Not a count.\n# TYPE p_h_count gauge\np_h_count 8\n# HELP p_x_total Not a counter.\n# TYPE p_x_total gauge\np_x_total{l=\"1\"} 7\n"; got != want {
			t.Errorf("%s: got %s", where, got)
		}
		// The same definition brings the values back.
		r.HideFamily("x_total")
		again := r.NewCounterVec("x_total", "X.", nil, "l")
		if again.With("1") != x.With("1") {
			t.Errorf("%s: other handles after coming back", where)
		}
		again.With("1").Inc()
		pageHas(t, r, `p_x_total{l="1"} 3`, `p_x_total{l="2"} 1`)
	}
}

// The zero registry works, and every metric exists at 0 from its declaration or first look-up.
func TestZero(t *testing.T) {
	t.Parallel()
	var r gotheus.Registry
	if got := page(t, &r); got != "" {
		t.Errorf("got %s", got)
	}
	r.NewCounter("b_total", "B.", nil)
	r.NewCounterVec("a_total", "A.", nil, "x")
	v := r.NewGaugeVec("c", "C.", nil, "x")
	v.With("")
	want := "# HELP a_total A.\n# TYPE a_total counter\n# HELP b_total B.\n# TYPE b_total counter\nb_total 0\n# HELP c C.\n# TYPE c gauge\nc{x=\"\"} 0\n"
	if got := page(t, &r); got != want {
		t.Errorf("got %s", got)
	}
}

func TestDefault(t *testing.T) {
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	r := new(gotheus.Registry)
	gotheus.SetDefault(r)
	gotheus.NewCounter("c_total", "C.", nil).Inc()
	gotheus.NewGauge("g", "G.", nil)
	gotheus.NewHistogram("h", "H.", nil)
	gotheus.NewSummary("s", "S.", nil)
	gotheus.NewCounterVec("cv_total", "C.", nil, "x").With("1")
	gotheus.NewGaugeVec("gv", "G.", nil, "x").With("1")
	gotheus.NewHistogramVec("hv", "H.", nil, "x").With("1")
	gotheus.NewSummaryVec("sv", "S.", nil, "x").With("1")
	if m, err := gotheus.TryNew[gotheus.Counter](nil, "c_total", "C.", nil); err != nil || m.Value() != 1 {
		t.Errorf("New with a nil registry: %v, %v", m, err)
	}
	pageHas(t, r, "c_total 1", "g 0", "h_count 0", "s_count 0", `cv_total{x="1"} 0`, `gv{x="1"} 0`, `hv_count{x="1"} 0`, `sv_count{x="1"} 0`)
	if gotheus.Default() != r {
		t.Error("Default is another one")
	}
}

// ordered records in which order families are first declared.
type ordered struct {
	faulty
	names []string // guarded by mu
}

func (o *ordered) Declare(f *backend.Family) error {
	o.mu.Lock()
	if !slices.Contains(o.names, f.Name) { // else it is tried again
		o.names = append(o.names, f.Name)
	}
	o.mu.Unlock()
	return o.faulty.Declare(f)
}

// The library's own families move to a backend first: if there is no room for all, they must be
// able to say so. The log says in one line that there was no room for them.
func TestOwnFamiliesComeFirst(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, nil)
	for i := range 20 {
		r.NewCounter(fmt.Sprintf("c%d_total", i), "C.", nil)
	}
	b := &ordered{faulty: faulty{Backend: heap.New(), err: fmt.Errorf("%w: for the test", backend.ErrFull)}}
	r.BindBackend(t.Context(), b)
	b.mu.Lock()
	defer b.mu.Unlock()
	own := 0
	for i, name := range b.names {
		if strings.HasPrefix(name, "gotheus_") {
			if own++; own != i+1 {
				t.Errorf("%s comes after others: %q", name, b.names)
			}
		}
	}
	if own < 2 {
		t.Errorf("%d own families: %q", own, b.names)
	}
	if n := strings.Count(log.String(), "metric=gotheus_"); n != 1 {
		t.Errorf("%d lines about own families:\n%s", n, log)
	}
}
