package redisstore

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
)

//go:embed commit.lua
var commitSource string

//go:embed heads.lua
var headsSource string

var (
	commitScript = redis.NewScript(commitSource)
	headsScript  = redis.NewScript(headsSource)
)

// stampSize is how many digits precede the value of a head: when it was put, in ms by the server's clock.
const stampSize = 15

// Store implements backend.Store in a namespace of a Redis or Valkey server. LAYOUT.md has its keys, to the
// byte. Where a namespace has several shards, it is the first of them, but Keys, Size and Remove are about all. It is
// safe for concurrent use.
type Store struct {
	client    redis.UniversalClient
	namespace string
	prefix    string
	expire    time.Duration
	owner     *owner                   // nil: the client is the user's
	logger    *slog.Logger             // nil: nothing is logged
	checked   atomic.Bool              // for eviction
	bases     atomic.Pointer[[]string] // groups of the base that there were when the heads were last read
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

// StoreOptions are the options of a Store. The zero value is good.
type StoreOptions struct {
	// Namespace tells deployments apart that share a server; "": "default". It may hold letters, digits
	// and any of . _ : -
	Namespace string
	// Expire is after how long without any process the keys vanish; 0: never. Every publication of any
	// process puts it off. It is at least an hour, and no less than processes count as alive without a sign of life.
	Expire time.Duration
}

// NewStore returns a Store that uses a client, which it does not close.
func NewStore(client redis.UniversalClient, o *StoreOptions) (*Store, error) {
	s := &Store{client: client}
	ns := defaultNamespace
	if o != nil {
		s.expire = o.Expire
		if o.Namespace != "" {
			ns = o.Namespace
		}
	}
	if i := strings.IndexFunc(ns, badInNamespace); i >= 0 {
		return nil, fmt.Errorf("redis: namespace %q: it may hold letters, digits and any of . _ : - only", ns)
	}
	if s.expire != 0 && s.expire < time.Hour {
		return nil, fmt.Errorf("redis: expire %v: at least an hour, since the words of dead processes are kept for some time", s.expire)
	}
	s.namespace, s.prefix = ns, prefixOf(ns, 0)
	return s, nil
}

const defaultNamespace = "default"

// prefixOf returns how the keys of a shard begin. The hash tag of the first has no number, whether there are others or
// not, so that processes that were told different numbers meet. No namespace has a slash.
func prefixOf(namespace string, shard int) string {
	if shard > 0 {
		namespace += "/" + strconv.Itoa(shard)
	}
	return "gotheus:{" + namespace + "}:"
}

// shards returns the stores of all shards of the namespace, s being the first.
func (s *Store) shards(n int) []backend.Store {
	list := []backend.Store{s}
	for i := 1; i < n; i++ {
		list = append(list, &Store{client: s.client, namespace: s.namespace, prefix: prefixOf(s.namespace, i), expire: s.expire, owner: s.owner})
	}
	if s.owner != nil {
		s.owner.users.Store(int32(n))
	}
	return list
}

func badInNamespace(r rune) bool {
	return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
}

func (s *Store) headsKey() string { return s.prefix + "heads" }

// Heads implements backend.Store.
func (s *Store) Heads(ctx context.Context) (map[string]backend.Head, error) {
	reply, err := headsScript.Run(ctx, s.client, []string{s.headsKey()}).StringSlice()
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if s.logger != nil && !s.checked.Swap(true) {
		s.checkEviction(ctx)
	}
	if len(reply)%2 != 1 {
		return nil, fmt.Errorf("redis: %s: not what this package has stored", s.headsKey())
	}
	now, err := strconv.ParseInt(reply[0], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("redis: the server's time: %w", err)
	}
	heads := make(map[string]backend.Head, len(reply)/2)
	bases := []string{"b"}
	for i := 1; i < len(reply); i += 2 {
		v := reply[i+1]
		if len(v) < stampSize {
			return nil, fmt.Errorf("redis: %s: field %s: not what this package has stored", s.headsKey(), reply[i])
		}
		put, err := strconv.ParseInt(v[:stampSize], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("redis: %s: field %s: %w", s.headsKey(), reply[i], err)
		}
		if strings.HasPrefix(reply[i], "g") {
			bases = append(bases, baseOf(reply[i]))
		}
		heads[reply[i]] = backend.Head{Value: []byte(v[stampSize:]), Age: time.Duration(now-put) * time.Millisecond}
	}
	s.bases.Store(&bases)
	return heads, nil
}

// Get implements backend.Store.
func (s *Store) Get(ctx context.Context, keys []backend.Key) ([][]byte, error) {
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

// Commit implements backend.Store: it is one script, whose keys have one hash tag.
func (s *Store) Commit(ctx context.Context, c *backend.Commit) error {
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
	if s.expire > 0 { // of all that must stay
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
		return fmt.Errorf("redis: head %s: %w", done, backend.ErrConflict)
	}
	return nil
}

// checkEviction warns of a server that removes what it should keep. It is asked once, and need not answer.
func (s *Store) checkEviction(ctx context.Context) {
	info, err := s.client.Info(ctx, "memory").Result()
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(info, "\nmaxmemory_policy:")
	policy, _, _ := strings.Cut(rest, "\r")
	if strings.HasPrefix(policy, "allkeys-") || strings.HasPrefix(policy, "volatile-") && s.expire > 0 {
		s.logger.Warn("gotheus: the server evicts keys when its memory is used up, metrics too: what dead processes have counted would be lost; "+
			"set maxmemory-policy to noeviction, or to a volatile one without the option expire", "namespace", s.namespace, "maxmemory-policy", policy)
	}
}

// failed returns err. The client of a Cluster looks anew for who has which slots: by itself, it goes on asking a node that is
// gone, until there is an answer, or for a minute.
func (s *Store) failed(ctx context.Context, err error) error {
	if c, ok := s.client.(interface{ ReloadState(context.Context) }); ok {
		c.ReloadState(ctx)
	}
	return err
}

// baseOf returns the group of the generation of the base that a head is about.
func baseOf(head string) string { return "b" + head[1:] }

// Close implements backend.Store.
func (s *Store) Close() error { return s.owner.close() }

// Keys returns all keys of the namespace that exist, those of all its shards, in ascending order. It asks for no others.
func (s *Store) Keys(ctx context.Context) ([]string, error) {
	shards, err := s.keysByShard(ctx)
	keys := slices.Concat(shards...)
	slices.Sort(keys)
	return keys, err
}

// keysByShard returns the keys of each shard, or of each that there could be.
func (s *Store) keysByShard(ctx context.Context) ([][]string, error) {
	var fields [syncer.MaxShards]*redis.StringSliceCmd
	if _, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range fields {
			fields[i] = p.HKeys(ctx, prefixOf(s.namespace, i)+"heads")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	candidates, exist := make([][]string, len(fields)), make([][]*redis.IntCmd, len(fields))
	if _, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range fields {
			prefix := prefixOf(s.namespace, i)
			list := []string{prefix + "heads", prefix + "f", prefix + "d", prefix + "b"}
			for _, f := range fields[i].Val() {
				switch {
				case len(f) != 17:
				case f[0] == 'g':
					list = append(list, prefix+baseOf(f))
				default: // an instance, alive or folded
					list = append(list, prefix+"i"+f[1:])
				}
			}
			slices.Sort(list)
			candidates[i] = slices.Compact(list)
			for _, k := range candidates[i] {
				exist[i] = append(exist[i], p.Exists(ctx, k))
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for i := range candidates {
		all := candidates[i]
		candidates[i] = nil
		for j, k := range all {
			if exist[i][j].Val() > 0 {
				candidates[i] = append(candidates[i], k)
			}
		}
	}
	return candidates, nil
}

// Size returns how many bytes of memory the servers use for the namespace, by their own account.
func (s *Store) Size(ctx context.Context) (bytes int64, err error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return 0, err
	}
	for _, k := range keys {
		n, err := s.client.MemoryUsage(ctx, k, 0).Result() // of all fields, not of a sample
		if err != nil && err != redis.Nil {
			return 0, err
		}
		bytes += n
	}
	return bytes, nil
}

// Remove removes the namespace with all its shards. Processes that are alive restore what they have counted.
func (s *Store) Remove(ctx context.Context) error {
	shards, err := s.keysByShard(ctx)
	for _, keys := range slices.Backward(shards) { // the first says how many there were, and goes last
		if len(keys) > 0 && err == nil {
			err = s.client.Unlink(ctx, keys...).Err()
		}
	}
	return err
}
