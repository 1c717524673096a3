//go:build linux

package redisstore_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/redisstore"
)

// A server that evicts keys causes one warning.
func TestEviction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, query string
		warned        bool
	}{
		{"noeviction", "", false}, {"allkeys-lru", "", true}, {"volatile-ttl", "", false}, {"volatile-ttl", "&expire=1h", true},
	} {
		t.Run(c.policy+c.query, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, "--maxmemory-policy", c.policy)
			log := new(lockedBuilder)
			client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true})
			defer client.Close()
			o := &redisstore.Options{Shards: 2, Logger: slog.New(slog.NewTextHandler(log, nil))}
			if c.query != "" {
				o.Expire = time.Hour
			}
			config, err := redisstore.New(client, o)
			if err != nil {
				t.Fatal(err)
			}
			r := newRegistry()
			if err := r.BindStore(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				page(t, r)
			}
			r.Close(t.Context())
			if n := strings.Count(log.String(), "evicts keys"); n > 1 || n == 1 != c.warned {
				t.Errorf("logged: %s", log)
			}
		})
	}
}

// Stores without a logger of their own log to the registry's, however they are bound.
func TestRegistryLogger(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--maxmemory-policy", "allkeys-lru")
	client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	for name, bind := range map[string]func(r *gotheus.Registry) error{
		"by URL": func(r *gotheus.Registry) error { return r.Bind(t.Context(), s.url("ns=url&shards=2")) },
		"with New": func(r *gotheus.Registry) error {
			c, err := redisstore.New(client, &redisstore.Options{Namespace: "new", Shards: 2})
			if err != nil {
				return err
			}
			return r.BindStore(t.Context(), c)
		},
		"with Open": func(r *gotheus.Registry) error {
			c, err := redisstore.Open(s.url("ns=open&shards=2"))
			if err != nil {
				return err
			}
			return r.BindStore(t.Context(), c)
		},
	} {
		log := new(lockedBuilder)
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.NewTextHandler(log, nil))})
		if err := bind(r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		page(t, r)
		r.Close(context.Background())
		if n := strings.Count(log.String(), "evicts keys"); n != 1 {
			t.Errorf("%s: logged: %s", name, log)
		}
	}
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
