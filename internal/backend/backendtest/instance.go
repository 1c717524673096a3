package backendtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// patience is how long a test waits for what a backend does in its own time: machines are slow at times.
const patience = 2 * time.Minute

// request is what an instance of a backend is asked to do, here or in a child process.
type request struct {
	Do     string
	Schema string `json:",omitempty"` // in bytes, which JSON has as code points
	Help   string `json:",omitempty"`
	Labels string `json:",omitempty"` // of a series; of deletions: what they begin with
	Ops    []op   `json:",omitempty"`
	Count  int    `json:",omitempty"`
}

// reply is the answer.
type reply struct {
	Err    string   `json:",omitempty"`
	Kind   string   `json:",omitempty"` // of the error: full, limit, busy, closed
	N      int      `json:",omitempty"`
	Groups []group  `json:",omitempty"`
	Lines  []string `json:",omitempty"`
}

// group is a backend.Group as values.
type group struct {
	Schema, Name, Help string
	Aux                bool
	Series             []series
}

type series struct {
	Labels string
	Value  string   `json:",omitempty"`
	Parts  []string `json:",omitempty"` // of live instances
	Number []int    `json:",omitempty"` // of these
}

// op is an update of a word, as instruments make them. One that finds a seal is made again in the words that Cells
// then returns.
type op struct {
	Do string
	At int     `json:",omitempty"`
	N  uint64  `json:",omitempty"`
	X  float64 `json:",omitempty"`
}

// The operations.
const (
	opAdd      = "add"      // N to an integer word
	opAddFloat = "addfloat" // X to a float word
	opGauge    = "gauge"    // add X to a gauge
	opSet      = "set"      // a gauge to X
	opPut      = "put"      // an integer word of this instance to N
	opPutFloat = "putfloat" // a float word of this instance to X
	opStart    = "start"    // if there is none
	opBucket   = "bucket"   // N to the exponential bucket At; negative ones are those of negative values
	opZero     = "zero"     // N to the zero bucket
	opExemplar = "exemplar" // with value X at time N in slot At
)

// instance is a user of a backend, as a process is.
type instance struct {
	b     backend.Backend
	mu    sync.Mutex
	defs  map[string]*backend.Family // by schema and help
	twins map[*backend.Family]*backend.Family
	words map[*backend.Family]map[string]backend.Words
	epoch uint64 // of the window of quantiles; 0: nobody has said

	walking sync.Mutex
	last    []backend.Group // of Walk, and how it was
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
	case "kept": // how many of the words that are kept count
		f := i.family(q)
		i.mu.Lock()
		if w := i.words[f][q.Labels]; w != nil && !f.Sealed(w) {
			a.N = 1
		}
		i.mu.Unlock()
	case "delete":
		a.N, err = i.delete(i.family(q), q.Labels)
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
	case "many": // counts to a number, in several goroutines, over several series
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

// sync is Sync, again and again if a network is in between that loses something.
func (i *instance) sync(ctx context.Context) error {
	for {
		err := i.b.Sync(ctx)
		if err == nil || errors.Is(err, backend.ErrClosed) || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond) // it is the network's turn
	}
}

// family returns the family of a request: the same one for the same words, as programs have it.
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

// forJSON and fromJSON carry bytes that are not UTF-8.
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
		return nil, fmt.Errorf("backend: Cells of %s returns words that are sealed: an update of them would go in circles", f.Name)
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
				return fmt.Errorf("%s{%s}: the words that Cells returns are sealed again and again, though nobody deletes the series", f.Name, labels)
			}
			if w, err = i.cells(f, labels); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply makes the update; false: the word was sealed.
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

// example writes an exemplar of the series that has the words w.
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

// delete deletes as a registry does: further words first.
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

// walk returns what there is on a page.
func (i *instance) walk() (groups []group, err error) {
	i.walking.Lock()
	defer i.walking.Unlock()
	list := i.b.Walk()
	if now := outline(i.last); now != i.was {
		return nil, errors.New("what Walk has returned before has changed: it must be a snapshot, since pages take their time")
	}
	i.last, i.was = list, outline(list)
	for n, g := range list {
		f := g.Family
		if n > 0 && list[n-1].Family.Name > f.Name {
			return nil, fmt.Errorf("backend: Walk has %s after %s: groups must be in ascending order of their names", f.Name, list[n-1].Family.Name)
		}
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("backend: Walk returns a family that is not valid: %w", err)
		}
		out := group{Schema: forJSON(f.Schema()), Name: f.Name, Help: f.Help, Aux: f.Block.Role != 0}
		for m, s := range g.Series {
			if m > 0 && g.Series[m-1].Labels >= s.Labels {
				return nil, fmt.Errorf("backend: Walk has %s{%s} after {%s}: series must be in ascending order of their labels", f.Name, s.Labels, g.Series[m-1].Labels)
			}
			if _, err := f.LabelValues(s.Labels); err != nil {
				return nil, fmt.Errorf("backend: Walk: %w", err)
			}
			if f.Parts() != (g.Parts != nil) {
				return nil, fmt.Errorf("backend: Walk: %s, whose mode is %v: series have parts if the family says so, and words otherwise", f.Name, f.Mode)
			}
			switch {
			case f.Block.Role == backend.ExemplarRole:
				out.Series = append(out.Series, series{Labels: s.Labels, Value: exemplarText(f, s.Words, startOf(list, f, s.Labels))})
			case !g.Exists(m):
			case g.Parts != nil:
				out.Series = append(out.Series, partsText(f, s.Labels, g.Parts[m].List()))
			default:
				out.Series = append(out.Series, series{Labels: s.Labels, Value: valueText(f, s.Words)})
			}
		}
		groups = append(groups, out)
	}
	return groups, nil
}

// outline tells snapshots apart.
func outline(list []backend.Group) string {
	var b strings.Builder
	for _, g := range list {
		fmt.Fprintf(&b, "%s %v\n", g.Family.Name, g.Family.Kind)
		for _, s := range g.Series {
			fmt.Fprintln(&b, s.Labels)
		}
	}
	return b.String()
}

// startOf returns the start of the series that an auxiliary family's one belongs to.
func startOf(list []backend.Group, aux *backend.Family, labels string) uint64 {
	for _, g := range list {
		if aux.Aids(g.Family) {
			for i, s := range g.Series {
				if s.Labels == labels && g.Exists(i) {
					return g.Family.Start(s.Words).Load()
				}
			}
		}
	}
	return math.MaxUint64
}

func exemplarText(f *backend.Family, w backend.Words, start uint64) string {
	var list []string
	for slot := range f.ExemplarSlots() {
		if e, ok := f.ReadExemplar(w, slot, start); ok {
			list = append(list, fmt.Sprintf("%d: {%s} %v", slot, e.Labels, e.Value))
		}
	}
	return strings.Join(list, ", ")
}

func partsText(f *backend.Family, labels string, parts []backend.Part) series {
	out := series{Labels: labels}
	var tickets []uint64
	live := slices.DeleteFunc(slices.Clone(parts), func(p backend.Part) bool { return !p.Live() || f.Sealed(p.Words) })
	for _, p := range live {
		if f.Mode == backend.Latest {
			tickets = append(tickets, p.Words[backend.GaugeTicket].Load())
		}
		out.Number = append(out.Number, p.Instance.Number)
	}
	slices.Sort(tickets)
	for _, p := range live {
		text := valueText(f, p.Words)
		if f.Mode == backend.Latest { // which one it is, of those that were ever set
			if t := p.Words[backend.GaugeTicket].Load(); t != 0 {
				text += fmt.Sprint(" before ", len(tickets)-1-slices.Index(tickets, t))
			}
		}
		out.Parts = append(out.Parts, text)
	}
	slices.Sort(out.Parts)
	return out
}

// valueText returns what words say: integers, floats, and exponential buckets.
func valueText(f *backend.Family, w backend.Words) string {
	seals := make(backend.Words, len(w)) // tell which words are what
	f.Seal(seals)
	block := f.BucketBlock(w)
	var b strings.Builder
	for i := range len(w) - len(block) {
		v := w[i].Load()
		switch seal := seals[i].Load(); {
		case seal == backend.SealedFloat && v == seal, seal == backend.SealedInt && v >= seal:
			fmt.Fprint(&b, " sealed")
		case seal == backend.SealedFloat:
			fmt.Fprintf(&b, " %v", math.Float64frombits(v))
		case seal == backend.SealedInt:
			fmt.Fprintf(&b, " %d", v)
		case i == backend.GaugeFlags && f.Parts():
			fmt.Fprintf(&b, " joined:%v", v&backend.GaugeJoined != 0)
		}
	}
	if block != nil {
		view := viewOf(f, w)
		buckets, zeros := view.Append(nil)
		buckets, more := sparse.Coarsen(buckets, f.PerDoubling(), view.Coarse())
		fmt.Fprintf(&b, " zeros:%d", zeros+more)
		for _, k := range buckets {
			sign := int32(1)
			if k.Negative {
				sign = -1
			}
			fmt.Fprintf(&b, " %d:%d", sign*k.Index, k.Count)
		}
	}
	return strings.TrimSpace(b.String())
}

// Worker makes a test binary a process of its own that has opened a backend, if TestBackend has started it as
// one; otherwise it does nothing. TestMain calls it first, with the Open of its [Backends]:
//
//	func TestMain(m *testing.M) {
//		backendtest.Worker(backends.Open)
//		os.Exit(m.Run())
//	}
func Worker(open func(place string) (backend.Backend, error)) {
	place := os.Getenv(workerEnv)
	if place == "" {
		return
	}
	b, err := open(place)
	if err != nil {
		json.NewEncoder(os.Stdout).Encode(reply{Err: err.Error()})
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(reply{})
	serve(newInstance(b), os.Stdin, os.Stdout)
	os.Exit(0)
}

const workerEnv = "GOTHEUS_BACKENDTEST_PLACE"

func serve(i *instance, in io.Reader, out io.Writer) {
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if requests.Decode(&q) != nil {
			return
		}
		if q.Do == "count" { // until somebody kills this process
			f := i.family(q)
			for n := 1; ; n++ {
				fmt.Fprintln(out, "counts", 10*n) // before, so that there is no count that nobody knows of
				if i.many(f, 10) == nil && i.b.Flush(context.Background()) == nil {
					fmt.Fprintln(out, "acknowledged", 10*n)
				}
			}
		}
		replies.Encode(i.do(q))
	}
}

// peer is an instance, in this or another process.
type peer struct {
	t    testing.TB
	name string
	here *instance
	die  func(backend.Backend)
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	over bool
}

// start opens a backend, in a child process if child is set.
func (o *Backends) start(t testing.TB, place, name string, child bool) *peer {
	t.Helper()
	p := &peer{t: t, name: name, die: o.Die}
	if !child {
		b, err := o.Open(place)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		p.here = newInstance(b)
	} else {
		p.cmd = exec.Command(os.Args[0])
		p.cmd.Env = append(os.Environ(), workerEnv+"="+place, "GORACE=atexit_sleep_ms=0")
		p.cmd.Stderr = os.Stderr
		out, err := p.cmd.StdoutPipe()
		if err == nil {
			p.in, err = p.cmd.StdinPipe()
		}
		if err == nil {
			err = p.cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		p.out = bufio.NewReader(out)
		if a := p.answer(); a.Err != "" {
			t.Fatalf("Open in a child process: %s", a.Err)
		}
	}
	t.Cleanup(func() {
		if !p.over {
			p.end()
		}
	})
	return p
}

func (p *peer) answer() (a reply) {
	p.t.Helper()
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		p.t.Fatalf("%s: the child process has answered %q, %v: does TestMain call backendtest.Worker first?", p.name, line, err)
	}
	return a
}

// ask has something done, and returns an error as the backend has.
func (p *peer) ask(q request) reply {
	p.t.Helper()
	if p.here != nil {
		return p.here.do(q)
	}
	if err := json.NewEncoder(p.in).Encode(q); err != nil {
		p.t.Fatal(err)
	}
	return p.answer()
}

// must is ask for what may not fail.
func (p *peer) must(q request) reply {
	p.t.Helper()
	a := p.ask(q)
	if a.Err != "" {
		p.t.Fatalf("%s: %s: %s", p.name, q.Do, a.Err)
	}
	return a
}

// end closes the backend, in good order.
func (p *peer) end() {
	p.t.Helper()
	p.over = true
	a := p.ask(request{Do: "close"})
	if p.cmd != nil {
		p.in.Close()
		p.cmd.Wait()
	}
	if a.Err != "" {
		p.t.Errorf("%s: Close: %s", p.name, a.Err)
	}
}

// kill ends it without any.
func (p *peer) kill() {
	p.over = true
	if p.here != nil {
		p.die(p.here.b)
		return
	}
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func mustJSON(q request) string {
	b, err := json.Marshal(q)
	if err != nil {
		panic(err)
	}
	return string(b)
}
