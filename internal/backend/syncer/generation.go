package syncer

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// A large change to the base in a single commit would hold up the store's other users. Instead, all
// parts of the base are written in pieces to a new group that is not read yet: a generation. The
// last commit only changes heads and makes that generation the base. A process that dies before it
// leaves the base unchanged and a group that others remove later; the generation's own head tells
// them that it exists.

// commitBase applies c and, in the same commit, replaces the base by one with head h. fresh has the
// chunks that differ from the present base.
func (s *Syncer) commitBase(ctx context.Context, c *store.Commit, h *baseHead, fresh map[uint32]chunk) error {
	c.If[headBase] = s.base.rawOrNil()
	size := 0
	for n, ch := range fresh {
		h.chunks[n] = ch.seq
		size += len(ch.data)
	}
	old := s.baseHead.gen
	if size <= s.piece {
		h.gen = old
		h.put(c, s.base.group(), fresh)
		return s.commit(ctx, c)
	}
	if err := s.forgetGenerations(ctx); err != nil {
		return err
	}
	h.gen = s.random() | 1
	s.lastGen = h.gen
	name := genPfx + instanceName(h.gen)
	token, err := s.writeGeneration(ctx, name, h, fresh)
	if err != nil {
		s.current = false
		return err
	}
	c.If[name] = token
	c.Heads[headBase] = h.encode()
	c.Drop = append(c.Drop, baseGroup(old))
	if old != 0 {
		c.Heads[genPfx+instanceName(old)] = nil
	}
	if err := s.commit(ctx, c); err != nil {
		return err
	}
	delete(s.gens, old)
	return nil
}

// writeGeneration writes all parts of the base with head h, and returns the value of the
// generation's head. It requires that the base does not change meanwhile and that no other process
// removes the generation as abandoned.
func (s *Syncer) writeGeneration(ctx context.Context, name string, h *baseHead, fresh map[uint32]chunk) (token []byte, err error) {
	token = binary.LittleEndian.AppendUint64(nil, s.random())
	var before []byte // value of the head
	group, parts, size := baseGroup(h.gen), make(map[store.Key][]byte), 0
	numbers := slices.Sorted(maps.Keys(h.chunks))
	for i, n := range numbers {
		ch, ok := fresh[n]
		if !ok {
			ch = s.base.chunks[n]
		}
		parts[partKey(group, n)] = ch.part()
		if size += len(ch.data); size < s.piece && i+1 < len(numbers) {
			continue
		}
		err := s.store.Commit(ctx, &store.Commit{
			If:    map[string][]byte{headBase: s.base.rawOrNil(), name: before},
			Heads: map[string][]byte{name: token},
			Parts: parts,
		})
		if err != nil {
			return nil, err
		}
		before, size = token, 0
		clear(parts)
	}
	return token, nil
}

// forgetGenerations removes abandoned generations: those of this process at once, others after the
// retention time.
func (s *Syncer) forgetGenerations(ctx context.Context) error {
	for _, gen := range sorted(s.gens) {
		h := s.gens[gen]
		if gen == s.baseHead.gen || gen != s.lastGen && h.Age < retention*s.opt.Alive {
			continue
		}
		name := genPfx + instanceName(gen)
		err := s.commit(ctx, &store.Commit{
			If:    map[string][]byte{name: h.Value, headBase: s.base.rawOrNil()},
			Heads: map[string][]byte{name: nil},
			Drop:  []string{baseGroup(gen)},
		})
		if err != nil {
			return err
		}
		delete(s.gens, gen)
	}
	return nil
}
