//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// A file appears under its name only when it is complete, by link or rename, so that no process
// ever waits for the one that creates it. To replace a file, a process must hold the locks of all
// instances. An instance that has taken its lock checks that the file still has its name, and
// otherwise starts over.

const (
	// openWait limits how long opening waits for a process that is about to replace the file.
	openWait = time.Second
	// rewriteWait limits the part of it that is spent waiting for a process that rewrites the
	// file. After that the file is used as it is, and the other process discards its copy.
	rewriteWait = openWait * 3 / 4

	// checkedAlways is the size of files that are checked whenever nobody has them open. For
	// larger ones, that would take too long.
	checkedAlways = 4 << 20
)

// opened is a mapped file in which this process has an instance slot.
type opened struct {
	*segment
	slot    int
	id      uint64
	notices []string // for the operator, see Backend.Notices
}

// openSegment opens, creates or replaces the file for path, and takes an instance slot in it. Only
// time spent waiting for others counts towards openWait, not its own work such as copying a large
// file.
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
			opt.Fresh = false // it has just begun from zero
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
			// more is a busy machine, which also delays the others
			waited += min(time.Since(began), 2*wait)
		}
	}
}

// tryOpen makes one attempt. If it returns neither a result nor an error, the caller must try
// again: at once if again is set, because this process has created or replaced the file, and
// otherwise a moment later. It waits for a process that rewrites the file only if patient is set.
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
	h, outcome, checked, err := decide(f, o)
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
		return nil, done && err == nil, err // if not done, try again
	case patient && wantsRewrite(f, h, o):
		// One process rewrites the file: each would need memory and time for a copy. The
		// lock serves no other purpose while nobody has the file open.
		if ok, err := lock(f, lockByte); !ok || err != nil {
			return nil, false, err
		}
		if !isAt(f, name) {
			return nil, true, nil // another process has rewritten it
		}
		done, err := rewrite(f, h, name, o)
		unlock(f, lockByte)
		if done {
			return nil, true, nil
		} else if err != nil {
			// There may be no room for a second file. The existing one will do.
			*notices = append(*notices, fmt.Sprintf("shm: %s could not be rewritten without deleted series: %v", name, err))
		}
	}
	if err := ensureAllocated(f); err != nil {
		return nil, false, fmt.Errorf("shm: %s: %w", name, err)
	}
	if checked {
		if err := markIntact(f); err != nil {
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
		*notices = append(*notices, fmt.Sprintf("shm: %s keeps its limit of %d bytes instead of the requested %d: the limit changes when no process has the file open, its contents fit, and no later version has written to it",
			name, h.limit, o.Limit))
	}
	return s, false, nil
}

// openFile opens a file. The flag is os.O_RDONLY or os.O_RDWR.
func openFile(name string, flag int) (*os.File, error) {
	// Opening a device can have side effects.
	if st, err := os.Lstat(name); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return nil, fmt.Errorf("shm: %s is a symbolic link, which is not followed", name)
	} else if err == nil && !st.Mode().IsRegular() {
		return nil, errNotRegular(name, st.Mode())
	}
	// No O_CREATE, which some systems refuse in directories like /dev/shm if the file belongs
	// to another user. O_NONBLOCK in case the file has become a pipe, whose other end must not
	// be waited for.
	f, err := os.OpenFile(name, flag|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	return f, nil
}

func errNotRegular(name string, mode fs.FileMode) error {
	return fmt.Errorf("shm: %s is not a regular file (%v)", name, mode)
}

// decide reads a file's header and decides what to do with the file. checked reports that the whole
// file was checked and is intact. If the outcome is Replace, err says what is wrong with the file,
// and is nil if it is empty.
func decide(f *os.File, o *Options) (h *header, outcome Outcome, checked bool, err error) {
	h, err = readHeader(f)
	switch {
	case errors.Is(err, errForeign) || err != nil && !errors.Is(err, ErrFormat):
		return nil, Resume, false, err
	case err != nil || h == nil:
		return nil, Replace, false, err
	case o.Fresh && !inUse(f):
		return h, StartAfresh, false, nil
	}
	// A process that dies leaves the file intact. A machine that crashes may not.
	boot := bootID()
	var last [len(boot)]byte
	if _, err := f.ReadAt(last[:], offBoot); err != nil {
		return nil, Resume, false, fmt.Errorf("shm: %w", err)
	}
	size, err := sizeOf(f)
	if err != nil {
		return nil, Resume, false, fmt.Errorf("shm: %w", err)
	}
	// A process that has the file open has checked it. But the locks may be held by one that is
	// about to set the file aside, so checked stays false.
	if last == boot && boot != [len(boot)]byte{} && size > checkedAlways || inUse(f) {
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

// markIntact records that the file was found intact since the last boot.
func markIntact(f *os.File) error {
	boot := bootID()
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

// Peek returns what Open would do with the file for path, without doing it. The error is the one
// that Open would return, as far as it can be foreseen.
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
	_, outcome, _, err := decide(f, o)
	if outcome == Replace {
		if inUse(f) {
			return Resume, err
		}
		err = nil
	}
	return outcome, err
}
