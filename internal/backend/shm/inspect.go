//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Inspect reads and checks the file with that name, which includes Suffix. It changes nothing,
// takes no lock, and may run while processes use the file. The error is one that Open would return
// for the file, or says that it cannot be read; other damage is listed in the report's Problems.
func Inspect(name string) (*Report, error) {
	f, err := openFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return nil, errNotRegular(name, st.Mode())
	}
	return inspect(f)
}

func inspect(f *os.File) (*Report, error) {
	var c *content
	for try := 0; ; try++ {
		before, _ := readWord(f, offReused) // if that fails, load says why
		var err error
		if c, err = load(f); err != nil {
			return nil, err
		}
		// If space was reused while it was being read, what was read may not fit together.
		if now, err := readWord(f, offReused); len(c.problems) == 0 || err != nil || now == before || try == 10 {
			break
		}
	}
	r := &Report{
		Path:      f.Name(),
		Minor:     int(c.minor),
		Created:   time.Unix(0, int64(c.created)),
		Limit:     int64(c.limit),
		Size:      int64(len(c.mem)),
		Used:      int64(max(c.mem.u64(offTail).Load(), c.recordsAt)),
		Instances: listInstances(c.header, c.mem, func(id uint64) bool { return idLocked(f, id) }),
		Free:      int64(c.free),
		Problems:  c.problems,
	}
	c.report(r)
	return r, nil
}

// reportBuilder is the state of report while it goes through the records.
type reportBuilder struct {
	*content
	live    map[int]uint64           // ids of live instances, by slot
	byRef   map[uint32]*FamilyReport // by offset/64
	counted map[uint32]bool          // series of which a part counts, by offset/64
	kept    uint64                   // bytes that a rewrite would keep
}

// report fills in the families and, from the bytes that they need, the waste.
func (c *content) report(r *Report) {
	s := &reportBuilder{content: c, live: make(map[int]uint64), byRef: make(map[uint32]*FamilyReport), counted: make(map[uint32]bool), kept: c.recordsAt}
	for _, i := range r.Instances {
		if i.Alive {
			s.live[i.Number] = i.ID
		}
	}
	for _, isFamily := range []bool{true, false} { // families first, which others refer to
		for _, rec := range c.records {
			if (rec.typ == typeFamily) == isFamily && s.add(rec) {
				s.kept += rec.size
			}
		}
	}
	for _, fam := range s.byRef {
		slices.Sort(fam.Series)
		r.Families = append(r.Families, *fam)
	}
	slices.SortFunc(r.Families, func(a, b FamilyReport) int {
		return cmp.Or(strings.Compare(a.Family.Name, b.Family.Name), strings.Compare(a.Family.Schema(), b.Family.Schema()))
	})
	r.Waste = max(r.Used-int64(s.kept), 0)
}

// add adds a record to the report of its family, and reports whether a rewrite would keep it.
func (s *reportBuilder) add(rec *record) (kept bool) {
	if rec.typ == typeFree {
		return false
	}
	if rec.typ == typeFamily {
		ref := uint32(rec.off / align)
		if fam := s.families[ref]; fam != nil {
			s.byRef[ref] = &FamilyReport{Family: fam, Help: fam.Help, Bytes: int64(rec.size)}
		}
		return true
	}
	series := rec
	if rec.typ == typePart {
		if series = s.at(rec.family); series == nil {
			return false
		}
	}
	fam := s.byRef[series.family]
	if fam == nil { // from a later version
		return true
	}
	fam.Bytes += int64(rec.size)
	switch rec.typ {
	case typeHelp:
		fam.Help = rec.text
	case typeDeclared:
		fam.Declared = fam.Declared || s.declared(rec)
	case typePart:
		return s.addPart(rec, series, fam)
	case typeSeries:
		switch {
		case fam.Family.Parts():
			return false // unless it has a part that counts
		case s.deleted(fam.Family, rec):
			fam.Deleted++
			return false
		}
		fam.Series = append(fam.Series, rec.text)
	}
	return true
}

// addPart adds an instance's part of a series.
func (s *reportBuilder) addPart(rec, series *record, fam *FamilyReport) (kept bool) {
	slot, err := strconv.Atoi(rec.text)
	if err != nil || rec.words == 0 {
		return false
	}
	last := rec.words - 1
	w := s.mem.words(rec.wordsAt, rec.words)
	if id := s.live[slot]; id == 0 || w[last].Load() != id || fam.Family.Sealed(w[:last]) {
		return false
	}
	if !s.counted[rec.family] {
		s.counted[rec.family] = true
		s.kept += series.size
		fam.Series = append(fam.Series, series.text)
	}
	return true
}

// declared reports whether a live instance has made a declaration in rec.
func (s *reportBuilder) declared(rec *record) bool {
	group, ok := declaredGroup(rec, s.instances)
	if !ok {
		return false
	}
	w := s.mem.words(rec.wordsAt, rec.words)
	for i := range w {
		if id := s.live[group*declaredSlots+i]; id != 0 && w[i].Load() > id {
			return true
		}
	}
	return false
}
