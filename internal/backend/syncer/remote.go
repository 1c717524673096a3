package syncer

import (
	"os"
	"time"
)

// remote is the known state of the store. It is guarded by op.
type remote struct {
	meta    meta
	metaRaw []byte        // nil: nothing is known
	metaAge time.Duration // when it was last read
	current bool          // the common heads and the own head are known to be as in the store
	since   time.Time     // when the present epoch was first seen

	directoryRaw  []byte // the head "dir" as last seen
	deletionsRaw  []byte // the head "del" as last seen
	seenDeletions []byte // the head "del" when the directory was last read
	breaks        uint64 // that the directory should have at least
	keepers       [keepers]keeper
	rosters       [keepers]roster
	unmatched     [keepers]uint64 // versions of rosters that were not found
	keeper        int             // which of the keepers this process is; -1: none
	roster        uint64          // version of the roster that this keeper has written; 0: none
	// Instances of that roster that are not accounted for, and since when.
	missed map[uint64]time.Time
	// How often this process has read what was left of an epoch.
	salvaged int
	lost     lostPart

	base contributor
	baseHead
	others map[uint64]*contributor
	// Heads of instances of this epoch, and of generations of the base.
	found      map[string]seen
	badHeads   int             // of instances of this epoch
	foreign    map[string]seen // heads of instances of former epochs
	lastGen    uint64          // generation that this process started to write last
	self       contributor
	republish  bool          // publish all of self in one commit, after a loss
	unnumbered bool          // the store has lost its directory: own series may have no number
	behind     bool          // what this instance had published is not in the store any more
	verified   bool          // no other instance had the same number after this one had joined
	taken      bool          // another instance has the same number and keeps it
	ndeclared  int           // so many declarations are known to be in the directory
	sent       []contributor // states of self after commits whose outcome is unknown
	before     []contributor // earlier states of self, one of which others may have folded
	past       []orphan      // the same, from before the store lost its directory
	former     uint64        // this process was that instance before; 0: none
	seq        uint64        // of the last attempted commit
	lastPut    time.Time
	headsRead  time.Time // when the heads of all were last read
	selfSeen   presence  // of the own head
	lamport    uint64
	joins      uint64 // highest place in the order of joining of a folded instance
	leaving    bool   // this instance is being closed
	departed   bool   // this instance was closed

	orphans    map[uint64]*orphan
	baseOrphan *orphan
	restored   time.Time // when this process last restored a base
	tidied     []byte    // the head "del" when the base had no words of deleted series

	digests map[uint32]digest // of own chunks that were unchanged at the last publication
	dirty   map[uint32]bool   // chunks to merge before the next page
	loose   map[*row][]looseWords
	loosely map[*row]bool // series without numbers to merge before the next page
	grouped int           // from so many instances on there are groups, see groups.go
	layouts map[uint32]*layout
	compare func(m *merger, n uint32) // nil except in tests: called after merging with groups
	scratch []uint64
	writer  chunkWriter
}

const maxPast = 8 // limit for sent, before and past

// contributor is a source of words for pages: an instance, or the base, whose id is 0.
type contributor struct {
	id     uint64
	gen    uint64 // of the base
	raw    []byte // the head
	head   instanceHead
	chunks map[uint32]chunk
	inline []looseEntry // of the series without numbers
	// Some of its words were lost before this process could read them.
	partial bool
	damaged map[uint32]bool  // its parts that cannot be read
	older   map[uint32]chunk // earlier chunks in place of those that were lost
	// What was known before the store had lost it; nil once it was read again.
	former     *orphan
	fullHead   instanceHead // head and chunks of the last complete reading
	fullChunks map[uint32]chunk
	number     int // small, and unique among live instances
	live       bool
	within     *group    // nil: none
	seenAt     time.Time // since when this process has seen the head unchanged
	later      bool      // as of laterSeq, it has families of a later version
	laterSeq   uint64
	present    presence
}

// presence is when a process last saw a head in the store, and the version of the base then.
type presence struct {
	at   time.Time
	base uint64
}

// maybeFolded reports whether an instance whose head is missing may have been folded, although the
// store has no sign of that any more: the base lists only the last folds, and the folded head is
// forgotten after some time, sooner if the instance may have left.
func (s *Syncer) maybeFolded(p presence, left bool) bool {
	kept := retention * s.opt.Alive
	if left {
		kept = 2 * s.opt.Alive
	}
	return !p.at.IsZero() && s.baseHead.version >= p.base+maxFolds && s.now().Sub(p.at) >= kept
}

// chunk is the content of a part, with its seq split off.
type chunk struct {
	seq  uint64
	data []byte
}

func (s *Syncer) initRemote() {
	s.remote = remote{
		others: make(map[uint64]*contributor), orphans: make(map[uint64]*orphan), dirty: make(map[uint32]bool),
		loosely: make(map[*row]bool), since: s.complete, keeper: -1, grouped: leastGrouped,
	}
	s.base.chunks = make(map[uint32]chunk)
	s.newSelf()
}

// newSelf starts a new instance.
func (s *Syncer) newSelf() {
	r := &s.remote
	join := r.self.head.join // declarations do not become newer by rejoining
	r.self = contributor{id: s.random() | 1, chunks: make(map[uint32]chunk), live: true}
	r.self.head = instanceHead{pid: uint64(os.Getpid()), host: hostname(), join: join}
	r.sent, r.before, r.past, r.behind, r.selfSeen = nil, nil, nil, true, presence{}
	r.seq, r.republish, r.verified, r.digests = 0, false, false, make(map[uint32]digest)
}

// forgetPublished assumes that the store has nothing of this instance but the head raw. Everything
// is then published in one commit: once its head is newer than what other processes know, they take
// its chunks for complete.
func (r *remote) forgetPublished(raw []byte) {
	r.self.raw, r.self.chunks, r.self.inline, r.sent = raw, make(map[uint32]chunk), nil, nil
	r.self.head.dir = 0
	r.republish = r.seq > 0
	r.behind = true
}

// mostAlive limits for how long a head that does not change can keep others from folding it.
const mostAlive = 24 * time.Hour

// alive is how long the instance counts as alive after its last commit.
func (c *contributor) alive() time.Duration {
	return time.Duration(min(c.head.aliveMS, uint64(mostAlive/time.Millisecond))) * time.Millisecond
}

func (c *contributor) group() string {
	if c.id == 0 {
		return baseGroup(c.gen)
	}
	return livePfx + instanceName(c.id)
}
