//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"fmt"
	"os"

	"github.com/gotheus/gotheus/internal/backend"
)

const (
	// A file that nobody has open is rewritten if at least rewriteWaste bytes, and one part in
	// rewriteShare of its records, are waste.
	rewriteWaste = 256 << 10
	rewriteShare = 4
)

// wantsRewrite reports whether a file that nobody has open should be rewritten.
func wantsRewrite(f *os.File, h *header, o *Options) bool {
	var p [offWaste + 8]byte
	if _, err := f.ReadAt(p[:], 0); err != nil {
		return false
	}
	waste, used := order.Uint64(p[offWaste:]), max(order.Uint64(p[offTail:]), h.recordsAt)-h.recordsAt
	worth := waste >= rewriteWaste && waste >= used/rewriteShare
	// A limit that is too small for the contents is not attempted at every opening.
	other := o.Limit != 0 && uint64(o.Limit) != h.limit && h.recordsAt+used-min(waste, used) <= uint64(o.Limit)
	return (worth || other) && h.minor <= minor && !inUse(f)
}

// testHookLoaded is called when a file was read to be rewritten.
var testHookLoaded func()

// rewrite replaces a file by one with the same values and the requested limit, but without deleted
// series and those of dead instances. done is false if another process has the file open.
func rewrite(f *os.File, old *header, name string, o *Options) (done bool, err error) {
	// Every instance that joins draws a ticket. If there was none when we began to read, and no
	// ticket was drawn until we hold the lock, the file has not changed meanwhile.
	tickets, err := readTickets(f)
	if err != nil || inUse(f) {
		return false, err
	}
	c, err := load(f)
	if testHookLoaded != nil {
		testHookLoaded()
	}
	if err != nil || c.newer {
		return false, err
	}
	if len(c.problems) > 0 {
		// The copy would lose for good what the damage hides.
		return false, fmt.Errorf("%w: %s (and %d more)", ErrFormat, c.problems[0], len(c.problems)-1)
	}
	h := newHeader(o)
	h.created = old.created
	list, end := c.surviving(), h.recordsAt
	for _, r := range list {
		end += r.need()
	}
	if o.Limit == 0 || max(end, h.recordsAt+minGrowth) > h.limit {
		h.limit = old.limit
	}
	err = inNewFile(name, h, o, f, func(temp *os.File) error { return c.copyTo(temp, h, list) }, func(temp string) (err error) {
		done, err = whileUnused(f, name, func() error {
			now, err := readTickets(f)
			if err == nil && now != tickets {
				err = fmt.Errorf("%w: another process has had it open meanwhile", backend.ErrBusy)
			}
			if err != nil {
				return err
			}
			return os.Rename(temp, name)
		})
		return err
	})
	return done && err == nil, err
}

func readTickets(f *os.File) (uint64, error) { return readWord(f, offTickets) }

// readWord reads a word of the header.
func readWord(f *os.File, off int64) (uint64, error) {
	var p [8]byte
	if _, err := f.ReadAt(p[:], off); err != nil {
		return 0, fmt.Errorf("shm: %w", err)
	}
	return order.Uint64(p[:]), nil
}

// surviving returns the records to copy, families before the records that refer to them. It leaves
// out deleted series, data of instances, and families without series, which are created again when
// they are declared.
func (c *content) surviving() (list []*record) {
	full := make(map[uint32]bool) // as offset/64
	for _, r := range c.records {
		if r.typ == typeSeries && c.survives(r) {
			full[r.family] = true
		}
	}
	for _, r := range c.records { // by offset
		if r.typ == typeFamily && full[uint32(r.off/align)] {
			list = append(list, r)
		}
	}
	for _, r := range c.records {
		if r.typ == typeHelp && full[r.family] || r.typ == typeSeries && c.survives(r) {
			list = append(list, r)
		}
	}
	return list
}

// copyTo copies records to an empty file that no other process uses yet.
func (c *content) copyTo(f *os.File, h *header, list []*record) error {
	mem, err := mapFile(f, h.limit)
	if err != nil {
		return err
	}
	defer unmap(mem)
	to := newSegment(f, h, mem)
	mem.u64(offTickets).Store(c.mem.u64(offTickets).Load())
	moved := make(map[uint32]uint32) // families, as offset/64; a family record refers to 0
	for _, r := range list {
		n := &record{typ: r.typ, family: moved[r.family], text: r.text, extra: r.extra, words: r.words}
		n.hash = to.hashOf(n.typ, n.family, n.text)
		if err := to.reserve(n, h.limit); err != nil {
			return err
		}
		mem.put(n, int64(c.mem.u64(r.off+recMade).Load()))
		raise(mem.u64(offTop), n.off+n.size)
		from, words := c.mem.words(r.wordsAt, r.words), mem.words(n.wordsAt, n.words)
		for i := range words {
			words[i].Store(from[i].Load())
		}
		mem.u32(n.off + recNext).Store(to.bucket(n.hash).Load())
		to.bucket(n.hash).Store(uint32(n.off / align))
		if r.typ == typeFamily {
			moved[uint32(r.off/align)] = uint32(n.off / align)
		}
	}
	return nil
}

// survives reports whether a series has values that outlive processes.
func (c *content) survives(r *record) bool {
	f := c.families[r.family]
	return f == nil || !f.Parts() && !c.deleted(f, r) // nil: from a later version
}

// deleted reports whether a series was deleted. Exemplars have no mark of their own: they are
// deleted with the series that they belong to.
func (c *content) deleted(f *backend.Family, r *record) bool {
	if c.mem.u32(r.off+recRetired).Load()&1 != 0 {
		return true
	}
	if f.Block.Role != backend.ExemplarRole {
		return f.Sealed(c.mem.words(r.wordsAt, r.words))
	}
	if c.exist == nil {
		c.exist = make(map[string]bool)
		for _, r := range c.records {
			if f := c.families[r.family]; r.typ == typeSeries && f != nil && f.Block.Role == 0 && !f.Sealed(c.mem.words(r.wordsAt, r.words)) {
				c.exist[f.Name+"{"+r.text] = true
			}
		}
	}
	return !c.exist[f.Name+"{"+r.text]
}
