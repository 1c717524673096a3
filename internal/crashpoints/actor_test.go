//go:build linux && (386 || amd64 || arm64)

package crashpoints_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/internal/crashpoints/point"
)

// actor uses a backend as programs do: it keeps the words of series, and asks for them again if it
// finds them sealed.
type actor struct {
	path string
	b    *shm.Backend
	kept map[string]backend.Words
}

// do makes a step. It returns false if the step had no effect, as that of an exemplar whose slot
// another process is writing to.
func (a *actor) do(p *step) (bool, error) {
	ctx := context.Background()
	switch p.do {
	case doOpen:
		o := p.options
		o.AnyFileSystem = true
		if o.Limit == 0 {
			o.Limit = 8 << 20
		}
		b, err := shm.Open(a.path, &o)
		a.b, a.kept = b, make(map[string]backend.Words)
		return true, err
	case doClose:
		return true, a.b.Close(ctx)
	case doDeclare:
		return true, a.b.Declare(p.family)
	case doReclaim:
		a.reclaim()
		return true, nil
	case doDelete: // as a registry does it: from auxiliary families first
		match := func(labels string) bool { return strings.HasPrefix(labels, p.labels) }
		if err := a.b.Sync(ctx); err != nil {
			return false, err
		}
		defer a.b.Enter()()
		for _, g := range a.b.Walk() {
			if g.Family.Aids(p.family) {
				if _, err := a.b.Delete(g.Family, match); err != nil {
					return false, err
				}
			}
		}
		_, err := a.b.Delete(p.family, match)
		return true, errors.Join(err, a.b.Declare(p.family))
	case doDie:
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return a.update(p)
}

// reclaim drops the words of deleted series, whose space serves others then.
func (a *actor) reclaim() {
	a.b.Reclaim(func(list []backend.Retired) {
		for i := range list {
			maps.DeleteFunc(a.kept, func(_ string, w backend.Words) bool { return slices.Contains(list[i].Words, &w[0]) })
		}
	})
}

func (a *actor) update(p *step) (bool, error) {
	f := p.family
	for range 10 {
		w, err := a.words(f, p.labels, false)
		if err != nil {
			return false, err
		}
		if start := f.Start(w); start != nil {
			start.CompareAndSwap(0, p.start())
			if start.Load() >= backend.SealedInt {
				_, err = a.words(f, p.labels, true)
				if err != nil {
					return false, err
				}
				continue
			}
		}
		counted := false
		switch p.do {
		case doAdvance:
			view := f.View(w)
			view.Advance(p.n)
			return true, nil
		case doExemplar:
			e := f.With(backend.Block{Role: backend.ExemplarRole, Size: 4})
			own, err := a.words(e, p.labels, false)
			if err != nil {
				return false, err
			}
			at := int64(p.n) * 2e9 // later ones may replace the claims of earlier ones
			return e.WriteExemplar(own, p.word, f.Start(w).Load(), &backend.Exemplar{Labels: fmt.Sprintf(`n="%d"`, p.n), Value: float64(p.n), Time: at}), nil
		case doBucket:
			view := f.View(w)
			count := view.Find(int32(p.word), false)
			if count == nil {
				g := f.With(backend.Block{Role: backend.BucketRole, Size: 64})
				if w, err = a.words(g, p.labels, false); err != nil {
					return false, err
				}
				view = g.View(w)
				if count = view.Find(int32(p.word), false); count == nil {
					return false, errors.New("the further block is full")
				}
				if counted = count.Add(p.n) < backend.SealedInt; !counted {
					_, err = a.words(g, p.labels, true)
				}
				break
			}
			counted = count.Add(p.n) < backend.SealedInt
		default:
			if float, _ := isFloat(f, p.word); float {
				counted = addFloat(&w[p.word], float64(p.n))
			} else {
				counted = w[p.word].Add(p.n) < backend.SealedInt
			}
		}
		if counted || err != nil {
			return counted, err
		}
		if _, err = a.words(f, p.labels, true); err != nil {
			return false, err
		}
	}
	return false, fmt.Errorf("%v: the words that Cells returns are sealed again and again", p)
}

// words returns the words of a series: those that it was given before, unless again is set.
func (a *actor) words(f *backend.Family, labels string, again bool) (backend.Words, error) {
	key := seriesKey(f, labels)
	if w := a.kept[key]; w != nil && !again {
		return w, nil
	}
	w, err := a.b.Cells(f, labels)
	if err == nil {
		a.kept[key] = w
	}
	return w, err
}

func addFloat(w *atomic.Uint64, x float64) bool {
	for old := w.Load(); old != backend.SealedFloat; old = w.Load() {
		if w.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+x)) {
			return true
		}
	}
	return false
}

func (a *actor) observe() (state, error) {
	if err := a.b.Sync(context.Background()); err != nil {
		return nil, err
	}
	defer a.b.Enter()()
	return observe(a.b.Walk()), nil
}

// acks is where a child process says what it has done. It is in a file of its own, which survives
// it.
type acks struct {
	steps  atomic.Int64 // how many have returned
	number atomic.Int64 // of its present instance, plus 1; 0: none
	points atomic.Int64 // how many points it has executed in all
}

// The variables that tell a child process what to do.
const (
	historyEnv = "GOTHEUS_CRASH_HISTORY" // number of the history, negative for its setup
	fileEnv    = "GOTHEUS_CRASH_FILE"
	acksEnv    = "GOTHEUS_CRASH_ACKS"
	chunkEnv   = "GOTHEUS_CRASH_CHUNK" // runs histories, see runChunk
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(historyEnv) != "":
		child()
	case os.Getenv(chunkEnv) != "":
		runChunk()
	default:
		os.Exit(m.Run())
	}
}

// child is the main function of the process that is killed or stopped.
func child() {
	fail := func(v ...any) {
		fmt.Fprintln(os.Stderr, v...)
		os.Exit(3)
	}
	n, err := strconv.Atoi(os.Getenv(historyEnv))
	if err != nil {
		fail(err)
	}
	mine, err := backendtest.MapFile[acks](os.Getenv(acksEnv))
	if err != nil {
		fail(err)
	}
	steps := histories()[max(n, -n)-1].steps
	if n < 0 {
		steps = histories()[-n-1].setup
	}
	a := &actor{path: os.Getenv(fileEnv)}
	for i := range steps {
		p := &steps[i]
		ok, err := a.do(p)
		if err != nil || !ok {
			fail("step", i, p, ok, err)
		}
		switch p.do {
		case doOpen:
			mine.number.Store(int64(a.b.Number()) + 1)
		case doClose:
			mine.number.Store(0)
		}
		mine.steps.Store(int64(i) + 1)
	}
	mine.points.Store(point.Executed())
	fmt.Fprintln(os.Stderr, strings.Join(point.Reached(), "\n"))
}
