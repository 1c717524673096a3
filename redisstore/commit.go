package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

// Commit implements store.Store. It is one script; its keys have the same hash tag.
func (s *shard) Commit(ctx context.Context, c *store.Commit) error {
	var further []string
	if s.expire > 0 { // the script extends the expiry of all keys
		further = []string{"f", "d", "b"}
		for name := range c.Heads {
			if strings.HasPrefix(name, "i") {
				further = append(further, name)
			}
		}
		if err := s.renew(ctx, c); err != nil {
			return err
		}
	}
	done, err := s.run(ctx, c, nil, further)
	if err != nil {
		return err
	}
	if done != "" {
		return fmt.Errorf("redisstore: head %s: %w", done, store.ErrConflict)
	}
	return nil
}

// run runs the script of a commit, which also tries whether it could write some groups, and extends
// the expiry of others.
func (s *shard) run(ctx context.Context, c *store.Commit, tried, others []string) (differs string, err error) {
	keys := []string{s.headsKey()}
	index := make(map[string]int)
	write := func(group string) {
		if index[group] == 0 {
			keys = append(keys, s.prefix+group)
			index[group] = len(keys)
		}
	}
	for k := range c.Parts {
		write(k.Group)
	}
	for _, g := range tried {
		write(g)
	}
	written := len(keys) - 1
	for _, g := range c.Drop {
		keys = append(keys, s.prefix+g+"!") // never exists
	}
	for _, g := range c.Drop {
		keys = append(keys, s.prefix+g)
	}
	for _, g := range others {
		if index[g] == 0 && !slices.Contains(c.Drop, g) {
			keys = append(keys, s.prefix+g)
		}
	}
	args := make([]any, 0, 7+3*len(c.If)+3*len(c.Heads)+3*len(c.Parts))
	args = append(args, written, len(c.Drop), s.expire.Milliseconds(), s.longer().Milliseconds())
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
		args = append(args, index[k.Group], field(k.Part), v)
	}
	differs, err = commitScript.Run(ctx, s.client, keys, args...).Text()
	if err != nil {
		return "", s.failed(ctx, err)
	}
	return differs, nil
}

// renewals is how many times a process extends the expiry of the keys that its commits do not
// mention, before they would expire.
const renewals = 8

// renew extends the expiry of keys that a commit does not mention, if it is time to: every process
// does that for the generations of the base, and for the keys of all instances if these are few.
// Otherwise, one that puts a keeper's head does the latter: were it everybody, the cost would grow
// with the square of their number. Instances that have left, or were killed, do not renew their
// keys, which must last until the counts are in the base and are not needed elsewhere any more.
func (s *shard) renew(ctx context.Context, c *store.Commit) error {
	now := time.Now().UnixNano()
	last, instances := &s.renewed, false
	for name, value := range c.Heads {
		if strings.HasPrefix(name, "k") && value != nil {
			last, instances = &s.renewedAll, true
		}
	}
	if last.Load() >= now-int64(s.expire/renewals) {
		return nil
	}
	names, err := s.client.HKeys(ctx, s.headsKey()).Result()
	if err != nil {
		return s.failed(ctx, err)
	}
	instances = instances || len(names) <= renewedByAll
	var groups []string
	for _, name := range names {
		if g := groupOf(name); g != "" && (instances || name[0] == 'g') {
			groups = append(groups, g)
		}
	}
	// Not in the script: there may be thousands of keys, and others would wait for all of them.
	for some := range slices.Chunk(groups, renewedAtOnce) {
		if _, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, g := range some {
				p.PExpire(ctx, s.prefix+g, s.longer())
			}
			return nil
		}); err != nil {
			return s.failed(ctx, err)
		}
	}
	s.renewed.Store(now)
	if instances {
		s.renewedAll.Store(now)
	}
	return nil
}

const (
	renewedByAll  = 256 // heads
	renewedAtOnce = 500
)

// longer is the expiry of all keys but heads: what heads refer to must not expire first, and a
// keeper extends it at least four times per expire, since alive is at most half of that.
func (s *shard) longer() time.Duration { return s.expire + s.expire/4 }

// groupOf returns the group that exists if heads has this name: that of an instance, live or
// folded, or of a generation of the base. It returns "" for the other heads.
func groupOf(name string) string {
	switch {
	case len(name) != 17:
		return ""
	case name[0] == 'g':
		return "b" + name[1:]
	case name[0] == 'i' || name[0] == 'x':
		return "i" + name[1:]
	}
	return ""
}

// tryRights runs a commit that changes nothing, so that the first contact tells if the user lacks a
// right, rather than a commit some time later: gotheus.Bind then returns the error.
func (s *shard) tryRights(ctx context.Context) error {
	const instance = "i0000000000000000" // never exists
	_, err := s.run(ctx, &store.Commit{Drop: []string{instance}}, []string{"f", "d", "b", instance}, nil)
	if errors.Is(err, store.ErrRefused) {
		return err
	}
	s.tried.Store(err == nil)
	return nil // whatever else fails is the concern of real commits
}
