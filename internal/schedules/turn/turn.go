// Package turn runs a few goroutines of an instrumented program one at a time, and lets another one
// go on at chosen points, see package schedules. Points are calls of this package that package
// crashpoints has inserted. Goroutines that Run has not started pass them at once.
package turn

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Switch says that at a point, another goroutine goes on.
type Switch struct {
	Point int // its number in the run, from 1 on
	To    int // the goroutine's index
}

// Point is a point that a run has executed.
type Point struct {
	Place string // in the sources
	By    int    // the goroutine's index
	Ended uint64 // bit i says that goroutine i had ended
}

// run is a run in progress.
type run struct {
	goroutines []*goroutine
	switches   []Switch // that are still to come
	points     []Point
	ended      uint64
	err        error
	over       chan struct{}
}

type goroutine struct {
	index int
	self  atomic.Uintptr // see the function; 0 if it has ended: another one may have it then
	turn  chan struct{}  // receives when it is its turn
}

// current is the run in progress. There is one at a time.
var current atomic.Pointer[run]

// Run runs goroutines until all have ended. The first one begins; each goes on until it has ended,
// has to wait for a lock that another one has, or a switch takes its turn. It returns the points in
// order. The error is that of a goroutine that panicked, or says that none could go on.
func Run(first int, switches []Switch, goroutines ...func()) ([]Point, error) {
	r := &run{switches: switches, over: make(chan struct{})}
	ready := make(chan struct{})
	for i, f := range goroutines {
		g := &goroutine{index: i, turn: make(chan struct{})}
		r.goroutines = append(r.goroutines, g)
		go func() {
			g.self.Store(self())
			ready <- struct{}{}
			<-g.turn
			defer r.end(g)
			defer func() {
				if p := recover(); p != nil {
					r.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			f()
		}()
		<-ready
	}
	if !current.CompareAndSwap(nil, r) {
		panic("turn: two runs at once")
	}
	r.goroutines[first].turn <- struct{}{}
	<-r.over
	return r.points, r.err
}

// end passes the turn of a goroutine that has ended to another one.
func (r *run) end(g *goroutine) {
	r.ended |= 1 << g.index
	g.self.Store(0)
	for _, other := range r.goroutines {
		if r.ended>>other.index&1 == 0 {
			other.turn <- struct{}{}
			return
		}
	}
	current.Store(nil)
	close(r.over)
}

// me returns the run in progress and the goroutine of it that has called, or nil.
func me() (*run, *goroutine) {
	r := current.Load()
	if r == nil {
		return nil, nil
	}
	self := self()
	for _, g := range r.goroutines {
		if g.self.Load() == self {
			return r, g
		}
	}
	return r, nil
}

// pass lets another goroutine go on, until it is g's turn again.
func (g *goroutine) pass(to *goroutine) {
	to.turn <- struct{}{}
	<-g.turn
}

// At is a point. Its result has no meaning, and lets it be the argument of a call.
func At(place string) struct{} {
	r, g := me()
	if g == nil {
		return struct{}{}
	}
	r.points = append(r.points, Point{place, g.index, r.ended})
	if len(r.switches) > 0 && r.switches[0].Point == len(r.points) {
		to := r.switches[0].To
		r.switches = r.switches[1:]
		if to != g.index && r.ended>>to&1 == 0 {
			g.pass(r.goroutines[to])
		}
	}
	return struct{}{}
}

// patience is how long the goroutines of a run may wait for a lock that none of them has.
const patience = 20 * time.Second

// Wait is a point before a lock is taken: it returns when the caller will get it without waiting.
func Wait(place string, try func() bool, undo func()) {
	At(place)
	r, g := me()
	if g == nil {
		return
	}
	for begin := (time.Time{}); !try(); {
		if begin.IsZero() {
			begin = time.Now()
		} else if time.Since(begin) > patience {
			panic(fmt.Sprintf("%s waits for ever", place))
		}
		for i := range r.goroutines {
			if to := (g.index + 1 + i) % len(r.goroutines); to != g.index && r.ended>>to&1 == 0 {
				g.pass(r.goroutines[to])
				break
			}
		}
		runtime.Gosched() // others may have the lock, too
	}
	undo()
}

// Around calls do after a point.
func Around(place string, do func()) {
	At(place)
	do()
}

// Result returns v, the result of a call after the point that is its first argument.
func Result[T any](_ struct{}, _ string, v T) T { return v }

// Before is a point before a call of f with several results.
func Before[F any](place string, f F) F {
	At(place)
	return f
}

// After2 returns the results of a call.
func After2[A, B any](a A, b B) (A, B) { return a, b }

// After3 returns the results of a call.
func After3[A, B, C any](a A, b B, c C) (A, B, C) { return a, b, c }

// After4 returns the results of a call.
func After4[A, B, C, D any](a A, b B, c C, d D) (A, B, C, D) { return a, b, c, d }
