package syncer

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// family is a family that this process or another one has.
type family struct {
	def       *backend.Family // nil: a later version's, which cannot be shown
	schema    string
	kind      backend.Kind
	parts     bool // each instance's words are shown on their own
	gauge     bool // the words are those of a gauge
	blocks    bool // the number of words can grow when they are merged
	exemplars bool
	shared    bool // a gauge of mode Shared
	stored    int  // words of a series as they are stored
	start     int  // which of them is the start; -1: none
	adding    adding
	snapshots []bool // which words of a window belong to snapshots; nil: it has none
	place     *index.Family
	ownPlace  *index.Family // in the list of own words
	rows      map[string]*row
	id        int    // in the directory; -1: not there yet
	order     uint64 // age, among variants
	own       bool   // this process has asked for it
}

// row is a series.
type row struct {
	fam    *family
	labels string
	id     uint32 // in the directory
	life   uint64 // how often it was deleted, as far as is known
	own    *own   // nil: this process does not update it

	invalid bool // labels are none of the family's, so that no page may show it

	// What a page shows, made by the first merge that finds something.
	words backend.Words
	slots map[int]*slot // by an instance's number, if the family has parts
}

// own is a series that this process updates.
type own struct {
	words    backend.Words
	gauge    *sharedGauge // of a shared gauge
	ticket   uint64       // of the last Set of a gauge with mode Latest that has a stamp
	stamp    uint64       // in place of that ticket
	deleting bool         // by this process, which is yet to tell the others
}

// slot is what the instance with some number has of a series.
type slot struct {
	words backend.Words
	owner atomic.Uint64
	life  uint64
	seen  bool // during a merge
}

const noID = ^uint32(0)

// directory gives series the numbers under which they are stored. It only grows, and is the same for all
// processes, until the store loses some of it.
type directory struct {
	families []*family
	rows     [2][]*row // series; shared gauges
	tallies  [lists]tally
	helps    map[string]bool // schema, zero byte and help text of each family
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

// chunk returns the rows of a part of the directory.
func (d *directory) chunk(n uint32) []*row {
	rows := d.rows[0]
	if n >= gaugeChunks {
		rows, n = d.rows[1], n-gaugeChunks
	}
	first := min(uint64(n)<<chunkBits, uint64(len(rows)))
	return rows[first:min(first+chunkSize, uint64(len(rows)))]
}

// append puts a row at the end of its list.
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

// entry returns what the directory says about a family.
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

// entry appends what the directory says about a series.
func (r *row) entry(b []byte) []byte {
	return appendBytes(binary.AppendUvarint(b, uint64(r.fam.id)), r.labels)
}

// newFamily returns the family with a schema; def is nil if this version cannot read it.
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
	}
	return f
}

// family finds or makes a family. mu is held.
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

// storedWords returns how many words a series has at first, as it is stored.
func storedWords(def *backend.Family) int {
	if isShared(def) {
		return gaugeWords
	}
	return def.Words()
}

// startWord returns which of a series' words is the start; -1: none is.
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

// declaration is a family that this process has asked for.
type declaration struct {
	fam  *family
	help string
}

// order returns the age of a family that the directory does not have yet: newer than all that are there.
func (s *Syncer) order() uint64 {
	if s.shard.at > 0 { // the first shard's directory has all families, and says
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
			def = nil // of a later version
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

// check compares what the directory says about a family with what its schema means.
func (f *family) check(stored, list, start uint64, blocks bool) error {
	same := list == uint64(f.list()) && blocks == f.blocks && int(stored) == f.stored && int(start) == f.start+1
	if same && (f.def == nil || f.stored == storedWords(f.def) && f.start == startWord(f.def) && f.shared == isShared(f.def)) {
		return nil
	}
	return fmt.Errorf("%w: family with schema %q: its words are not as the schema says", errFormat, f.schema)
}

// appendFamily puts a family at the end of the directory. Which of several with one name is older is the same for all
// processes: it is as the directory says. mu is held.
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
	if f.def != nil {
		if _, err := f.def.LabelValues(labels); err != nil { // it has a number all the same
			row.invalid = true
			s.invalid = fmt.Errorf("%w: directory: %w", errFormat, err)
		}
	}
	s.dir.append(row)
	return nil
}

// forget empties the directory: the store has lost some of it, and may have numbered others anew.
func (s *Syncer) forgetDirectory() {
	for _, f := range s.schemas {
		f.id = -1
		for _, r := range f.rows {
			r.id = noID
		}
	}
	s.dir = directory{}
}
