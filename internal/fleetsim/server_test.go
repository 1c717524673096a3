package fleetsim

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

var (
	errRefused  = errors.New("fleetsim: connection refused")
	errReadOnly = errors.New("fleetsim: READONLY You can't write against a read only replica")
)

// mode is how a server answers at present.
type mode int

const (
	serving  mode = iota
	down          // connections are refused
	hanging       // nothing is answered; some of what it was sent takes effect at the end
	readOnly      // commits are refused, as by a replica, or when memory is used up
)

// server is a store with a clock of its own. It records how to undo its last commits, since a
// replica may lack them.
type server struct {
	w     *world
	gen   *generation
	mode  mode
	clock time.Duration // ahead of the simulation's clock
	heads map[string]head
	parts map[store.Key][]byte
	undo  []undo
	held  []func() // what a hanging server was sent
}

type head struct {
	value []byte
	put   time.Duration // by the clock of the server that put it
	gen   *generation   // of that server
}

// undo is what one commit has replaced.
type undo struct {
	heads map[string]head // without a value: there was none
	parts map[store.Key][]byte
}

const maxUndo = 400

// generation is a history of commits. A server that has lost something starts a new one, which
// continues its parent's up to a commit; without a parent, nothing is certain to be left.
type generation struct {
	number int
	parent *generation
	upTo   int
	n      int // commits so far, those of its parent up to upTo included
	since  time.Duration
	empty  bool // it began with nothing
}

// mark is a place in the history of a store: after n commits of a generation.
type mark struct {
	gen *generation
	n   int
}

// has reports whether g contains what a store contained at a mark.
func (g *generation) has(m mark) bool {
	for limit := g.n; g != nil; g = g.parent {
		if g == m.gen {
			return m.n <= limit
		}
		limit = min(limit, g.upTo)
	}
	return false
}

func (w *world) newServer() *server {
	return &server{w: w, heads: make(map[string]head), parts: make(map[store.Key][]byte)}
}

// begin starts a new generation.
func (s *server) begin(parent *generation, upTo int) {
	s.w.generations++
	s.gen = &generation{number: s.w.generations, parent: parent, upTo: upTo, n: upTo, since: s.w.now(), empty: len(s.heads) == 0}
	s.w.event("generation", nil, "%d from %v up to %d", s.gen.number, parent, upTo)
}

func (g *generation) String() string {
	if g == nil {
		return "nothing"
	}
	return fmt.Sprint(g.number)
}

// now is the time by the server's clock.
func (s *server) now() time.Duration { return s.w.now() + s.clock }

func (s *server) getHeads(names []string) map[string]store.Head {
	result := make(map[string]store.Head)
	for name, h := range s.heads {
		if names == nil || slices.Contains(names, name) {
			age := (s.now() - h.put).Truncate(time.Millisecond)
			if s.w.on(clocksNotCompared) && h.gen != s.gen {
				age = 0
			}
			result[name] = store.Head{Value: bytes.Clone(h.value), Age: age}
		}
	}
	if s.w.on(headServer) {
		result[store.HeadServer] = store.Head{
			Value: fmt.Appendf(nil, "run %d", s.gen.number), Age: (s.w.now() - s.gen.since).Truncate(time.Millisecond),
		}
	}
	return result
}

func (s *server) get(keys []store.Key) [][]byte {
	parts := make([][]byte, len(keys))
	for i, k := range keys {
		parts[i] = bytes.Clone(s.parts[k])
	}
	return parts
}

func (s *server) commit(c *store.Commit) error {
	for name, want := range c.If {
		h, ok := s.heads[name]
		if ok != (want != nil) || !bytes.Equal(h.value, want) {
			return store.ErrConflict
		}
	}
	u := undo{make(map[string]head), make(map[store.Key][]byte)}
	for _, group := range c.Drop {
		for k, v := range s.parts {
			if k.Group == group {
				u.parts[k] = v
				delete(s.parts, k)
			}
		}
	}
	for k, v := range c.Parts {
		if _, ok := u.parts[k]; !ok {
			u.parts[k] = s.parts[k]
		}
		s.parts[k] = bytes.Clone(v)
		if s.parts[k] == nil {
			s.parts[k] = []byte{}
		}
	}
	for name, v := range c.Heads {
		u.heads[name] = s.heads[name]
		if v == nil {
			delete(s.heads, name)
		} else {
			s.heads[name] = head{bytes.Clone(v), s.now(), s.gen}
		}
	}
	s.gen.n++
	if s.undo = append(s.undo, u); len(s.undo) > 2*maxUndo {
		s.undo = append([]undo(nil), s.undo[maxUndo:]...)
	}
	return nil
}

// replica returns a server that lacks the last n commits of s, or as many as are known.
func (s *server) replica(n int) (r *server, lacks int) {
	r = &server{w: s.w, clock: s.clock, heads: maps.Clone(s.heads), parts: maps.Clone(s.parts)}
	lacks = min(n, len(s.undo))
	kept := len(s.undo) - lacks
	for _, u := range slices.Backward(s.undo[kept:]) {
		for name, h := range u.heads {
			if h.value == nil {
				delete(r.heads, name)
			} else {
				r.heads[name] = h
			}
		}
		for k, v := range u.parts {
			if v == nil {
				delete(r.parts, k)
			} else {
				r.parts[k] = v
			}
		}
	}
	r.undo = slices.Clone(s.undo[:kept])
	return r, lacks
}

// release lets a hanging server go on. What it was sent takes effect now.
func (s *server) release() {
	held := s.held
	s.held = nil
	if s.mode == hanging {
		s.mode = serving
	}
	for _, f := range held {
		f()
	}
}

// snapshot is a former state of a server.
type snapshot struct {
	heads map[string]head
	parts map[store.Key][]byte
	at    mark
}

func (s *server) snapshot() snapshot {
	return snapshot{maps.Clone(s.heads), maps.Clone(s.parts), mark{s.gen, s.gen.n}}
}

// restart replaces the data by a former state; the zero snapshot is empty.
func (s *server) restart(to snapshot) {
	s.heads, s.parts, s.undo = maps.Clone(to.heads), maps.Clone(to.parts), nil
	if s.heads == nil {
		s.heads, s.parts = make(map[string]head), make(map[store.Key][]byte)
	}
	s.begin(to.at.gen, to.at.n)
}

// footprint returns the number of heads and of groups.
func (s *server) footprint() (heads, groups int) {
	seen := make(map[string]bool)
	for k := range s.parts {
		seen[k.Group] = true
	}
	return len(s.heads), len(seen)
}

func sortedHeads(s *server) []string { return slices.Sorted(maps.Keys(s.heads)) }

func sortedParts(s *server) []store.Key {
	return slices.SortedFunc(maps.Keys(s.parts), func(a, b store.Key) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Part, b.Part))
	})
}
