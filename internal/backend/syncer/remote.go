package syncer

import (
	"os"
	"time"

	"github.com/gotheus/gotheus/store"
)

// remote is the known state of the store. It is guarded by op.
type remote struct {
	random  func() uint64
	meta    meta
	metaRaw []byte    // nil: nothing is known
	current bool      // meta, base and the own head are known to be as in the store
	since   time.Time // when the present epoch was first seen

	base contributor
	baseHead
	others     map[uint64]*contributor
	dead       map[uint64]store.Head // heads of folded instances, by id
	gens       map[uint64]store.Head // heads of generations of the base
	lastGen    uint64                // generation that this process started to write last
	self       contributor
	republish  bool          // publish all of self in one commit, after a loss
	unnumbered bool          // the store has lost its directory: own series may have no number
	sent       []contributor // states of self after commits whose outcome is unknown
	before     []contributor // earlier states of self, one of which others may have folded
	past       []orphan      // the same, from before the store lost its directory
	seq        uint64        // of the last attempted commit
	lastPut    time.Time
	headsRead  time.Time // when heads were last read
	baseSeen   uint64    // version of the base when the own head was last seen in the store
	lamport    uint64
	deleted    bool // a series was deleted at least once
	departed   bool // this instance has been folded by Close and is finished

	orphans    map[uint64]*orphan
	baseOrphan *orphan
	restored   time.Time // when this process last restored a base

	digests map[uint32]digest // of own chunks that were unchanged at the last publication
	dirty   map[uint32]bool   // chunks to merge before the next page
	suspect map[uint32]bool   // chunks in which the base may lack a deletion
	scratch []uint64
	writer  chunkWriter
}

const maxPast = 8 // limit for sent, before and past

// contributor is a source of words for pages: an instance, or the base, whose id is 0.
type contributor struct {
	id         uint64
	gen        uint64 // of the base
	raw        []byte // the head
	head       instanceHead
	chunks     map[uint32]chunk
	fullHead   instanceHead // head and chunks of the last complete reading
	fullChunks map[uint32]chunk
	live       bool
	seenAt     time.Time // since when this process has seen the head unchanged
}

// chunk is the content of a part, with its seq split off.
type chunk struct {
	seq  uint64
	data []byte
}

func (r *remote) init(now time.Time, random func() uint64) {
	*r = remote{
		random: random,
		others: make(map[uint64]*contributor), dead: make(map[uint64]store.Head), gens: make(map[uint64]store.Head),
		orphans: make(map[uint64]*orphan), dirty: make(map[uint32]bool), suspect: make(map[uint32]bool), since: now,
	}
	r.base.chunks = make(map[uint32]chunk)
	r.newSelf()
}

// newSelf starts a new instance.
func (r *remote) newSelf() {
	join := r.self.head.join // declarations do not become newer by rejoining
	r.self = contributor{id: r.random() | 1, chunks: make(map[uint32]chunk), live: true}
	r.self.head = instanceHead{pid: uint64(os.Getpid()), host: hostname(), join: join}
	r.sent, r.before, r.past = nil, nil, nil
	r.seq, r.republish, r.digests = 0, false, make(map[uint32]digest)
}

// forgetPublished assumes that the store has nothing of this instance but the head raw. Everything
// is then published in one commit: once its head is newer than what other processes know, they take
// its chunks for complete.
func (r *remote) forgetPublished(raw []byte) {
	r.self.raw, r.self.chunks, r.sent = raw, make(map[uint32]chunk), nil
	r.republish = r.seq > 0
}

// alive is how long the instance counts as alive after its last commit.
func (c *contributor) alive() time.Duration { return time.Duration(c.head.aliveMS) * time.Millisecond }

func (c *contributor) group() string {
	if c.id == 0 {
		return baseGroup(c.gen)
	}
	return livePfx + instanceName(c.id)
}
