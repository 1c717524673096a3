package syncer

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/textmap"
)

// family is a family of this or another process.
type family struct {
	def       *backend.Family // nil: from a later version, cannot be shown
	schema    string
	kind      backend.Kind
	parts     bool // each instance's words are shown separately
	gauge     bool // the words are those of a gauge
	blocks    bool // merging can increase the number of words
	exemplars bool
	shared    bool  // a gauge of mode Shared
	stored    int   // number of stored words per series
	adjacent  int   // so many series a run has at most, see adjacentSeries
	start     int   // index of the start among them; -1: none
	floats    []int // words whose floats are added up, see exact.go
	adding    adding
	windows   bool   // some words are snapshots of a quantile window
	snapshots []bool // which of the words that this process updates are; nil: none are
	place     *index.Family
	ownPlace  *index.Family // in the index of own words
	rows      textmap.Map[*row]
	dying     textmap.Map[*row] // deleted series that still have a number
	id        int               // number in the directory; -1: none yet
	order     uint64            // age, to order variants
	own       bool              // this process declares it
}

// row is a series, or one life of it: after a deletion, the series gets a new row.
type row struct {
	fam    *family
	labels string
	id     uint32 // number in the directory
	since  uint64 // version of the directory that assigned the number
	born   birth
	prev   birth // the former life of the series, which was deleted
	own    *own  // nil: this process does not update it
	gone   bool  // it was deleted, perhaps by this process, which has not published that yet
	queued bool  // it is in a list of waiting
	waits  bool  // for a number
	ending bool  // its deletion is to be published
	wait   *wait // of a deleted series: what its publication waits for; nil: nothing

	invalid bool // the labels do not fit the family: never shown

	// What pages show; created by the first merge that finds words.
	words backend.Words
	seats map[int]*seat // by number of the instance, if the family has parts
}

// own is a series that this process updates.
type own struct {
	words  backend.Words
	gauge  *sharedGauge // of a shared gauge
	ticket uint64       // of the last stamped Set, for gauges of mode Latest
	stamp  uint64       // stored in place of that ticket
	// Owner of a part without a number, which pages of this process show until it has one. nil:
	// they show what was published of words, and not words themselves.
	alone  *atomic.Uint64
	listed bool // in the index of own words
}

// seat holds the words of a series for the instance with some number.
type seat struct {
	words backend.Words
	owner atomic.Uint64
	seen  bool // in the current merge
	// self is the owner of a second part, which has the words of own. Only one of the parts is
	// live. nil: there is none.
	self *atomic.Uint64
}

const noID = ^uint32(0)

func (d *directory) appendFamily(f *family, help string) {
	if f.id < 0 {
		f.id = len(d.families)
	}
	d.families = append(d.families, f)
	if d.helps == nil {
		d.helps = make(map[string]bool)
	}
	d.helps[f.schema+"\x00"+help] = true
	d.tally.add(f.entry(help))
}

func (f *family) list() int {
	if f.shared {
		return gauges
	}
	return series
}

// entry returns a family's entry in the directory.
func (f *family) entry(help string) []byte {
	b := binary.AppendUvarint(nil, uint64(f.stored))
	list := byte(seriesList)
	if f.shared {
		list = sharedList
	}
	if f.blocks {
		list |= blocksFlag
	}
	b = append(b, list)
	b = binary.AppendUvarint(b, uint64(f.start+1))
	return appendBytes(appendBytes(b, f.schema), help)
}

// newFamily returns a new family. def is nil if this version cannot parse the schema.
func newFamily(schema string, def *backend.Family, stored, start int, shared bool) *family {
	f := &family{def: def, schema: schema, id: -1, stored: stored, adjacent: adjacentSeries(stored), start: start, shared: shared}
	if def != nil {
		f.kind, f.parts = def.Kind, def.Parts()
		f.exemplars = def.Block.Role == backend.ExemplarRole
		switch {
		case def.Kind == backend.Histogram || def.Kind == backend.Summary:
			f.blocks = !f.parts && (def.Native != nil || def.Sketch != nil)
		default:
			f.gauge = def.Kind != backend.Counter || f.parts
		}
		if def.Block.Role != 0 {
			f.gauge, f.blocks, f.kind = false, true, 0
		}
		f.windows = f.blocks && !f.exemplars && def.Snapshots() > 0
		f.adding = f.addingKind()
		f.floats = f.floatWords()
	}
	return f
}

// family returns the family of a definition. mu is held.
func (s *Syncer) family(def *backend.Family) *family {
	if f := s.known[def]; f != nil {
		return f
	}
	schema := def.Schema()
	f := s.schemas[schema]
	if f == nil {
		shared := isShared(def)
		f = newFamily(schema, def, storedWords(def), def.StartWord(), shared)
		f.place = s.index.Declare(def, s.order())
		s.schemas[schema] = f
		s.noteVariant(f)
	}
	f.own = true
	f.findSnapshots()
	if !slices.ContainsFunc(s.declared, func(d declaration) bool { return d.fam == f && d.help == def.Help }) {
		s.declared = append(s.declared, declaration{fam: f, help: def.Help})
		s.declareOwn(f, def.Help)
	}
	s.known[def] = f
	return f
}

// What an entry says of a family's list.
const (
	seriesList = 1
	sharedList = 2
)

// blocksFlag marks families whose series have different numbers of words.
const blocksFlag = 1 << 4

func isShared(def *backend.Family) bool {
	return (def.Kind == backend.Gauge || def.Kind == backend.StateSet) && def.Mode == backend.Shared && def.Block.Role == 0
}

// storedWords returns the initial number of stored words of a series.
func storedWords(def *backend.Family) int {
	if isShared(def) {
		return gaugeWords
	}
	return def.Words()
}

// findSnapshots finds the words that are snapshots, for a family whose words this process reads.
func (f *family) findSnapshots() {
	if !f.windows || f.snapshots != nil {
		return
	}
	f.snapshots = make([]bool, f.stored)
	for i := range f.snapshots {
		f.snapshots[i] = f.def.Snapshot(i, f.stored)
	}
}

// adjacentSeries returns how many series with so many words a run has at most, a power of two: a
// run does not cross a multiple of it.
func adjacentSeries(words int) int {
	n := chunkSize
	for n > 1 && n*words > maxRun {
		n /= 2
	}
	return n
}

// declaration is a family that this process declares.
type declaration struct {
	fam  *family
	help string
}

// order returns the age of a family that is not in the directory yet: newer than all others.
func (s *Syncer) order() uint64 {
	if s.shard.at > 0 { // decided by the first shard, whose directory has all families
		return 0
	}
	s.lastOrder++
	return s.lastOrder
}

// row returns the series with a label text, and makes it if there is none. mu is held.
func (f *family) row(labels string) *row {
	r := f.rows.Get(labels)
	if r == nil {
		r = &row{fam: f, labels: labels, id: noID}
		f.rows.Set(labels, r)
	}
	return r
}

// readFamily takes over a family from the directory. mu is held.
func (s *Syncer) readFamily(entry []byte) error {
	f, help, err := s.familyOf(entry)
	if err == nil {
		s.appendFamily(f, help)
	}
	return err
}

// maxStored is more than the words of any series: the exemplars of a histogram with as many buckets
// as are allowed have 1.3 million.
const maxStored = 1 << 21

// familyOf returns the family that a stored entry describes. mu is held.
func (s *Syncer) familyOf(entry []byte) (f *family, help string, err error) {
	r := reader{b: entry}
	stored, list, start := r.num(), r.num(), r.num()
	blocks := list&blocksFlag != 0
	list &^= blocksFlag
	schema := string(r.bytes())
	help = string(r.bytes())
	if err := r.end("family"); err != nil {
		return nil, "", err
	}
	if stored > maxStored || start > stored {
		return nil, "", fmt.Errorf("%w: a family with %d words", errFormat, stored)
	}
	if f = s.schemas[schema]; f != nil {
		return f, help, f.check(stored, list, start, blocks)
	}
	def, err := backend.ParseSchema(schema)
	if err != nil {
		def = nil // from a later version
	}
	f = newFamily(schema, def, int(stored), int(start)-1, list == sharedList)
	if def == nil {
		f.blocks = blocks
	} else if err := f.check(stored, list, start, blocks); err != nil {
		return nil, "", err
	} else {
		def.Help = help
		f.place = s.index.Declare(def, s.order())
		s.noteVariant(f)
	}
	s.schemas[schema] = f
	return f, help, nil
}

// check compares a family's entry with its schema.
func (f *family) check(stored, list, start uint64, blocks bool) error {
	kept := uint64(seriesList)
	if f.shared {
		kept = sharedList
	}
	same := list == kept && blocks == f.blocks && int(stored) == f.stored && int(start) == f.start+1
	if same && (f.def == nil || f.stored == storedWords(f.def) && f.start == f.def.StartWord() && f.shared == isShared(f.def)) {
		return nil
	}
	return fmt.Errorf("%w: family with schema %q: its words do not match the schema", errFormat, f.schema)
}

// appendFamily appends a family to the directory, whose order decides, in all processes alike,
// which variants are older. mu is held.
func (s *Syncer) appendFamily(f *family, help string) {
	known := f.id >= 0
	s.dir.appendFamily(f, help)
	if f.place == nil || s.shard.at > 0 {
		return
	}
	order := s.order()
	if !known {
		f.order = order
		s.index.SetOrder(f.place, order)
		delete(s.ordered, f.def.Name)
	}
	s.index.SetHelp(f.place, help, order)
}
