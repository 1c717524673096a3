package leader

import (
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// A candidate that gives no sign of life, though the backend takes it for alive, does not lead.
func TestSilentCandidate(t *testing.T) {
	t.Parallel()
	b, inUse := heap.New(), func() bool { return true }
	var c Candidate
	if err := c.Stand(b, func() bool { return false }); err != nil || c.home != nil {
		t.Fatalf("stands in a backend that is not in use: %v", err)
	}
	if err := c.Stand(b, inUse); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if c.silent(7, 1, now) || c.silent(7, 1, now.Add(silenceLimit-1)) {
		t.Error("not yet")
	}
	if !c.silent(7, 1, now.Add(silenceLimit)) {
		t.Error("it has been silent for long")
	}
	if c.silent(7, 1+backend.GaugeTouch, now.Add(silenceLimit)) || c.silent(7, 1+backend.GaugeTouch, now.Add(2*silenceLimit-1)) {
		t.Error("it has given a sign")
	}
	leads, self, err := c.Leads(b.Walk())
	if !leads || self == nil || err != nil {
		t.Errorf("alone: %v, %v, %v", leads, self, err)
	}
	// It gives signs as long as it is asked, and stands down when it was not for long.
	c.mu.Lock()
	words := c.words
	c.mu.Unlock()
	flags := words[backend.GaugeFlags].Load()
	c.tick(b, time.Hour)
	if got := words[backend.GaugeFlags].Load(); got == flags {
		t.Error("no sign of life")
	}
	c.mu.Lock()
	c.asked = now.Add(-patience)
	c.mu.Unlock()
	c.tick(b, time.Hour)
	if c.home != nil || !candidateFamily.Sealed(words) {
		t.Error("it still stands")
	}
	if _, _, err := c.Leads(b.Walk()); err == nil {
		t.Error("no error from one that does not stand")
	}
	if err := c.Stand(b, inUse); err != nil {
		t.Fatal(err)
	}
	if leads, _, err := c.Leads(b.Walk()); !leads || err != nil {
		t.Errorf("asked again: %v, %v", leads, err)
	}
	c.Stop()
}

// A candidate gives signs of life by itself.
func TestCandidateBeats(t *testing.T) {
	t.Parallel()
	b, inUse := heap.New(), func() bool { return true }
	var c Candidate
	if err := c.Stand(b, inUse); err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	c.mu.Lock()
	flags := &c.words[backend.GaugeFlags]
	c.mu.Unlock()
	for first, begun := flags.Load(), time.Now(); flags.Load() == first; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("no sign of life")
		}
	}
}
