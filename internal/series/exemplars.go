package series

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/names"
)

// Exemplars, usually trace IDs, are stored one per bucket of a histogram and one per counter. They
// are in auxiliary families whose series are created with the first exemplar, so that updates
// without exemplars pay nothing for them.

// exemplarSizes are the sizes of a slot, in words. Most exemplars fit the smaller one. The larger
// one holds any valid exemplar: 128 code points of 4 bytes, and 4 bytes of punctuation for each of
// up to 128 labels.
var exemplarSizes = [...]uint32{12, 128}

// exemplarRetry is the interval between attempts to allocate slots in a backend that has no room.
const exemplarRetry = 10 * time.Second

// exemplars locates the exemplars of a series. It is immutable; a change replaces it.
type exemplars struct {
	start func() uint64
	slots [len(exemplarSizes)]index.Block
	retry [len(exemplarSizes)]time.Time
}

// Exemplify stores an exemplar. It drops one that is invalid, logging why, and one for which there
// is no room.
func (s *Series) Exemplify(op string, slot int, v float64, labels Labels) {
	f := s.Family()
	if len(labels) == 0 || f.Def.Parts() {
		return
	}
	text, err := exemplarText(labels)
	if err != nil {
		f.Home.Log.Log(slog.LevelWarn, "exemplar "+f.Def.Name, "an exemplar was dropped", "metric", f.Def.Name, "operation", op, "error", err)
		return
	}
	class := 0
	for len(text) > 8*int(exemplarSizes[class]) {
		class++
	}
	now := f.Home.Now()
	at := s.placement.Load().exemplars
	if at == nil || at.slots[class].Words == nil {
		if at = s.makeExemplars(at, class, now); at == nil {
			return
		}
	}
	if start := at.start(); start < backend.SealedInt && nanoseconds(now) > 0 {
		b := &at.slots[class]
		b.Family.WriteExemplar(b.Words, slot, start, &backend.Exemplar{Labels: text, Value: v, Time: nanoseconds(now)})
	}
	runtime.KeepAlive(s) // as long as its words are written to, see reclaim.go
}

// makeExemplars allocates slots of a size class in the backend. It returns nil if there is no room.
func (s *Series) makeExemplars(old *exemplars, class int, now time.Time) *exemplars {
	if old != nil && now.Before(old.retry[class]) {
		return nil
	}
	f := s.Family()
	made, err := s.findExemplars(class, now)
	if err != nil { // logged without holding a lock: a logger may update metrics
		f.Home.Log.Log(slog.LevelWarn, "exemplar room "+f.Def.Name, "exemplars are dropped: the backend has no room for them", "metric", f.Def.Name, "error", err)
		return nil
	}
	return made
}

// findExemplars returns the slots of a size class, allocating them if need be. The result is nil if
// the series is not in a backend or has moved in the meantime.
func (s *Series) findExemplars(class int, now time.Time) (*exemplars, error) {
	f := s.Family()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Home.Moves.Lock()
	at, words, labels := s.placement.Load(), s.Words(), s.storedLabels()
	f.Home.Moves.Unlock()
	if at.backend == nil {
		return nil, nil // the series itself is not on any page
	}
	next := new(exemplars)
	if at.exemplars != nil {
		*next = *at.exemplars
	}
	if next.slots[class].Words != nil {
		return next, nil
	}
	def := f.exemplarFamily(class)
	var err error
	if next.slots[class].Words, err = at.backend.Cells(def, labels); err != nil {
		next.retry[class] = now.Add(exemplarRetry)
	}
	next.slots[class].Family = def
	start := f.Def.Start(words)
	next.start = start.Load
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	// Published only if the placement is still the one that the slots were allocated for:
	// otherwise the series would refer to slots in a backend that it has left.
	if s.placement.Load() != at {
		return nil, err
	}
	with := *at
	with.exemplars = next
	s.placement.Store(&with)
	return next, err
}

// exemplarFamily returns the auxiliary family for a size class. The caller holds f.mu.
func (f *Family) exemplarFamily(class int) *backend.Family {
	if f.exemplarSlots[class] == nil {
		f.exemplarSlots[class] = f.Def.With(backend.Block{Role: backend.ExemplarRole, Size: exemplarSizes[class]})
	}
	return f.exemplarSlots[class]
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
		err = CheckEscaped(names)
	}
	return text, err
}

// CheckEscaped returns an error if some label names of an exemplar collide in a format that escapes
// them.
func CheckEscaped(labels []string) error {
	if names.Classic(labels) {
		return nil
	}
	if _, clash := names.Escaped(expo.Underscores, labels); clash != "" {
		return fmt.Errorf("%w: labels %q: two of them become equal, or one becomes __name__, when escaped for scrapers that accept only [a-zA-Z_][a-zA-Z0-9_]*",
			backend.ErrExemplar, labels)
	}
	return nil
}
