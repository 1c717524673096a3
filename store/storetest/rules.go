package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// TestStore checks that a store keeps to the rules of store.Store, and that counts in it are exact
// over a network that loses requests and answers, duplicates, delays and hangs, and when the store
// loses data. The rules are checked on the first shard; if there are several, their records must be
// separate.
func TestStore(t *testing.T, o Stores) {
	o.check(t)
	for _, c := range []struct {
		name, rule string
		run        func(t *testing.T, a, b store.Store)
	}{
		{"Empty", "an empty store has no heads and no parts: Get returns nil for parts that do not exist", testEmpty},
		{"Commit", "a Commit puts heads and parts, and removes heads that are nil and dropped groups; the next call of any process sees its changes", testCommit},
		{"Conditions", "a Commit changes nothing unless all heads in If have the given values, nil meaning that the head does not exist; the error then wraps ErrConflict", testConditions},
		{"Names", "Heads returns the heads with the given names, without those that do not exist, and all heads if names is nil", testNames},
		{"Bytes", "values are arbitrary bytes of any length and come back unchanged; an empty value is not the same as no value", testBytes},
		{"Random", "the store behaves like one in memory for random calls", testRandom},
		{"Concurrent", "commits of all processes take effect one after another", testOneByOne},
		{"Age", "the age of a head is the time since it was last put, even with the same value", testAge},
		{"Context", "calls return when their context ends", testContext},
		{"Ownership", "arguments are not kept, and results belong to the caller", testOwnership},
		{"Totals", "counts in the store are exact, although calls or their answers get lost, are duplicated, or arrive late", testTotals},
		{"Loss", "live processes restore a store that loses everything", testLoss},
		{"Replica", "live processes restore the last commits of a store that goes back to the state of a replica", testReplica},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", c.rule)
				}
			})
			place := o.Fresh(t)
			a, b := opened(t, o, place), opened(t, o, place)
			c.run(t, a[0], b[0])
		})
	}
	t.Run("Shards", func(t *testing.T) {
		place := o.Fresh(t)
		testShards(t, opened(t, o, place), opened(t, o, place))
	})
}

// opened opens the stores in a place, and closes them at the end of the test.
func opened(t testing.TB, o Stores, place string) []store.Store {
	t.Helper()
	shards, err := o.in(place)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		for _, s := range shards {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	})
	return shards
}

// testShards checks that each shard has its own records, the same for everyone who opens the place.
func testShards(t *testing.T, a, b []store.Store) {
	if len(a) != len(b) {
		t.Fatalf("Open has returned %d and then %d shards", len(a), len(b))
	}
	text := func(i int) []byte { return fmt.Append(nil, "shard ", i) }
	for i, s := range a {
		commit(t, s, &store.Commit{Heads: map[string][]byte{"meta": text(i)}, Parts: map[store.Key][]byte{key1: text(i)}})
	}
	for i, s := range b {
		expect(t, s, map[string]string{"meta": string(text(i))}, map[store.Key][]byte{key1: text(i)})
	}
}

func commit(t *testing.T, s store.Store, c *store.Commit) {
	t.Helper()
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// expect compares all heads, and some parts.
func expect(t *testing.T, s store.Store, heads map[string]string, parts map[store.Key][]byte) {
	t.Helper()
	got, err := s.Heads(t.Context(), nil)
	if err != nil {
		t.Fatalf("Heads: %v", err)
	}
	delete(got, store.HeadServer)
	for name, h := range got {
		if want, ok := heads[name]; !ok || want != string(h.Value) {
			t.Errorf("Heads has %s = %.40q, want %.40q, %v", name, h.Value, want, ok)
		}
	}
	for name := range heads {
		if _, ok := got[name]; !ok {
			t.Errorf("Heads has no %s", name)
		}
	}
	var keys []store.Key
	for k := range parts {
		keys = append(keys, k)
	}
	values, err := s.Get(t.Context(), keys)
	if err != nil || len(values) != len(keys) {
		t.Fatalf("Get: %v, and %d parts, want %d", err, len(values), len(keys))
	}
	for i, k := range keys {
		if want := parts[k]; !bytes.Equal(values[i], want) || (values[i] == nil) != (want == nil) {
			t.Errorf("Get of %v: %.40q, want %.40q (nil: %v, %v)", k, values[i], want, values[i] == nil, want == nil)
		}
	}
}

var (
	key1 = store.Key{Group: "d", Part: 0}
	key2 = store.Key{Group: "d", Part: 1<<32 - 1}
	key3 = store.Key{Group: "i0123456789abcdef", Part: 7}
)

func testEmpty(t *testing.T, a, _ store.Store) {
	expect(t, a, nil, map[store.Key][]byte{key1: nil, key3: nil})
	expect(t, a, nil, nil)
}

func testCommit(t *testing.T, a, b store.Store) {
	commit(t, a, &store.Commit{
		Heads: map[string][]byte{"meta": []byte("1"), "base": []byte("2")},
		Parts: map[store.Key][]byte{key1: []byte("x"), key2: []byte("y"), key3: []byte("z")},
	})
	heads := map[string]string{"meta": "1", "base": "2"}
	parts := map[store.Key][]byte{key1: []byte("x"), key2: []byte("y"), key3: []byte("z"), {Group: "d", Part: 1}: nil}
	expect(t, b, heads, parts)
	commit(t, b, &store.Commit{Heads: map[string][]byte{"base": nil, "never": nil, "meta": []byte("3")}, Parts: map[store.Key][]byte{key1: []byte("w")}, Drop: []string{key3.Group, "b"}})
	expect(t, a, map[string]string{"meta": "3"}, map[store.Key][]byte{key1: []byte("w"), key2: []byte("y"), key3: nil})
}

func testConditions(t *testing.T, a, b store.Store) {
	commit(t, a, &store.Commit{If: map[string][]byte{"meta": nil}, Heads: map[string][]byte{"meta": []byte("1"), "base": []byte("2")}})
	for name, cond := range map[string]map[string][]byte{
		"another value":                    {"meta": []byte("2")},
		"a head that exists":               {"meta": nil},
		"a head that does not exist":       {"x": []byte("1")},
		"one of two heads":                 {"meta": []byte("1"), "base": []byte("1")},
		"a longer value":                   {"meta": []byte("11")},
		"an empty value of a missing head": {"x": {}},
	} {
		err := b.Commit(t.Context(), &store.Commit{
			If:    cond,
			Heads: map[string][]byte{"meta": []byte("9"), "new": []byte("9"), "base": nil},
			Parts: map[store.Key][]byte{key1: []byte("9")},
		})
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("If with %s: error %v, want one that wraps ErrConflict", name, err)
		}
		expect(t, a, map[string]string{"meta": "1", "base": "2"}, map[store.Key][]byte{key1: nil})
	}
	commit(t, b, &store.Commit{If: map[string][]byte{"meta": []byte("1"), "base": []byte("2"), "x": nil}, Heads: map[string][]byte{"meta": []byte("2")}})
	expect(t, a, map[string]string{"meta": "2", "base": "2"}, nil)
}

func testBytes(t *testing.T, a, b store.Store) {
	all := make([]byte, 200_000)
	for i := range all {
		all[i] = byte(i * i >> 3)
	}
	commit(t, a, &store.Commit{
		Heads: map[string][]byte{"meta": all[:5000], "base": {}},
		Parts: map[store.Key][]byte{key1: all, key2: {}, key3: {0}},
	})
	expect(t, b, map[string]string{"meta": string(all[:5000]), "base": ""}, map[store.Key][]byte{key1: all, key2: {}, key3: {0}})
	commit(t, b, &store.Commit{If: map[string][]byte{"meta": all[:5000], "base": {}}, Heads: map[string][]byte{"base": []byte("1")}})
}

func testRandom(t *testing.T, a, b store.Store) {
	rnd := rand.New(rand.NewPCG(1, 1))
	model := new(backendtest.Memory)
	names := []string{"meta", "base", "i0000000000000001", "x0000000000000001"}
	groups := []string{"d", "b", "i0000000000000001"}
	value := func() []byte { return []byte(fmt.Sprint(rnd.IntN(3))) }
	keys := make(map[store.Key][]byte)
	for range 300 {
		c := &store.Commit{If: make(map[string][]byte), Heads: make(map[string][]byte), Parts: make(map[store.Key][]byte)}
		for range rnd.IntN(3) {
			name := names[rnd.IntN(len(names))]
			c.If[name] = value()
			if now, _ := model.Heads(t.Context(), nil); rnd.IntN(4) > 0 {
				c.If[name] = now[name].Value // mostly right
			}
		}
		for range rnd.IntN(3) {
			name := names[rnd.IntN(len(names))]
			if c.Heads[name] = value(); rnd.IntN(4) == 0 {
				c.Heads[name] = nil
			}
		}
		dropped := ""
		if rnd.IntN(10) == 0 {
			dropped = groups[rnd.IntN(len(groups))]
			c.Drop = []string{dropped}
		}
		for range rnd.IntN(4) {
			if k := (store.Key{Group: groups[rnd.IntN(len(groups))], Part: rnd.Uint32N(5)}); k.Group != dropped {
				c.Parts[k], keys[k] = value(), nil
			}
		}
		want := model.Commit(t.Context(), c)
		got := []store.Store{a, b}[rnd.IntN(2)].Commit(t.Context(), c)
		if errors.Is(want, store.ErrConflict) != errors.Is(got, store.ErrConflict) || (want == nil) != (got == nil) {
			t.Fatalf("Commit: %v, want %v", got, want)
		}
	}
	now, _ := model.Heads(t.Context(), nil)
	heads := make(map[string]string)
	for name, h := range now {
		heads[name] = string(h.Value)
	}
	for k := range keys {
		v, _ := model.Get(t.Context(), []store.Key{k})
		keys[k] = v[0]
	}
	expect(t, a, heads, keys)
}

func testOneByOne(t *testing.T, a, b store.Store) {
	const workers, rounds = 4, 25
	commit(t, a, &store.Commit{Heads: map[string][]byte{"meta": {0}}})
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			s := []store.Store{a, b}[i%2]
			for done := 0; done < rounds; {
				heads, err := s.Heads(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if len(heads["meta"].Value) != 1 {
					t.Errorf("Heads has meta = %q, want one byte", heads["meta"].Value)
					return
				}
				n := heads["meta"].Value[0]
				err = s.Commit(t.Context(), &store.Commit{
					If:    map[string][]byte{"meta": {n}},
					Heads: map[string][]byte{"meta": {n + 1}},
					Parts: map[store.Key][]byte{{Group: "d", Part: uint32(n)}: {byte(i)}},
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	heads, err := a.Heads(t.Context(), nil)
	if err != nil || !bytes.Equal(heads["meta"].Value, []byte{workers * rounds}) {
		t.Errorf("%d commits have counted to %d, %v", workers*rounds, heads["meta"].Value, err)
	}
}

func testAge(t *testing.T, a, b store.Store) {
	commit(t, a, &store.Commit{Heads: map[string][]byte{"meta": []byte("1"), "base": []byte("1")}})
	age := func(name string) time.Duration {
		t.Helper()
		heads, err := b.Heads(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := heads[name].Age; d < -20*time.Millisecond {
			t.Fatalf("the age of %s is %v", name, d)
		}
		return heads[name].Age
	}
	for begun := time.Now(); age("meta") < 100*time.Millisecond; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("a head does not age")
		}
	}
	commit(t, b, &store.Commit{Heads: map[string][]byte{"meta": []byte("1")}})
	if meta, base := age("meta"), age("base"); meta >= base {
		t.Errorf("a head that was put again is %v old, one that was not %v", meta, base)
	}
}

func testNames(t *testing.T, a, b store.Store) {
	commit(t, a, &store.Commit{Heads: map[string][]byte{"meta": []byte("1"), "base": []byte("2"), "dir": []byte("3")}})
	for _, names := range [][]string{{"meta"}, {"dir", "none", "meta"}, {"none"}, {}} {
		heads, err := b.Heads(t.Context(), names)
		if err != nil {
			t.Fatalf("Heads: %v", err)
		}
		delete(heads, store.HeadServer)
		want := 0
		for _, name := range names {
			if name == "none" {
				continue
			}
			if want++; len(heads[name].Value) != 1 {
				t.Errorf("Heads for %q has no %s", names, name)
			}
		}
		if len(heads) != want {
			t.Errorf("Heads for %q returns %d heads, want %d", names, len(heads), want)
		}
	}
}

func testContext(t *testing.T, a, _ store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Heads(ctx, nil); err == nil {
		t.Error("Heads ignores its context")
	}
	if _, err := a.Get(ctx, []store.Key{key1}); err == nil {
		t.Error("Get ignores its context")
	}
	if err := a.Commit(ctx, &store.Commit{Heads: map[string][]byte{"meta": {1}}}); err == nil {
		t.Error("Commit ignores its context")
	}
}

func testOwnership(t *testing.T, a, b store.Store) {
	value := []byte("abc")
	commit(t, a, &store.Commit{Heads: map[string][]byte{"meta": value}, Parts: map[store.Key][]byte{key1: value}})
	value[0] = 'x'
	for range 2 {
		expect(t, b, map[string]string{"meta": "abc"}, map[store.Key][]byte{key1: []byte("abc")})
		if t.Failed() {
			return
		}
		heads, _ := b.Heads(t.Context(), nil)
		parts, _ := b.Get(t.Context(), []store.Key{key1})
		heads["meta"].Value[0], parts[0][0] = 'y', 'y'
	}
}
