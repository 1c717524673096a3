//go:build linux

package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/redisstore"
)

// A job that closes leaves its counts in the server, and no process need be there then. A process
// that stays adds them to the base, and removes the rest.
func TestJobs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	job := func(url string) {
		t.Helper()
		r := open(t, url)
		r.NewCounter("jobs_total", "Jobs.", nil).Inc()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	parts := func(ns string) int64 {
		t.Helper()
		n, err := s.HLen(t.Context(), "gotheus:{"+ns+"}:b").Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 5 {
		job(s.url(""))
	}
	reader := open(t, s.url("interval=1h&alive=3h"))
	contains(t, page(t, reader), "jobs_total 5")
	foldAll(t, s, "default", "", 1)
	contains(t, page(t, reader), "jobs_total 5")
	if n := parts("default"); n != 1 {
		t.Errorf("the base has %d parts", n)
	}
	// If there are only jobs, they add each other's counts to the base.
	jobs := 0
	url := s.url("ns=jobs&interval=10ms&alive=20ms")
	s.await("have a base", func() bool {
		job(url)
		jobs++
		return parts("jobs") == 1
	})
	contains(t, page(t, open(t, url)), fmt.Sprint("jobs_total ", jobs))
}

// A process that leaves many series behind makes the keeper rewrite the base in pieces, and the old
// key is removed.
func TestLargeBase(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("interval=1h&alive=3h&expire=9h&timeout=1m")
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	reader := open(t, url)
	const series = 3500
	value := func(i int) float64 { return 0.1 * float64(1+i) } // takes eight bytes
	for round := 1; round <= 3; round++ {
		r := open(t, url)
		for f := range 4 {
			v := r.NewCounterVec(fmt.Sprintf("jobs%d_total", f), "Jobs.", nil, "x")
			for i := range series {
				v.With(fmt.Sprintf("%05d", i)).Add(value(i))
			}
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		sum := func(i int) (v float64) {
			for range round {
				v += value(i)
			}
			return v
		}
		exact := []string{fmt.Sprintf(`jobs0_total{x="00000"} %v`, sum(0)), fmt.Sprintf(`jobs3_total{x="%05d"} %v`, series-1, sum(series-1))}
		contains(t, page(t, reader), exact...)
		foldAll(t, s, "default", "&expire=9h&timeout=1m", 1)
		contains(t, page(t, reader), exact...)
		keys, err := s.Client.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(keys)
		if listed, err := ns.Keys(t.Context()); err != nil || !slices.Equal(listed, keys) {
			t.Errorf("Keys lists %q, %v; there are %q", listed, err, keys)
		}
		bases := 0
		for _, k := range keys {
			if gen, ok := strings.CutPrefix(k, "gotheus:{default}:b"); ok {
				if bases++; len(gen) != 16 {
					t.Errorf("%s: it was small enough for one commit", k)
				}
			}
			if ttl := s.TTL(t.Context(), k).Val(); ttl <= 8*time.Hour {
				t.Errorf("%s expires in %v", k, ttl)
			}
		}
		if bases != 1 {
			t.Errorf("%d keys of bases: %q", bases, keys)
		}
	}
	if err := ns.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys := s.Client.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("%q are left", keys)
	}
}

// Closing a registry leaves a client open that was passed to New, and closes that of a URL.
func TestClosed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	c, err := redisstore.New(client, &redisstore.Options{Shards: 2})
	if err != nil {
		t.Fatal(err)
	}
	r := newRegistry()
	if err := r.BindStore(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the user's client was closed: %v", err)
	}
	if c, err = redisstore.Open(s.url("shards=2")); err != nil {
		t.Fatal(err)
	}
	for i, shard := range c.Shards {
		if _, err := shard.Heads(t.Context(), nil); err != nil {
			t.Errorf("the client was closed with %d of 2 shards: %v", i, err)
		}
		if err := shard.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Shards[1].Heads(t.Context(), nil); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("the client is still open: %v", err)
	}
}

// A nil client is refused.
func TestNoClient(t *testing.T) {
	t.Parallel()
	for _, client := range []redis.UniversalClient{nil, (*redis.Client)(nil), (*redis.ClusterClient)(nil)} {
		if _, err := redisstore.New(client, nil); err == nil || !strings.Contains(err.Error(), "the client is nil") {
			t.Errorf("New(%#v): %v", client, err)
		}
		if _, err := redisstore.NewNamespace(client, "x"); err == nil || !strings.Contains(err.Error(), "the client is nil") {
			t.Errorf("NewNamespace(%#v): %v", client, err)
		}
	}
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	if _, err := redisstore.NewNamespace(client, "a/1"); err == nil || !strings.Contains(err.Error(), `namespace "a/1"`) {
		t.Errorf("a name that cannot be: %v", err)
	}
}
