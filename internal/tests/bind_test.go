package tests_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/store"
)

// Metrics are bound while eight goroutines update them. A second registry on the same file shows
// that no update is lost or counted twice.
func TestLateBinding(t *testing.T) {
	t.Parallel()
	const runs, goroutines, updates = 300, 8, 200
	dir := t.TempDir()
	for run := range runs {
		url := fmt.Sprintf("shm://%s/%d?fs=any&limit=200KiB", dir, run)
		r := gotheus.NewRegistry(nil)
		c := r.NewCounter("c_total", "C.", nil)
		f := r.NewCounter("f_total", "F.", nil)
		g := r.NewGauge("g", "G.", nil)
		h := r.NewHistogram("h", "H.", nil)
		s := r.NewSummary("s", "S.", nil)
		v := r.NewCounterVec("v_total", "V.", nil, "goroutine")

		var wait sync.WaitGroup
		start := make(chan struct{})
		var done atomic.Int64
		for i := range goroutines {
			wait.Add(1)
			go func() {
				defer wait.Done()
				<-start
				for n := range updates {
					c.Inc()
					f.Add(.5)
					g.Add(1)
					h.Observe(float64(n % 4))
					s.Observe(2)
					v.With(fmt.Sprint(i, n%3)).Add(3)
					done.Add(1)
				}
			}()
		}
		close(start)
		// A different moment in each run.
		for int(done.Load()) < run*goroutines*updates/runs {
		}
		if err := r.Bind(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		wait.Wait()

		other := gotheus.NewRegistry(nil)
		bind(t, other, url)
		const n = goroutines * updates
		pageHas(t, other, fmt.Sprintf("c_total %d", n), fmt.Sprintf("f_total %d", n/2), fmt.Sprintf("g %d", n),
			fmt.Sprintf(`h_bucket{le="0.005"} %d`, n/4), fmt.Sprintf("h_count %d", n), fmt.Sprintf("h_sum %d", n/4*6),
			fmt.Sprintf("s_sum %d", 2*n), fmt.Sprintf("s_count %d", n))
		total := 0.0
		for i := range goroutines {
			for j := range 3 {
				total += other.NewCounterVec("v_total", "V.", nil, "goroutine").With(fmt.Sprint(i, j)).Value()
			}
		}
		if total != 3*n {
			t.Errorf("vec: %v, want %d", total, 3*n)
		}
		if t.Failed() {
			t.Fatalf("run %d", run)
		}
		r.Close(t.Context())
		other.Close(t.Context())
		os.Remove(filepath.Join(dir, fmt.Sprint(run)+".gotheus-v2"))
	}
}

// A gauge has the value that was set last, even if it was bound in between.
func TestLateBindingOfSetGauge(t *testing.T) {
	t.Parallel()
	for range 300 {
		b := heap.New()
		shared := gotheus.NewRegistry(nil)
		if err := shared.BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		before := shared.NewGauge("g", "G.", nil)
		before.Set(1e6)

		r := gotheus.NewRegistry(nil)
		g := r.NewGauge("g", "G.", nil)
		set, finished := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(finished)
			for i := range 500 {
				if i == 20 {
					close(set)
				}
				g.Set(float64(i))
				g.Add(.25)
			}
		}()
		<-set
		if err := r.BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		<-finished
		if g.Value() != 499.25 || before.Value() != 499.25 {
			t.Fatalf("got %v here, %v there", g.Value(), before.Value())
		}
	}
}

// A bound gauge that was only added to adds to the value in the backend; one that was set replaces
// it.
func TestBindGauge(t *testing.T) {
	t.Parallel()
	b := heap.New()
	shared := gotheus.NewRegistry(nil)
	shared.BindBackend(t.Context(), b)
	shared.NewGauge("added", "A.", nil).Set(10)
	shared.NewGauge("set", "S.", nil).Set(10)
	shared.NewGauge("untouched", "U.", nil).Set(10)
	r := gotheus.NewRegistry(nil)
	r.NewGauge("added", "A.", nil).Add(-3)
	r.NewGauge("set", "S.", nil).Set(0)
	r.NewGauge("untouched", "U.", nil)
	r.BindBackend(t.Context(), b)
	pageHas(t, shared, "added 7", "set 0", "untouched 10")
}

func TestCloseAndBindAgain(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, nil)
	c := r.NewCounter("c_total", "C.", nil)
	h := r.NewHistogram("h", "H.", nil)
	c.Add(1)
	bind(t, r, url)
	pageHas(t, r, `gotheus_backend_up{process="0"} 1`)
	c.Add(2)
	h.Observe(1)
	if err := r.Bind(t.Context(), url); err != nil {
		t.Errorf("second bind to the same URL: %v", err)
	}
	if err := r.Bind(t.Context(), shmURL(t)); !errors.Is(err, gotheus.ErrBound) || !strings.Contains(err.Error(), url) {
		t.Errorf("second bind: %v", err)
	}
	if err := r.BindBackend(t.Context(), heap.New()); !errors.Is(err, gotheus.ErrBound) {
		t.Errorf("second bind: %v", err)
	}
	if err := errors.Join(r.Flush(t.Context()), r.Close(t.Context()), r.Close(t.Context())); err != nil {
		t.Error(err)
	}
	c.Add(4)
	h.Observe(1)
	r.NewCounterVec("late_total", "L.", nil, "x").With("y").Inc()
	if got := c.Value(); got != 4 {
		t.Errorf("after Close: %v", got)
	}
	bind(t, r, url)
	c.Add(8)
	pageHas(t, r, "c_total 15", "h_count 2", `late_total{x="y"} 1`)
}

// A backend that cannot be opened does not disturb the program, and is used as soon as it can be.
func TestBindFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not-yet")
	url := "shm://" + dir + "/shop?fs=any&limit=1MiB"
	r, log := newRegistry(t, nil)
	c := r.NewCounter("c_total", "C.", nil)
	c.Inc()
	if err := r.Bind(t.Context(), url); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	c.Inc()
	pageHas(t, r, "gotheus_backend_up 0", "c_total 2")
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "cannot be opened") {
		t.Errorf("logged %d times: %s", n, log)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	backendtest.Eventually(t, "the backend is opened", func() bool { return strings.Contains(log.String(), "the backend is now open") })
	c.Inc()
	pageHas(t, r, `gotheus_backend_up{process="0"} 1`, "c_total 3")

	// Another URL may be tried in the meantime; an unknown scheme is not retried.
	r2, _ := newRegistry(t, nil)
	if err := r2.Bind(t.Context(), "shm:///nonexistent/dir/x"); err == nil {
		t.Error("no error")
	}
	if err := r2.Bind(t.Context(), "nosuch:"); !errors.Is(err, gotheus.ErrScheme) {
		t.Errorf("got %v", err)
	}
	pageHas(t, r2, "gotheus_backend_up 0")
	bind(t, r2, url)
	pageHas(t, r2, `gotheus_backend_up{process="0"} 1`, `gotheus_backend_up{process="1"} 1`, "c_total 3")
}

// While a backend has no room, series count in the heap and no call waits. Once there is room, all
// counts reach the backend.
func TestPostponed(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New(), err: fmt.Errorf("%w: for the test", backend.ErrBusy)}
	r, log := newRegistry(t, nil)
	early := r.NewCounter("early_total", "E.", nil)
	early.Inc()
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	late := r.NewCounterVec("late_total", "L.", nil, "x").With("y")
	g := r.NewGauge("g", "G.", nil)
	early.Inc()
	late.Add(2.5)
	g.Set(3)
	if early.Value() != 2 || late.Value() != 2.5 || g.Value() != 3 {
		t.Error("Value does not show what counts in the heap")
	}
	var p strings.Builder
	if err := r.WriteText(&p); !errors.Is(err, backend.ErrBusy) || strings.Contains(p.String(), "late_total") {
		t.Errorf("%v: %s", err, &p)
	}
	// Three families and three series, and the library's own six families and six series.
	if !strings.Contains(p.String(), "gotheus_postponed_series 18\n") {
		t.Errorf("page: %s", &p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.Flush(ctx); !errors.Is(err, backend.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush: %v", err)
	}
	b.set(nil)
	backendtest.Eventually(t, "the series arrive", func() bool { return strings.Contains(page(t, r), `late_total{x="y"} 2.5`) })
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	late.Inc()
	pageHas(t, r, "early_total 2", `late_total{x="y"} 3.5`, "g 3", "gotheus_postponed_series 0")
	if n := strings.Count(log.String(), "metric=late_total"); n != 1 {
		t.Errorf("logged %d times: %s", n, log)
	}

	// Series that are still postponed at Close keep counting in the heap.
	b.set(fmt.Errorf("%w: for the test", backend.ErrFull))
	last := r.NewCounter("last_total", "L.", nil)
	last.Inc()
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); !errors.Is(err, backend.ErrFull) {
		t.Errorf("Close: %v", err)
	}
	last.Inc()
	bindHeap(t, r)
	pageHas(t, r, "last_total 2", "early_total 0")
}

// Another program may damage words in a shared file so that a series looks deleted. An update must
// then neither hang nor be lost.
func TestDamagedWords(t *testing.T) {
	t.Parallel()
	b := heap.New()
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	c, g, h, s := r.NewCounter("c_total", "C.", nil), r.NewGauge("g", "G.", nil), r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
	fine := r.NewCounter("fine_total", "F.", nil)
	update := func() {
		c.Inc()
		c.Add(2)
		c.Add(.5)
		g.Set(1)
		g.Add(1)
		h.Observe(1)
		s.Observe(1)
		fine.Inc()
	}
	update()
	for _, group := range b.Walk() {
		if group.Family.Name != "fine_total" {
			group.Family.Seal(group.Series[0].Words)
		}
	}
	if p := page(t, r); strings.Contains(p, "\nc_total ") || strings.Contains(p, "\nh_count") || !strings.Contains(p, "fine_total 1\n") {
		t.Errorf("page: %s", p)
	}
	update()
	pageHas(t, r, "c_total 3.5", "g 2", "h_count 1", "h_sum 1", "s_count 1", "fine_total 2")
}

func TestEnvironment(t *testing.T) {
	url := shmURL(t)
	t.Setenv(gotheus.EnvBackend, url)
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	other := gotheus.NewRegistry(nil)
	bind(t, other, url)
	defer other.Close(context.Background())

	use := func() *gotheus.Registry {
		r, _ := newRegistry(t, nil)
		gotheus.SetDefault(r)
		return r
	}
	// The first page, Flush or Close binds it.
	c := use().NewCounter("c_total", "C.", nil)
	c.Inc()
	pageHas(t, gotheus.Default(), "c_total 1", `gotheus_backend_up{process="1"} 1`)
	pageHas(t, other, "c_total 1")
	use().NewCounter("c_total", "C.", nil).Inc()
	if err := gotheus.Close(t.Context()); err != nil {
		t.Error(err)
	}
	pageHas(t, other, "c_total 2")
	use().NewCounter("c_total", "C.", nil).Inc()
	if err := gotheus.Default().Flush(t.Context()); err != nil {
		t.Error(err)
	}
	pageHas(t, other, "c_total 3")
	// It is bound in the background if the process is never scraped.
	use().NewCounter("c_total", "C.", nil).Inc()
	backendtest.Eventually(t, "bound in the background", func() bool { return strings.Contains(page(t, other), "c_total 4\n") })

	// Registries other than the default one ignore the variable.
	r, _ := newRegistry(t, nil)
	r.NewCounter("c_total", "C.", nil)
	pageHas(t, r, "c_total 0")
}

// The environment decides what the default registry is bound to, whenever the program binds it:
// before its first metric, before or after the environment's backend has been opened, or while that
// cannot be opened. Nothing that was counted goes anywhere else.
func TestEnvironmentTakesPrecedence(t *testing.T) {
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	setEnv := func(url string) *gotheus.Registry {
		t.Setenv(gotheus.EnvBackend, url)
		r, _ := newRegistry(t, nil)
		gotheus.SetDefault(r)
		return r
	}
	refused := func(url string) {
		t.Helper()
		for what, err := range map[string]error{ // at once, without waiting for anything
			"Bind":        gotheus.Bind(canceled(), "heap:"),
			"BindStore":   gotheus.BindStore(canceled(), &store.Config{Shards: []store.Store{new(backendtest.Memory)}}),
			"BindBackend": gotheus.BindBackend(canceled(), heap.New()),
		} {
			if !errors.Is(err, gotheus.ErrBound) || !strings.Contains(err.Error(), gotheus.EnvBackend+"="+url) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	url := shmURL(t)
	other := gotheus.NewRegistry(nil)
	bind(t, other, url)
	defer other.Close(context.Background())
	total := 0
	for name, until := range map[string]func(r *gotheus.Registry){
		"at once": func(*gotheus.Registry) {},
		"when it is open": func(*gotheus.Registry) {
			backendtest.Eventually(t, "bound in the background", func() bool {
				return strings.Contains(page(t, other), fmt.Sprintf("c_total %d\n", total))
			})
		},
		"after a page": func(r *gotheus.Registry) { page(t, r) },
	} {
		t.Run(name, func(t *testing.T) {
			r := setEnv(url)
			refused(url)
			c := gotheus.NewCounter("c_total", "C.", nil)
			c.Inc()
			total++
			until(r)
			refused(url)
			for range 2 {
				if err := gotheus.Bind(t.Context(), url); err != nil {
					t.Errorf("to the environment's own URL: %v", err)
				}
			}
			refused(url)
			c.Inc()
			total++
			pageHas(t, other, fmt.Sprintf("c_total %d", total))
			// After Close, the program decides.
			if err := errors.Join(gotheus.Close(t.Context()), gotheus.Bind(t.Context(), "heap:")); err != nil {
				t.Error(err)
			}
			c.Inc()
			pageHas(t, r, "c_total 1")
			pageHas(t, other, fmt.Sprintf("c_total %d", total))
		})
	}

	// It makes no difference that its backend cannot be opened.
	const nowhere = "shm:///nonexistent/dir/shop"
	r := setEnv(nowhere)
	gotheus.NewCounter("c_total", "C.", nil).Inc()
	refused(nowhere)
	pageHas(t, r, "c_total 1", "gotheus_backend_up 0")
	refused(nowhere)
	if err := gotheus.Bind(t.Context(), nowhere); err == nil || errors.Is(err, gotheus.ErrBound) {
		t.Errorf("to the environment's own URL: %v", err)
	}
	refused(nowhere)
}

// The driver of the environment's URL may register itself after the backend was first needed.
func TestEnvironmentBeforeDriver(t *testing.T) {
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	t.Setenv(gotheus.EnvBackend, "test-late://x")
	r, log := newRegistry(t, nil)
	gotheus.SetDefault(r)
	gotheus.NewCounter("c_total", "C.", nil).Inc()
	pageHas(t, r, "c_total 1", "gotheus_backend_up 0")
	if !strings.Contains(log.String(), "unknown scheme") {
		t.Errorf("log: %s", log)
	}
	open.Register("test-late", func(context.Context, *url.URL) (backend.Backend, error) { return heap.New(), nil })
	backendtest.Eventually(t, "the backend is opened", func() bool { return strings.Contains(log.String(), "the backend is now open") })
	pageHas(t, r, "c_total 1", "gotheus_backend_up 1")
}

// Two goroutines that bind to the same URL at once both succeed.
func TestBindTwiceAtOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		url := shmURL(t)
		r, _ := newRegistry(t, nil)
		r.NewCounter("c_total", "C.", nil).Inc()
		var wait sync.WaitGroup
		for range 2 {
			wait.Go(func() {
				if err := r.Bind(t.Context(), url); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		pageHas(t, r, "c_total 1")
	}
}

func TestEnvironmentFails(t *testing.T) {
	t.Setenv(gotheus.EnvBackend, "shm:///nonexistent/dir/shop")
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	r, log := newRegistry(t, nil)
	gotheus.SetDefault(r)
	gotheus.NewCounter("c_total", "C.", nil).Inc()
	pageHas(t, r, "c_total 1", "gotheus_backend_up 0")
	if !strings.Contains(log.String(), "/nonexistent/dir/shop") {
		t.Errorf("log: %s", log)
	}
}

// A bind waits for a scrape in progress, so that its page is from one backend.
func TestScrapeHoldsOffBind(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	for i := range 5000 {
		r.NewCounterVec("c_total", "C.", nil, "i").With(fmt.Sprintf("%05d", i)).Inc()
	}
	bound := make(chan error, 1)
	w := &pausing{first: func() { go func() { bound <- r.Bind(context.Background(), shmURL(t)) }() }}
	if err := r.WriteText(w); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.String(), "} 1\n"); n != 5000 {
		t.Errorf("%d series on the page", n)
	}
	if err := <-bound; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(page(t, r), "} 1\n"); n != 5000 {
		t.Errorf("%d series after binding", n)
	}
}

// pausing is a writer that calls first at the first Write.
type pausing struct {
	strings.Builder
	first  func()
	writes int
}

func (p *pausing) Write(b []byte) (int, error) {
	if p.writes++; p.writes == 1 {
		p.first()
	}
	return p.Builder.Write(b)
}
