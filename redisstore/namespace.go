package redisstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

// Namespace gives access to the keys of a namespace, with all its shards. It is safe for concurrent
// use.
type Namespace struct {
	client redis.UniversalClient
	place  place
	name   string
	owned  bool // whether Close closes the client
}

// NewNamespace returns the namespace with a name; "" means "default". It uses client and does not
// close it. The error wraps store.ErrInvalid: client is nil or the name is invalid.
func NewNamespace(client redis.UniversalClient, name string) (*Namespace, error) {
	if isNil(client) {
		return nil, noClient("NewNamespace")
	}
	if err := checkNamespace(name); err != nil {
		return nil, invalid("%w", err)
	}
	name = cmp.Or(name, defaultNamespace)
	return &Namespace{client: client, place: place{serverOf(client), name}, name: name}, nil
}

// OpenNamespace returns the namespace of a URL, see the package documentation. It does not wait for
// the server. The error wraps store.ErrInvalid: it is about the URL, of which it shows at most
// scheme, host and namespace. Close closes its connections.
func OpenNamespace(rawURL string) (*Namespace, error) {
	client, server, o, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	name := cmp.Or(o.Namespace, defaultNamespace)
	return &Namespace{client: client, place: place{server, name}, name: name, owned: true}, nil
}

// Close closes the connections of OpenNamespace. A client passed to NewNamespace stays open.
func (n *Namespace) Close() error {
	if !n.owned {
		return nil
	}
	return n.client.Close()
}

// Keys returns the existing keys of the namespace, with those of all shards, in ascending order. It
// does not scan the server's other keys.
func (n *Namespace) Keys(ctx context.Context) ([]string, error) {
	shards, err := n.keysByShard(ctx)
	keys := slices.Concat(shards...)
	slices.Sort(keys)
	return keys, err
}

// keysByShard returns the keys of each possible shard.
func (n *Namespace) keysByShard(ctx context.Context) ([][]string, error) {
	var fields [store.MaxShards]*redis.StringSliceCmd
	if _, err := n.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range fields {
			fields[i] = p.HKeys(ctx, prefixOf(n.name, i)+"heads")
		}
		return nil
	}); err != nil {
		return nil, n.place.explain(err)
	}
	candidates, exist := make([][]string, len(fields)), make([][]*redis.IntCmd, len(fields))
	if _, err := n.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range fields {
			prefix := prefixOf(n.name, i)
			list := []string{prefix + "heads", prefix + "f", prefix + "d", prefix + "b"}
			for _, f := range fields[i].Val() {
				if g := groupOf(f); g != "" {
					list = append(list, prefix+g)
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
		return nil, n.place.explain(err)
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

// Size returns the memory that the servers report for the namespace, in bytes.
func (n *Namespace) Size(ctx context.Context) (bytes int64, err error) {
	keys, err := n.Keys(ctx)
	if err != nil {
		return 0, err
	}
	for _, k := range keys {
		used, err := n.client.MemoryUsage(ctx, k, 0).Result() // 0: all fields
		if err != nil && err != redis.Nil {
			return 0, n.place.explain(err)
		}
		bytes += used
	}
	return bytes, nil
}

// Remove removes the namespace with all its shards. Live processes restore what they have counted.
func (n *Namespace) Remove(ctx context.Context) error {
	shards, err := n.keysByShard(ctx)
	for _, keys := range slices.Backward(shards) { // the first one records their number
		if len(keys) > 0 && err == nil {
			if err = n.client.Unlink(ctx, keys...).Err(); err != nil {
				err = n.place.explain(err)
			}
		}
	}
	return err
}
