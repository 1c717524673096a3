package redisstore

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

//go:embed server.lua
var serverSource string

//go:embed commit.lua
var commitSource string

//go:embed heads.lua
var headsSource string

var (
	commitScript = redis.NewScript(serverSource + commitSource)
	headsScript  = redis.NewScript(serverSource + headsSource)
)

// stampSize is the size of a stamp, which is before the value of a head: when it was put, in 6
// bytes, and by whose clock, in 4 bytes. The identity of a server has 16 digits.
const stampSize, timeSize, identitySize = 10, 6, 16

// shard is a store.Store in one hash tag of a namespace. LAYOUT.md specifies its keys.
type shard struct {
	client    redis.UniversalClient
	place     place
	namespace string
	prefix    string
	expire    time.Duration
	owner     *owner       // nil: the client is the user's
	first     bool         // the shard that logs, for all of them
	logger    *slog.Logger // nil: nothing is logged
	checked   atomic.Bool  // the eviction policy was checked
	tried     atomic.Bool  // the user's rights were checked
	// When the expiry of all generations of the base was last extended, and that of the keys
	// of all instances, see renew.
	renewed, renewedAll atomic.Int64
}

// owner closes a client when all stores that use it are closed.
type owner struct {
	client redis.UniversalClient
	server string // for messages
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
	at := place{serverOf(client), ns}
	if owner != nil {
		at.server = owner.server
	}
	for i := range n {
		c.Shards = append(c.Shards, &shard{
			client: client, place: at, namespace: ns, prefix: prefixOf(ns, i), expire: o.Expire, owner: owner, first: i == 0,
		})
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
		return fmt.Errorf("namespace %q: only letters, digits and . _ : - are allowed", ns)
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
	if !s.tried.Load() {
		if err := s.tryRights(ctx); err != nil {
			return nil, err
		}
	}
	if s.logger != nil && !s.checked.Swap(true) {
		s.checkEviction(ctx)
	}
	if len(reply)%2 != 1 || len(reply[0]) != stampSize+identitySize {
		return nil, s.malformed("the answer of a script")
	}
	now := reply[0][:stampSize]
	heads := make(map[string]store.Head, len(reply)/2+1)
	for i := 1; i < len(reply); i += 2 {
		name, v := reply[i], reply[i+1]
		if name == "" {
			continue // left by a commit that was refused, see commit.lua
		}
		if len(v) < stampSize {
			return nil, s.malformed("head " + name)
		}
		heads[name] = store.Head{Value: []byte(v[stampSize:]), Age: age(v[:stampSize], now)}
	}
	heads[store.HeadServer] = store.Head{Value: []byte(reply[0][stampSize:])}
	return heads, nil
}

// age returns the time between two stamps. It is 0, which means that it is not known, if they are
// from different servers, whose clocks may differ, or if the clock was set back.
func age(put, now string) time.Duration {
	if put[timeSize:] != now[timeSize:] {
		return 0
	}
	return max(0, time.Duration(milliseconds(now)-milliseconds(put))*time.Millisecond)
}

func milliseconds(stamp string) int64 {
	var b [8]byte
	copy(b[8-timeSize:], stamp[:timeSize])
	return int64(binary.BigEndian.Uint64(b[:]))
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

// Close implements store.Store.
func (s *shard) Close() error { return s.owner.close() }
