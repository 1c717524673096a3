package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// calling is a store that calls a function before each call.
type calling struct {
	store.Store
	call func()
}

func (c *calling) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	c.call()
	return c.Store.Heads(ctx, names)
}

func (c *calling) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	c.call()
	return c.Store.Get(ctx, keys)
}

func (c *calling) Commit(ctx context.Context, commit *store.Commit) error {
	c.call()
	return c.Store.Commit(ctx, commit)
}

// newcomerSum returns the sum of the counters on the page of a new process, and how many there are.
func newcomerSum(t *testing.T, m *backendtest.Memory, now func() time.Time) (sum uint64, n int) {
	t.Helper()
	s := syncer.NewManual(m, store.Options{Alive: alive}, now)
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, g := range s.Walk() {
		if g.Family.Name != counter.Name {
			continue
		}
		for _, row := range g.Series {
			if !counter.Sealed(row.Words) {
				sum, n = sum+row.Words[backend.CounterInt].Load(), n+1
			}
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sum, n
}

// While two processes publish, read, lose everything, delete and close, whatever they are doing
// with the store, new label sets are looked up in both, counted and deleted, and nothing that the
// program calls waits for the store. In the end, all that was counted is on a page.
func TestCallsMeanwhile(t *testing.T) {
	t.Parallel()
	const series = 3000
	var mu sync.Mutex // reads and commits may be concurrent
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	m := &backendtest.Memory{Now: clock}
	rnd := rand.New(rand.NewPCG(1, 1))
	var all []*syncer.Syncer
	made, want, closed := 0, uint64(0), false
	count := func(s *syncer.Syncer, labels string) {
		w, err := s.Cells(counter, labels)
		if errors.Is(err, backend.ErrClosed) && closed {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		w[backend.CounterInt].Add(1)
		want++
	}
	name := func(i int) string { return fmt.Sprintf(`x="%d"`, i) }
	st := &calling{m, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range all {
			count(s, name(made)) // a new one
			count(s, name(rnd.IntN(series)))
			made++
			s.Walk()
			s.WalkOwn()
			s.Unpublished()
			s.Existing(counter)
			short := fmt.Sprintf(`x="short-%d"`, made)
			if _, err := s.Cells(counter, short); err == nil {
				s.DeleteSeries(counter, short)
			}
		}
	}}
	for range 2 {
		all = append(all, syncer.NewManual(st, store.Options{Alive: alive}, clock))
	}
	a, b := all[0], all[1]
	for ; made < series; made++ {
		count(a, name(made))
		count(b, name(made))
	}
	step := func() {
		t.Helper()
		for _, s := range all {
			if err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Refresh(t.Context()) // there may be no page
		}
		now = now.Add(time.Second)
	}
	for range 3 {
		step()
	}
	m.Restore((&backendtest.Memory{Now: clock}).Snapshot()) // everything is lost
	for range 40 {
		step()
	}
	for _, s := range all {
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatalf("there are no pages any more: %v", err)
		}
	}
	closed = true
	for _, s := range all {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all = nil
	if sum, n := newcomerSum(t, m, clock); sum != want || n < series {
		t.Errorf("%d series with %d are left, want %d", n, sum, want)
	}
}

// New series are counted and others deleted by concurrent goroutines all the time. Nothing is lost,
// and nothing stays behind of what was deleted.
func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	m := new(backendtest.Memory)
	s := syncer.NewManual(m, store.Options{Alive: alive}, time.Now)
	const rounds, each = 30, 400
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Refresh(t.Context()); err != nil {
				t.Error(err)
				return
			}
			s.Walk()
			s.Unpublished()
		}
	}()
	for round := range rounds {
		for i := range each {
			w, err := s.Cells(counter, fmt.Sprintf(`x="%d-%d"`, round, i))
			if err != nil {
				t.Fatal(err)
			}
			w[backend.CounterInt].Add(1)
		}
		n, err := s.Delete(counter, func(labels string) bool {
			var r, i int
			fmt.Sscanf(labels, `x="%d-%d"`, &r, &i)
			return i > 0
		})
		if n != each-1 || err != nil {
			t.Fatalf("round %d: %d were deleted, want %d: %v", round, n, each-1, err)
		}
	}
	close(stop)
	<-done
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.Listed(); n != rounds {
		t.Errorf("%d series are in the directory, want %d", n, rounds)
	}
	if n, listed := s.Waiting(); n != 0 || listed > 0 {
		t.Errorf("%d series wait for numbers, and %d are listed", n, listed)
	}
	if n, listed := s.Ending(); n != 0 || listed > 0 {
		t.Errorf("%d deletions are to be published, and %d are listed", n, listed)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum, n := newcomerSum(t, m, time.Now); sum != rounds || n != rounds {
		t.Errorf("%d series with %d are left, want %d", n, sum, rounds)
	}
}

// After deletions, a keeper removes from the base what is left of deleted series, and nothing else.
func TestTidyBase(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	m := &backendtest.Memory{Now: clock}
	keeper := syncer.NewManual(m, store.Options{Alive: alive}, clock)
	left := syncer.NewManual(m, store.Options{Alive: alive}, clock)
	const chunk, all = 256, 200 * 256
	for i := range all {
		w, err := left.Cells(counter, fmt.Sprintf(`x="%06d"`, i))
		if err != nil {
			t.Fatal(err)
		}
		w[backend.CounterInt].Add(1)
	}
	step := func() {
		t.Helper()
		now = now.Add(alive / 2)
		if err := keeper.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if err := left.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	step()
	step()
	if chunks, n := keeper.Based(); chunks != all/chunk || n != all {
		t.Fatalf("the base has %d series in %d chunks, want %d", n, chunks, all)
	}
	delete := func(which func(i int) bool) {
		t.Helper()
		if err := keeper.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := keeper.Delete(counter, func(labels string) bool {
			var i int
			fmt.Sscanf(labels, `x="%06d"`, &i)
			return which(i)
		}); err != nil {
			t.Fatal(err)
		}
		step()
	}
	// All of half of the chunks, most of a quarter, and few of the others.
	delete(func(i int) bool {
		switch n := i / chunk; {
		case n < 100:
			return true
		case n < 150:
			return i%10 > 0
		}
		return i%10 == 0
	})
	kept := 0
	for i := 100 * chunk; i < all; i++ {
		if (i%10 > 0) == (i/chunk >= 150) {
			kept++
		}
	}
	if chunks, n := keeper.Based(); chunks != 100 || n < kept || n > kept+50*chunk/9 {
		t.Errorf("the base has %d series in %d chunks, want %d and few deleted ones in 100", n, chunks, kept)
	}
	if sum, n := newcomerSum(t, m, clock); sum != uint64(kept) || n != kept {
		t.Errorf("%d series with %d are left, want %d", n, sum, kept)
	}
	delete(func(int) bool { return true })
	if chunks, n := keeper.Based(); chunks != 0 || n != 0 {
		t.Errorf("the base has %d series in %d chunks, want none", n, chunks)
	}
	if sum, n := newcomerSum(t, m, clock); sum != 0 || n != 0 {
		t.Errorf("%d series with %d are left, want none", n, sum)
	}
}
