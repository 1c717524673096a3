package series

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/names"
)

// Exemplars are examples of what was counted, usually trace IDs, for each counter and for each
// bucket of a histogram. They are kept in auxiliary families, whose series the first exemplar
// creates. Plain updates do not touch them.

// exemplarSizes are the sizes of slots in words: one for most exemplars, and one for any: 128 code
// points of 4 bytes, and as many times the 4 bytes of syntax around a label.
var exemplarSizes = [...]uint32{12, 128}

// exemplarRetry is how long to wait before asking a full backend for room again.
const exemplarRetry = 10 * time.Second

// exemplars says where the exemplars of a series are. It is immutable.
type exemplars struct {
	start func() uint64
	slots [len(exemplarSizes)]index.Block
	retry [len(exemplarSizes)]time.Time
}

// Exemplify stores an exemplar. If that is not possible, it drops the exemplar and logs why.
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
}

// makeExemplars gets slots of a size class from the backend, or returns nil if it has no room.
func (s *Series) makeExemplars(old *exemplars, class int, now time.Time) *exemplars {
	if old != nil && now.Before(old.retry[class]) {
		return nil
	}
	f := s.Family()
	made, err := s.findExemplars(class, now)
	if err != nil { // logged without a lock: a logger may count its lines
		f.Home.Log.Log(slog.LevelWarn, "exemplar room "+f.Def.Name, "exemplars are dropped: the backend has no room for them", "metric", f.Def.Name, "error", err)
		return nil
	}
	return made
}

// findExemplars does the work of makeExemplars and returns the error.
func (s *Series) findExemplars(class int, now time.Time) (*exemplars, error) {
	f := s.Family()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Home.Moves.Lock()
	at, words, labels := s.placement.Load(), s.Words(), s.storedLabels()
	f.Home.Moves.Unlock()
	if at.backend == nil {
		return nil, nil // the series itself is on no page
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
	if s.placement.Load() != at {
		return nil, err // the series has moved meanwhile
	}
	with := *at
	with.exemplars = next
	s.placement.Store(&with)
	return next, err
}

// exemplarFamily returns the auxiliary family for a size class. f.mu is held.
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

// CheckEscaped returns an error if the names of an exemplar's labels are not distinct in all
// formats.
func CheckEscaped(labels []string) error {
	if names.Classic(labels) {
		return nil
	}
	if _, clash := names.Escaped(expo.Underscores, labels); clash != "" {
		return fmt.Errorf("%w: of labels %q, two are the same, or one is __name__, to scrapers that take no other names than [a-zA-Z_][a-zA-Z0-9_]*",
			backend.ErrExemplar, labels)
	}
	return nil
}
