package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// values returns what a process that knows nothing reads of a counter's series, and how many heads there are besides
// meta and base.
func values(t *testing.T, of *backendtest.Memory) (n map[string]uint64, instances int) {
	t.Helper()
	mem := new(backendtest.Memory) // a copy, which it joins
	mem.Restore(of.Snapshot())
	heads, err := mem.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name := range heads {
		if name[0] == 'i' {
			instances++
		}
	}
	s := syncer.NewManual(mem, store.Options{}, time.Now)
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = make(map[string]uint64)
	for _, g := range s.Walk() {
		for _, row := range g.Series {
			n[row.Labels] = row.Words[backend.CounterInt].Load()
		}
	}
	return n, instances
}

// Six hours without a store: a log line a minute at most, attempts that back off and are not in step, and no more
// memory, however much is counted. Then everything arrives.
func TestOutage(t *testing.T) { // not parallel: it looks at the heap
	synctest.Test(t, func(t *testing.T) {
		var (
			mem      = new(backendtest.Memory)
			mu       sync.Mutex
			attempts []time.Time
			down     = false
			log      lineCount
		)
		net := &backendtest.Faulty{Store: mem, Next: func() backendtest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if !down {
				return backendtest.None
			}
			attempts = append(attempts, time.Now())
			return backendtest.LoseRequest
		}}
		s := newSyncer(t, net, &store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		var words []backend.Words
		for i := range 100 {
			w, err := s.Cells(counter, fmt.Sprintf(`x="%d"`, i))
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, w)
		}
		total := uint64(0)
		count := func(d time.Duration) {
			for range d / time.Second {
				for _, w := range words {
					w[backend.CounterInt].Add(1000)
				}
				total += 1000
				time.Sleep(time.Second)
			}
		}
		count(time.Minute)
		mu.Lock()
		attempts, down = make([]time.Time, 0, 20_000), true
		mu.Unlock()
		count(time.Hour)
		if n := log.Swap(0); n == 0 || n > 61 {
			t.Errorf("%d log lines in an hour", n)
		}
		before := heapSize()
		count(5 * time.Hour)
		if grown := heapSize() - before; grown > 64<<10 {
			t.Errorf("five hours without a store take %d bytes", grown)
		}
		if n := log.Swap(0); n == 0 || n > 301 {
			t.Errorf("%d log lines in five hours", n)
		}
		mu.Lock()
		tried := attempts
		down = false
		mu.Unlock()
		const most = 2500 * time.Millisecond // a quarter of Alive
		gaps := make(map[time.Duration]bool)
		for i := range tried[1:] {
			gap := tried[i+1].Sub(tried[i])
			gaps[gap] = true
			if gap < 500*time.Millisecond*7/8 || gap > most*9/8 {
				t.Fatalf("attempt %d after %v", i+1, gap)
			}
			if i > 5 && gap < most*7/8 {
				t.Fatalf("attempt %d after %v: no back-off", i+1, gap)
			}
		}
		if len(gaps) < len(tried)/2 {
			t.Errorf("%d attempts at %d different distances", len(tried), len(gaps))
		}
		if w, lag := s.Unpublished(); w != len(words) || lag < 6*time.Hour {
			t.Errorf("%d words unpublished for %v", w, lag)
		}
		time.Sleep(2 * most)
		n, _ := values(t, mem)
		for i := range words {
			if got := n[fmt.Sprintf(`x="%d"`, i)]; got != total {
				t.Fatalf("series %d is %d, of %d", i, got, total)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// lineCount counts what is written, line by line.
type lineCount struct{ atomic.Int64 }

func (l *lineCount) Write(b []byte) (int, error) {
	l.Add(int64(bytes.Count(b, []byte("\n"))))
	return len(b), nil
}

func heapSize() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A short job that closes leaves its counts for good, and nothing else, whichever of the calls that this takes fails,
// and however.
func TestCloseLeavesAll(t *testing.T) {
	t.Parallel()
	faults := []backendtest.Fault{backendtest.LoseRequest, backendtest.LoseReply, backendtest.Duplicate, backendtest.Late, backendtest.Hang}
	for _, fault := range faults {
		for at, more := 0, true; more; at++ {
			synctest.Test(t, func(t *testing.T) {
				mem := new(backendtest.Memory)
				calls := 0
				net := &backendtest.Faulty{Store: mem, Next: func() backendtest.Fault {
					if calls++; calls == at+1 {
						return fault
					}
					return backendtest.None
				}}
				s := newSyncer(t, net, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
				w, err := s.Cells(counter, `x="job"`)
				if err != nil {
					t.Fatal(err)
				}
				w[backend.CounterInt].Add(7)
				if err := s.Close(t.Context()); err != nil {
					t.Errorf("fault %d in call %d: %v", fault, at, err)
				}
				check := func(when string) {
					t.Helper()
					if n, instances := values(t, mem); n[`x="job"`] != 7 || instances != 0 {
						t.Errorf("fault %d in call %d, %s: %v, and %d instances", fault, at, when, n, instances)
					}
				}
				check("closed")
				net.Arrive(t.Context())
				check("when what was late has arrived")
				more = calls > at
			})
			if at > 50 {
				t.Fatal("Close takes more than 50 calls")
			}
		}
	}
}

// Close ends with its context, though a Flush without an end is waiting for a store that hangs.
func TestCloseDuringFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := &backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault { return backendtest.Hang }}
		s := newSyncer(t, net, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
		flushed := make(chan error)
		go func() { flushed <- s.Flush(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := s.Close(ctx); err == nil {
			t.Error("Close says that all is in a store that hangs")
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-flushed; !errors.Is(err, backend.ErrClosed) {
			t.Errorf("Flush of a store that hangs, ended by Close: %v", err)
		}
		for range 1000 { // whichever of two reasons it meets first
			if err := s.Flush(t.Context()); !errors.Is(err, backend.ErrClosed) {
				t.Fatalf("Flush after Close: %v", err)
			}
		}
	})
}

// Two processes fold the same dead instance at the same time: it counts once, wherever one comes in between the other's
// calls, and whatever happens to the call.
func TestTwoFold(t *testing.T) {
	t.Parallel()
	for fault := backendtest.None; fault <= backendtest.Late; fault++ {
		for at, more := 0, true; more; at++ {
			m := newSim(t, 1)
			a, b, dead := m.start(), m.start(), m.start()
			for i := range 300 { // two parts
				dead.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Add(uint64(i))
			}
			m.publish()
			m.procs = slices.Delete(m.procs, 2, 3)
			for range 16 { // both watch it
				for _, p := range []*proc{a, b} {
					if err := p.s.Publish(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				m.now = m.now.Add(time.Second)
				if m.now.Sub(time.Unix(1e9, 0)) < 15*time.Second {
					for _, p := range []*proc{a, b} {
						p.s.Maintain(t.Context())
					}
				}
			}
			calls := 0
			a.net.Next = func() backendtest.Fault {
				if calls++; calls == at+1 {
					if err := b.s.Maintain(context.Background()); err != nil {
						t.Fatal(err)
					}
					return fault
				}
				return backendtest.None
			}
			a.s.Maintain(t.Context())
			more = calls > at
			a.net.Next = func() backendtest.Fault { return backendtest.None }
			a.net.Arrive(t.Context())
			for _, p := range []*proc{a, b} {
				p.show(counter, "")
				for _, g := range p.s.Walk() {
					for _, s := range g.Series {
						if want := strings.Trim(strings.TrimPrefix(s.Labels, "x="), `"`); fmt.Sprint(s.Words[0].Load()) != want {
							t.Fatalf("call %d, fault %d: %s shows %s as %d", at, fault, p.name, s.Labels, s.Words[0].Load())
						}
					}
					if len(g.Series) != 300 {
						t.Fatalf("call %d, fault %d: %d series", at, fault, len(g.Series))
					}
				}
			}
			heads, _ := m.store.Heads(t.Context())
			live, folded := 0, 0
			for name := range heads {
				switch name[0] {
				case 'i':
					live++
				case 'x':
					folded++
				}
			}
			if live != 2 || folded != 1 {
				t.Fatalf("call %d, fault %d: %d live and %d folded instances", at, fault, live, folded)
			}
			if at > 20 {
				t.Fatal("folding takes more than 20 calls")
			}
		}
	}
}

// A process is paused and folded, the store goes back to before that, and the process publishes again before somebody
// restores the base that has what it had published then: that counts once, wherever the store has gone back to.
func TestFoldedBeforeTheStoreWentBack(t *testing.T) {
	t.Parallel()
	for at := range 3 {
		m := newSim(t, 1)
		a, b := m.start(), m.start()
		const labels = `x="1"`
		b.words(counter, labels)[backend.CounterInt].Add(100)
		if err := b.s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		states := []backendtest.Snapshot{m.store.Snapshot()} // the directory has all, and a is not there yet
		own := a.words(counter, labels)
		for range 2 {
			own[backend.CounterInt].Add(10)
			if err := a.s.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			states = append(states, m.store.Snapshot())
		}
		for range 30 {
			if err := b.s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.now = m.now.Add(time.Second)
		}
		heads, err := m.store.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if folded := slices.ContainsFunc(slices.Collect(maps.Keys(heads)), func(name string) bool { return name[0] == 'x' }); !folded {
			t.Fatal("a was not folded")
		}
		m.store.Restore(states[at])
		for range 2 {
			own[backend.CounterInt].Add(1)
			if err := a.s.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			for _, p := range []*proc{b, a} {
				if err := p.s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			m.now = m.now.Add(time.Second)
		}
		for _, p := range m.procs {
			if n := p.show(counter, labels)[backend.CounterInt].Load(); n != 122 {
				t.Errorf("back to state %d: %s shows %d, of 122", at, p.name, n)
			}
		}
	}
}

// A store loses everything, and a process is killed while it publishes again: what a survivor had read of it is not
// forgotten for a part of it.
func TestKilledWhilePublishingAgain(t *testing.T) {
	t.Parallel()
	const series = 600 // three parts
	for lost := 1; lost < 20; lost++ {
		m := newSim(t, 1)
		a, b := m.start(), m.start()
		a.s.SetPiece(1)
		for i := range series {
			a.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Store(1)
		}
		m.publish()
		if b.show(counter, `x="0"`) == nil {
			t.Fatal("b has not read what a has published")
		}
		m.store.Restore(backendtest.Snapshot{})
		m.now = m.now.Add(3 * time.Second)
		calls := 0
		a.net.Next = func() backendtest.Fault {
			if calls++; calls >= lost {
				return backendtest.LoseRequest
			}
			return backendtest.None
		}
		published := a.s.Publish(t.Context()) == nil
		m.procs = m.procs[1:]
		for range 20 {
			if err := b.s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.now = m.now.Add(2 * time.Second)
		}
		if n, instances := values(t, m.store); len(n) != series || instances != 1 {
			t.Errorf("a was killed in call %d of its publication: %d series are left, and %d instances", lost, len(n), instances)
		}
		if published {
			return
		}
	}
	t.Error("a has not published again in 20 calls")
}

// Processes list thousands of series, in many pieces, while others list the same and more come to be: each is listed once.
func TestListedTogether(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	const series = 5000
	count := func(p *proc, from, to int) {
		for i := from; i < to; i++ {
			p.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Store(1)
		}
	}
	count(a, 0, series-300)
	count(b, 0, 10)
	calls, more := 0, 10
	a.net.Next = func() backendtest.Fault {
		if calls++; calls%3 == 0 && more+300 < series {
			count(b, series-more-300, series-more) // the last first
			more += 300
			if err := b.s.Publish(context.Background()); err != nil {
				t.Error(err)
			}
			count(a, series-20*calls, series-20*calls+20)
		}
		return backendtest.None
	}
	a.s.Publish(t.Context()) // others may have been too fast
	a.net.Next = nil
	count(a, 0, series)
	count(b, 0, series)
	m.publish()
	n, _ := values(t, m.store)
	for i := range series {
		if labels := fmt.Sprintf("x=%q", fmt.Sprint(i)); n[labels] != 2 {
			t.Fatalf("%s is %d", labels, n[labels])
		}
	}
	if listed := a.s.Listed(); len(n) != series || listed != series {
		t.Errorf("%d series, of which %d are listed", len(n), listed)
	}
}

// A process has set a gauge, reads the heads for that, and finds that the store has lost everything: what it publishes
// then is all it has, not what others happen to have listed already.
func TestLossFoundBySet(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	b.words(counter, `x="1"`)[backend.CounterInt].Store(1)
	for i := range 10 {
		a.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Store(1)
	}
	w := a.words(shared, "")
	m.publish()
	b.show(counter, "")
	m.store.Restore(backendtest.Snapshot{})
	m.procs = []*proc{b}
	m.publish()
	w[backend.GaugeFlags].Or(backend.GaugeIsSet)
	w[backend.GaugeValue].Store(math.Float64bits(3))
	if err := a.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 { // a is dead
		if err := b.s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.now = m.now.Add(2 * time.Second)
	}
	if n, instances := values(t, m.store); len(n) != 11 || n[`x="1"`] != 2 || instances != 1 { // ten, and the gauge
		t.Errorf("%v are left, and %d instances", n, instances)
	}
}

// The first of many publications arrives when the process has given it up: the process takes over what the store has
// counted it in as.
func TestJoinedLate(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	if err := b.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.words(counter, `x="1"`)[backend.CounterInt].Store(1)
	if err := a.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := m.start()
	c.words(counter, `x="1"`)[backend.CounterInt].Store(1)
	if err := c.s.Maintain(t.Context()); err != nil { // knows the store, and has nothing to do but to publish
		t.Fatal(err)
	}
	calls := 0
	c.net.Next = func() backendtest.Fault {
		if calls++; calls%2 == 1 { // commits; between them it reads the heads
			return backendtest.Late
		}
		return backendtest.None
	}
	for range 20 {
		if c.s.Publish(t.Context()) == nil {
			t.Fatal("it was not late")
		}
	}
	c.net.Next = nil
	c.net.Arrive(t.Context())
	if err := c.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.s.Joined() <= a.s.Joined() {
		t.Errorf("it has joined as number %d, after %d", c.s.Joined(), a.s.Joined())
	}
}
