package tests_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrictest"
)

func TestGaugeFunc(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, nil)
	var v atomic.Int64
	var broken atomic.Bool
	remove := r.NewGaugeFunc("depth", "D.", nil, func() (float64, error) {
		if broken.Load() {
			return 0, errors.New("out of luck")
		}
		return float64(v.Load()), nil
	})
	r.NewGaugeFunc("fine", "F.", nil, func() (float64, error) { return 1, nil })
	r.NewGaugeFunc("panics", "P.", nil, func() (float64, error) { panic("oops") })
	v.Store(5)
	pageHas(t, r, "depth 5", "fine 1", "gotheus_collector_errors_total 1")
	broken.Store(true)
	if p := page(t, r); strings.Contains(p, "\ndepth ") || !strings.Contains(p, "fine 1\n") {
		t.Errorf("while the function fails: %s", p)
	}
	// Two of them on each of the last two pages.
	pageHas(t, r, "gotheus_collector_errors_total 5")
	broken.Store(false)
	v.Store(6)
	metrictest.Want(t, r, "depth", 6)
	if s := log.String(); !strings.Contains(s, "metric=depth") || !strings.Contains(s, "out of luck") ||
		!strings.Contains(s, "function of panics") || !strings.Contains(s, "oops") {
		t.Errorf("log: %s", s)
	}
	remove()
	if p := page(t, r); strings.Contains(p, "\ndepth ") {
		t.Errorf("after remove: %s", p)
	}
	r.NewGaugeFunc("depth", "D.", nil, func() (float64, error) { return 7, nil })
	metrictest.Want(t, r, "depth", 7)
}

func TestFuncDefinitions(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	f := func() (float64, error) { return 1, nil }
	r.NewGaugeFunc("taken", "T.", nil, f)
	r.NewCounter("code_total", "C.", nil)
	for want, err := range map[string]error{
		"another function already provides its value": second(gotheus.TryNewFunc[gotheus.Gauge](r, "taken", "T.", nil, f)),
		"its values already come from a function, not from code": second(gotheus.TryNew[gotheus.Gauge](r, "taken", "T.",
			&gotheus.GaugeOptions{Mode: gotheus.ModePerProcess})),
		"its values already come from code, not from a function": second(gotheus.TryNewFunc[gotheus.Counter](r, "code_total", "C.", nil, f)),
		"help is missing":            second(gotheus.TryNewFunc[gotheus.Gauge](r, "helpless", "", nil, f)),
		"reserved":                   second(gotheus.TryNewFunc[gotheus.Gauge](r, "gotheus_x", "X.", nil, f)),
		"must be UTF-8":              second(gotheus.TryNewFunc[gotheus.Gauge](r, "", "X.", nil, f)),
		"must end in _info":          second(gotheus.TryNewInfo(r, "version", "V.", gotheus.Labels{"a": "b"})),
		"needs states":               second(gotheus.TryNewStateSet(r, "state", "S.", nil, nil)),
		"state \"a\" is given twice": second(gotheus.TryNewStateSet(r, "state", "S.", []string{"a", "a"}, nil)),
		"has no mode sum":            second(gotheus.TryNewStateSet(r, "state", "S.", []string{"a"}, &gotheus.StateSetOptions{Mode: gotheus.ModeSum})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, gotheus.ErrInvalid) && !errors.Is(err, gotheus.ErrConflict) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The counts of a counter's function are in the total of all processes exactly once.
func TestCounterFunc(t *testing.T) {
	t.Parallel()
	shared := heap.New()
	var values [3]atomic.Int64
	var rs [3]*gotheus.Registry
	for i := range rs {
		rs[i], _ = newRegistry(t, nil)
		rs[i].NewCounterFunc("hits_total", "H.", nil, func() (float64, error) { return float64(values[i].Load()), nil })
		values[i].Store(10)
		if i == 1 { // its value is not zero when it is bound
			pageHas(t, rs[i], "hits_total 10")
		}
		if err := rs[i].BindBackend(t.Context(), shared); err != nil {
			t.Fatal(err)
		}
		if err := rs[i].Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	metrictest.Want(t, rs[0], "hits_total", 30)
	values[1].Store(15)
	values[2].Store(4) // the function's count was reset
	for _, r := range rs {
		r.Flush(t.Context())
	}
	metrictest.Want(t, rs[0], "hits_total", 39)
	values[0].Store(-1)
	metrictest.Want(t, rs[0], "hits_total", 39)
}

// Close stores the counts of the function since its last call.
func TestCounterFuncClose(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, nil)
	var v atomic.Int64
	r.NewCounterFunc("hits_total", "H.", nil, func() (float64, error) { return float64(v.Load()), nil })
	bind(t, r, url)
	v.Store(7)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, _ := newRegistry(t, nil)
	bind(t, other, url)
	metrictest.Want(t, other, "hits_total", 7)
}

// A hanging function loses only its own sample, and scrapes and Close wait for it at most once.
func TestFuncHangs(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{SampleInterval: time.Millisecond})
	release := make(chan struct{})
	defer close(release)
	bind(t, r, shmURL(t))
	r.NewGaugeFunc("stuck", "S.", nil, func() (float64, error) { <-release; return 1, nil })
	r.NewGaugeFunc("fine", "F.", nil, func() (float64, error) { return 1, nil })
	for range 2 {
		// The page gets a fifth.
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		var b strings.Builder
		if err := r.Write(ctx, &b, nil); err != nil || !strings.Contains(b.String(), "fine{process=\"0\"} 1\n") || strings.Contains(b.String(), "stuck{") {
			t.Errorf("%v: %s", err, &b)
		}
		cancel()
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStateSet(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, &gotheus.RegistryOptions{Prefix: "p_"})
	s := r.NewStateSet("worker", "W.", []string{"idle", "bu\"sy", "ending"}, nil)
	v := r.NewStateSetVec("door", "D.", []string{"open"}, nil, "house")
	v.With("3").Set("open")
	want := func(idle, busy, ending int) {
		t.Helper()
		metrictest.Compare(t, r, fmt.Sprintf(`# HELP p_door D.
# TYPE p_door gauge
p_door{house="3",p_door="open"} 1
# HELP p_worker W.
# TYPE p_worker gauge
p_worker{p_worker="idle"} %d
p_worker{p_worker="bu\"sy"} %d
p_worker{p_worker="ending"} %d
`, idle, busy, ending))
	}
	want(0, 0, 0)
	s.Set("idle")
	want(1, 0, 0)
	s.Set("bu\"sy", "ending")
	want(0, 1, 1)
	if s.Has("idle") || !s.Has("ending") || s.Has("nosuch") {
		t.Error("Has is wrong")
	}
	s.Set("idle", "nosuch")
	want(0, 1, 1)
	pageHas(t, r, `p_gotheus_rejected_updates_total{metric="p_worker"} 1`)
	if !strings.Contains(log.String(), "nosuch") {
		t.Errorf("log: %s", log)
	}
	bind(t, r, shmURL(t))
	want(0, 1, 1)
	s.Set()
	want(0, 0, 0)
}

func TestStateSetAllocations(t *testing.T) {
	r, _ := newRegistry(t, nil)
	s := r.NewStateSet("worker", "W.", []string{"idle", "busy", "ending"}, nil)
	if n := testing.AllocsPerRun(100, func() { s.Set("idle", "ending") }); n != 0 {
		t.Errorf("Set allocates %v times", n)
	}
}

// While a state set changes from one state to another, no page shows two states or none.
func TestStateSetAtomic(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	s := r.NewStateSet("s", "S.", []string{"a", "b"}, nil)
	s.Set("a")
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for _, state := range []string{"a", "b"} {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				select {
				case <-stop:
					return
				default:
					s.Set(state)
				}
			}
		}()
	}
	for range 200 {
		p := page(t, r)
		if strings.Count(p, "} 1\n") != 1 {
			t.Errorf("got %s", p)
		}
	}
	close(stop)
	wait.Wait()
}

func TestInfo(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	var rs [2]*gotheus.Registry
	var infos [2]*gotheus.Info
	for i := range rs {
		rs[i], _ = newRegistry(t, nil)
		infos[i] = rs[i].NewInfo("app_info", "A.", gotheus.Labels{"version": fmt.Sprint(i), "branch": "main"})
		if i == 0 {
			pageHas(t, rs[0], `app_info{branch="main",version="0"} 1`)
		}
		bind(t, rs[i], url)
	}
	both := "# TYPE app_info gauge\n" + `app_info{branch="main",version="0"} 1` + "\n" + `app_info{branch="main",version="1"} 1` + "\n"
	for _, r := range rs {
		metrictest.Compare(t, r, both)
	}
	infos[0].Set(gotheus.Labels{"version": "1", "branch": "main"})
	metrictest.Compare(t, rs[1], `app_info{branch="main",version="1"} 1`)
	infos[0].Set(gotheus.Labels{"version": "0", "branch": "main"})
	metrictest.Compare(t, rs[1], both)
	if err := infos[0].TrySet(gotheus.Labels{"version": "2"}); !errors.Is(err, gotheus.ErrLabels) {
		t.Errorf("got %v", err)
	}
	rs[0].Close(t.Context())
	metrictest.Compare(t, rs[1], `app_info{branch="main",version="1"} 1`) // rs[0] has ended
}

// The registry's metrics about its backend are per process, and on the page from the bind until
// Close.
func TestSelfMetrics(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	own := func() string {
		var b strings.Builder
		r.WriteText(&b)
		return b.String()
	}
	if p := own(); p != "" {
		t.Errorf("a plain registry: %s", p)
	}
	url := shmURL(t)
	for slot := range 2 { // the first one rests after Close
		bind(t, r, url)
		c := r.NewCounterVec("c_total", "C.", nil, "l")
		c.With("a").Inc()
		c.With("b").Inc()
		own()
		pageHas(t, r, fmt.Sprintf(`gotheus_backend_up{process="%d"} 1`, slot), fmt.Sprintf(`gotheus_postponed_series{process="%d"} 0`, slot), "gotheus_hidden_series 0",
			"gotheus_families 7", "gotheus_series 8", "gotheus_scrape_errors_total 0", `gotheus_build_info{version="(devel)"} 1`)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := own(); strings.Contains(p, "gotheus_") {
			t.Errorf("after Close: %s", p)
		}
	}
	// If there is no room, the metrics that say so are still on this process's page.
	full := &faulty{Backend: heap.New(), err: backend.ErrFull}
	r.BindBackend(t.Context(), full)
	if p := own(); !strings.Contains(p, "\ngotheus_backend_up 1\n") {
		t.Errorf("when the backend is full: %s", p)
	}
	full.set(nil)
	quiet, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	bind(t, quiet, shmURL(t))
	if p := page(t, quiet); p != "" {
		t.Errorf("switched off: %s", p)
	}
}

// slow is a backend that publishes changes with a delay.
type slow struct{ *heap.Backend }

func (slow) Unpublished() (int, time.Duration) { return 7, 1500 * time.Millisecond }

func TestPublisher(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	if err := r.BindBackend(t.Context(), slow{heap.New()}); err != nil {
		t.Fatal(err)
	}
	pageHas(t, r, "gotheus_publish_pending_words 7", "gotheus_publish_lag_seconds 1.5")
}

// Points have data that samples do not.
func TestPoints(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	at := time.Unix(1000, 5).UnixNano()
	x := expo.Exemplar{Labels: `trace="abc"`, Value: 2, Time: at}
	n := expo.Number{Int: 1<<53 + 1, Start: at, Time: at, Exemplar: x}
	d := expo.Distribution{Count: 3, Sum: 4, Buckets: []uint64{1}, Native: &expo.Native{ZeroCount: 3}, Exemplars: []expo.Exemplar{{}, x}}
	r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Counter("c_total", "C.", "l").PutNumber(n, "a")
		s.Histogram("h", "H.", []float64{1}).PutDistribution(d)
		s.StateSet("s", "S.", []string{"on", "off"}).Put([]string{"off"})
		return nil
	}))
	states := ""
	for f, err := range r.Families(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for p := range f.Points() {
			switch f.Name {
			case "c_total":
				if *p.Number != n || p.Distribution != nil || !reflect.DeepEqual(p.Labels, []gotheus.Label{{Name: "l", Value: "a"}}) {
					t.Errorf("got %+v", p)
				}
			case "h":
				if p.Number != nil || !reflect.DeepEqual(*p.Distribution, d) || !slices.Equal(f.Bounds, []float64{1}) {
					t.Errorf("got %+v", p)
				}
			default:
				states += fmt.Sprint(p.Labels, p.Number.Int)
			}
		}
		for range f.Points() {
			break
		}
	}
	if states != "[{s on}] 0[{s off}] 1" {
		t.Errorf("states: %s", states)
	}
}

// A function's mode that was chosen before is what the zero mode stands for.
func TestFuncModeAsItIs(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	one := func() (float64, error) { return 1, nil }
	r.NewGaugeFunc("g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModeMax}, one)()
	if _, err := gotheus.TryNewFunc(r, "g", "G.", (*gotheus.GaugeOptions)(nil), one); err != nil {
		t.Error(err)
	}
}

// A function that was removed makes room for another one, also if its family was hidden meanwhile.
// There is never room for two.
func TestFuncAfterHiding(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	one := func() (float64, error) { return 1, nil }
	r.NewGaugeFunc("g", "G.", nil, one)()
	r.HideFamily("g")
	r.NewGaugeFunc("g", "G.", nil, one)
	if _, err := gotheus.TryNewFunc(r, "g", "G.", (*gotheus.GaugeOptions)(nil), one); !errors.Is(err, gotheus.ErrConflict) {
		t.Errorf("a second function: %v", err)
	}
	r.HideFamily("g")
	if _, err := gotheus.TryNewFunc(r, "g", "G.", (*gotheus.GaugeOptions)(nil), one); !errors.Is(err, gotheus.ErrConflict) {
		t.Errorf("a second function, while the first one of a hidden family is called: %v", err)
	}
}
