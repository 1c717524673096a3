//go:build linux

package redisstore_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/redisstore"
	"github.com/gotheus/gotheus/store"
)

// who returns the head by which a server says who answers, and all others.
func who(t testing.TB, s store.Store, names []string) (identity string, heads map[string]store.Head) {
	t.Helper()
	heads, err := s.Heads(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	identity = string(heads[store.HeadServer].Value)
	if delete(heads, store.HeadServer); identity == "" {
		t.Errorf("Heads(%q) does not say who answers", names)
	}
	return identity, heads
}

// Every result of Heads says who answers: that stays the same while replicas come, and changes when
// the server starts again, when a replica takes over, and when a server was a replica meanwhile.
// Replicas do not answer.
func TestIdentity(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start("--appendonly", "yes", "--appendfsync", "always")
	p := newProxy(t, s.addr())
	st := openStore(t, "redis://"+p.addr()) // with retries: its connections are cut
	commit(t, st, &store.Commit{Heads: map[string][]byte{"meta": []byte("1")}})
	first, heads := who(t, st, nil)
	if len(heads) != 1 {
		t.Errorf("%d heads", len(heads))
	}
	same := func(what, want string) {
		t.Helper()
		for _, names := range [][]string{nil, {"meta"}, {"nosuch"}} {
			if got, heads := who(t, st, names); got != want || len(heads) > 1 {
				t.Errorf("%s: %q answers %q, with %d heads, not %q", what, got, names, len(heads), want)
			}
		}
	}
	other := func(what string, not ...string) string {
		t.Helper()
		got, _ := who(t, st, []string{"meta"})
		for _, n := range not {
			if got == n {
				t.Errorf("%s: the same answers", what)
			}
		}
		same(what, got)
		return got
	}
	same("at first", first)
	r := s.replica()
	same("with a replica", first)
	if _, err := openStore(t, r.url("max_retries=-1")).Heads(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("a replica answers: %v", err)
	}
	if err := openStore(t, r.url("max_retries=-1")).Commit(t.Context(), &store.Commit{Heads: map[string][]byte{"meta": nil}}); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("a replica commits: %v", err)
	}
	r.await("have the head", func() bool { return r.Exists(t.Context(), "gotheus:{default}:heads").Val() == 1 })
	if err := r.ReplicaOf(t.Context(), "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	p.lead(r.addr())
	promoted := other("after a failover", first)
	// The old master follows the new one for a while, and takes over again.
	if err := s.ReplicaOf(t.Context(), "127.0.0.1", r.port).Err(); err != nil {
		t.Fatal(err)
	}
	s.await("replicate", func() bool {
		info, _ := s.Info(t.Context(), "replication").Result()
		return strings.Contains(info, "master_link_status:up")
	})
	if err := s.ReplicaOf(t.Context(), "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	p.lead(s.addr())
	back := other("after a failover back", first, promoted)
	if err := s.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.start("--appendonly", "yes", "--appendfsync", "always")
	other("after a restart", first, promoted, back)
}

// Shards on different nodes are answered for by different servers.
func (c *cluster) testIdentities(t *testing.T) {
	config, err := redisstore.Open(c.url("ns=identities&shards=16"))
	if err != nil {
		t.Fatal(err)
	}
	byNode := make(map[int]string)
	for i, s := range config.Shards {
		defer s.Close()
		got, _ := who(t, s, []string{"meta"})
		node := c.masterOf("identities", i)
		if was, ok := byNode[node]; ok && was != got {
			t.Errorf("two servers on node %d", node)
		}
		byNode[node] = got
	}
	if len(byNode) != 3 || byNode[0] == byNode[1] || byNode[1] == byNode[2] || byNode[0] == byNode[2] {
		t.Errorf("identities %v", byNode)
	}
}

// The age of a head is that by the clock of the server that has stamped it. After a failover to a
// server with another clock it is not known, and it is never negative.
func TestAges(t *testing.T) {
	t.Parallel()
	a, b := startServer(t), startServer(t)
	stores := []store.Store{openStore(t, a.url("")), openStore(t, b.url(""))}
	for _, s := range stores {
		commit(t, s, &store.Commit{Heads: map[string][]byte{"meta": []byte("1"), "base": []byte("2")}})
	}
	const key, stampSize = "gotheus:{default}:heads", 10
	raw, err := a.HGet(t.Context(), key, "base").Bytes()
	if err != nil || len(raw) != stampSize+1 {
		t.Fatalf("a head of 1 byte is stored as %q: %v", raw, err)
	}
	shifted := func(d time.Duration) string {
		v := append([]byte(nil), raw...)
		ms := int64(0)
		for _, c := range v[:6] {
			ms = ms<<8 | int64(c)
		}
		ms += d.Milliseconds()
		for i := range 6 {
			v[5-i] = byte(ms >> (8 * i))
		}
		return string(v)
	}
	for _, c := range []struct {
		name    string
		on      int
		server  *server
		stamped string
		least   time.Duration
	}{
		{"now", 0, a, shifted(0), 0},
		{"an hour ago", 0, a, shifted(-time.Hour), time.Hour},
		{"in an hour: the clock was set back", 0, a, shifted(time.Hour), 0},
		{"by another server", 1, b, shifted(0), 0},
		{"by another server, whose clock is behind", 1, b, shifted(-time.Hour), 0},
		{"by another server, whose clock is ahead", 1, b, shifted(time.Hour), 0},
	} {
		if err := c.server.HSet(t.Context(), key, "base", c.stamped).Err(); err != nil {
			t.Fatal(err)
		}
		for _, names := range [][]string{nil, {"base"}} {
			_, heads := who(t, stores[c.on], names)
			age := heads["base"].Age
			if age < c.least || age > c.least+time.Minute || c.server == b && age != 0 {
				t.Errorf("%s: age %v", c.name, age)
			}
		}
	}
	// The next commit is stamped by the server that it is on.
	commit(t, stores[1], &store.Commit{If: map[string][]byte{"base": []byte("2")}, Heads: map[string][]byte{"base": []byte("2")}})
	b.await("know the age of its own", func() bool { _, heads := who(t, stores[1], nil); return heads["base"].Age > 0 })
}

// Heads of more names than a script can pass on at once.
func TestManyNames(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	st := openStore(t, s.url(""))
	put := make(map[string][]byte)
	var names []string
	for i := range 9000 {
		name := fmt.Sprintf("i%016x", i)
		names = append(names, name, fmt.Sprintf("x%016x", i))
		put[name] = []byte(name)
	}
	commit(t, st, &store.Commit{Heads: put})
	_, heads := who(t, st, names)
	for name := range put {
		if string(heads[name].Value) != name {
			t.Fatalf("%s is %q", name, heads[name].Value)
		}
	}
	if len(heads) != len(put) {
		t.Errorf("%d heads, want %d", len(heads), len(put))
	}
}

// A base in another generation does not expire while processes live that read few heads, and
// neither does what other instances have left; if there are many, a keeper sees to that.
func TestExpireOfOthers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const gen, id = "g0123456789abcdef", "i0000000000000001"
	begun := openStore(t, s.url("expire=24h"))
	commit(t, begun, &store.Commit{
		Heads: map[string][]byte{"meta": []byte("1"), gen: []byte("2"), foldedID: []byte("3"), "x" + liveID[1:]: []byte("4")},
		Parts: map[store.Key][]byte{{Group: "b" + gen[1:]}: []byte("v"), {Group: "f"}: []byte("w"), {Group: foldedID}: []byte("x"), {Group: liveID}: []byte("y"), {Group: id}: []byte("z")},
	})
	all := s.Client.Keys(t.Context(), "*").Val()
	if len(all) != 6 {
		t.Errorf("keys %q", all)
	}
	for _, c := range []struct {
		head  string
		many  bool
		keeps func(key string) bool
	}{
		{id, false, func(string) bool { return true }},
		{"k0", false, func(key string) bool { return !strings.HasSuffix(key, id) }},
		{id, true, func(key string) bool { return !strings.Contains(key, ":i") || strings.HasSuffix(key, id) }},
		{"k0", true, func(key string) bool { return !strings.HasSuffix(key, id) }},
	} {
		if c.many {
			many := make(map[string][]byte)
			for i := range 300 {
				many[fmt.Sprintf("x%016x", 2+i)] = []byte("6")
			}
			commit(t, begun, &store.Commit{Heads: many})
		}
		for _, k := range all {
			if ttl := s.TTL(t.Context(), k).Val(); ttl <= 23*time.Hour {
				t.Errorf("%s expires in %v", k, ttl)
			}
			s.Client.Expire(t.Context(), k, 2*time.Hour)
		}
		idle := openStore(t, s.url("expire=24h"))
		who(t, idle, []string{"meta"})
		commit(t, idle, &store.Commit{If: map[string][]byte{"none": nil}, Heads: map[string][]byte{c.head: []byte("5")}})
		for _, k := range all {
			if ttl := s.TTL(t.Context(), k).Val(); ttl > 23*time.Hour != c.keeps(k) {
				t.Errorf("after a commit of head %s, many %v, %s expires in %v", c.head, c.many, k, ttl)
			}
			s.Client.Expire(t.Context(), k, 24*time.Hour)
		}
		s.HDel(t.Context(), "gotheus:{default}:heads", c.head)
	}
}

// answering is a server that gives the same answer to each command.
func answering(t testing.TB, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1<<16)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					commands := max(1, strings.Count("\n"+string(b[:n]), "\n*"))
					if _, err := c.Write([]byte(strings.Repeat(answer, commands))); err != nil || !strings.HasPrefix(answer, "-") {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// dialTo returns a client of a program's own.
func dialTo(t testing.TB, addr string) redis.UniversalClient {
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.Close() })
	return c
}
