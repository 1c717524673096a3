package syncer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gotheus/gotheus/store"
)

// remote is what is known of the store. It is guarded by op.
type remote struct {
	meta    meta
	metaRaw []byte    // nil: nothing is known
	sure    bool      // what is known of meta, base and the own head is how they are
	since   time.Time // when the present epoch was first seen

	base contributor
	baseHead
	others   map[uint64]*contributor
	dead     map[uint64]store.Head // heads of folded instances
	gens     map[uint64]store.Head // of generations of the base
	lastGen  uint64                // that this process has begun to write
	self     contributor
	anew     bool          // the store has lost something of self, which is published as a whole
	unlisted bool          // own series may lack numbers: the store has lost its directory
	sent     []contributor // what self is if the last commits have been done after all
	before   []contributor // what self and sent were when this instance may have been folded, although it has gone on
	past     []orphan      // the same, from before the store had lost its directory
	seq      uint64        // of the last commit that was tried
	lastPut  time.Time
	looked   time.Time // when the heads were last read
	baseSeen uint64    // version of the base when the own head was last there
	lamport  uint64
	deleted  bool // some series has been deleted, ever
	left     bool // this instance is in the base, and does nothing any more

	orphans    map[uint64]*orphan
	baseOrphan *orphan
	restored   time.Time // when this process has last restored a base

	looks   map[uint32]look // of own chunks that had not changed the last time
	dirty   map[uint32]bool // chunks to merge
	suspect map[uint32]bool // chunks in which the base may have forgotten a deletion
	scratch []uint64
	writer  chunkWriter
}

const maxPast = 8 // states of this instance that may turn out to be what was folded

// contributor has words for a page: an instance, or the base, whose id is 0.
type contributor struct {
	id          uint64
	gen         uint64 // of the base
	raw         []byte // the head
	head        instanceHead
	chunks      map[uint32]chunk
	whole       instanceHead // as of the last time that all was read, with wholeChunks
	wholeChunks map[uint32]chunk
	live        bool
	seenAt      time.Time // since when the head has been as it is, as far as this process has watched
}

// chunk is a part without its seq.
type chunk struct {
	seq  uint64
	data []byte
}

// orphan is what this process knows of a contributor that the store has lost.
type orphan struct {
	head    instanceHead
	base    baseHead
	entries []entry
	since   time.Time
}

// entry is a series of an orphan.
type entry struct {
	row   *row
	life  uint64
	words []uint64 // nil: deleted
}

func (r *remote) init(now time.Time) {
	*r = remote{
		others: make(map[uint64]*contributor), dead: make(map[uint64]store.Head), gens: make(map[uint64]store.Head),
		orphans: make(map[uint64]*orphan), dirty: make(map[uint32]bool), suspect: make(map[uint32]bool), since: now,
	}
	r.base.chunks = make(map[uint32]chunk)
	r.newSelf()
}

// newSelf begins a new instance.
func (r *remote) newSelf() {
	join := r.self.head.join // what it has declared is no newer
	r.self = contributor{id: rand.Uint64() | 1, chunks: make(map[uint32]chunk), live: true}
	r.self.head = instanceHead{pid: uint64(os.Getpid()), host: hostname(), join: join}
	r.sent, r.before, r.past = nil, nil, nil
	r.seq, r.anew, r.looks = 0, false, make(map[uint32]look)
}

// publishAnew forgets what the store has of this instance, whose head there is raw. What it may have published is
// published again in one commit: as soon as its head is newer than what others know, they take it for all there is.
func (r *remote) publishAnew(raw []byte) {
	r.self.raw, r.self.chunks, r.sent = raw, make(map[uint32]chunk), nil
	r.anew = r.seq > 0
}

// alive is how long the instance counts as alive.
func (c *contributor) alive() time.Duration { return time.Duration(c.head.aliveMS) * time.Millisecond }

func (c *contributor) group() string {
	if c.id == 0 {
		return baseGroup(c.gen)
	}
	return livePfx + instanceName(c.id)
}

var (
	errLost  = errors.New("syncer: the store has lost data that is about to be restored")
	errUnmet = errors.New("syncer: processes had no common store for longer than they remember")
)

const rounds = 10 // of reading heads when others change them meanwhile

// readHeads brings what is known of the store up to date, but for the words of other instances.
func (s *Syncer) readHeads(ctx context.Context) error {
	var err error
	for range rounds {
		if err = s.readHeadsOnce(ctx); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func (s *Syncer) readHeadsOnce(ctx context.Context) error {
	heads, err := s.store.Heads(ctx)
	if err != nil {
		return err
	}
	raw := heads[headMeta].Value
	if raw == nil {
		m := meta{epoch: rand.Uint64(), recovering: s.metaRaw != nil, shard: uint64(s.shard.at), shards: uint64(s.shard.of)}
		err := s.store.Commit(ctx, &store.Commit{
			If: map[string][]byte{headMeta: nil}, Heads: map[string][]byte{headMeta: m.encode()},
		})
		if err != nil {
			return err
		}
		return store.ErrConflict // with what is known: read again
	}
	var m meta
	if err := m.decode(raw); err != nil {
		return err
	}
	if err := s.shard.check(&m); err != nil {
		return err
	}
	s.shard.agree()
	if s.metaRaw != nil && m.epoch != s.meta.epoch {
		s.lost()
		if !m.recovering && !m.recovered { // a process that has begun since does not know
			m.recovering = true
			err := s.store.Commit(ctx, &store.Commit{
				If: map[string][]byte{headMeta: raw}, Heads: map[string][]byte{headMeta: m.encode()},
			})
			if err != nil {
				return err
			}
			return store.ErrConflict
		}
	}
	if s.metaRaw == nil || m.epoch != s.meta.epoch {
		s.since = s.now()
	}
	if err := s.readDirectory(ctx, &m); err != nil {
		return err
	}
	s.meta, s.metaRaw = m, raw
	if err := s.readBase(ctx, heads); err != nil {
		return err
	}
	s.readInstances(heads)
	if err := s.checkSelf(ctx, heads); err != nil {
		return err
	}
	s.sure = true
	return nil
}

// readDirectory reads what others have appended. If the directory is not a continuation of the one that is
// known, the store has gone back, and all is read anew.
func (s *Syncer) readDirectory(ctx context.Context, m *meta) error {
	if err := s.readLists(ctx, m); !errors.Is(err, errLost) {
		return err
	}
	s.lost()
	err := s.readLists(ctx, m)
	if errors.Is(err, errLost) {
		return store.ErrConflict // others are faster
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
	partSize = 10 << 10 // about how large parts of the directory are, and the larger ones with words
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
		parts, err := s.store.Get(ctx, keys)
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

// takeList takes over entries from parts of the directory, the first of which has entry from. mu is held.
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
			return 0, errLost // the part is shorter than it was
		}
	}
	return from, nil
}

// listOwn notes in which chunk a series of this process is. mu is held.
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

// lost forgets the directory, and all that is told in its numbers: the store has lost some of it. What is
// known of others becomes orphans.
func (s *Syncer) lost() {
	s.makeBaseOrphan()
	for _, c := range s.others {
		s.makeOrphan(c)
	}
	clear(s.others)
	s.remember()
	for _, c := range s.before {
		s.past = append(s.past[max(0, len(s.past)-maxPast):], orphan{head: c.head, entries: s.entries(&c), since: c.seenAt})
	}
	s.before = nil
	s.mu.Lock()
	s.forgetDirectory()
	clear(s.chunks)
	s.fresh, s.sorted = nil, 0
	for _, f := range s.schemas {
		for _, r := range f.rows {
			if r.own != nil {
				s.fresh = append(s.fresh, r)
			}
		}
	}
	s.mu.Unlock()
	s.publishAnew(nil)
	s.sure, s.unlisted = false, true
	clear(s.dirty)
	clear(s.suspect)
	s.suspect[everyChunk] = true
}

// remember keeps what this instance has published before it goes on after a silence, or after the store has gone back:
// others may have folded that, and may restore the base that has it.
func (s *Syncer) remember() {
	for _, c := range append(s.sent, s.self) {
		if c.raw != nil && len(c.chunks) == len(c.head.chunks) {
			c.seenAt = s.now()
			s.before = append(s.before[max(0, len(s.before)-maxPast):], c)
		}
	}
}

func (s *Syncer) makeOrphan(c *contributor) {
	old := s.orphans[c.id]
	if len(c.wholeChunks) == 0 || old != nil && old.head.seq >= c.whole.seq {
		return // it was never read as a whole, or has nothing
	}
	s.orphans[c.id] = &orphan{head: c.whole, entries: s.entries(&contributor{chunks: c.wholeChunks}), since: s.now()}
}

func (s *Syncer) makeBaseOrphan() {
	if s.baseHead.version > 0 && (s.baseOrphan == nil || s.baseOrphan.base.version < s.baseHead.version) {
		s.baseOrphan = &orphan{base: s.baseHead, entries: s.entries(&s.base), since: s.now()}
	}
	s.base.raw, s.base.gen, s.base.chunks, s.baseHead = nil, 0, make(map[uint32]chunk), baseHead{}
}

// entries decodes all words of a contributor. What cannot be read is left out.
func (s *Syncer) entries(c *contributor) (list []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, ch := range c.chunks {
		r := newChunkReader(ch.data, n, s.scratch)
		for {
			if ok, err := r.read(&s.dir); !ok || err != nil {
				break
			}
			e := entry{row: r.row, life: r.life}
			if !r.empty {
				e.words = append([]uint64{}, r.words...)
			}
			list = append(list, e)
		}
		s.scratch = r.buf
	}
	return list
}

// setLife notes how often a series was deleted. What this process has counted before is gone. mu is held.
func (s *Syncer) setLife(r *row, life uint64) {
	if life <= r.life {
		return
	}
	r.life = life
	s.deleted = true
	delete(s.deletes, r)
	if o := r.own; o != nil {
		if !o.deleting {
			o.end(r.fam)
		}
		o.deleting = false
	}
	if r.id != noID {
		s.dirty[chunkOf(r.id)] = true
	}
}

// readInstances notes the heads of all instances but this one.
func (s *Syncer) readInstances(heads map[string]store.Head) {
	now := s.now()
	if now.Sub(s.looked) > s.opt.Alive/2 { // nobody was watched
		for _, c := range s.others {
			c.seenAt = now
		}
	}
	s.looked = now
	clear(s.dead)
	clear(s.gens)
	for name, h := range heads {
		if gen, ok := parseName(name, genPfx); ok {
			s.gens[gen] = h
		}
		if id, ok := parseName(name, deadPfx); ok {
			s.dead[id] = h
		}
	}
	for id, c := range s.others {
		if _, ok := heads[livePfx+instanceName(id)]; !ok {
			_, folded := s.baseHead.find(id)
			if _, dead := s.dead[id]; !folded && !dead {
				s.makeOrphan(c)
			}
			s.drop(c)
		}
	}
	for name, h := range heads {
		id, ok := parseName(name, livePfx)
		if !ok || id == s.self.id {
			continue
		}
		c := s.others[id]
		if c == nil {
			c = &contributor{id: id, chunks: make(map[uint32]chunk)}
		}
		if !bytes.Equal(c.raw, h.Value) {
			var head instanceHead
			if head.decode(h.Value) != nil {
				continue // of a later version
			}
			if c.raw != nil && head.seq < c.head.seq {
				s.makeOrphan(c)
			}
			c.head, c.raw, c.seenAt = head, h.Value, now
			s.lamport = max(s.lamport, head.stamp)
		}
		s.others[id] = c
		if live := h.Age <= c.alive(); live != c.live {
			c.live = live
			for n := range c.chunks {
				s.dirty[n] = true
			}
		}
	}
	for id, o := range s.orphans {
		_, folded := s.baseHead.find(id)
		_, dead := s.dead[id]
		gone := folded || dead
		if c := s.others[id]; c != nil {
			gone = gone || c.head.seq >= o.head.seq
		}
		if gone {
			delete(s.orphans, id)
		}
	}
	if o := s.baseOrphan; o != nil && s.baseHead.version > 0 {
		switch h := &s.baseHead; {
		case h.continues(&o.base) || h.unfolds(&o.base, heads):
			s.baseOrphan = nil
		case !s.restored.IsZero() && now.Sub(s.restored) < retention*s.opt.Alive && h.prevails(&o.base, heads):
			s.log("another process knows of the dead what this one does not, and the other way round; not all of that can be kept", errUnmet)
			s.baseOrphan = nil
			s.suspect[everyChunk] = true
		}
	}
}

// drop forgets an instance.
func (s *Syncer) drop(c *contributor) {
	for n := range c.chunks {
		s.dirty[n] = true
	}
	delete(s.others, c.id)
}

func parseName(name, prefix string) (uint64, bool) {
	hex, ok := strings.CutPrefix(name, prefix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil
}

// checkSelf finds out what became of the commits whose outcome is unknown, and of the own head.
func (s *Syncer) checkSelf(ctx context.Context, heads map[string]store.Head) error {
	name := instanceName(s.self.id)
	raw := heads[livePfx+name].Value
	if raw != nil {
		s.baseSeen = s.baseHead.version
		if bytes.Equal(raw, s.self.raw) {
			return nil // what was sent may yet arrive
		}
		for _, c := range s.sent {
			if bytes.Equal(raw, c.raw) {
				s.setSelf(c)
				s.sent = nil
				return nil
			}
		}
		// An older one, or a commit that arrived late. All is published again on top of it.
		var h instanceHead
		if err := h.decode(raw); err != nil {
			return err
		}
		s.remember()
		s.seq = max(s.seq, h.seq)
		if own := &s.self.head; own.startMS == 0 { // of what has arrived late, this one does not know that it has joined
			own.startMS, own.number, own.join = h.startMS, h.number, h.join
		}
		s.publishAnew(raw)
		return nil
	}
	f, folded := s.baseHead.find(s.self.id)
	if h, ok := heads[deadPfx+name]; ok && !folded {
		var head instanceHead
		if folded = head.decode(h.Value) == nil; folded {
			f = fold{s.self.id, head.seq}
		}
	}
	switch {
	case folded:
		return s.rejoin(ctx, f.seq, heads[deadPfx+name].Value)
	case s.self.raw == nil:
		return nil // not there yet
	case s.baseHead.version >= s.baseSeen+maxFolds:
		return s.rejoin(ctx, s.self.head.seq, nil) // so long ago that nobody remembers
	}
	s.remember()
	s.publishAnew(nil)
	return nil
}
