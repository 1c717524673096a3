package redisstore

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

//go:embed commit.lua
var commitSource string

//go:embed heads.lua
var headsSource string

var (
	commitScript = redis.NewScript(commitSource)
	headsScript  = redis.NewScript(headsSource)
)

// stampSize is the number of digits before the value of a head: when it was put, in ms by the
// server's clock.
const stampSize = 15

// shard is a store.Store in one hash tag of a namespace. LAYOUT.md specifies its keys.
type shard struct {
	client    redis.UniversalClient
	namespace string
	prefix    string
	expire    time.Duration
	owner     *owner                   // nil: the client is the user's
	first     bool                     // the shard that logs, for all of them
	logger    *slog.Logger             // nil: nothing is logged
	checked   atomic.Bool              // the eviction policy was checked
	bases     atomic.Pointer[[]string] // groups of the base as of the last Heads
}

// owner closes a client when all stores that use it are closed.
type owner struct {
	client redis.UniversalClient
	users  atomic.Int32
}

func (o *owner) close() error {
	if o != nil && o.users.Add(-1) == 0 {
		return o.client.Close()
	}
	return nil
}

// newConfig returns the stores of all shards of a namespace.
func newConfig(client redis.UniversalClient, o *Options, owner *owner) *store.Config {
	c := &store.Config{Options: store.Options{
		Interval: o.Interval, Alive: o.Alive, Timeout: o.Timeout, ServeStale: o.ServeStale, Logger: o.Logger,
	}}
	ns, n := cmp.Or(o.Namespace, defaultNamespace), max(o.Shards, 1)
	for i := range n {
		c.Shards = append(c.Shards, &shard{client: client, namespace: ns, prefix: prefixOf(ns, i), expire: o.Expire, owner: owner, first: i == 0})
	}
	if owner != nil {
		owner.users.Store(int32(n))
	}
	return c
}

const defaultNamespace = "default"

// prefixOf returns the prefix of a shard's keys. The first shard's hash tag has no number, even if
// there are others, so that processes with different numbers of shards notice each other. No
// namespace has a slash.
func prefixOf(namespace string, shard int) string {
	if shard > 0 {
		namespace += "/" + strconv.Itoa(shard)
	}
	return "gotheus:{" + namespace + "}:"
}

func checkNamespace(ns string) error {
	if i := strings.IndexFunc(ns, badInNamespace); i >= 0 {
		return invalid("namespace %q: only letters, digits and . _ : - are allowed", ns)
	}
	return nil
}

func badInNamespace(r rune) bool {
	return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
}

// SetLogger implements store.LoggerSetter.
func (s *shard) SetLogger(l *slog.Logger) {
	if s.first {
		s.logger = l
	}
}

func (s *shard) headsKey() string { return s.prefix + "heads" }

// Heads implements store.Store.
func (s *shard) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	if names != nil && len(names) == 0 {
		return map[string]store.Head{}, nil
	}
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = name
	}
	reply, err := headsScript.Run(ctx, s.client, []string{s.headsKey()}, args...).StringSlice()
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if s.logger != nil && !s.checked.Swap(true) {
		s.checkEviction(ctx)
	}
	if len(reply)%2 != 1 {
		return nil, fmt.Errorf("redisstore: %s: not in the format of this package", s.headsKey())
	}
	now, err := strconv.ParseInt(reply[0], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("redisstore: the server's time: %w", err)
	}
	heads := make(map[string]store.Head, len(reply)/2)
	bases := []string{"b"}
	for i := 1; i < len(reply); i += 2 {
		v := reply[i+1]
		if len(v) < stampSize {
			return nil, fmt.Errorf("redisstore: %s: field %s: not in the format of this package", s.headsKey(), reply[i])
		}
		put, err := strconv.ParseInt(v[:stampSize], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("redisstore: %s: field %s: %w", s.headsKey(), reply[i], err)
		}
		if strings.HasPrefix(reply[i], "g") {
			bases = append(bases, baseOf(reply[i]))
		}
		heads[reply[i]] = store.Head{Value: []byte(v[stampSize:]), Age: time.Duration(now-put) * time.Millisecond}
	}
	if names == nil {
		s.bases.Store(&bases)
	}
	return heads, nil
}

// Get implements store.Store.
func (s *shard) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	parts := make([][]byte, len(keys))
	places := make(map[string][]int)
	var groups []string
	for i, k := range keys {
		if places[k.Group] == nil {
			groups = append(groups, k.Group)
		}
		places[k.Group] = append(places[k.Group], i)
	}
	replies := make([]*redis.SliceCmd, len(groups))
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, g := range groups {
			fields := make([]string, len(places[g]))
			for j, at := range places[g] {
				fields[j] = field(keys[at].Part)
			}
			replies[i] = p.HMGet(ctx, s.prefix+g, fields...)
		}
		return nil
	})
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	for i, g := range groups {
		for j, v := range replies[i].Val() {
			if v, ok := v.(string); ok {
				parts[places[g][j]] = []byte(v)
			}
		}
	}
	return parts, nil
}

func field(part uint32) string { return strconv.FormatUint(uint64(part), 10) }

// Commit implements store.Store. It is one script; its keys have the same hash tag.
func (s *shard) Commit(ctx context.Context, c *store.Commit) error {
	keys := []string{s.headsKey()}
	index := make(map[string]int)
	key := func(group string) int {
		i, ok := index[group]
		if !ok {
			keys = append(keys, s.prefix+group)
			i = len(keys)
			index[group] = i
		}
		return i
	}
	args := make([]any, 0, 5+3*len(c.If)+3*len(c.Heads)+3*len(c.Parts)+len(c.Drop))
	heads := func(m map[string][]byte) {
		args = append(args, len(m))
		for name, v := range m {
			if v == nil {
				args = append(args, name, 0, "")
			} else {
				args = append(args, name, 1, v)
			}
		}
	}
	heads(c.If)
	heads(c.Heads)
	args = append(args, len(c.Parts))
	for k, v := range c.Parts {
		args = append(args, key(k.Group), field(k.Part), v)
	}
	args = append(args, len(c.Drop))
	for _, g := range c.Drop {
		args = append(args, key(g))
	}
	args = append(args, s.expire.Milliseconds())
	if s.expire > 0 { // the script extends the expiry of all keys
		key("f")
		key("d")
		if bases := s.bases.Load(); bases != nil {
			for _, group := range *bases {
				key(group)
			}
		}
		for name := range c.Heads {
			if strings.HasPrefix(name, "i") {
				key(name)
			}
		}
	}
	done, err := commitScript.Run(ctx, s.client, keys, args...).Text()
	if err != nil {
		return s.failed(ctx, err)
	}
	if done != "" {
		return fmt.Errorf("redisstore: head %s: %w", done, store.ErrConflict)
	}
	return nil
}

// checkEviction logs a warning if the server may evict keys. It runs once, and may fail.
func (s *shard) checkEviction(ctx context.Context) {
	info, err := s.client.Info(ctx, "memory").Result()
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(info, "\nmaxmemory_policy:")
	policy, _, _ := strings.Cut(rest, "\r")
	if strings.HasPrefix(policy, "allkeys-") || strings.HasPrefix(policy, "volatile-") && s.expire > 0 {
		s.logger.Warn("gotheus: the server evicts keys when it runs out of memory, which can lose the counts of dead processes; "+
			"set maxmemory-policy to noeviction, or to a volatile policy without the option expire", "namespace", s.namespace, "maxmemory-policy", policy)
	}
}

// failed returns err. It makes a Cluster's client reload its slot map, since the client would
// otherwise keep asking a dead node until that answers, or for a minute.
func (s *shard) failed(ctx context.Context, err error) error {
	if c, ok := s.client.(interface{ ReloadState(context.Context) }); ok {
		c.ReloadState(ctx)
	}
	return err
}

// baseOf returns the group for the head of a generation of the base.
func baseOf(head string) string { return "b" + head[1:] }

// Close implements store.Store.
func (s *shard) Close() error { return s.owner.close() }
