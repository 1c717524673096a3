package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/store"
)

// Commit implements store.Store. It is one script; its keys have the same hash tag.
func (s *shard) Commit(ctx context.Context, c *store.Commit) error {
	var further []string
	now := time.Now().UnixNano()
	renews := s.expire > 0 && s.renewed.Load() < now-int64(s.expire/renewals)
	if s.expire > 0 { // the script extends the expiry of all keys
		further = []string{"f", "d", "b"}
		for name := range c.Heads {
			if strings.HasPrefix(name, "i") {
				further = append(further, name)
			}
		}
		if renews {
			bases, err := s.bases(ctx)
			if err != nil {
				return err
			}
			further = append(further, bases...)
		}
	}
	done, err := s.run(ctx, c, nil, further)
	if err != nil {
		return err
	}
	if done != "" {
		return fmt.Errorf("redisstore: head %s: %w", done, store.ErrConflict)
	}
	if renews {
		s.renewed.Store(now)
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
	args := make([]any, 0, 6+3*len(c.If)+3*len(c.Heads)+3*len(c.Parts))
	args = append(args, written, len(c.Drop), s.expire.Milliseconds())
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

// renewals is how many times each process extends the expiry of all keys of the base before they
// would expire.
const renewals = 8

// bases returns the groups of all generations of the base. Which of them exist is not known
// otherwise: idle processes read few heads.
func (s *shard) bases(ctx context.Context) ([]string, error) {
	names, err := s.client.HKeys(ctx, s.headsKey()).Result()
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	var bases []string
	for _, name := range names {
		if strings.HasPrefix(name, "g") {
			bases = append(bases, baseOf(name))
		}
	}
	return bases, nil
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

// baseOf returns the group for the head of a generation of the base.
func baseOf(head string) string { return "b" + head[1:] }
