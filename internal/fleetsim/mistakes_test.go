package fleetsim

import (
	"testing"

	"github.com/gotheus/gotheus/store"
)

// mistake is a deliberate one in the way from Syncers to the store, which histories must reveal.
type mistake struct {
	name   string
	commit func(*proc, *store.Commit)
	heads  func(*proc, *server, map[string]store.Head)
	kinds  string // the mix of faults
	within uint64 // histories
}

var mistakes = []mistake{
	{name: "no condition on the own head", kinds: noLosses, within: 12, commit: func(_ *proc, c *store.Commit) {
		for name := range c.If {
			if name[0] == 'i' && c.Heads[name] != nil {
				delete(c.If, name)
			}
		}
	}},
	{name: "no condition on meta", kinds: noLosses, within: 12, commit: func(_ *proc, c *store.Commit) { delete(c.If, "meta") }},
	{name: "no conditions", kinds: noLosses, within: 12, commit: func(_ *proc, c *store.Commit) { clear(c.If) }},
	{name: "a commit is acknowledged and forgotten", kinds: noLosses, within: 12, commit: func(p *proc, c *store.Commit) {
		if p.net.IntN(50) == 0 {
			*c = store.Commit{If: c.If}
		}
	}},
	{name: "parts get lost", kinds: noLosses, within: 12, commit: func(p *proc, c *store.Commit) {
		if p.net.IntN(50) == 0 {
			clear(c.Parts)
		}
	}},
	{name: "nothing is dropped", kinds: noLosses, within: 12, commit: func(_ *proc, c *store.Commit) { c.Drop = nil }},
	{name: "nobody says who answers", kinds: "none,+old-restarts,+head-server,+noticed-before", within: 20, heads: func(_ *proc, _ *server, heads map[string]store.Head) {
		delete(heads, store.HeadServer)
	}},
	{name: "heads are those of a moment ago", kinds: noLosses, within: 12, heads: func(p *proc, s *server, heads map[string]store.Head) {
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

// Each mistake is found by one of few histories, of a mix that has no failures otherwise.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			set, err := newSetting(m.kinds)
			if err != nil {
				t.Fatal(err)
			}
			for seed := uint64(1); seed <= m.within; seed++ {
				if r := simulate(t, seed, set, false); r.failure != "" {
					t.Fatalf("-sim.seed %d -sim.kinds %q: %s", seed, m.kinds, r.failure)
				}
				set.mistake = &m
				r := simulate(t, seed, set, false)
				set.mistake = nil
				if r.failure != "" {
					t.Logf("seed %d %s", seed, r.failure)
					return
				}
			}
			t.Errorf("not found in %d histories", m.within)
		})
	}
}
