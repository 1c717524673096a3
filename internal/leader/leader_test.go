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
