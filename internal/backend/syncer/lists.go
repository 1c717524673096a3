package syncer

import (
	"context"
	"errors"

	"github.com/gotheus/gotheus/store"
)

// readDirectory reads what other processes have appended. If the stored directory does not extend
// the known one, the store has gone back to an older state, and the directory is read from the
// beginning.
func (s *Syncer) readDirectory(ctx context.Context, m *meta) error {
	if err := s.readLists(ctx, m); !errors.Is(err, errLost) {
		return err
	}
	s.handleLoss()
	err := s.readLists(ctx, m)
	if errors.Is(err, errLost) {
		return store.ErrConflict // it changed again while being read
	}
	return err
}

func (s *Syncer) readLists(ctx context.Context, m *meta) error {
	for list, want := range m.lists {
		have := s.dir.tallies[list]
		if have == want {
			continue
		}
		if have.n >= want.n {
			return errLost
		}
		if err := s.readList(ctx, list, have.n, want.n); err != nil {
			return err
		}
		if s.dir.tallies[list] != want {
			return errLost
		}
	}
	return nil
}

const (
	partSize = 10 << 10 // approximate size of directory parts and of large parts with words
	batch    = pullSize / partSize
)

func (s *Syncer) readList(ctx context.Context, list int, from, to uint64) error {
	perPart, group, first := uint64(chunkSize), groupDirectory, uint32(0)
	switch list {
	case families:
		perPart, group = 1, groupFamilies
	case gauges:
		first = gaugeChunks
	}
	for from < to {
		var keys []store.Key
		for p := from / perPart; p*perPart < to && len(keys) < batch; p++ {
			keys = append(keys, partKey(group, first+uint32(p)))
		}
		parts, err := s.get(ctx, keys)
		if err != nil {
			return err
		}
		s.mu.Lock()
		from, err = s.takeList(list, parts, from, to, perPart)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// takeList takes over the entries of consecutive directory parts; from is the first new entry. mu
// is held.
func (s *Syncer) takeList(list int, parts [][]byte, from, to, perPart uint64) (uint64, error) {
	for _, p := range parts {
		if p == nil {
			return 0, errLost
		}
		if list == families {
			if err := s.readFamily(p); err != nil {
				return 0, err
			}
			from++
			continue
		}
		r := reader{b: p}
		for at := from / perPart * perPart; len(r.b) > 0 && at < min(to, (from/perPart+1)*perPart); at++ {
			if at < from {
				r.num()
				r.bytes()
				continue
			}
			if err := s.readSeries(&r, list); err != nil {
				return 0, err
			}
			from++
			if rows := s.dir.rows[list-series]; rows[len(rows)-1].own != nil {
				s.listOwn(rows[len(rows)-1])
			}
		}
		if from%perPart != 0 && from < to {
			return 0, errLost // the part has become shorter
		}
	}
	return from, nil
}

// listOwn adds a series of this process to the list of its chunk. mu is held.
func (s *Syncer) listOwn(r *row) {
	list := s.chunks[chunkOf(r.id)]
	i := len(list)
	for i > 0 && list[i-1].id >= r.id {
		i--
	}
	if i < len(list) && list[i] == r {
		return
	}
	list = append(list, nil)
	copy(list[i+1:], list[i:])
	list[i] = r
	s.chunks[chunkOf(r.id)] = list
}
