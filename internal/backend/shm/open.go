//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// How a file comes to be, and what becomes of it when it is opened. A file appears under its name only when
// it is complete, by link or rename, so that no process ever waits for the maker of a file. It is replaced by
// another only by who holds the locks of all instances; an instance that has taken its lock looks whether the
// file is still there under its name, and otherwise begins again.

const (
	// openWait is how long opening waits at most for somebody who is about to replace the file.
	openWait = time.Second
	// rewriteWait is how long of it for somebody who rewrites the file. Who has waited in vain takes the file as it
	// is, and the other one's copy is not used.
	rewriteWait = openWait * 3 / 4
)

const (
	// A file is rewritten when nobody has it open and so many bytes, and this share of its records, are
	// waste.
	rewriteWaste = 256 << 10
	rewriteShare = 4
)

// opened is a file with everything that comes with it.
type opened struct {
	*segment
	slot    int
	id      uint64
	notices []string // what has happened that somebody should know
}

// openSegment opens the file for path, makes it, or replaces it, and takes a place in it. Only waiting for others
// counts for openWait, not what it does itself, as copying or checking a large file.
func openSegment(ctx context.Context, path string, o *Options) (*opened, error) {
	name := path + Suffix
	var notices []string
	opt, replaced := *o, 0
	var waited time.Duration
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		s, again, err := tryOpen(name, &opt, waited < rewriteWait, &notices)
		if err == nil && s != nil {
			s.notices = notices
			return s, nil
		}
		if err != nil && !errors.Is(err, backend.ErrBusy) {
			return nil, err
		}
		if again && replaced < 3 {
			replaced++
			opt.Fresh = false // it is now
			continue
		}
		if err == nil {
			err = fmt.Errorf("shm: %s is being replaced: %w", name, backend.ErrBusy)
		}
		if waited >= openWait {
			return nil, fmt.Errorf("%w (waited for %v)", err, openWait)
		}
		began := time.Now()
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(wait):
			waited += min(time.Since(began), 2*wait) // the rest is the machine, which kept others waiting, too
		}
	}
}

// tryOpen makes one attempt. Without a result and an error, there is to be another one: again, because this
// process has made or replaced the file, or a moment later. It waits for somebody who rewrites the file only if it
// has patience; otherwise it takes the file as it is.
func tryOpen(name string, o *Options, patient bool, notices *[]string) (_ *opened, again bool, err error) {
	f, err := openFile(name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		err := makeFile(name, o)
		return nil, err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	var s *opened
	defer func() {
		if s == nil {
			f.Close()
		}
	}()
	if err := checkFile(f, o); err != nil {
		return nil, false, err
	}
	h, outcome, checked, err := judge(f, o)
	switch {
	case outcome == Replace:
		aside, replaceErr := setAside(f, name)
		switch {
		case errors.Is(replaceErr, backend.ErrBusy) && err != nil:
			return nil, false, fmt.Errorf("%w; it cannot be set aside: %w", err, replaceErr)
		case replaceErr != nil:
			return nil, false, replaceErr
		case aside != "":
			*notices = append(*notices, fmt.Sprintf("%v; it was set aside as %s, and a new file begins from zero", err, aside))
		}
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case outcome == StartAfresh:
		done, err := startAfresh(f, h, name, o)
		return nil, done && err == nil, err // not done: it is looked at again
	case patient && wantsRewrite(f, h, o):
		// One is enough: each would take the memory and the time for a copy. Nobody else needs this lock while
		// nobody has the file open.
		if ok, err := lock(f, lockByte); !ok || err != nil {
			return nil, false, err
		}
		if !isAt(f, name) {
			return nil, true, nil // somebody has
		}
		done, err := rewrite(f, h, name, o)
		unlock(f, lockByte)
		if done {
			return nil, true, nil
		} else if err != nil {
			// There may be no room for a second file. The one that is there will do.
			*notices = append(*notices, fmt.Sprintf("shm: %s could not be rewritten without what is deleted: %v", name, err))
		}
	}
	if err := own(f); err != nil {
		return nil, false, fmt.Errorf("shm: %s: %w", name, err)
	}
	if checked {
		if err := markWhole(f); err != nil {
			return nil, false, err
		}
	}
	mem, err := mapFile(f, h.limit)
	if err != nil {
		return nil, false, err
	}
	o2 := &opened{segment: newSegment(f, h, mem)}
	if o2.slot, o2.id, err = o2.join(); err != nil || !isAt(f, name) {
		if err == nil {
			o2.leave(o2.slot, o2.id)
		}
		unmap(mem)
		return nil, false, err
	}
	s = o2
	if o.Limit != 0 && uint64(o.Limit) != h.limit && len(*notices) == 0 {
		*notices = append(*notices, fmt.Sprintf("shm: %s keeps its limit of %d bytes, though one of %d is asked for: it changes when nobody has the file open, what is in it fits, and no later version has written to it",
			name, h.limit, o.Limit))
	}
	return s, false, nil
}

// openFile opens a file with a flag, os.O_RDONLY or os.O_RDWR.
func openFile(name string, flag int) (*os.File, error) {
	// To open a device may already do something.
	if st, err := os.Lstat(name); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return nil, fmt.Errorf("shm: %s is a symbolic link, which is not followed", name)
	} else if err == nil && !st.Mode().IsRegular() {
		return nil, errNotRegular(name, st.Mode())
	}
	// Neither created here, which some systems refuse in directories like /dev/shm if the file is another
	// user's, nor waited for, as the other end of a pipe would be that has come meanwhile.
	f, err := os.OpenFile(name, flag|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	return f, nil
}

func errNotRegular(name string, mode fs.FileMode) error {
	return fmt.Errorf("shm: %s is not a regular file (%v)", name, mode)
}

// judge reads a file's header and says what is to become of the file, and whether all of it was checked and
// found whole. With Replace, the error says what is wrong with the file, if anything is in it.
func judge(f *os.File, o *Options) (h *header, outcome Outcome, checked bool, err error) {
	h, err = readHeader(f)
	switch {
	case errors.Is(err, errOther) || err != nil && !errors.Is(err, ErrFormat):
		return nil, Resume, false, err
	case err != nil || h == nil:
		return nil, Replace, false, err
	case o.Fresh && !inUse(f):
		return h, StartAfresh, false, nil
	}
	// Processes that die leave a file whole. A machine that stops may not.
	boot := thisBoot()
	var last [len(boot)]byte
	if _, err := f.ReadAt(last[:], offBoot); err != nil {
		return nil, Resume, false, fmt.Errorf("shm: %w", err)
	}
	// Who has the file open has checked it. But somebody may only hold the locks to set it aside: it is not
	// known to be whole.
	if last == boot && boot != [len(boot)]byte{} || inUse(f) {
		return h, Resume, false, nil
	}
	r, err := inspect(f)
	if err != nil {
		return nil, Resume, false, err
	}
	if len(r.Problems) > 0 {
		return nil, Replace, false, fmt.Errorf("%w: %s: %s (and %d more)", ErrFormat, f.Name(), r.Problems[0], len(r.Problems)-1)
	}
	return h, Resume, true, nil
}

// markWhole notes that the file was found whole in this run of the machine.
func markWhole(f *os.File) error {
	boot := thisBoot()
	last := boot
	_, err := f.ReadAt(last[:], offBoot)
	if err == nil && last != boot {
		_, err = f.WriteAt(boot[:], offBoot)
	}
	if err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	return nil
}

// readHeader returns nil if the file is empty.
func readHeader(f *os.File) (*header, error) {
	page := make([]byte, offIndex)
	n, err := f.ReadAt(page, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("shm: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	size, err := sizeOf(f)
	if err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	h, err := decodeHeader(page[:n], size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return h, nil
}

// makeFile makes an empty file, unless somebody else was quicker.
func makeFile(name string, o *Options) error {
	return inNewFile(name, newHeader(o), o, nil, nil, func(temp string) error {
		if err := os.Link(temp, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// checkLimit refuses limits that no file can have.
func checkLimit(path string, o *Options) error {
	if o.Limit < 0 || o.Limit > maxLimit {
		return fmt.Errorf("shm: %s: a limit of %d bytes is impossible: %d at most", path+Suffix, o.Limit, int64(maxLimit))
	}
	return nil
}

func newHeader(o *Options) *header {
	h := &header{
		minor:     minor,
		limit:     uint64(o.Limit),
		created:   uint64(time.Now().UnixNano()),
		buckets:   numBuckets,
		instances: numInstances,
	}
	if o.Limit == 0 {
		h.limit = DefaultLimit
	}
	rand.Read(h.seed[:])
	h.derive()
	return h
}

// inNewFile makes a file under another name, fills it, and calls publish, which gives it its own. If it takes
// the place of a file that a group shares, it belongs to the same group.
func inNewFile(name string, h *header, o *Options, old *os.File, fill func(f *os.File) error, publish func(temp string) error) error {
	err := func() error {
		if least := h.recordsAt + minGrowth; least > h.limit {
			return fmt.Errorf("the limit of %d bytes is too small: %d at least", h.limit, least)
		}
		removeStale(name)
		mode := fs.FileMode(0o600)
		if o.Group {
			mode = 0o660
		}
		temp := fmt.Sprintf("%s%s%d-%s", name, tempSuffix, os.Getpid(), rand.Text()[:8])
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, mode)
		if err != nil {
			return err
		}
		defer f.Close()
		defer os.Remove(temp) // if it was not renamed
		// While it is locked, it is not left over from a dead process.
		if _, err := lock(f, lockByte); err != nil {
			return err
		}
		if o.Group {
			if err := keepGroup(f, old); err != nil {
				return err
			}
			if err := f.Chmod(mode); err != nil { // whatever the umask
				return err
			}
		}
		if err := checkFile(f, o); err != nil {
			return err
		}
		if err := writeEmpty(f, h); err != nil {
			return err
		}
		// A file that not even its maker can map would be of no use to anybody.
		mem, err := mapFile(f, h.limit)
		if err != nil {
			return err
		}
		unmap(mem)
		if fill != nil {
			if err := fill(f); err != nil {
				return err
			}
		}
		return publish(temp)
	}()
	if (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !errors.Is(err, backend.ErrFull) {
		err = fmt.Errorf("%w: %w", backend.ErrFull, err) // not even for the name
	}
	if err != nil {
		return fmt.Errorf("shm: making %s: %w", name, err)
	}
	return nil
}

// keepGroup gives f the group of old, if there is an old one.
func keepGroup(f, old *os.File) error {
	if old == nil {
		return nil
	}
	st, err := old.Stat()
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(-1, int(sys.Gid))
}

// tempSuffix is behind the name of files that are being made.
const tempSuffix = ".new-"

// removeStale removes what makers left that were killed at it.
func removeStale(name string) {
	list, _ := filepath.Glob(globQuote(name) + tempSuffix + "*")
	for _, temp := range list {
		f, err := openFile(temp, os.O_RDWR)
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err == nil && time.Since(st.ModTime()) > 10*time.Second && !locked(f, lockByte) {
			os.Remove(temp)
		}
		f.Close()
	}
}

func globQuote(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// writeEmpty makes a file of size 0 into one without records.
func writeEmpty(f *os.File, h *header) error {
	if err := allocate(f, 0, h.recordsAt+minGrowth); err != nil {
		return err
	}
	page := h.encode()
	boot := thisBoot()
	copy(page[offBoot:], boot[:])
	copy(page, magic)
	_, err := f.WriteAt(page, 0)
	return err
}

// alone calls do while nobody else can take a place in the file or replace it, and reports whether it did. It
// does not if somebody has the file open or has replaced it. It waits for nobody.
func alone(f *os.File, name string, do func() error) (done bool, err error) {
	if ok, err := lockAll(f); !ok || err != nil {
		return false, err
	}
	defer setLock(f, syscall.F_UNLCK, lockByte+1, 0)
	if !isAt(f, name) {
		return false, nil
	}
	return true, do()
}

// setAside renames a file that is of no use, and returns its new name; "" if the file was empty or somebody
// else has replaced it.
func setAside(f *os.File, name string) (aside string, err error) {
	done, err := alone(f, name, func() error {
		if size, err := sizeOf(f); err != nil || size == 0 {
			return errors.Join(err, os.Remove(name))
		}
		aside = fmt.Sprintf("%s.damaged-%s-%s", name, time.Now().UTC().Format("20060102T150405"), rand.Text()[:4])
		return os.Rename(name, aside)
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("shm: setting %s aside: %w", name, err)
	case !done && isAt(f, name):
		return "", fmt.Errorf("%w: other processes have it open", backend.ErrBusy)
	}
	return aside, nil
}

// startAfresh puts an empty file in the place of one that nobody has open. Not done: somebody has.
func startAfresh(f *os.File, old *header, name string, o *Options) (done bool, err error) {
	h := newHeader(o)
	if o.Limit == 0 {
		h.limit = old.limit
	}
	err = inNewFile(name, h, o, f, nil, func(temp string) (err error) {
		done, err = alone(f, name, func() error { return os.Rename(temp, name) })
		return err
	})
	return done, err
}

// wantsRewrite reports whether a file that nobody has open is worth rewriting.
func wantsRewrite(f *os.File, h *header, o *Options) bool {
	var p [offWaste + 8]byte
	if _, err := f.ReadAt(p[:], 0); err != nil {
		return false
	}
	waste, used := order.Uint64(p[offWaste:]), max(order.Uint64(p[offTail:]), h.recordsAt)-h.recordsAt
	worth := waste >= rewriteWaste && waste >= used/rewriteShare
	// A limit that is too small for what is there is not tried again and again.
	other := o.Limit != 0 && uint64(o.Limit) != h.limit && h.recordsAt+used-min(waste, used) <= uint64(o.Limit)
	return (worth || other) && h.minor <= minor && !inUse(f)
}

// rewrite puts a file in the place of another that has the same values, but not what was deleted or belongs
// to dead instances, and the limit that is asked for. Not done: somebody has it open.
func rewrite(f *os.File, old *header, name string, o *Options) (done bool, err error) {
	// Whoever comes draws a ticket. If nobody is there when we begin to read, and no ticket was drawn until we
	// hold the lock, nobody has changed anything meanwhile.
	tickets, err := readTickets(f)
	if err != nil || inUse(f) {
		return false, err
	}
	c, err := load(f)
	if err != nil || c.later {
		return false, err
	}
	if len(c.problems) > 0 {
		// A copy would be without what the damage hides, for good.
		return false, fmt.Errorf("%w: %s (and %d more)", ErrFormat, c.problems[0], len(c.problems)-1)
	}
	h := newHeader(o)
	h.created = old.created
	list, end := c.staying(), h.recordsAt
	for _, r := range list {
		end += r.need()
	}
	if o.Limit == 0 || max(end, h.recordsAt+minGrowth) > h.limit {
		h.limit = old.limit
	}
	err = inNewFile(name, h, o, f, func(temp *os.File) error { return c.copyTo(temp, h, list) }, func(temp string) (err error) {
		done, err = alone(f, name, func() error {
			now, err := readTickets(f)
			if err == nil && now != tickets {
				err = fmt.Errorf("%w: another process was there meanwhile", backend.ErrBusy)
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

func readTickets(f *os.File) (uint64, error) {
	var p [8]byte
	if _, err := f.ReadAt(p[:], offTickets); err != nil {
		return 0, fmt.Errorf("shm: %w", err)
	}
	return order.Uint64(p[:]), nil
}

// staying returns what is to be copied, families before what refers to them: not what was deleted, nor what is about
// instances, nor families without series, which who declares them makes again.
func (c *content) staying() (list []*record) {
	full := make(map[uint32]bool) // as offset/64
	for _, r := range c.records {
		if r.typ == typeSeries && c.stays(r) {
			full[r.family] = true
		}
	}
	for _, r := range c.records { // by offset
		if r.typ == typeFamily && full[uint32(r.off/align)] || r.typ == typeHelp && full[r.family] || r.typ == typeSeries && c.stays(r) {
			list = append(list, r)
		}
	}
	return list
}

// copyTo copies records to an empty file that nobody else knows.
func (c *content) copyTo(f *os.File, h *header, list []*record) error {
	mem, err := mapFile(f, h.limit)
	if err != nil {
		return err
	}
	defer unmap(mem)
	to := newSegment(f, h, mem)
	mem.u64(offTickets).Store(c.mem.u64(offTickets).Load())
	moved := make(map[uint32]uint32) // families, as offset/64; 0 is that of a family itself
	for _, r := range list {
		n := &record{typ: r.typ, family: moved[r.family], text: r.text, extra: r.extra, words: r.words}
		n.hash = to.hashOf(n.typ, n.family, n.text)
		if err := to.take(n, h.limit); err != nil {
			return err
		}
		mem.put(n, int64(c.mem.u64(r.off+recMade).Load()))
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

// stays reports whether a series has a value of its own that outlives processes.
func (c *content) stays(r *record) bool {
	f := c.families[r.family]
	return f == nil || !f.Parts() && !c.deleted(f, r) // nil: of a later version
}

// deleted reports whether a series does not exist. Exemplars, which nothing marks, go with what they belong to.
func (c *content) deleted(f *backend.Family, r *record) bool {
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

// Peek says what Open would do now with the file for path, and does nothing. The error is Open's, as far
// as it can be foreseen.
func Peek(path string, o *Options) (Outcome, error) {
	if o == nil {
		o = new(Options)
	}
	if err := checkLimit(path, o); err != nil {
		return Resume, err
	}
	f, err := openFile(path+Suffix, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return Create, fmt.Errorf("shm: %w", err)
		}
		return Create, nil
	case err != nil:
		return Resume, err
	}
	defer f.Close()
	if err := checkFile(f, o); err != nil {
		return Resume, err
	}
	_, outcome, _, err := judge(f, o)
	if outcome == Replace {
		if inUse(f) {
			return Resume, err
		}
		err = nil
	}
	return outcome, err
}
