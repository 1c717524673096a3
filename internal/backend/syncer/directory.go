package syncer

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
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
	start     int   // index of the start among them; -1: none
	floats    []int // words whose floats are added up, see exact.go
	adding    adding
	snapshots []bool // which words are snapshots of a quantile window; nil: none are
	place     *index.Family
	ownPlace  *index.Family // in the index of own words
	rows      map[string]*row
	id        int    // number in the directory; -1: none yet
	order     uint64 // age, to order variants
	own       bool   // this process declares it
}

// row is a series.
type row struct {
	fam    *family
	labels string
	id     uint32 // number in the directory
	life   uint64 // how often it is known to have been deleted
	own    *own   // nil: this process does not update it

	invalid bool // the labels do not fit the family: never shown

	// What pages show; created by the first merge that finds words.
	words backend.Words
	slots map[int]*slot // by number of the instance, if the family has parts
}

// own is a series that this process updates.
type own struct {
	words    backend.Words
	gauge    *sharedGauge // of a shared gauge
	ticket   uint64       // of the last stamped Set, for gauges of mode Latest
	stamp    uint64       // stored in place of that ticket
	deleting bool         // deleted by this process, not yet published
	// Owner of a part without a number, which pages of this process show until it has one. nil:
	// they show what was published of words, and not words themselves.
	alone *atomic.Uint64
}

// slot holds the words of a series for the instance with some number.
type slot struct {
	words backend.Words
	owner atomic.Uint64
	life  uint64
	seen  bool // in the current merge
	// self is the owner of a second part, which has the words of own. Only one of the parts is
	// live. nil: there is none.
	self *atomic.Uint64
}

const noID = ^uint32(0)

// directory maps series to the numbers under which they are stored. It only grows, and is the same
// in all processes, unless the store loses some of it.
type directory struct {
	families []*family
	rows     [2][]*row // of series, and of shared gauges
	tallies  [lists]tally
	helps    map[string]bool // schema, a zero byte and help text of each entry
}

func (d *directory) row(id uint32) *row {
	list := 0
	if id >= gaugeChunks<<chunkBits {
		list, id = 1, id-gaugeChunks<<chunkBits
	}
	if id < uint32(len(d.rows[list])) {
		return d.rows[list][id]
	}
	return nil
}

// chunk returns the rows of a chunk.
func (d *directory) chunk(n uint32) []*row {
	rows := d.rows[0]
	if n >= gaugeChunks {
		rows, n = d.rows[1], n-gaugeChunks
	}
	first := min(uint64(n)<<chunkBits, uint64(len(rows)))
	return rows[first:min(first+chunkSize, uint64(len(rows)))]
}

// append adds a row to the end of its list.
func (d *directory) append(r *row) {
	list := r.fam.list() - series
	id := uint32(len(d.rows[list]))
	if list == 1 {
		id += gaugeChunks << chunkBits
	}
	d.rows[list] = append(d.rows[list], r)
	d.tallies[list+series].add(r.entry(nil))
	r.id = id
}

func (d *directory) appendFamily(f *family, help string) {
	if f.id < 0 {
		f.id = len(d.families)
	}
	d.families = append(d.families, f)
	if d.helps == nil {
		d.helps = make(map[string]bool)
	}
	d.helps[f.schema+"\x00"+help] = true
	d.tallies[families].add(f.entry(help))
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
	list := byte(series)
	if f.shared {
		list = gauges
	}
	if f.blocks {
		list |= blocksFlag
	}
	b = append(b, list)
	b = binary.AppendUvarint(b, uint64(f.start+1))
	return appendBytes(appendBytes(b, f.schema), help)
}

// entry appends a series' entry in the directory.
func (r *row) entry(b []byte) []byte {
	return appendBytes(binary.AppendUvarint(b, uint64(r.fam.id)), r.labels)
}

// newFamily returns a new family. def is nil if this version cannot parse the schema.
func newFamily(schema string, def *backend.Family, stored, start int, shared bool) *family {
	f := &family{def: def, schema: schema, id: -1, stored: stored, start: start, shared: shared, rows: make(map[string]*row)}
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
		if f.blocks && !f.exemplars && def.Snapshots() > 0 {
			f.snapshots = make([]bool, stored)
			for i := range f.snapshots {
				f.snapshots[i] = def.Snapshot(i, stored)
			}
		}
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
		f = newFamily(schema, def, storedWords(def), startWord(def), shared)
		f.place = s.index.Declare(def, s.order())
		s.schemas[schema] = f
		s.noteVariant(f)
	}
	f.own = true
	if !slices.ContainsFunc(s.declared, func(d declaration) bool { return d.fam == f && d.help == def.Help }) {
		s.declared = append(s.declared, declaration{fam: f, help: def.Help})
		s.declareOwn(f, def.Help)
	}
	s.known[def] = f
	return f
}

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

// startWord returns the index of the start among a series' words; -1: none.
func startWord(def *backend.Family) int {
	w := make(backend.Words, def.Words())
	if start := def.Start(w); start != nil {
		start.Store(1)
	}
	for i := range w {
		if w[i].Load() != 0 {
			return i
		}
	}
	return -1
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

func (f *family) row(labels string) *row {
	r := f.rows[labels]
	if r == nil {
		r = &row{fam: f, labels: labels, id: noID}
		f.rows[labels] = r
	}
	return r
}

// readFamily takes over a family from the directory. mu is held.
func (s *Syncer) readFamily(entry []byte) error {
	r := reader{b: entry}
	stored, list, start := r.num(), r.num(), r.num()
	blocks := list&blocksFlag != 0
	list &^= blocksFlag
	schema, help := string(r.bytes()), string(r.bytes())
	if err := r.end("family"); err != nil {
		return err
	}
	if stored > 1<<20 || start > stored {
		return fmt.Errorf("%w: a family with %d words", errFormat, stored)
	}
	f := s.schemas[schema]
	if f == nil {
		def, err := backend.ParseSchema(schema)
		if err != nil {
			def = nil // from a later version
		}
		f = newFamily(schema, def, int(stored), int(start)-1, list == gauges)
		if def == nil {
			f.blocks = blocks
		} else if err := f.check(stored, list, start, blocks); err != nil {
			return err
		} else {
			def.Help = help
			f.place = s.index.Declare(def, s.order())
			s.noteVariant(f)
		}
		s.schemas[schema] = f
	} else if err := f.check(stored, list, start, blocks); err != nil {
		return err
	}
	s.appendFamily(f, help)
	return nil
}

// check compares a family's entry with its schema.
func (f *family) check(stored, list, start uint64, blocks bool) error {
	same := list == uint64(f.list()) && blocks == f.blocks && int(stored) == f.stored && int(start) == f.start+1
	if same && (f.def == nil || f.stored == storedWords(f.def) && f.start == startWord(f.def) && f.shared == isShared(f.def)) {
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

// readSeries takes over a series from the directory. mu is held.
func (s *Syncer) readSeries(r *reader, list int) error {
	id, labels := r.num(), string(r.bytes())
	if r.bad || id >= uint64(len(s.dir.families)) || s.dir.families[id].list() != list {
		return fmt.Errorf("%w: directory", errFormat)
	}
	f := s.dir.families[id]
	row := f.row(labels)
	s.changed(labels)
	if f.def != nil {
		if _, err := f.def.LabelValues(labels); err != nil { // the series keeps its number
			row.invalid = true
			s.invalid = fmt.Errorf("%w: directory: %w", errFormat, err)
		}
	}
	s.dir.append(row)
	return nil
}

// forgetDirectory empties the directory, since the store has lost some of it and may number other
// series anew.
func (s *Syncer) forgetDirectory() {
	for _, f := range s.schemas {
		f.id = -1
		for _, r := range f.rows {
			r.id = noID
		}
	}
	s.dir, s.read = directory{}, [2]int{}
}
