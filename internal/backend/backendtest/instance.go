package backendtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// request is an operation for an instance, in this or a child process.
type request struct {
	Do     string
	Schema string `json:",omitempty"` // bytes, encoded as code points for JSON
	Help   string `json:",omitempty"`
	Labels string `json:",omitempty"` // of a series; a prefix for deletions
	Ops    []op   `json:",omitempty"`
	Count  int    `json:",omitempty"`
}

// reply is the result of a request.
type reply struct {
	Err    string   `json:",omitempty"`
	Kind   string   `json:",omitempty"` // of the error: full, limit, busy, closed
	N      int      `json:",omitempty"`
	Groups []group  `json:",omitempty"`
	Lines  []string `json:",omitempty"`
}

// group is a backend.Group with values in place of words.
type group struct {
	Schema, Name, Help string
	Aux                bool
	Series             []series
}

type series struct {
	Labels string
	Value  string   `json:",omitempty"`
	Parts  []string `json:",omitempty"` // of live instances
	Number []int    `json:",omitempty"` // their numbers
}

// op is an update of a word, as instruments make them. If it finds a seal, it is repeated on the
// words that Cells then returns.
type op struct {
	Do string
	At int     `json:",omitempty"`
	N  uint64  `json:",omitempty"`
	X  float64 `json:",omitempty"`
}

// Operations.
const (
	opAdd      = "add"      // add N to an integer word
	opAddFloat = "addfloat" // add X to a float word
	opGauge    = "gauge"    // add X to a gauge
	opSet      = "set"      // set a gauge to X
	opPut      = "put"      // set an integer word of this instance to N
	opPutFloat = "putfloat" // set a float word of this instance to X
	opStart    = "start"    // set the start if there is none
	// add N to exponential bucket At; negative ones are for negative values
	opBucket   = "bucket"
	opZero     = "zero"     // add N to the zero bucket
	opExemplar = "exemplar" // write an exemplar with value X and time N to slot At
)

// instance uses a backend like a process does.
type instance struct {
	b     backend.Backend
	mu    sync.Mutex
	defs  map[string]*backend.Family // by schema and help
	twins map[*backend.Family]*backend.Family
	words map[*backend.Family]map[string]backend.Words
	epoch uint64 // of the window of quantiles; 0 if not set

	walking sync.Mutex
	last    []backend.Group // last result of Walk, and its outline
	was     string
}

func newInstance(b backend.Backend) *instance {
	return &instance{
		b: b, defs: make(map[string]*backend.Family), twins: make(map[*backend.Family]*backend.Family),
		words: make(map[*backend.Family]map[string]backend.Words),
	}
}

func (i *instance) do(q request) (a reply) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch q.Do {
	case "declare":
		err = i.b.Declare(i.family(q))
	case "cells":
		_, err = i.cells(i.family(q), q.Labels)
	case "update":
		err = i.update(i.family(q), q.Labels, q.Ops)
	case "kept": // how many of the kept words are not sealed
		f := i.family(q)
		i.mu.Lock()
		if w := i.words[f][q.Labels]; w != nil && !f.Sealed(w) {
			a.N = 1
		}
		i.mu.Unlock()
	case "delete":
		a.N, err = i.delete(i.family(q), q.Labels)
	case "delete one":
		a.N, err = i.deleteOne(i.family(q), q.Labels)
	case "sync":
		err = i.sync(ctx)
	case "walk":
		a.Groups, err = i.walk()
	case "flush":
		err = i.b.Flush(ctx)
	case "close":
		err = i.b.Close(ctx)
	case "number":
		a.N = -1
		if n, ok := i.b.(backend.Numbered); ok {
			a.N = n.Number()
		}
	case "epoch":
		i.begin(q.Count)
	case "window":
		a.Lines = i.window(i.family(q), q.Labels, q.Count)
	case "many": // add up to a number, from several goroutines to several series
		err = i.many(i.family(q), q.Count)
	default:
		err = fmt.Errorf("unknown request %q", q.Do)
	}
	if err != nil {
		a.Err = err.Error()
		for kind, is := range errorKinds {
			if errors.Is(err, is) {
				a.Kind += kind + " "
			}
		}
	}
	return a
}

var errorKinds = map[string]error{"full": backend.ErrFull, "limit": backend.ErrLimit, "closed": backend.ErrClosed}

// sync calls Sync, repeatedly if a faulty network is involved.
func (i *instance) sync(ctx context.Context) error {
	for {
		err := i.b.Sync(ctx)
		if err == nil || errors.Is(err, backend.ErrClosed) || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond) // between attempts; ctx is the deadline
	}
}

// family returns the family of a request: the same pointer for the same definition, as in programs.
func (i *instance) family(q request) *backend.Family {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.defs[q.Schema+q.Help]
	if f == nil {
		var err error
		if f, err = backend.ParseSchema(fromJSON(q.Schema)); err != nil {
			panic(err)
		}
		f.Help = q.Help
		twin := *f
		i.defs[q.Schema+q.Help], i.twins[f] = f, &twin
		i.words[f] = make(map[string]backend.Words)
	}
	return f
}

// forJSON and fromJSON convert bytes that are not UTF-8.
func forJSON(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func fromJSON(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func (i *instance) cells(f *backend.Family, labels string) (backend.Words, error) {
	w, err := i.b.Cells(f, labels)
	switch {
	case err != nil:
		return nil, err
	case len(w) != f.Words():
		return nil, fmt.Errorf("backend: Cells of %s returns %d words, but Family.Words says %d", f.Name, len(w), f.Words())
	case f.Block.Role != backend.ExemplarRole && f.Sealed(w):
		return nil, fmt.Errorf("backend: Cells of %s returns sealed words: an update would be repeated for ever", f.Name)
	}
	i.mu.Lock()
	twin := i.twins[f]
	i.mu.Unlock()
	again, err := i.b.Cells(twin, labels)
	if err != nil || &again[0] != &w[0] {
		return nil, fmt.Errorf("two calls of Cells for %s{%s} in one process, with equal families, return different words (%v): two instruments of one series would not see the other's Value", f.Name, labels, err)
	}
	i.mu.Lock()
	i.words[f][labels] = w
	i.advance(f, w)
	i.mu.Unlock()
	return w, nil
}

func (i *instance) update(f *backend.Family, labels string, ops []op) (err error) {
	i.mu.Lock()
	w := i.words[f][labels]
	i.mu.Unlock()
	for _, o := range ops {
		if o.Do == opExemplar {
			if err := i.example(f, labels, w, o); err != nil {
				return err
			}
			continue
		}
		for tries := 0; w == nil || !o.apply(f, w, i.b.Tickets()); tries++ {
			if tries == 10 {
				return fmt.Errorf("%s{%s}: the words that Cells returns are sealed repeatedly, though nobody deletes the series", f.Name, labels)
			}
			if w, err = i.cells(f, labels); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply makes the update. It returns false if the word was sealed.
func (o op) apply(f *backend.Family, w backend.Words, tickets *atomic.Uint64) bool {
	switch o.Do {
	case opAdd:
		return w[o.At].Add(o.N) < backend.SealedInt
	case opAddFloat:
		return addFloat(&w[o.At], o.X)
	case opGauge, opSet:
		if o.Do == opSet {
			w[backend.GaugeFlags].Or(backend.GaugeIsSet)
			if !replace(&w[backend.GaugeValue], math.Float64bits(o.X)) {
				return false
			}
		} else if !addFloat(&w[backend.GaugeValue], o.X) {
			return false
		}
		if f.Parts() {
			w[backend.GaugeFlags].Or(backend.GaugeJoined)
			if f.Mode == backend.Latest {
				w[backend.GaugeTicket].Store(tickets.Add(1))
			}
		}
		return true
	case opPut:
		return w[o.At].Swap(o.N) < backend.SealedInt
	case opPutFloat:
		return w[o.At].Swap(math.Float64bits(o.X)) != backend.SealedFloat
	case opStart:
		f.Start(w).CompareAndSwap(0, o.N)
		return f.Start(w).Load() < backend.SealedInt
	case opBucket, opZero:
		block := viewOf(f, w)
		count := block.Zero()
		if o.Do == opBucket {
			if count = block.Find(int32(max(o.At, -o.At)), o.At < 0); count == nil {
				panic("the test uses more buckets than a block has")
			}
		}
		return count.Add(o.N) < backend.SealedInt
	}
	panic("unknown operation " + o.Do)
}

// example writes an exemplar of the series with words w.
func (i *instance) example(f *backend.Family, labels string, w backend.Words, o op) error {
	aux := i.family(request{Schema: forJSON(exemplars(f).Schema()), Help: f.Help})
	words, err := i.b.Cells(aux, labels)
	if err != nil {
		return err
	}
	if !aux.WriteExemplar(words, o.At, f.Start(w).Load(), &backend.Exemplar{Labels: fmt.Sprintf(`n="%d"`, o.N), Value: o.X, Time: int64(o.N)}) {
		return fmt.Errorf("an exemplar of %s{%s} cannot be written", f.Name, labels)
	}
	return nil
}

func exemplars(f *backend.Family) *backend.Family {
	return f.With(backend.Block{Role: backend.ExemplarRole, Size: 4})
}

func addFloat(w *atomic.Uint64, x float64) bool {
	for old := w.Load(); old != backend.SealedFloat; old = w.Load() {
		if w.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+x)) {
			return true
		}
	}
	return false
}

func replace(w *atomic.Uint64, v uint64) bool {
	for old := w.Load(); old != backend.SealedFloat; old = w.Load() {
		if w.CompareAndSwap(old, v) {
			return true
		}
	}
	return false
}

// delete deletes series as a registry does: from auxiliary families first.
func (i *instance) delete(f *backend.Family, prefix string) (int, error) {
	match := func(labels string) bool { return strings.HasPrefix(labels, prefix) }
	for _, g := range i.b.Walk() {
		if g.Family.Aids(f) {
			if _, err := i.b.Delete(g.Family, match); err != nil {
				return 0, err
			}
		}
	}
	return i.b.Delete(f, match)
}

// deleteOne deletes the series with this label text as a registry does, and returns how many there
// were.
func (i *instance) deleteOne(f *backend.Family, labels string) (n int, err error) {
	for _, aid := range i.b.Aids(f) {
		if _, err := i.b.DeleteSeries(aid, labels); err != nil {
			return 0, err
		}
	}
	was, err := i.b.DeleteSeries(f, labels)
	if was {
		n = 1
	}
	return n, err
}

const manySeries = 50

// many adds 1 to one of manySeries counters, n times.
func (i *instance) many(f *backend.Family, n int) error {
	const workers = 4
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for k := w; k < n && errs[w] == nil; k += workers {
				var words backend.Words
				words, errs[w] = i.b.Cells(f, fmt.Sprintf(`x="%d"`, k%manySeries))
				if errs[w] == nil && words[backend.CounterInt].Add(1) >= backend.SealedInt {
					errs[w] = errors.New("backend: Cells has returned sealed words, though nobody deletes")
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
