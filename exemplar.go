package gotheus

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Exemplars: an example of what was counted, for each bucket of a histogram and for each counter, usually the id
// of a trace. They are in auxiliary families, whose series are made by the first exemplar, and no plain update
// knows of them.

// exemplarSizes are the sizes of slots, in words: of most, and of what does not fit in these. The larger one holds
// every exemplar there can be: 128 code points of 4 bytes, and as many times the 4 bytes around a label.
var exemplarSizes = [...]uint32{12, 128}

// exemplarRetry is after how long a backend without room is asked again.
const exemplarRetry = 10 * time.Second

// exemplars is where a series has its exemplars. It is replaced, never changed.
type exemplars struct {
	start func() uint64
	slots [len(exemplarSizes)]block
	retry [len(exemplarSizes)]time.Time
}

// AddExemplar adds v as Add does, with an exemplar. Its labels can be any: they do not tell series
// apart. They may have at most 128 code points, names and values together. Otherwise, or if a name
// is empty, has control characters or begins with __, if a value has a NUL byte, if something is
// not UTF-8, or if the backend has no room, v is added and the exemplar dropped, which is logged.
// The page shows the newest of the series. It is kept in the backend, and forgotten when the
// counter is bound to another one. It costs a few hundred nanoseconds.
func (c *Counter) AddExemplar(v float64, labels Labels) {
	c.Add(v)
	if v >= 0 && finite(v) {
		c.exemplify("Counter.AddExemplar", 0, v, labels)
	}
}

// AddContext adds v as Add does, with the exemplar that RegistryOptions.Exemplar returns for ctx, if any. See
// AddExemplar.
func (c *Counter) AddContext(ctx context.Context, v float64) {
	c.AddExemplar(v, c.fam().exemplar(ctx))
}

// ObserveExemplar counts v as Observe does, with an exemplar; see Counter.AddExemplar. The page shows the newest of
// each bucket, or if there are exponential buckets alone, of ten values of different magnitude.
func (h *Histogram) ObserveExemplar(v float64, labels Labels) {
	h.Observe(v)
	if !finite(v) {
		return
	}
	slot := 0
	if h.how.classic {
		slot = h.how.places.bucket(v)
	} else if _, exp := math.Frexp(v); exp != 0 {
		n := h.fam().def.ExemplarSlots()
		slot = (exp%n + n) % n
	}
	h.exemplify("Histogram.ObserveExemplar", slot, v, labels)
}

// ObserveContext counts v as Observe does, with the exemplar that RegistryOptions.Exemplar returns for ctx, if any.
// See ObserveExemplar.
func (h *Histogram) ObserveContext(ctx context.Context, v float64) {
	h.ObserveExemplar(v, h.fam().exemplar(ctx))
}

func (f *family) exemplar(ctx context.Context) Labels {
	if get := f.reg.opts.Exemplar; get != nil {
		return get(ctx)
	}
	return nil
}

// exemplify stores an exemplar, or drops it.
func (s *series) exemplify(op string, slot int, v float64, labels Labels) {
	f := s.fam()
	if len(labels) == 0 || f.def.Parts() {
		return
	}
	text, err := exemplarText(labels)
	if err != nil {
		f.reg.log(slog.LevelWarn, "exemplar "+f.def.Name, "an exemplar was dropped", "metric", f.def.Name, "operation", op, "error", err)
		return
	}
	class := 0
	for len(text) > 8*int(exemplarSizes[class]) {
		class++
	}
	now := f.reg.Now()
	at := s.spot.Load().exemplars
	if at == nil || at.slots[class].words == nil {
		if at = s.makeExemplars(at, class, now); at == nil {
			return
		}
	}
	if start := at.start(); start < backend.SealedInt && nanoseconds(now) > 0 {
		b := &at.slots[class]
		b.family.WriteExemplar(b.words, slot, start, &backend.Exemplar{Labels: text, Value: v, Time: nanoseconds(now)})
	}
}

// makeExemplars asks the backend for slots of a size class. Nil: there is no room.
func (s *series) makeExemplars(old *exemplars, class int, now time.Time) *exemplars {
	if old != nil && now.Before(old.retry[class]) {
		return nil
	}
	f := s.fam()
	made, err := s.findExemplars(class, now)
	if err != nil { // when no lock is held: a logger may count its lines
		f.reg.log(slog.LevelWarn, "exemplar room "+f.def.Name, "exemplars are dropped: the backend has no room for them", "metric", f.def.Name, "error", err)
		return nil
	}
	return made
}

// findExemplars is makeExemplars with the error.
func (s *series) findExemplars(class int, now time.Time) (*exemplars, error) {
	f := s.fam()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reg.moveMu.Lock()
	at, words, labels := s.spot.Load(), s.words(), s.stored()
	f.reg.moveMu.Unlock()
	if at.home == nil {
		return nil, nil // the series itself is on no page
	}
	next := new(exemplars)
	if at.exemplars != nil {
		*next = *at.exemplars
	}
	if next.slots[class].words != nil {
		return next, nil
	}
	def := f.exemplarFamily(class)
	var err error
	if next.slots[class].words, err = at.home.Cells(def, labels); err != nil {
		next.retry[class] = now.Add(exemplarRetry)
	}
	next.slots[class].family = def
	start := f.def.Start(words)
	next.start = start.Load
	f.reg.moveMu.Lock()
	defer f.reg.moveMu.Unlock()
	if s.spot.Load() != at {
		return nil, err // the series has moved meanwhile
	}
	with := *at
	with.exemplars = next
	s.spot.Store(&with)
	return next, err
}

// exemplarFamily returns the auxiliary family for a size class. f.mu is held.
func (f *family) exemplarFamily(class int) *backend.Family {
	if f.exemplars[class] == nil {
		f.exemplars[class] = f.def.With(backend.Block{Role: backend.ExemplarRole, Size: exemplarSizes[class]})
	}
	return f.exemplars[class]
}

// exemplarText returns the label text of an exemplar.
func exemplarText(labels Labels) (string, error) {
	var few [8]string
	names, values := few[:0], make([]string, 0, len(few))
	for name := range labels {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values = append(values, labels[name])
	}
	text, err := backend.ExemplarLabels(names, values)
	if err == nil {
		err = checkEscaped(names)
	}
	return text, err
}

// checkEscaped finds names of an exemplar's labels that cannot be told apart in all formats.
func checkEscaped(names []string) error {
	if classicLabels(names) {
		return nil
	}
	if _, clash := escapedLabels(expo.Underscores, names); clash != "" {
		return fmt.Errorf("%w: of labels %q, two are the same, or one is __name__, to scrapers that take no other names than [a-zA-Z_][a-zA-Z0-9_]*",
			backend.ErrExemplar, names)
	}
	return nil
}

// readExemplars yields the exemplars of a series, of two for one slot the newer. What others have
// written, and no page may show, is dropped.
func (p *page) readExemplars(f *backend.Family, w backend.Words, yield func(slot int, e expo.Exemplar)) {
	for slot := range f.ExemplarSlots() {
		var newest backend.Exemplar
		for _, b := range p.further {
			if b.family.Block.Role != backend.ExemplarRole {
				continue
			}
			e, ok := b.family.ReadExemplar(b.words, slot, f.Start(w).Load())
			if !ok || e.Time <= newest.Time {
				continue
			}
			if err := e.Check(); err != nil {
				p.reg.log(slog.LevelWarn, "exemplar in backend "+f.Name, "an exemplar that another process has written was left out of the page",
					"metric", f.Name, "error", err)
				continue
			}
			newest = e
		}
		if newest.Time != 0 {
			yield(slot, expo.Exemplar{Labels: newest.Labels, Value: newest.Value, Time: newest.Time})
		}
	}
}

// exemplarsOf adds the exemplars to a histogram as read.
func (p *page) exemplarsOf(d *distribution, f *backend.Family, w backend.Words) {
	if !slices.ContainsFunc(p.further, func(b block) bool { return b.family.Block.Role == backend.ExemplarRole }) {
		return
	}
	if f.Classic() {
		d.Exemplars = make([]expo.Exemplar, len(d.Buckets)+1)
	}
	p.readExemplars(f, w, func(slot int, e expo.Exemplar) {
		if d.Exemplars != nil {
			d.Exemplars[slot] = e
		}
		if d.Native != nil {
			d.Native.Exemplars = append(d.Native.Exemplars, e)
		}
	})
}
