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

// load is processes that count without a pause, and pages that are read meanwhile.
type load struct {
	t         *testing.T
	url       string
	producers []*gotheus.Registry
	observer  *gotheus.Registry
	late      *gotheus.Registry // has seen no more than the end
	vecs      []*gotheus.Vec[gotheus.Counter]
	counted   atomic.Int64 // by all
	acked     atomic.Int64 // as of the last time that everything was flushed
	stop      chan struct{}
	wait      sync.WaitGroup
	seen      float64
}

const loadSeries = 64 // so that each shard has some

// startLoad starts some processes that count in a namespace, and leaves behind what another one has counted.
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
		l.counted.Add(1) // before, so that no count is unknown
		v.With(string(rune('A' + i%loadSeries))).Inc()
	}
}

// total returns what a page says, or why there is none.
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

// check reads a page, if there is one: it never goes back, and has what was acknowledged before, and nothing that
// was not counted.
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

// settle waits until there is a page with all that was counted until now.
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

// refused checks that there is no page, nor half of one, unless replica has been faster to become the master.
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

// refuse asks for a page that nobody can make.
func refuse(t *testing.T, r *gotheus.Registry) (size int, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var page strings.Builder
	err = r.Write(ctx, &page, nil)
	return page.Len(), err
}

// finish ends the counting: every page is then exactly what was counted.
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
