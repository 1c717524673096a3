package storetest_test

import (
	"context"
	"errors"
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

func (s changed) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	heads, err := s.Store.Heads(ctx, names)
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

func (s deaf) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	return s.Store.Heads(context.WithoutCancel(ctx), names)
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

func (s *keeping) Heads(ctx context.Context, names []string) (heads map[string]store.Head, err error) {
	if s.heads == nil {
		s.heads, err = s.Store.Heads(ctx, names)
	}
	return maps.Clone(s.heads), err
}

// The tests fail for a store that violates a rule, and name the rule.
func TestBroken(t *testing.T) {
	t.Parallel()
	for name, b := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := again(t, "^TestShardedStore$/^"+b.rule+"$", brokenEnv+"="+name)
			if err == nil || !strings.Contains(out, "--- FAIL: TestShardedStore/"+b.rule) || strings.Contains(out, "panic:") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// misused are Stores that cannot be used, and how the tests fail for them.
var misused = map[string]struct {
	want string
	o    storetest.Stores
}{
	"nothing":  {"Stores.Fresh is nil: it must make a new, empty place", storetest.Stores{}},
	"no Fresh": {"Stores.Fresh is nil: it must make a new, empty place", storetest.Stores{Open: inMemory(1).Open}},
	"no Open":  {"Stores.Open is nil: it must open the stores", storetest.Stores{Fresh: inMemory(1).Fresh}},
	"nil Config": {"Open: store: invalid argument: the Config is nil", opens(func(string) (*store.Config, error) {
		return nil, nil
	})},
	"no shards": {"Open: store: invalid argument: Config.Shards is empty", opens(func(string) (*store.Config, error) {
		return new(store.Config), nil
	})},
	"nil shard": {"Open: store: invalid argument: Config.Shards[0] is nil", opens(func(string) (*store.Config, error) {
		return &store.Config{Shards: []store.Store{nil}}, nil
	})},
	"nil pointer": {"Open: store: invalid argument: Config.Shards[0] is a nil *storetest_test.keeping", opens(func(string) (*store.Config, error) {
		return &store.Config{Shards: []store.Store{(*keeping)(nil)}}, nil
	})},
	"an error": {"Open: no such place", opens(func(string) (*store.Config, error) {
		return nil, errors.New("no such place")
	})},
}

func opens(open func(string) (*store.Config, error)) storetest.Stores {
	return storetest.Stores{Fresh: inMemory(1).Fresh, Open: open}
}

const misusedEnv = "STORETEST_MISUSED"

// The tests fail, and do not panic, with Stores that cannot be used.
func TestMisused(t *testing.T) {
	t.Parallel()
	if name := os.Getenv(misusedEnv); name != "" {
		o := misused[name].o
		t.Run("Store", func(t *testing.T) { storetest.TestStore(t, o) })
		t.Run("Backend", func(t *testing.T) { storetest.TestBackend(t, o) })
		return
	}
	for name, c := range misused {
		for test, args := range map[string][]string{
			"TestMisused/Store":   nil,
			"TestMisused/Backend": nil,
			"BenchmarkMisused":    {"-test.bench", "^BenchmarkMisused$", "-test.benchtime", "1x"},
		} {
			out, err := again(t, "^"+strings.ReplaceAll(test, "/", "$/^")+"$", misusedEnv+"="+name, args...)
			if err == nil || strings.Contains(out, "panic:") || !strings.Contains(out, c.want) || !strings.Contains(out, "--- FAIL: "+test) {
				t.Errorf("%s: %s: %v, no %s in\n%s", name, test, err, c.want, out)
			}
		}
	}
}

func BenchmarkMisused(b *testing.B) {
	name := os.Getenv(misusedEnv)
	if name == "" {
		b.Skip("it fails; TestMisused runs it")
	}
	storetest.BenchmarkStore(b, misused[name].o)
}

// This test binary has no TestMain that calls Worker, so it must not become a child process.
func TestNoWorker(t *testing.T) {
	t.Parallel()
	o := inMemory(1)
	if os.Getenv(misusedEnv) != "" {
		o.Processes = true
		storetest.TestBackend(t, o)
		return
	}
	out, err := again(t, "^TestNoWorker$", misusedEnv+"=no worker")
	if err == nil || !strings.Contains(out, "TestMain has not called Worker") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestWorkerWithoutOpen(t *testing.T) {
	t.Parallel()
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "Worker: Stores.Open is nil") {
			t.Errorf("panics with %v", err)
		}
	}()
	storetest.Worker(storetest.Stores{})
}

// again runs a test in a process of its own, which may fail.
func again(t *testing.T, test, env string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run", test}, args...)...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
