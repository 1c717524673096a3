//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// What Linux has to do for a segment: open, allocate, map, lock.

const (
	tmpfsMagic = 0x01021994
	extMagic   = 0xef53
	xfsMagic   = 0x58465342

	ofdSetLock = 37 // F_OFD_SETLK
	ofdGetLock = 36 // F_OFD_GETLK
)

// openFile opens or makes the file at path and returns it with its header. What is new is
// initialised under the creation lock; its magic is written last, so that a file whose creator died
// is recognised and initialised again.
func openFile(ctx context.Context, path string, o *Options) (_ *os.File, _ *header, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) {
			return nil, nil, fmt.Errorf("shm: %s is a symbolic link, which is not followed", path)
		}
		return nil, nil, fmt.Errorf("shm: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := checkFile(f, path, o); err != nil {
		return nil, nil, err
	}
	// A file that is there is opened without the lock, which may be held by a process that is stopped.
	if h, err := readHeader(f); h != nil || err != nil {
		return f, h, err
	}
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		if ok, err := lock(f, lockByte); err != nil {
			return nil, nil, fmt.Errorf("shm: locking %s: %w", path, err)
		} else if ok {
			break
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("shm: %s: another process has been making the file for too long: %w: %w", path, backend.ErrBusy, ctx.Err())
		case <-time.After(wait):
		}
	}
	defer unlock(f, lockByte)
	if h, err := readHeader(f); h != nil || err != nil {
		return f, h, err
	}
	h, err := initialise(f, o)
	if err != nil {
		return nil, nil, fmt.Errorf("shm: making %s: %w", path, err)
	}
	return f, h, nil
}

// readHeader returns nil if the file is empty or has no magic yet.
func readHeader(f *os.File) (*header, error) {
	page := make([]byte, offIndex)
	n, err := f.ReadAt(page, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("shm: %w", err)
	}
	if n == 0 || n >= len(magic) && bytes.Equal(page[:len(magic)], make([]byte, len(magic))) {
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

func checkFile(f *os.File, path string, o *Options) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("shm: %s is not a regular file (%v)", path, st.Mode())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("shm: %s belongs to user %d, this process runs as %d", path, sys.Uid, os.Geteuid())
	}
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("shm: statfs %s: %w", path, err)
	}
	switch uint32(fs.Type) {
	case tmpfsMagic, extMagic, xfsMagic:
	default:
		if !o.AnyFileSystem {
			return fmt.Errorf("shm: %s: file system type %#x is not tmpfs, ext4 or XFS: elsewhere a full disk may kill the process (fs=any takes the risk)", path, uint32(fs.Type))
		}
	}
	return nil
}

// initialise makes a file whose first bytes are zero into an empty one of ours.
func initialise(f *os.File, o *Options) (*header, error) {
	h := &header{
		limit:     uint64(o.Limit),
		created:   uint64(time.Now().UnixNano()),
		buckets:   numBuckets,
		instances: numInstances,
	}
	rand.Read(h.seed[:])
	h.derive()
	if h.recordsAt+minGrowth > h.limit {
		return nil, fmt.Errorf("the limit of %d bytes is too small: %d at least", h.limit, h.recordsAt+minGrowth)
	}
	if err := f.Truncate(0); err != nil { // what a killed creator left
		return nil, err
	}
	if err := allocate(f, 0, h.recordsAt+minGrowth); err != nil {
		return nil, err
	}
	page := h.encode()
	order.PutUint64(page[offSize:], h.recordsAt+minGrowth)
	if _, err := f.WriteAt(page, 0); err != nil {
		return nil, err
	}
	_, err := f.WriteAt(magic, 0)
	return h, err
}

// allocate makes sure that the bytes from off to end exist on the disk, so that no later access to
// the mapping can fail for want of space.
func allocate(f *os.File, off, end uint64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, int64(off), int64(end-off))
		switch {
		case err == syscall.EINTR:
		case err == syscall.ENOSPC || err == syscall.EDQUOT || err == syscall.EFBIG:
			return fmt.Errorf("%w: %w", backend.ErrFull, err)
		default:
			return err
		}
	}
}

// mapFile maps size bytes, most of which do not exist yet. The mapping is never undone.
func mapFile(f *os.File, size uint64) (memory, error) {
	if size > math.MaxInt {
		return nil, fmt.Errorf("shm: %s: its limit of %d bytes is too large for this machine's addresses", f.Name(), size)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shm: mapping the %d bytes that %s may grow to: %w", size, f.Name(), err)
	}
	return m, nil
}

// lock takes the lock on one byte and reports whether it did; it does not wait. The kernel releases
// it when the last descriptor of this opening of the file is gone, however the process ends.
func lock(f *os.File, at int64) (bool, error) { return setLock(f, at, syscall.F_WRLCK) }

func unlock(f *os.File, at int64) { setLock(f, at, syscall.F_UNLCK) }

func setLock(f *os.File, at int64, typ int16) (bool, error) {
	for {
		err := syscall.FcntlFlock(f.Fd(), ofdSetLock, &syscall.Flock_t{Type: typ, Start: at, Len: 1})
		switch err {
		case nil:
			return true, nil
		case syscall.EINTR:
		case syscall.EAGAIN, syscall.EACCES:
			return false, nil
		default:
			return false, err
		}
	}
}

// locked reports whether somebody else holds the lock on a byte.
func locked(f *os.File, at int64) bool {
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Start: at, Len: 1}
	err := syscall.FcntlFlock(f.Fd(), ofdGetLock, &l)
	return err == nil && l.Type != syscall.F_UNLCK
}

// sizeOf returns the size of the file as the kernel knows it.
func sizeOf(f *os.File) (uint64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(st.Size()), nil
}

// removed reports whether the file has no name any more.
func removed(f *os.File) bool {
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 0
}
