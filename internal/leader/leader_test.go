package leader

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// A candidate without a heartbeat does not lead, even if the backend considers it live.
func TestSilentCandidate(t *testing.T) {
	t.Parallel()
	b, inUse := heap.New(), func() bool { return true }
	var c Candidate
	if err := c.Stand(b, func() bool { return false }); err != nil || c.home != nil {
		t.Fatalf("the candidate stands in a backend that is not in use: %v", err)
	}
	if err := c.Stand(b, inUse); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if c.silent(7, 1, now) || c.silent(7, 1, now.Add(silenceLimit-1)) {
		t.Error("a candidate is silent before silenceLimit")
	}
	if !c.silent(7, 1, now.Add(silenceLimit)) {
		t.Error("a candidate is not silent after silenceLimit")
	}
	if c.silent(7, 1+backend.GaugeTouch, now.Add(silenceLimit)) || c.silent(7, 1+backend.GaugeTouch, now.Add(2*silenceLimit-1)) {
		t.Error("a candidate is silent after a heartbeat")
	}
	leads, self, err := c.Leads(b.Walk())
	if !leads || self == nil || err != nil {
		t.Errorf("the only candidate: leads %v, instance %v, error %v", leads, self, err)
	}
	// It sends heartbeats, and stands down when it has not been scraped for a while.
	c.mu.Lock()
	words := c.words
	c.mu.Unlock()
	flags := words[backend.GaugeFlags].Load()
	c.tick(b, time.Hour)
	if got := words[backend.GaugeFlags].Load(); got == flags {
		t.Error("no heartbeat")
	}
	c.mu.Lock()
	c.asked = now.Add(-patience)
	c.mu.Unlock()
	c.tick(b, time.Hour)
	if c.home != nil || !candidateFamily.Sealed(words) {
		t.Error("the candidate still stands")
	}
	if _, _, err := c.Leads(b.Walk()); err == nil {
		t.Error("Leads returns no error for a process that does not stand")
	}
	if err := c.Stand(b, inUse); err != nil {
		t.Fatal(err)
	}
	if leads, _, err := c.Leads(b.Walk()); !leads || err != nil {
		t.Errorf("standing again: leads %v, error %v", leads, err)
	}
	c.Stop()
}

// A candidate sends heartbeats by itself for as long as pages are asked for, and five minutes more.
func TestCandidateBeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the clock is that of the test
		b, inUse := heap.New(), func() bool { return true }
		var c Candidate
		if err := c.Stand(b, inUse); err != nil {
			t.Fatal(err)
		}
		flags := c.words[backend.GaugeFlags:][:1]
		const beats = 100
		first := flags[0].Load()
		time.Sleep(beats*beatInterval + beatInterval/2)
		if got := (flags[0].Load() - first) / backend.GaugeTouch; got != beats {
			t.Errorf("%d heartbeats in %v, want %d", got, beats*beatInterval, beats)
		}
		if err := c.Stand(b, inUse); err != nil { // asked again
			t.Fatal(err)
		}
		time.Sleep(patience - beatInterval)
		if leads, _, err := c.Leads(b.Walk()); !leads || err != nil {
			t.Errorf("before its time is up: leads %v, error %v", leads, err)
		}
		time.Sleep(2 * beatInterval)
		if _, _, err := c.Leads(b.Walk()); err == nil {
			t.Error("the candidate still stands")
		}
	})
}

// Of two candidates that have stood for equally long, all processes agree that the one with the
// lower id leads.
func TestEqualCandidates(t *testing.T) {
	t.Parallel()
	var two [2]Candidate
	parts := new(backend.Parts)
	for i := range two {
		if err := two[i].Stand(heap.New(), func() bool { return true }); err != nil {
			t.Fatal(err)
		}
		defer two[i].Stop()
		two[i].words[backend.GaugeValue].Store(two[0].words[backend.GaugeValue].Load())
		two[i].id = uint64(9 - i)
		two[i].words[backend.GaugeTicket].Store(two[i].id)
		instance := &backend.Instance{Number: i}
		instance.ID.Store(uint64(i + 1))
		parts.Add(backend.Part{Words: two[i].words, Instance: instance})
	}
	groups := []backend.Group{{Family: candidateFamily, Series: []*backend.Series{{}}, Parts: []*backend.Parts{parts}}}
	for i := range two {
		leads, self, err := two[i].Leads(groups)
		if want := i == 1; leads != want || self == nil || self.Number != i || err != nil {
			t.Errorf("candidate %d: leads %v, want %v; instance %v, error %v", i, leads, want, self, err)
		}
	}
}

// A store knows itself which processes are live, so candidates there need no heartbeats.
func TestRemoteCandidatesAreNotSilent(t *testing.T) {
	t.Parallel()
	var c Candidate
	if err := c.Stand(remote{heap.New()}, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	now := time.Now()
	if c.silent(7, 1, now) || c.silent(7, 1, now.Add(time.Hour)) {
		t.Error("a candidate without heartbeats is silent")
	}
}

// remote is a backend that passes for a store.
type remote struct{ backend.Backend }

func (remote) Remote() {}

// What a process remembers of candidates that come and go does not grow forever.
func TestManyCandidates(t *testing.T) {
	t.Parallel()
	var c Candidate
	if err := c.Stand(heap.New(), func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	for id := range uint64(10_000) {
		c.silent(id+1, 1, time.Now())
	}
	if n := len(c.seen); n > 1001 {
		t.Errorf("%d candidates are remembered", n)
	}
}
