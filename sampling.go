package gotheus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/collect"
	"github.com/gotheus/gotheus/internal/series"
)

// Sampling: what process collectors and functions say about this process is written, as a whole, to
// words that belong to this instance, at its own scrapes and, since others are scraped, from time
// to time.

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
	r.sampler.StartNow(interval, max(time.Second, interval), func(ctx context.Context) (again bool) {
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

// samples is what a process collector has stored. Its collector's storeMu guards it.
type samples struct {
	reg      *Registry
	owner    *collector
	round    uint64
	families map[*series.Family]bool
}

func newSamples(r *Registry, c *collector) {
	s := &samples{reg: r, owner: c, families: make(map[*series.Family]bool)}
	c.perProcess, c.store, c.lost = true, s.store, s.lost
}

func (s *samples) store(sink *Sink) (errs []error) {
	s.round++
	for _, c := range sink.families {
		def := c.Def
		open := slices.DeleteFunc(slices.Clone(def.Labels), func(l string) bool { _, ok := s.reg.opts.Labels[l]; return ok })
		f := &series.Family{Home: &s.reg.base().home, Def: &def, Shared: s.reg.opts.Labels, Constant: s.reg.opts.Labels, Open: open, IsVec: true, Source: "a collector"}
		f.Given.Buckets = true
		f.Prepare()
		series.NewSampled(f)
		f, err := s.reg.enter(f)
		if err != nil {
			errs = append(errs, &collect.FamilyError{Name: c.Name, Err: err})
			continue
		}
		s.families[f] = true
		table := f.Table().(*series.Sampled)
		for i := range c.Rows {
			row := &c.Rows[i]
			isNew, ok := table.Write(s.owner, s.round, &series.Value{Labels: row.Labels, Number: row.Number.Value(), Dist: &row.Dist})
			if isNew {
				s.reg.base().sampledNew.Add(1)
			}
			if !ok {
				err := fmt.Errorf("%w: %s: two collectors give the series {%s}", ErrConflict, def.Name, row.Labels)
				errs = append(errs, &collect.FamilyError{Name: c.Name, Err: err})
			}
		}
	}
	s.forget()
	return errs
}

// lost forgets all series.
func (s *samples) lost() {
	s.round++
	s.forget()
}

// forget takes the series that were not given in this round off the page.
func (s *samples) forget() {
	for f := range s.families {
		f.Table().(*series.Sampled).Forget(s.owner, s.round)
	}
}
