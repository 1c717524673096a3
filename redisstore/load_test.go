//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// load runs processes that count continuously, and reads pages meanwhile.
type load struct {
	t         *testing.T
	url       string
	producers []*gotheus.Registry
	observer  *gotheus.Registry
	late      *gotheus.Registry // bound only at the end
	vecs      []*gotheus.Vec[gotheus.Counter]
	counted   atomic.Int64 // by all
	acked     atomic.Int64 // as of the last complete flush
	stop      chan struct{}
	wait      sync.WaitGroup
	seen      float64
}

const loadSeries = 64 // enough for each shard to have some

// startLoad starts processes that count in a namespace, which already has the counts of another
// one.
func startLoad(t *testing.T, url string) *load {
	t.Helper()
	l := &load{t: t, url: url, stop: make(chan struct{})}
	left := open(t, url)
	l.count(l.vec(left), 1000)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := left.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r := open(t, url)
		l.producers, l.vecs = append(l.producers, r), append(l.vecs, l.vec(r))
	}
	l.observer = open(t, url)
	for _, v := range l.vecs {
		l.wait.Add(1)
		go func() {
			defer l.wait.Done()
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(time.Millisecond):
					l.count(v, 100)
				}
			}
		}()
	}
	return l
}

func (l *load) vec(r *gotheus.Registry) *gotheus.Vec[gotheus.Counter] {
	return r.NewCounterVec("load_total", "Load.", nil, "l")
}

func (l *load) count(v *gotheus.Vec[gotheus.Counter], n int) {
	for i := range n {
		l.counted.Add(1) // before counting, so that no count is missed
		v.With(string(rune('A' + i%loadSeries))).Inc()
	}
}

// total returns the total on a page, or the reason why there is none.
func (l *load) total(r *gotheus.Registry, within time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	sum := 0.0
	for f, err := range r.Families(ctx) {
		if err != nil {
			return 0, err
		}
		if f.Name == "load_total" {
			for s := range f.Samples() {
				sum += s.Value
			}
		}
	}
	return sum, nil
}

// check reads a page, if there is one: values never decrease, and include everything acknowledged
// before and nothing that was not counted.
func (l *load) check(when string) error {
	l.t.Helper()
	low := max(l.seen, float64(l.acked.Load()))
	v, err := l.total(l.observer, 5*time.Second)
	if err != nil {
		if !errors.Is(err, gotheus.ErrStale) {
			l.t.Errorf("%s: %v", when, err)
		}
		return err
	}
	if high := l.counted.Load(); v < low || v > float64(high) {
		l.t.Fatalf("%s: the page says %v: before it was %v, and %d were counted", when, v, low, high)
	}
	l.seen = v
	return nil
}

// settle waits for a page with everything counted so far.
func (l *load) settle(when string) {
	l.t.Helper()
	before := l.counted.Load()
	for deadline := time.Now().Add(90 * time.Second); ; {
		failed := error(nil)
		for _, r := range l.producers {
			ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
			failed = errors.Join(failed, r.Flush(ctx))
			cancel()
		}
		if failed == nil {
			l.acked.Store(max(l.acked.Load(), before))
			failed = l.check(when)
		}
		if failed == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: %v", when, failed)
		}
	}
}

// refused checks that there is no page, not even a partial one, unless the replica has already
// become the master.
func (l *load) refused(when string, replica *server) {
	l.t.Helper()
	size, err := refuse(l.t, l.observer)
	if err == nil && replica.isMaster() {
		return
	}
	if !errors.Is(err, gotheus.ErrStale) || size > 0 {
		l.t.Errorf("%s: %v, with a page of %d bytes", when, err, size)
	}
}

// refuse requests a page that cannot be made.
func refuse(t *testing.T, r *gotheus.Registry) (size int, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var page strings.Builder
	err = r.Write(ctx, &page, nil)
	return page.Len(), err
}

// finish stops counting: every page then has exactly what was counted.
func (l *load) finish() {
	l.t.Helper()
	close(l.stop)
	l.wait.Wait()
	l.settle("at the end")
	want := float64(l.counted.Load())
	l.late = open(l.t, l.url)
	for _, r := range append(l.producers, l.observer, l.late) {
		if v, err := l.total(r, 30*time.Second); v != want || err != nil {
			l.t.Errorf("a page says %v, not %v: %v", v, want, err)
		}
	}
}
