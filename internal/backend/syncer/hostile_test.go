package syncer_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/internal/hostilestore"
	"github.com/gotheus/gotheus/store"
)

// attacked is a store with an honest process, which has counted to 7, and hostile records.
type attacked struct {
	t      testing.TB
	mem    backendtest.Memory
	clock  time.Time
	log    bytes.Buffer
	honest *syncer.Syncer
	bytes  int // of the hostile records
}

const honestCount = 7

func newAttacked(t testing.TB, a hostilestore.Attack, size int) *attacked {
	m := &attacked{t: t, clock: time.Unix(1e9, 0)}
	m.mem.Now = m.now
	m.honest = m.syncer()
	m.count(`x="1"`, honestCount)
	m.step()
	var err error
	if m.bytes, err = a.Fill(t.Context(), &m.mem, size); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *attacked) now() time.Time { return m.clock }

func (m *attacked) syncer() *syncer.Syncer {
	log := slog.New(slog.NewTextHandler(&m.log, nil))
	return syncer.NewManual(&m.mem, store.Options{Logger: log, Alive: alive}, m.now)
}

// count sets one of the honest process's counters.
func (m *attacked) count(labels string, n uint64) {
	w, err := m.honest.Cells(counter, labels)
	if err != nil {
		m.t.Fatal(err)
	}
	w[0].Store(n)
}

// step is a round of the honest process's background.
func (m *attacked) step() {
	m.t.Helper()
	if err := m.honest.Step(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// shown returns the sum of the counters on the page of a process.
func shown(s *syncer.Syncer) (n uint64) {
	for _, g := range s.Walk() {
		for i, r := range g.Series {
			if g.Family.Name == counter.Name && g.Exists(i) {
				n += r.Words[0].Load()
			}
		}
	}
	return n
}

// page makes pages of a process until there is one, while time passes.
func (m *attacked) page(s *syncer.Syncer) uint64 {
	m.t.Helper()
	var err error
	for range 16 {
		if err = s.Sync(m.t.Context()); err == nil {
			return shown(s)
		}
		m.clock = m.clock.Add(alive / 4)
		m.step()
	}
	m.t.Fatalf("no page: %v", err)
	return 0
}

// attackOf returns the attack with a name.
func attackOf(t testing.TB, name string) hostilestore.Attack {
	for _, a := range hostilestore.Attacks {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("there is no attack %s", name)
	return hostilestore.Attack{}
}

// What a page costs is bounded by what it reads, whoever has written that, and what honest
// processes have counted stays on it. The test is not parallel, since it looks at what the whole
// process allocates.
func TestHostile(t *testing.T) {
	const factor, fixed = 256, 1 << 20
	for _, a := range hostilestore.Attacks {
		m := newAttacked(t, a, a.Few)
		s := m.syncer()
		var before, after runtime.MemStats
		for i := range 2 {
			runtime.ReadMemStats(&before)
			s.Sync(t.Context()) // whose error is seen below
			s.Walk()
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > fixed+factor*uint64(m.bytes) {
				t.Errorf("%s: page %d has allocated %d bytes for %d in the store", a.Name, i, got, m.bytes)
			}
		}
		for what, s := range map[string]*syncer.Syncer{"a new process": s, "the honest one": m.honest} {
			if n := m.page(s); n != honestCount {
				t.Errorf("%s: the page of %s has %d, must have %d", a.Name, what, n, honestCount)
			}
		}
		m.count(`x="2"`, 1) // the directory can still be changed
		m.step()
		if n := m.page(s); n != honestCount+1 {
			t.Errorf("%s: the page has %d after another increment, must have %d", a.Name, n, honestCount+1)
		}
	}
}

// Damaged parts and heads are left out, reported and, when their instances are dead, removed.
func TestDamagedInstances(t *testing.T) {
	t.Parallel()
	m := newAttacked(t, attackOf(t, "garbage"), 8)
	s := m.syncer()
	if n := m.page(s); n != honestCount || s.Damaged() != 8 {
		t.Errorf("the page has %d, and %d records are damaged; must be %d and 8", n, s.Damaged(), honestCount)
	}
	if n := strings.Count(m.log.String(), "left out of pages"); n == 0 {
		t.Errorf("nothing is logged: %s", &m.log)
	}
	if log := m.log.String(); !strings.Contains(log, "part ") && !strings.Contains(log, "head i") || !strings.Contains(log, "writes to this namespace") && !strings.Contains(log, "keeper removes it") {
		t.Errorf("the log has no key or no remedy: %s", log)
	}
	for range 80 {
		m.clock = m.clock.Add(alive / 4)
		m.step()
	}
	heads, err := m.mem.Heads(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range heads {
		if (name[0] == 'i' || name[0] == 'x') && !m.honest.Is(name) {
			t.Errorf("head %s is still there", name)
		}
	}
	if n := m.page(s); n != honestCount || s.Damaged() != 0 {
		t.Errorf("the page has %d, and %d records are damaged; must be %d and none", n, s.Damaged(), honestCount)
	}
}

// overwrite changes all heads or parts that match.
func (m *attacked) overwrite(match func(name string) bool, value []byte) {
	m.t.Helper()
	heads, err := m.mem.Heads(m.t.Context(), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	c := &store.Commit{Heads: make(map[string][]byte)}
	for name := range heads {
		if match(name) {
			c.Heads[name] = value
		}
	}
	if err := m.mem.Commit(context.Background(), c); err != nil || len(c.Heads) == 0 {
		m.t.Fatalf("%d heads are damaged: %v", len(c.Heads), err)
	}
}

// Who finds its own head, or one that all share, damaged publishes again, so that pages recover.
func TestDamagedHeads(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"own", "dir", "base"} {
		m := newAttacked(t, attackOf(t, "families"), 1)
		s := m.syncer()
		m.page(s)
		// The base gets something, which this process and the other one know.
		gone := m.syncer()
		w, err := gone.Cells(counter, `x="gone"`)
		if err != nil {
			t.Fatal(err)
		}
		w[0].Store(2)
		if err := gone.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.step()
		if n := m.page(s); n != honestCount+2 {
			t.Fatalf("%s: the page has %d", what, n)
		}
		m.overwrite(func(name string) bool { return name == what || what == "own" && m.honest.Is(name) }, []byte("damage"))
		m.clock = m.clock.Add(alive / 4)
		for range 8 { // the first rounds notice
			m.honest.Step(t.Context())
			m.clock = m.clock.Add(alive / 4)
		}
		m.count(`x="1"`, honestCount+1)
		m.step()
		if n := m.page(s); n != honestCount+1+2 {
			t.Errorf("%s: the page has %d, must have %d", what, n, honestCount+1+2)
		}
	}
}

// A keeper takes the same time for each instance that has left, however many there are.
func BenchmarkLeavers(b *testing.B) {
	for _, n := range []int{1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				m := newAttacked(b, attackOf(b, "leavers"), n)
				b.StartTimer()
				if err := m.honest.Maintain(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/leaver")
		})
	}
}
