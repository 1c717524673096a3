package fleetsim

import (
	"time"

	"github.com/gotheus/gotheus/store"
)

// mistake is a deliberate one in the way from Syncers to the store, which histories must reveal.
type mistake struct {
	name   string
	commit func(*proc, *store.Commit)
	heads  func(*proc, *server, map[string]store.Head)
	needs  []kind // without these, it does no harm
	today  bool   // the present Syncer would be wrong
}

var mistakes = []mistake{
	{name: "no condition on the own head", today: true, commit: func(_ *proc, c *store.Commit) {
		for name := range c.If {
			if name[0] == 'i' && c.Heads[name] != nil {
				delete(c.If, name)
			}
		}
	}},
	{name: "no condition on the head of a folded instance", today: true, commit: func(_ *proc, c *store.Commit) {
		for name := range c.If {
			if v, ok := c.Heads[name]; ok && v == nil && name[0] == 'i' {
				delete(c.If, name)
			}
		}
	}},
	{name: "no condition on meta", today: true, commit: func(_ *proc, c *store.Commit) { delete(c.If, "meta") }},
	{name: "no condition on the base", today: true, commit: func(_ *proc, c *store.Commit) { delete(c.If, "base") }},
	{name: "no conditions", today: true, commit: func(_ *proc, c *store.Commit) { clear(c.If) }},
	{name: "parts get lost", today: true, commit: func(p *proc, c *store.Commit) {
		if p.net.IntN(50) == 0 {
			clear(c.Parts)
		}
	}},
	{name: "nothing is dropped", today: true, commit: func(_ *proc, c *store.Commit) { c.Drop = nil }},
	{name: "all heads are new", today: true, heads: func(_ *proc, _ *server, heads map[string]store.Head) {
		for name, h := range heads {
			h.Age = 0
			heads[name] = h
		}
	}},
	{name: "ages are ten times too long", today: true, heads: func(_ *proc, _ *server, heads map[string]store.Head) {
		for name, h := range heads {
			h.Age *= 10
			heads[name] = h
		}
	}},
	{name: "ages include the clock of another server", needs: []kind{clockJumps, failovers}, heads: func(p *proc, s *server, heads map[string]store.Head) {
		for name, h := range heads {
			if put := s.heads[name]; put.gen != s.gen && name != store.HeadServer {
				h.Age = (s.now() - put.put).Truncate(time.Millisecond)
				heads[name] = h
			}
		}
	}},
	{name: "nobody says who answers", needs: []kind{headServer}, heads: func(_ *proc, _ *server, heads map[string]store.Head) {
		delete(heads, store.HeadServer)
	}},
	{name: "heads are those of a moment ago", today: true, heads: func(p *proc, s *server, heads map[string]store.Head) {
		if p.net.IntN(10) > 0 || len(s.undo) == 0 {
			return
		}
		r, _ := s.replica(1)
		r.gen = s.gen
		clear(heads)
		for name, h := range r.getHeads(nil) {
			heads[name] = h
		}
	}},
}
