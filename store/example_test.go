package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/store"
)

// mapStore is a complete store.Store in maps, for the registries of one process.
type mapStore struct {
	mu    sync.Mutex
	heads map[string][]byte
	put   map[string]time.Time
	parts map[store.Key][]byte
}

func newMapStore() *mapStore {
	return &mapStore{heads: make(map[string][]byte), put: make(map[string]time.Time), parts: make(map[store.Key][]byte)}
}

func (s *mapStore) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	heads := make(map[string]store.Head)
	for name, value := range s.heads {
		if names != nil && !slices.Contains(names, name) {
			continue
		}
		heads[name] = store.Head{Value: slices.Clone(value), Age: time.Since(s.put[name])}
	}
	return heads, ctx.Err()
}

func (s *mapStore) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := make([][]byte, len(keys))
	for i, k := range keys {
		parts[i] = slices.Clone(s.parts[k]) // nil if there is none
	}
	return parts, ctx.Err()
}

func (s *mapStore) Commit(ctx context.Context, c *store.Commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for name, want := range c.If {
		if have, ok := s.heads[name]; ok != (want != nil) || !bytes.Equal(have, want) {
			return fmt.Errorf("mapstore: head %s: %w", name, store.ErrConflict)
		}
	}
	for _, group := range c.Drop {
		maps.DeleteFunc(s.parts, func(k store.Key, _ []byte) bool { return k.Group == group })
	}
	for k, part := range c.Parts {
		s.parts[k] = slices.Clone(part)
	}
	for name, value := range c.Heads {
		if delete(s.heads, name); value != nil {
			s.heads[name], s.put[name] = slices.Clone(value), time.Now()
		}
	}
	return nil
}

func (s *mapStore) Close() error { return nil }

// A driver makes a store available by a URL, here as "map:shop". Each name is one store.
func ExampleRegister() {
	var mu sync.Mutex
	byName := make(map[string]*mapStore)
	store.Register("map", func(_ context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
		if u.Opaque == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("mapstore: %w: URL %q: must be map: and a name, as in map:shop", store.ErrInvalid, store.RedactURL(u.String()))
		}
		mu.Lock()
		defer mu.Unlock()
		if byName[u.Opaque] == nil {
			byName[u.Opaque] = newMapStore()
		}
		return &store.Config{Shards: []store.Store{byName[u.Opaque]}}, nil
	})

	ctx := context.Background()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	if err := r.Bind(ctx, "map:shop"); err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close(ctx)
	r.NewCounter("jobs_done_total", "Jobs that are done.", nil).Add(2)
	r.WriteText(os.Stdout)
	// Output:
	// # HELP jobs_done_total Jobs that are done.
	// # TYPE jobs_done_total counter
	// jobs_done_total 2
}

// Scheme names that come from a configuration may be wrong.
func ExampleTryRegister() {
	err := store.TryRegister("My Store", func(context.Context, *url.URL, store.DriverOptions) (*store.Config, error) {
		return &store.Config{Shards: []store.Store{newMapStore()}}, nil
	})
	fmt.Println(errors.Is(err, store.ErrInvalid))
	// Output: true
}

// Two registries keep their metrics in one store, as two processes would.
func Example() {
	ctx := context.Background()
	mine := newMapStore()
	for range 2 {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
		if err := r.BindStore(ctx, &store.Config{Shards: []store.Store{mine}}); err != nil {
			fmt.Println(err)
			return
		}
		defer r.Close(ctx)
		r.NewCounter("jobs_done_total", "Jobs that are done.", nil).Add(2)
		r.WriteText(os.Stdout)
	}
	// Output:
	// # HELP jobs_done_total Jobs that are done.
	// # TYPE jobs_done_total counter
	// jobs_done_total 2
	// # HELP jobs_done_total Jobs that are done.
	// # TYPE jobs_done_total counter
	// jobs_done_total 4
}
