package syncer

import (
	"math/rand/v2"
	"os"
	"time"

	"github.com/gotheus/gotheus/store"
)

// remote is what is known of the store. It is guarded by op.
type remote struct {
	meta    meta
	metaRaw []byte    // nil: nothing is known
	current bool      // what is known of meta, base and the own head is how they are
	since   time.Time // when the present epoch was first seen

	base contributor
	baseHead
	others     map[uint64]*contributor
	dead       map[uint64]store.Head // heads of folded instances
	gens       map[uint64]store.Head // of generations of the base
	lastGen    uint64                // that this process has begun to write
	self       contributor
	republish  bool          // the store has lost something of self, which is published as a whole
	unnumbered bool          // own series may lack numbers: the store has lost its directory
	sent       []contributor // what self is if the last commits have been done after all
	before     []contributor // what self and sent were when this instance may have been folded, although it has gone on
	past       []orphan      // the same, from before the store had lost its directory
	seq        uint64        // of the last commit that was tried
	lastPut    time.Time
	headsRead  time.Time // when the heads were last read
	baseSeen   uint64    // version of the base when the own head was last there
	lamport    uint64
	deleted    bool // some series has been deleted, ever
	departed   bool // this instance is in the base, and does nothing any more

	orphans    map[uint64]*orphan
	baseOrphan *orphan
	restored   time.Time // when this process has last restored a base

	digests map[uint32]digest // of own chunks that had not changed the last time
	dirty   map[uint32]bool   // chunks to merge
	suspect map[uint32]bool   // chunks in which the base may have forgotten a deletion
	scratch []uint64
	writer  chunkWriter
}

const maxPast = 8 // states of this instance that may turn out to be what was folded

// contributor has words for a page: an instance, or the base, whose id is 0.
type contributor struct {
	id         uint64
	gen        uint64 // of the base
	raw        []byte // the head
	head       instanceHead
	chunks     map[uint32]chunk
	fullHead   instanceHead // as of the last time that all was read, with fullChunks
	fullChunks map[uint32]chunk
	live       bool
	seenAt     time.Time // since when the head has been as it is, as far as this process has watched
}

// chunk is a part without its seq.
type chunk struct {
	seq  uint64
	data []byte
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
	r.seq, r.republish, r.digests = 0, false, make(map[uint32]digest)
}

// forgetPublished forgets what the store has of this instance, whose head there is raw. What it may have published is
// published again in one commit: as soon as its head is newer than what others know, they take it for all there is.
func (r *remote) forgetPublished(raw []byte) {
	r.self.raw, r.self.chunks, r.sent = raw, make(map[uint32]chunk), nil
	r.republish = r.seq > 0
}

// alive is how long the instance counts as alive.
func (c *contributor) alive() time.Duration { return time.Duration(c.head.aliveMS) * time.Millisecond }

func (c *contributor) group() string {
	if c.id == 0 {
		return baseGroup(c.gen)
	}
	return livePfx + instanceName(c.id)
}
