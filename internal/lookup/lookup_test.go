package lookup

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Values that differ only slightly have different hashes, which spread over all slots of a table.
func TestIdentify(t *testing.T) {
	t.Parallel()
	seen := map[uint64]string{}
	same := 0
	const slots = 1 << 12
	var used [slots]bool
	add := func(values ...string) {
		x, key := identify(values), strings.Join(values, "\xff")
		if other, ok := seen[x.id]; ok && other != key {
			if same++; same > 5 { // about 2^28 pairs, 32 bits: one by chance in 20 runs
				t.Errorf("%s and %s have the same hash", other, key)
			}
		}
		seen[x.id] = key
		used[x.id>>32%slots] = true
	}
	for n := 0; n < 150; n += 1 + n/20 {
		for i := range max(n, 1) {
			s := []byte(strings.Repeat("x", n))
			add(string(s))
			for _, c := range "\x00yz\x7f" {
				if n > 0 {
					s[i] = byte(c)
					add(string(s))
					add("x", string(s))
					add(string(s), "x")
					add(string(s[:i]), string(s[i:]))
					add("x", string(s), "x")
				}
			}
		}
	}
	for i := range 20000 {
		add("GET", fmt.Sprint("/api/v1/route/", i))
		add(fmt.Sprint(i), "200")
		add("GET", fmt.Sprint("/api/v1/route/", i), "200", "")
	}
	n := 0
	for _, u := range used {
		if u {
			n++
		}
	}
	if n < slots*95/100 {
		t.Errorf("%d hashes use %d of %d slots", len(seen), n, slots)
	}
}

// awkward returns values whose lengths are at the boundaries of a case, and values that could be
// confused with others.
func awkward() (values []string) {
	for _, n := range []int{0, 1, 3, 4, 7, 8, 9, 16, 17, 24, 90, 254, 255} {
		s := strings.Repeat("a", n)
		values = append(values, s)
		if n > 0 {
			values = append(values, s[:n/2]+"b"+s[n/2+1:], s[:n-1]+`"`)
		}
	}
	values = append(values, strings.Repeat("a", 1<<16))
	return append(values, `\`, `\\`, `\n`, `n`, `"`, `\"`, `a",y="b`, `a",y="`, `",y="b`, `b`, "世界", "\x00")
}

type instrument struct{ labels string }

// For any values, the table finds exactly the entries that were added, and the label text is the
// one that the backend defines.
func TestTableIsExact(t *testing.T) {
	t.Parallel()
	values := awkward()
	constant := map[string]string{"a": `x"`, "w": "1", "zz": "\n"}
	for _, open := range [][]string{{"x"}, {"x", "y"}, {"v", "x", "y"}, {"b", "quoted name", "v", "x", "y"}, manyNames(18)} {
		names, _ := backend.SortLabels(append(slices.Clone(open), "a", "w", "zz"))
		open, _ = backend.SortLabels(open)
		def := &backend.Family{Name: "n", Labels: names}
		var tab Table[instrument]
		tab.Init(TextOf(names, constant), func(m *instrument) string { return m.labels })
		set := func(i, j int) []string { // at most two values are not empty
			s := make([]string, len(open))
			s[i%len(s)] = values[i]
			s[(i+1)%len(s)] = values[j]
			return s
		}
		added := map[string]bool{}
		for i := range values {
			for j := i % 3; j < len(values); j += 3 {
				s := set(i, j)
				key := strings.Join(s, "\xff")
				if e := tab.Find(s); added[key] != (e != nil) {
					t.Fatalf("%.200q: found %v", key, e != nil)
				} else if e != nil {
					continue
				}
				text := tab.text.Write(s)
				if len(open) < 10 && i%7 == 0 {
					var all []string
					for _, name := range names {
						if at := slices.Index(open, name); at >= 0 {
							all = append(all, s[at])
						} else {
							all = append(all, constant[name])
						}
					}
					if want, err := def.LabelText(all...); err != nil || text != want {
						t.Fatalf("%.200q: label text %.200q, want %.200q (%v)", s, text, want, err)
					}
				}
				if (i+j)%2 == 0 { // the others must not be found
					e := NewEntry[instrument](s)
					e.M.labels = text
					tab.Add(e)
					added[key] = true
				}
			}
		}
		for i := range values {
			for j := i % 3; j < len(values); j += 3 {
				s := set(i, j)
				e := tab.Find(s)
				if key := strings.Join(s, "\xff"); added[key] != (e != nil) || e != nil && e.M.labels != tab.text.Write(s) {
					t.Fatalf("%.200q: found %v", key, e != nil)
				}
			}
		}
	}
}

// Entries with the same hash are distinguished by their values.
func TestTableCollisions(t *testing.T) {
	t.Parallel()
	values := awkward()
	plan := TextOf([]string{"x", "y"}, nil)
	for _, u := range values {
		for _, v := range values {
			for _, s := range [][]string{{u, ""}, {"", u}, {u, v}} {
				text := plan.Write([]string{v, u})
				x, y := identify([]string{v, u}), identify(s)
				alike := len(s[0]) == len(v) && len(s[1]) == len(u)
				want := s[0] == v && s[1] == u
				if got := plan.same(text, s, alike); got != want {
					t.Fatalf("%.100q and %.100q: same %v", s, []string{v, u}, got)
				}
				if want && x != y {
					t.Fatalf("%.100q: two identities", s)
				}
				if x.a == y.a && x.b == y.b && x.c == y.c && x.d == y.d && x.id&0xffff == y.id&0xffff && x.id&otherMark != otherMark && len(u) <= maxWhole && len(v) <= maxWhole && !want {
					t.Fatalf("%.100q and %.100q have the same words", s, []string{v, u})
				}
			}
		}
	}
}

// Entries are added and removed in random order, while other goroutines look for some that stay,
// which they always find. The table has exactly the entries of a map, and its slots are neither
// used up nor far more than its entries need.
func TestTableRemove(t *testing.T) {
	t.Parallel()
	const staying = 20
	var tab Table[instrument]
	tab.Init(TextOf([]string{"x", "y"}, nil), func(m *instrument) string { return m.labels })
	add := func(values ...string) *Entry[instrument] {
		e := NewEntry[instrument](values)
		e.M.labels = tab.text.Write(values)
		tab.Add(e)
		return e
	}
	var stay [staying]*Entry[instrument]
	for i := range stay {
		stay[i] = add("stay", fmt.Sprint(i))
	}
	var stop atomic.Bool
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if e := tab.Find2("stay", fmt.Sprint(i%staying)); e != stay[i%staying] {
					t.Errorf("entry %d was not found while others were added and removed", i%staying)
					return
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	model := map[string]*Entry[instrument]{}
	for round := range 60_000 {
		key := fmt.Sprint(rnd.IntN(500))
		if round/10_000%2 == 1 { // phases with few entries
			key = fmt.Sprint(rnd.IntN(500), rnd.IntN(10))
		}
		e := tab.Find2("come and go", key)
		if e != model[key] {
			t.Fatalf("round %d: found %v, want %v", round, e, model[key])
		}
		switch {
		case e == nil && (round/10_000%2 == 0 || rnd.IntN(20) == 0):
			before := tab.State()
			model[key] = add("come and go", key)
			if tab.State() == before {
				t.Fatalf("round %d: an entry was added, but the state is the same", round)
			}
		case e != nil:
			delete(model, key)
			tab.Remove(e)
		}
		for key, e := range model { // any one
			if rnd.IntN(10) == 0 && round/10_000%2 == 1 {
				delete(model, key)
				tab.Remove(e)
			}
			break
		}
		slots := len(*tab.slots.Load())
		if n := tab.Len(); n != len(model)+staying || slots > max(fewest, 16*(n+slots/moves)) || int(tab.used.Load()) > slots/2+slots/moves {
			t.Fatalf("round %d: %d entries, want %d, in %d slots, of which %d are used", round, n, len(model)+staying, slots, tab.used.Load())
		}
	}
	stop.Store(true)
	wait.Wait()
	n := 0
	for e := range tab.All() {
		if n++; !slices.Contains(stay[:], e) && !slices.Contains(slices.Collect(maps.Values(model)), e) {
			t.Errorf("All yields %q", e.M.labels)
		}
	}
	if n != tab.Len() {
		t.Errorf("All yields %d of %d entries", n, tab.Len())
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("x%02d", i))
	}
	return names
}
