package syncer

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

// A store that loses the head of an instance, and nothing else, would look to a process that has
// just started as if that instance had never been. Each keeper therefore writes down which
// instances there are, and every reader checks that it finds them: as instances, or folded. A
// roster is a part in the group of the families; the keeper's head has its version, which is
// random.
//
//	version (8 bytes), version of the base (8 bytes), ids (8 bytes each) in ascending order

// roster is what a keeper has written down.
type roster struct {
	version uint64
	base    uint64 // version of the base
	ids     []uint64
}

// rosterKey returns the part with a keeper's roster: one of the last in the group of the families.
func rosterKey(n int) store.Key { return partKey(groupFamilies, inlinePart-1-uint32(n)) }

func (r *roster) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, r.version)
	b = binary.LittleEndian.AppendUint64(b, r.base)
	for _, id := range r.ids {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	return b
}

func (r *roster) decode(b []byte) (ok bool) {
	if len(b) < 16 || len(b)%8 != 0 {
		return false
	}
	*r = roster{version: binary.LittleEndian.Uint64(b), base: binary.LittleEndian.Uint64(b[8:])}
	for b = b[16:]; len(b) > 0; b = b[8:] {
		r.ids = append(r.ids, binary.LittleEndian.Uint64(b))
	}
	return true
}

// writeRoster writes down the instances that this keeper has just read, if they have changed.
func (s *Syncer) writeRoster(ctx context.Context) error {
	n := s.keeper
	if n < 0 {
		return nil
	}
	ids := []uint64{s.self.id}
	for id := range s.others {
		ids = append(ids, id)
	}
	ids = append(ids, s.vanished(s.rosters[n].ids)...)
	slices.Sort(ids)
	if r := &s.rosters[n]; r.version != 0 && r.version == s.roster && slices.Equal(ids, r.ids) {
		return nil
	}
	next := roster{s.random() | 1, s.baseHead.version, ids}
	name, value := keeperName(n), s.keeperValue(next.version)
	err := s.commit(ctx, &store.Commit{
		If:    map[string][]byte{name: s.keepers[n].Value},
		Heads: map[string][]byte{name: value},
		Parts: map[store.Key][]byte{rosterKey(n): next.encode()},
	})
	if err != nil {
		return err
	}
	s.roster, s.rosters[n] = next.version, next
	s.setKeeper(n, value)
	return nil
}

// vanished returns those of these instances that are not accounted for, and which others may still
// restore: those that have been missing for less than alive.
func (s *Syncer) vanished(ids []uint64) (list []uint64) {
	since := make(map[uint64]time.Time)
	for _, id := range ids {
		if s.accounted(id) {
			continue
		}
		at, known := s.missed[id]
		if !known {
			at = s.now()
		}
		if since[id] = at; s.now().Sub(at) < s.opt.Alive {
			list = append(list, id)
		}
	}
	s.missed = since
	return list
}

// checkRosters reports whether all instances that keepers have recently seen are accounted for.
func (s *Syncer) checkRosters(ctx context.Context) (complete bool, err error) {
	for n := range s.keepers {
		k, r := &s.keepers[n], &s.rosters[n]
		if n == s.keeper || k.roster == 0 || s.age(k.seen) > int64(s.opt.Alive/2) {
			continue // too old to know who has been folded and forgotten since
		}
		if r.version != k.roster {
			parts, err := s.get(ctx, []store.Key{rosterKey(n)})
			if err != nil {
				return false, err
			}
			var now roster
			if ok := now.decode(parts[0]); !ok || now.version != k.roster {
				if s.unmatched[n] == k.roster {
					continue // it is lost: there is nothing to compare with
				}
				// It was replaced since the heads were read, and may have
				// instances that have joined since then.
				s.unmatched[n] = k.roster
				return false, store.ErrConflict
			}
			*r = now
		}
		if s.baseHead.version >= r.base+maxFolds {
			continue // some folds since then are not listed any more
		}
		for _, id := range r.ids {
			if !s.accounted(id) {
				return false, nil
			}
		}
	}
	return true, nil
}

// accounted reports whether what an instance has published is in the store as far as heads say so.
func (s *Syncer) accounted(id uint64) bool {
	name := instanceName(id)
	_, live := s.found[livePfx+name]
	_, dead := s.found[deadPfx+name]
	_, folded := s.baseHead.find(id)
	return live || dead || folded || id == s.self.id
}
