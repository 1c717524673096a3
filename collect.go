package gotheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/collect"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
)

// Collector exposes values that live elsewhere, such as the length of a queue in a database, and
// that are the same in every process. It runs at scrape time, in the process that is scraped. For
// values of the process itself, use a [ProcessCollector].
//
// If Collect returns an error or panics, or has not returned when ctx's deadline has passed, its
// families are left out of the page; that is counted in gotheus_collector_errors_total and logged.
// Collect is never called again before it has returned: scrapes that arrive meanwhile share the
// next call. ctx has at least five seconds, whatever scrapers allow. It also ends when no scrape
// waits any more, which is not counted: a scraper that does not wait costs only its own page.
type Collector interface {
	Collect(ctx context.Context, s *Sink) error
}

// CollectorFunc is a function that is a Collector.
type CollectorFunc func(ctx context.Context, s *Sink) error

// Collect calls f.
func (f CollectorFunc) Collect(ctx context.Context, s *Sink) error { return f(ctx, s) }

// ProcessCollector is a Collector for values of the process that it runs in, such as its memory.
// Where processes share a backend, each process runs its own every few seconds
// ([RegistryOptions.SampleInterval]) and when it is scraped, and every page shows the series of
// all, distinguished by the label "process". When a process ends, however it ends, its series
// disappear at the next scrape, and so do those of a collector that fails or no longer reports
// them.
//
// Its series must not have timestamps, exemplars or exponential buckets.
type ProcessCollector interface {
	Collector
	PerProcess() // does nothing
}

// ProcessCollectorFunc is a function that is a ProcessCollector.
type ProcessCollectorFunc func(ctx context.Context, s *Sink) error

// Collect calls f.
func (f ProcessCollectorFunc) Collect(ctx context.Context, s *Sink) error { return f(ctx, s) }

// PerProcess implements ProcessCollector.
func (ProcessCollectorFunc) PerProcess() {}

// Register adds c to r's pages until remove is called. Several collectors may add series to one
// family if they define it alike. It panics with an error that wraps ErrInvalid if c is nil, or a
// nil pointer or function.
func (r *Registry) Register(c Collector) (remove func()) {
	switch v := reflect.ValueOf(c); {
	case !v.IsValid(), (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil():
		panic(fmt.Errorf("%w: Register: the collector is nil, of type %T", ErrInvalid, c))
	}
	entry := &collector{reg: r, what: fmt.Sprintf("%T", c), collect: c.Collect}
	if _, ok := c.(ProcessCollector); ok {
		newSamples(r, entry)
	}
	return r.base().add(entry)
}

// collector runs a Collector or a metric's function.
type collector struct {
	reg        *Registry // whose prefix and constant labels apply
	what       string    // describes it in log lines
	own        bool      // it is part of the registry itself
	perProcess bool      // it also runs at intervals, and its values are stored in the backend
	collect    func(ctx context.Context, s *Sink) error
	store      func(s *Sink) []error // stores the values of a run; storeMu is held
	undo       func()                // undoes store after a failure; storeMu is held
	runs       collect.Runs[*Sink]

	storeMu sync.Mutex
	removed bool // nothing may be stored any more
}

// run calls the collector once. A result that comes too late for the scrape is still stored. What
// is wrong with it is reported by the run, so that scrapes that share it know that it was.
func (c *collector) run(ctx context.Context) (*Sink, error) {
	s := newSink(c.reg, c.perProcess, c.own)
	if err := c.collect(ctx, s); err != nil {
		return nil, err
	}
	s.check()
	s.errs = append(s.errs, c.keep(s)...)
	for _, err := range s.errs {
		c.reg.base().reportLeftOut(c, err)
	}
	return s, nil
}

// keep stores the values of a run, if the collector's are stored.
func (c *collector) keep(s *Sink) []error {
	if c.store == nil {
		return nil
	}
	c.storeMu.Lock()
	defer c.storeMu.Unlock()
	if c.removed {
		return nil
	}
	return c.store(s)
}

func (r *Registry) add(entry *collector) (remove func()) {
	r.home.ShowCollectorErrors()
	r.collectorsMu.Lock()
	r.collectors = append(r.collectors, entry)
	r.collectorsMu.Unlock()
	if entry.perProcess {
		r.startEnv()
		r.startSampling()
	}
	return func() { r.remove(entry) }
}

func (r *Registry) remove(entry *collector) {
	r.collectorsMu.Lock()
	r.collectors = slices.DeleteFunc(slices.Clone(r.collectors), func(e *collector) bool { return e == entry })
	r.collectorsMu.Unlock()
	r.home.Log.Forget(entry.cause())
	r.home.Log.Forget(entry.impatience())
	entry.storeMu.Lock()
	defer entry.storeMu.Unlock()
	if !entry.removed && entry.undo != nil {
		entry.undo()
	}
	entry.removed = true
}

func (r *Registry) hasCollectors() bool {
	r.collectorsMu.Lock()
	defer r.collectorsMu.Unlock()
	return len(r.collectors) > 0
}

// kinds selects the collectors that a call of collect runs.
type kinds int

const (
	allKinds      kinds = iota
	perProcess          // values of this process
	notPerProcess       // values that are the same in all processes
)

// collect runs the selected collectors concurrently. It returns the families of those that finish
// before ctx ends, except process collectors, whose families are stored in the backend, and the
// errors of what is missing.
func (r *Registry) collect(ctx context.Context, which kinds) (families []*page.Collected, missing error) {
	r.collectorsMu.Lock()
	list := slices.Clone(r.collectors)
	r.collectorsMu.Unlock()
	var wait sync.WaitGroup
	sinks := make([]*Sink, len(list))
	errs := make([]error, len(list))
	for i, c := range list {
		if which == perProcess && !c.perProcess || which == notPerProcess && c.perProcess {
			continue
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			s, err := c.runs.Join(ctx, c.run)
			switch errs[i] = err; {
			case err == nil:
				sinks[i], errs[i] = s, errors.Join(s.errs...)
			case errors.Is(ctx.Err(), context.Canceled):
				// The page is not needed any more.
			case errors.Is(err, collect.ErrImpatient):
				r.reportImpatient(c, err)
			default:
				r.reportLeftOut(c, err)
			}
		}()
	}
	wait.Wait()
	var all collect.Merger
	for i, s := range sinks {
		if s == nil || list[i].perProcess {
			continue
		}
		for _, f := range s.families {
			if err := all.Add(f); err != nil {
				r.reportLeftOut(list[i], err)
				errs = append(errs, err)
			}
		}
	}
	return all.Families, errors.Join(errs...)
}

// discard removes what a process collector has stored from pages, since a run has failed.
func (c *collector) discard() {
	c.storeMu.Lock()
	defer c.storeMu.Unlock()
	if !c.removed {
		c.undo()
	}
}

func (c *collector) cause() string { return fmt.Sprintf("collect %p", c) }

func (c *collector) impatience() string { return "impatient " + c.cause() }

// reportImpatient logs that a page lacks what a collector gives, or has what it gave before, since
// its scraper has not waited. That is not the collector's fault, and anybody can do it as often as
// they like, so it is not counted as an error.
func (r *Registry) reportImpatient(c *collector, err error) {
	r.home.Log.Log(slog.LevelWarn, c.impatience(),
		"a scraper did not allow a collector enough time, so its page was not complete; if it is your own, let it wait longer",
		"collector", c.what, "error", err)
}

// reportLeftOut counts and logs something that is not on the page because of a collector.
func (r *Registry) reportLeftOut(c *collector, err error) {
	if !c.own {
		r.home.CountCollectorError()
	}
	args := []any{"collector", c.what, "error", err}
	cause := c.cause()
	var f *collect.FamilyError
	if errors.As(err, &f) {
		args = append([]any{"metric", f.Name}, args...)
		cause = "collect " + f.Name
	}
	r.home.Log.Log(slog.LevelError, cause, "a collector's families or series were left out of the page", args...)
}

// defaultSampleInterval is often enough for scrapers, which seldom come more often than every ten
// seconds.
const defaultSampleInterval = 5 * time.Second

func (r *Registry) sampleInterval() time.Duration {
	if r.opts.SampleInterval > 0 {
		return r.opts.SampleInterval
	}
	return defaultSampleInterval
}

// startSampling runs process collectors now and periodically, unless the backend is local and no
// other process could see the result.
func (r *Registry) startSampling() {
	if r.home.Current().Local {
		return
	}
	interval := r.sampleInterval()
	// With less time, each call would be given up, like one for an impatient scrape, and a
	// collector that is too slow would never fail.
	limit := max(interval, collect.Patience+time.Second)
	r.sampler.StartNow(interval, limit, func(ctx context.Context) (again bool) {
		r.collect(ctx, perProcess)
		return !r.home.Current().Local && r.hasProcessCollectors()
	})
}

func (r *Registry) hasProcessCollectors() bool {
	r.collectorsMu.Lock()
	defer r.collectorsMu.Unlock()
	for _, c := range r.collectors {
		if c.perProcess {
			return true
		}
	}
	return false
}

// sampleNow runs process collectors once, for at most flushWait.
func (r *Registry) sampleNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	r.collect(ctx, perProcess)
}

// newSamples makes c a process collector. Its values are written, as a whole, to words that belong
// to this process: at its own scrapes and, for scrapes of other processes, periodically.
func newSamples(r *Registry, c *collector) {
	s := &collect.Samples{Home: &r.base().home, Labels: series.Labels(r.opts.Labels)}
	c.perProcess, c.undo, c.runs.Failed = true, s.Drop, c.discard
	c.store = func(sink *Sink) []error {
		isNew, errs := s.Store(sink.families)
		r.base().sampledNew.Add(isNew)
		return errs
	}
}
