package gotheus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Sampling: what process collectors and functions say about this process is written, as a whole, to words
// that belong to this instance, at its own scrapes and, since others are scraped, from time to time.

// sampler asks from time to time, as long as the registry is in a backend that others may see. Between
// times it is a timer, and no goroutine.
type sampler struct {
	mu     sync.Mutex
	timer  *time.Timer
	cancel context.CancelFunc // of the asking under way
	asking sync.Mutex         // held meanwhile
}

// defaultSampleInterval is often enough for scrapers, which seldom come more often than every ten seconds.
const defaultSampleInterval = 5 * time.Second

func (r *Registry) sampleInterval() time.Duration {
	if r.opts.SampleInterval > 0 {
		return r.opts.SampleInterval
	}
	return defaultSampleInterval
}

// start begins, unless nobody but this process would see anything, and asks at once.
func (s *sampler) start(r *Registry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.current().local:
	case s.timer == nil:
		s.timer = time.AfterFunc(0, func() { s.run(r) })
	default:
		s.timer.Reset(0)
	}
}

func (s *sampler) run(r *Registry) {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.mu.Lock()
	timer := s.timer
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Second, r.sampleInterval()))
	defer cancel()
	s.cancel = cancel
	s.mu.Unlock()
	if timer == nil {
		return
	}
	r.collect(ctx, ofInstance)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.timer != timer: // stopped, or started again, meanwhile
	case r.current().local: // started while Close was at work
		s.timer = nil
	case r.hasInstanceCollectors():
		s.timer.Reset(r.sampleInterval())
	}
}

// stop ends the asking and waits for what is under way; a function that hangs is left behind.
func (s *sampler) stop() {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	s.asking.Lock()
	defer s.asking.Unlock()
}

func (r *Registry) hasInstanceCollectors() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.collectors {
		if c.instance {
			return true
		}
	}
	return false
}

// sampleNow brings what is sampled up to date, for a moment at most.
func (r *Registry) sampleNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	r.collect(ctx, ofInstance)
}

// sampled is a series whose value is written as a whole. There is no instrument that code could update.
type sampled struct {
	series
	owner *collector
	round uint64 // in which owner gave it last
}

func (m *sampled) move(to, from backend.Words) {
	def := m.fam().def
	if from == nil || def.Sealed(from) {
		return
	}
	for i := range to {
		to[i].Store(from[i].Load())
	}
	def.Seal(from)
}

// sampleTable has the series of a sampled family by label text; guarded by the family's lock.
type sampleTable map[string]*sampled

func (t sampleTable) each(yield func(instrument) bool) bool {
	for _, m := range t {
		if !yield(m) {
			return false
		}
	}
	return true
}

func (t sampleTable) prune() int64 {
	for labels, m := range t {
		if !m.spot.Load().listed {
			delete(t, labels)
		}
	}
	return 0
}

// samples is what a process collector has stored. Its collector's storeMu guards it.
type samples struct {
	reg      *Registry
	owner    *collector
	round    uint64
	families map[*family]bool
}

func newSamples(r *Registry, c *collector) {
	s := &samples{reg: r, owner: c, families: make(map[*family]bool)}
	c.instance, c.store, c.lost = true, s.store, s.lost
}

func (s *samples) store(sink *Sink) (errs []error) {
	s.round++
	for _, c := range sink.families {
		def := c.def
		open := slices.DeleteFunc(slices.Clone(def.Labels), func(l string) bool { _, ok := s.reg.opts.Labels[l]; return ok })
		f, err := s.reg.enter(&family{reg: s.reg, def: &def, open: open, constant: s.reg.opts.Labels, vec: true, from: "a collector", given: given{buckets: true}, table: sampleTable{}})
		if err != nil {
			errs = append(errs, &familyError{c.Name, err})
			continue
		}
		s.families[f] = true
		for i := range c.rows {
			if err := f.sample(s, &c.rows[i]); err != nil {
				errs = append(errs, &familyError{c.Name, err})
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
		f.vanish(func(i instrument) bool {
			m := i.(*sampled)
			return m.owner == s.owner && m.round != s.round
		})
	}
}

// sample writes a series.
func (f *family) sample(s *samples, w *row) error {
	t := f.table.(sampleTable)
	f.mu.Lock()
	defer f.unlock()
	m := t[w.labels]
	switch {
	case m == nil:
		m = &sampled{owner: s.owner}
		f.begins(&m.series, w.labels)
		t[w.labels] = m
		f.place(m)
		f.reg.sampledNew.Add(1)
	case m.owner != s.owner:
		return fmt.Errorf("%w: %s: two collectors give the series {%s}", ErrConflict, f.def.Name, w.labels)
	}
	m.round = s.round
	f.reg.moveMu.Lock()
	defer f.reg.moveMu.Unlock()
	write(f.def, m.words(), w)
	return nil
}

// write sets the words of a series.
func write(def *backend.Family, words backend.Words, w *row) {
	switch def.Kind {
	case backend.Histogram:
		words[backend.HistogramSum].Store(floatBits(w.dist.Sum))
		below := uint64(0)
		for i, n := range append(w.dist.Buckets, w.dist.Count) {
			words[backend.HistogramBuckets+i].Store(n - below)
			below = n
		}
	case backend.Summary:
		words[backend.SummaryCount].Store(w.dist.Count)
		words[backend.SummarySum].Store(floatBits(w.dist.Sum))
		for i, v := range w.dist.Quantiles {
			words[backend.SummaryQuantiles+i].Store(floatBits(v))
		}
	default:
		words[backend.GaugeValue].Store(floatBits(w.number.Value()))
		words[backend.GaugeFlags].Store(backend.GaugeIsSet | backend.GaugeJoined)
	}
}

// vanish takes this instance's part of series off the page, until they are written again.
func (f *family) vanish(which func(instrument) bool) {
	some := false
	f.mu.Lock()
	for m := range f.all() {
		if which(m) {
			f.reg.moveMu.Lock()
			f.def.Seal(m.base().words())
			f.reg.moveMu.Unlock()
			some = true
		}
	}
	f.mu.Unlock()
	if some {
		f.drop(func(*series) bool { return true })
	}
}
