package gotheus

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
)

// The registry's gotheus_* families, except those that count faults, which are in package series.

const (
	backendUpName = "gotheus_backend_up"
	backendUpHelp = "Whether the backend requested for this process is open and, if it is a store, answered when it was last asked."

	lastSuccessName = "gotheus_backend_last_success_timestamp_seconds"
	lastSuccessHelp = "When the store last answered this process without an error, in seconds since 1970; 0 if it never has."

	postponedName = "gotheus_postponed_series"
	postponedHelp = "Series of this process that wait for room in the backend."

	familiesName = "gotheus_families"
	familiesHelp = "Families in the backend."

	seriesName = "gotheus_series"
	seriesHelp = "Series in the backend."

	usedName = "gotheus_backend_used_bytes"
	usedHelp = "Bytes of the shared-memory file that are in use or were."

	wastedName = "gotheus_backend_wasted_bytes"
	wastedHelp = "Those of the used bytes that deleted series had, and that serve no others yet."

	limitName = "gotheus_backend_limit_bytes"
	limitHelp = "Bytes that the shared-memory file may use."

	scrapeSecondsName = "gotheus_scrape_duration_seconds"
	scrapeSecondsHelp = "Time to make and write a page."

	scrapeBytesName = "gotheus_scrape_size_bytes"
	scrapeBytesHelp = "Size of a page before compression."

	scrapeErrorsName = "gotheus_scrape_errors_total"
	scrapeErrorsHelp = "Pages that were cut short or made without current data of other processes."

	buildName = "gotheus_build_info"
	buildHelp = "Version of the metrics library."

	pendingName = "gotheus_publish_pending_words"
	pendingHelp = "Words of this process that have changed since they were last published."

	lagName = "gotheus_publish_lag_seconds"
	lagHelp = "Age of the oldest update of this process that has not been published."

	damagedName = "gotheus_damaged_records"
	damagedHelp = "Records of other processes in the store that cannot be read and are left out."

	hiddenName = "gotheus_hidden_series"
	hiddenHelp = "Series in the backend that are not shown because their family clashes with another."
)

// SetLogger sets the logger that r uses from now on; nil: that of its options. It is meant for the
// default registry, which exists before main can set options. It may be called concurrently.
func (r *Registry) SetLogger(l *slog.Logger) {
	home := &r.base().home
	home.Log.OnPanic(home.CountPanic)
	home.Log.SetLogger(l)
}

// Logger returns a logger for those who log on behalf of r, such as a collector, or a client that
// the program opens for a store. It writes each line to the logger that r uses at that moment.
// Drivers, and stores that implement [store.LoggerSetter], receive it when r is bound.
func (r *Registry) Logger() *slog.Logger { return r.base().home.Log.Forward() }

func checkName(name string) error {
	if err := series.CheckName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// selfMetrics exist from when the registry is told to use a backend until it is closed. Pages of
// plain heap registries, as in tests, show nothing but what was declared and what went wrong.
type selfMetrics struct {
	seconds, bytes *Summary
	errors         *Counter
	state          *collector  // collects what this process knows about its backend
	up             atomic.Bool // as last collected
}

func (r *Registry) startSelf() {
	if r.opts.NoSelfMetrics || r.self.Load() != nil {
		return
	}
	m := &selfMetrics{state: &collector{reg: r, what: "the registry", own: true}}
	m.state.collect = func(_ context.Context, s *Sink) error {
		m.up.Store(r.backendState(s, nil))
		for _, d := range s.families {
			d.Def.Live = true
		}
		return nil
	}
	newSamples(r, m.state)
	var err [4]error
	m.seconds, err[0] = newSingle[Summary](r, scrapeSecondsName, scrapeSecondsHelp, &SummaryOptions{Unit: "seconds"})
	m.bytes, err[1] = newSingle[Summary](r, scrapeBytesName, scrapeBytesHelp, &SummaryOptions{Unit: "bytes"})
	m.errors, err[2] = newSingle[Counter](r, scrapeErrorsName, scrapeErrorsHelp, nil)
	_, err[3] = newInfo(r, buildName, buildHelp, Labels{"version": libraryVersion()})
	for _, e := range err { // constant labels may clash
		if e != nil {
			r.home.Log.Log(slog.LevelError, "self", "the library's own metrics are not shown", "error", e)
			return
		}
	}
	r.collectorsMu.Lock()
	r.collectors = append(r.collectors, m.state)
	r.collectorsMu.Unlock()
	m.state.runs.Join(context.Background(), m.state.run) // so that they get room first
	r.self.Store(m)
}

// isUp reports whether the requested backend is open and, as far as is known, can be used.
func isUp(b *series.Binding) bool {
	if a, ok := b.Backend.(backend.Answerer); ok {
		up, _ := a.Answered()
		return up
	}
	return !b.Local
}

// updateState collects anew what this process knows about its backend if that no longer is what was
// collected before the page, since the backend has failed or recovered.
func (r *Registry) updateState(ctx context.Context, b *series.Binding) {
	if m := r.self.Load(); m != nil && m.up.Load() != isUp(b) {
		m.state.runs.Join(ctx, m.state.run)
	}
}

// backendState collects what this process knows about its backend, except for families that are
// already in groups.
func (r *Registry) backendState(s *Sink, groups []backend.Group) (isUpNow bool) {
	put := func(name, help string, v float64) {
		_, found := slices.BinarySearchFunc(groups, r.opts.Prefix+name, func(g backend.Group, name string) int {
			return strings.Compare(g.Family.Name, name)
		})
		if !found {
			s.Gauge(name, help).Put(v)
		}
	}
	b := r.home.Current()
	up := 0.0
	if isUpNow = isUp(b); isUpNow {
		up = 1
	}
	put(backendUpName, backendUpHelp, up)
	put(postponedName, postponedHelp, float64(r.home.Postponed.Len()))
	if p, ok := b.Backend.(backend.Publisher); ok {
		words, lag := p.Unpublished()
		put(pendingName, pendingHelp, float64(words))
		put(lagName, lagHelp, lag.Seconds())
	}
	if a, ok := b.Backend.(backend.Answerer); ok {
		seconds := 0.0
		if _, last := a.Answered(); !last.IsZero() {
			seconds = float64(last.UnixMilli()) / 1000
		}
		put(lastSuccessName, lastSuccessHelp, seconds)
	}
	return isUpNow
}

func (r *Registry) stopSelf() {
	m := r.self.Swap(nil)
	if m == nil {
		return
	}
	r.remove(m.state)
	for _, name := range []string{backendUpName, lastSuccessName, postponedName, pendingName, lagName, scrapeSecondsName, scrapeBytesName, scrapeErrorsName, buildName} {
		r.HideFamily(name)
	}
}

// scraped records that a page was written.
func (r *Registry) scraped(start time.Time, size int, err error) {
	m := r.self.Load()
	if m == nil {
		return
	}
	m.seconds.Observe(time.Since(start).Seconds())
	m.bytes.Observe(float64(size))
	if err != nil {
		m.errors.Inc()
	}
}

// libraryVersion returns the version of this module that the program was built with.
func libraryVersion() string {
	const path = "github.com/gotheus/gotheus"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range append(info.Deps, &info.Main) {
			if dep.Path == path && dep.Version != "" {
				return dep.Version
			}
		}
	}
	return "unknown"
}

// selfFamilies returns the registry's families about the backend as a whole.
func (r *Registry) selfFamilies(p *part) []*page.Collected {
	if r.self.Load() == nil {
		return nil
	}
	groups := p.source.Groups
	s := newSink(r, false, true)
	if p.o.Scope == ScopeLeader {
		leads := 1.0
		if p.follows {
			leads = 0
		}
		s.Gauge(leaderName, leaderHelp).Put(leads)
	}
	families, count := 0, 0
	for i := range groups {
		if groups[i].Family.Block.Role != 0 {
			continue // an auxiliary family
		}
		families++
		for j := range groups[i].Series {
			if groups[i].Exists(j) {
				count++
			}
		}
	}
	if !p.follows {
		s.Gauge(familiesName, familiesHelp).Put(float64(families))
		s.Gauge(seriesName, seriesHelp).Put(float64(count))
		if b, ok := p.binding.Backend.(backend.Sized); ok {
			used, wasted, limit := b.Space()
			s.Gauge(usedName, usedHelp).Put(float64(used))
			s.Gauge(wastedName, wastedHelp).Put(float64(wasted))
			s.Gauge(limitName, limitHelp).Put(float64(limit))
		}
		if b, ok := p.binding.Backend.(backend.Damageable); ok {
			s.Gauge(damagedName, damagedHelp).Put(float64(b.Damaged()))
		}
	}
	r.backendState(s, groups) // shown here if the backend has no room for it
	s.check()
	return s.collected()
}

// damaged returns an error if the page lacks records of the store because they cannot be read.
func (s *scrape) damaged() error {
	for _, p := range s.parts {
		b, ok := p.binding.Backend.(backend.Damageable)
		if ok && s.o.Scope != ScopeOwn && b.Damaged() > 0 {
			return fmt.Errorf("%d records of other processes in the store cannot be read: the log says which", b.Damaged())
		}
	}
	return nil
}

// hiddenFamily returns the registry's family about the whole page.
func (r *Registry) hiddenFamily(p *part, hidden int) []*page.Collected {
	if r.self.Load() == nil || p.follows {
		return nil
	}
	s := newSink(r, false, true)
	s.Gauge(hiddenName, hiddenHelp).Put(float64(hidden))
	s.check()
	return s.collected()
}
