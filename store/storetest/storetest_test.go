package storetest_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
	"github.com/gotheus/gotheus/store/storetest"
)

var (
	memories sync.Map // by place
	places   atomic.Int64
)

// inMemory returns stores with some number of shards in the memory of this process. If the
// environment names one of broken, the stores are broken that way.
func inMemory(shards int) storetest.Stores {
	return storetest.Stores{
		Fresh: func(testing.TB) string {
			place := fmt.Sprint(places.Add(1))
			memories.Store(place, make([]backendtest.Memory, shards))
			return place
		},
		Open: func(place string) (*store.Config, error) {
			list, _ := memories.Load(place)
			c := new(store.Config)
			for i := range list.([]backendtest.Memory) {
				s := store.Store(&list.([]backendtest.Memory)[i])
				if spoil := broken[os.Getenv(brokenEnv)].spoil; spoil != nil {
					s = spoil(s)
				}
				c.Shards = append(c.Shards, s)
			}
			return c, nil
		},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.TestStore(t, inMemory(1))
}

func TestShardedStore(t *testing.T) {
	t.Parallel()
	storetest.TestStore(t, inMemory(3))
}

func TestBackend(t *testing.T) { storetest.TestBackend(t, inMemory(2)) }

func BenchmarkStore(b *testing.B) { storetest.BenchmarkStore(b, inMemory(1)) }

const brokenEnv = "STORETEST_BROKEN"

// broken are stores that violate a rule.
var broken = map[string]struct {
	rule  string
	spoil func(store.Store) store.Store
}{
	"ignores conditions": {"Conditions", func(s store.Store) store.Store {
		return changed{Store: s, commit: func(c *store.Commit) { c.If = nil }}
	}},
	"ignores Drop": {"Commit", func(s store.Store) store.Store {
		return changed{Store: s, commit: func(c *store.Commit) { c.Drop = nil }}
	}},
	"has no empty parts": {"Bytes", func(s store.Store) store.Store { return changed{Store: s, part: noEmpty} }},
	"has one age": {"Age", func(s store.Store) store.Store {
		return changed{Store: s, head: func(h *store.Head) { h.Age = time.Hour }}
	}},
	"works without context": {"Context", func(s store.Store) store.Store { return deaf{s} }},
	"keeps results":         {"Ownership", func(s store.Store) store.Store { return &keeping{Store: s} }},
	"mixes shards up":       {"Shards", func(store.Store) store.Store { return &shared }},
}

var shared backendtest.Memory

// changed is a Store that modifies commits and results.
type changed struct {
	store.Store
	commit func(*store.Commit)
	head   func(*store.Head)
	part   func([]byte) []byte
}

func noEmpty(part []byte) []byte {
	if len(part) == 0 {
		return nil
	}
	return part
}

func (s changed) Heads(ctx context.Context) (map[string]store.Head, error) {
	heads, err := s.Store.Heads(ctx)
	for name, h := range heads {
		if s.head != nil {
			s.head(&h)
			heads[name] = h
		}
	}
	return heads, err
}

func (s changed) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	parts, err := s.Store.Get(ctx, keys)
	for i := range parts {
		if s.part != nil {
			parts[i] = s.part(parts[i])
		}
	}
	return parts, err
}

func (s changed) Commit(ctx context.Context, c *store.Commit) error {
	d := *c
	if s.commit != nil {
		s.commit(&d)
	}
	return s.Store.Commit(ctx, &d)
}

// deaf is a Store that ignores contexts.
type deaf struct{ store.Store }

func (s deaf) Heads(ctx context.Context) (map[string]store.Head, error) {
	return s.Store.Heads(context.WithoutCancel(ctx))
}

func (s deaf) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	return s.Store.Get(context.WithoutCancel(ctx), keys)
}

func (s deaf) Commit(ctx context.Context, c *store.Commit) error {
	return s.Store.Commit(context.WithoutCancel(ctx), c)
}

// keeping is a Store that keeps the heads it has returned.
type keeping struct {
	store.Store
	heads map[string]store.Head
}

func (s *keeping) Heads(ctx context.Context) (heads map[string]store.Head, err error) {
	if s.heads == nil {
		s.heads, err = s.Store.Heads(ctx)
	}
	return maps.Clone(s.heads), err
}

// The tests fail for a store that violates a rule, and name the rule.
func TestBroken(t *testing.T) {
	t.Parallel()
	for name, b := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestShardedStore$/^"+b.rule+"$")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestShardedStore/"+b.rule) || strings.Contains(string(out), "panic:") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
