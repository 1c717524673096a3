//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/redisstore"
)

// cluster is three masters, each with a replica.
type cluster struct {
	t     *testing.T
	nodes []*server // masters first
	ids   []string
	*redis.ClusterClient
}

const clusterSlots = 16384

// startCluster starts the nodes and joins them to a Cluster, as redis-cli does.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	ctx := t.Context()
	c := &cluster{t: t}
	var addrs []string
	for i := range 6 {
		s := newServer(t)
		s.start("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "15000", "--cluster-replica-validity-factor", "0",
			"--repl-backlog-size", "1mb")
		c.nodes = append(c.nodes, s)
		addrs = append(addrs, s.addr())
		id, err := s.Do(ctx, "CLUSTER", "MYID").Text()
		if err != nil {
			t.Fatal(err)
		}
		c.ids = append(c.ids, id)
		if err := s.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := s.ClusterMeet(ctx, "127.0.0.1", c.nodes[0].port).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, s := range c.nodes[:3] {
		var slots []int // one by one: servers before 7.0 know no ranges
		for slot := i * clusterSlots / 3; slot < (i+1)*clusterSlots/3; slot++ {
			slots = append(slots, slot)
		}
		if err := s.ClusterAddSlots(ctx, slots...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	met := time.Now()
	for _, s := range c.nodes {
		s.await("know all nodes", func() bool {
			nodes, _ := s.ClusterNodes(ctx).Result()
			if time.Since(met) > 2*time.Second { // a slow handshake is dropped
				met = time.Now()
				for _, other := range c.nodes[1:] {
					other.ClusterMeet(ctx, "127.0.0.1", c.nodes[0].port)
				}
			}
			return strings.Count(nodes, " connected") == 6 && !strings.Contains(nodes, "handshake")
		})
	}
	for i, s := range c.nodes[3:] {
		if err := s.ClusterReplicate(ctx, c.ids[i]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range c.nodes {
		s.await("join the cluster", func() bool {
			info, _ := s.ClusterInfo(ctx).Result()
			repl, _ := s.Info(ctx, "replication").Result()
			return strings.Contains(info, "cluster_state:ok") && (i < 3 || strings.Contains(repl, "master_link_status:up"))
		})
	}
	c.ClusterClient = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.ClusterClient.Close() })
	return c
}

// url returns a URL with two of the nodes that no test kills.
func (c *cluster) url(query string) string {
	return "redis://" + c.nodes[1].addr() + "?cluster=true&addr=" + c.nodes[2].addr() +
		"&interval=50ms&alive=2s&timeout=5s&dial_timeout=1s&read_timeout=2s&" + query
}

// masterOf returns the index of the master that has a namespace's shard.
func (c *cluster) masterOf(namespace string, shard int) int {
	c.t.Helper()
	if shard > 0 {
		namespace += fmt.Sprint("/", shard)
	}
	slot, err := c.nodes[1].ClusterKeySlot(c.t.Context(), "gotheus:{"+namespace+"}:heads").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range 3 {
		if int(slot) < (i+1)*clusterSlots/3 {
			return i
		}
	}
	return -1
}

// namespaceOn returns a namespace whose first shard is on a master.
func (c *cluster) namespaceOn(master int) string {
	for i := 0; ; i++ {
		if ns := fmt.Sprint("ns", i); c.masterOf(ns, 0) == master {
			return ns
		}
	}
}

// All tests share a Cluster, since it takes seconds to make.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	t.Run("slot moves", c.testSlotMoves)
	t.Run("shards", c.testShards)
	t.Run("identities", c.testIdentities)
	t.Run("user's client", c.testClient)
	t.Run("masters die", c.testMastersDie) // last, since a master is gone afterwards
}

// A slot is moved key by key while processes count in it.
func (c *cluster) testSlotMoves(t *testing.T) {
	ctx := t.Context()
	ns := c.namespaceOn(1)
	key := func(group string) string { return "gotheus:{" + ns + "}:" + group }
	l := startLoad(t, c.url("ns="+ns))
	l.settle("before a move")
	slot, err := c.nodes[1].ClusterKeySlot(ctx, key("heads")).Result()
	if err != nil {
		t.Fatal(err)
	}
	do := func(s *server, args ...any) {
		t.Helper()
		if err := s.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	move := func(from, to int, keys ...string) {
		do(c.nodes[from], append([]any{"MIGRATE", "127.0.0.1", c.nodes[to].port, "", 0, 5000, "KEYS"}, toAny(keys)...)...)
	}
	for _, way := range [][2]int{{1, 2}, {2, 1}} {
		from, to := way[0], way[1]
		do(c.nodes[to], "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from])
		do(c.nodes[from], "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to])
		// Some keys have moved: commands with several keys get TRYAGAIN.
		move(from, to, key("heads"))
		l.count(l.vecs[0], 1)
		ask, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		if err := l.producers[0].Flush(ask); err == nil {
			t.Error("flushed while the keys of a commit are on two nodes")
		}
		cancel()
		for {
			keys, err := c.nodes[from].ClusterGetKeysInSlot(ctx, int(slot), 10).Result()
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) == 0 {
				break
			}
			move(from, to, keys[0])
			l.check("in the midst of a move")
		}
		// All keys have moved, the slot has not: every request is redirected (ASK).
		l.settle("while requests are led on")
		for _, i := range []int{to, from, 0} {
			do(c.nodes[i], "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
		}
		l.settle("after a move")
		if n, err := c.nodes[to].DBSize(ctx).Result(); err != nil || n == 0 {
			t.Errorf("%d keys on the node that has the slot now: %v", n, err)
		}
	}
	l.finish()
}

func toAny(list []string) []any {
	all := make([]any, len(list))
	for i, v := range list {
		all[i] = v
	}
	return all
}

// A namespace with shards is on all nodes and can be listed, measured and removed, and no process
// can use another number of shards.
func (c *cluster) testShards(t *testing.T) {
	ctx := t.Context()
	l := startLoad(t, c.url("ns=spread&shards=8"))
	l.settle("spread")
	ns, err := redisstore.OpenNamespace(c.url("ns=spread"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	keys, err := ns.Keys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i, s := range c.nodes[:3] {
		all, err := s.Client.Keys(ctx, "gotheus:{spread*").Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < 4 {
			t.Errorf("%d keys on master %d", len(all), i)
		}
		found = append(found, all...)
	}
	later, err := ns.Keys(ctx) // a process may have joined a shard meanwhile
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range found {
		if !slices.Contains(keys, k) && !slices.Contains(later, k) {
			t.Errorf("%s is not listed", k)
		}
	}
	for _, k := range keys {
		if slices.Contains(later, k) && !slices.Contains(found, k) {
			t.Errorf("%s is listed, but does not exist", k)
		}
	}
	if n, err := ns.Size(ctx); err != nil || n < 5000 {
		t.Errorf("%d bytes, %v", n, err)
	}
	for _, shards := range []int{1, 4, 9} {
		r := open(t, c.url("ns=spread&shards="+strconv.Itoa(shards)))
		r.NewCounter("lost_total", "Lost.", nil).Inc()
		err := r.Flush(ctx)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("this is shard 0 of 8, not 0 of %d", shards)) {
			t.Errorf("with %d shards: %v", shards, err)
		}
		if size, err := refuse(t, r); !errors.Is(err, gotheus.ErrStale) || size > 0 {
			t.Errorf("with another number of shards: %v, with a page of %d bytes", err, size)
		}
	}
	l.finish()
	for _, r := range append(l.producers, l.observer, l.late) {
		if err := r.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := ns.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	// Remaining processes restore only their own counts.
	if keys, err := ns.Keys(ctx); err != nil || len(keys) > 0 && len(keys) > 8*6 {
		t.Errorf("%d keys are left: %v", len(keys), err)
	}
}

// A program can use its own client.
func (c *cluster) testClient(t *testing.T) {
	config, err := redisstore.New(c.ClusterClient, &redisstore.Options{Namespace: "client", Shards: 3})
	if err != nil {
		t.Fatal(err)
	}
	r := newRegistry()
	if err := r.BindStore(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	r.NewCounter("c_total", "C.", nil).Add(3)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the user's client was closed: %v", err)
	}
	contains(t, page(t, open(t, c.url("ns=client&shards=3"))), "c_total 3")
}

// A master dies while processes count, in a namespace that is entirely on it and in one that is
// partly on it: there is no page until its replica has taken over; then every count is there once.
func (c *cluster) testMastersDie(t *testing.T) {
	alone := startLoad(t, c.url("ns="+c.namespaceOn(0)))
	spread := startLoad(t, c.url("ns=wide&shards=8"))
	alone.settle("before")
	spread.settle("before")
	for _, s := range c.nodes { // long until now, for slow machines
		if err := s.ConfigSet(t.Context(), "cluster-node-timeout", "1500").Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.nodes[0].kill()
	alone.refused("without its only node", c.nodes[3])
	spread.refused("without one of its nodes", c.nodes[3])
	for _, l := range []*load{alone, spread} {
		l.settle("after a failover")
	}
	c.nodes[3].await("be a master", c.nodes[3].isMaster)
	alone.finish()
	spread.finish()
}
