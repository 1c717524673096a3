//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// System calls for a segment: check, allocate, map and lock files.

const (
	tmpfsMagic = 0x01021994
	extMagic   = 0xef53
	xfsMagic   = 0x58465342

	ofdSetLock = 37 // F_OFD_SETLK
	ofdGetLock = 36 // F_OFD_GETLK

	unshareRange = 0x40 // FALLOC_FL_UNSHARE_RANGE

	rlimitFileSize = 1 // RLIMIT_FSIZE
)

// fileSystems names the file systems that are refused most often.
var fileSystems = map[uint32]string{
	0x9123683e: "btrfs", 0x794c7630: "overlay", 0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x65735546: "FUSE",
	0x2fc12fc1: "ZFS", 0x01021997: "9p", 0xf2f52010: "F2FS", 0xca451a4e: "bcachefs", 0x9fa0: "proc", 0x858458f6: "ramfs",
}

// checkFile returns an error if an open file must not be used, regardless of its contents.
func checkFile(f *os.File, o *Options) error {
	path := f.Name()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	if !st.Mode().IsRegular() {
		return errNotRegular(path, st.Mode())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		if err := checkOwner(path, sys, o); err != nil {
			return err
		}
	}
	var sfs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &sfs); err != nil {
		return fmt.Errorf("shm: statfs %s: %w", path, err)
	}
	switch kind := uint32(sfs.Type); kind {
	case tmpfsMagic, extMagic, xfsMagic:
	default:
		if !o.AnyFileSystem {
			name := fileSystems[kind]
			if name == "" {
				name = fmt.Sprintf("of type %#x", kind)
			}
			return fmt.Errorf("shm: %s: the file system is %s, not tmpfs, ext4 or XFS: a full disk could kill the process (fs=any accepts the risk)", path, name)
		}
	}
	return nil
}

// checkOwner refuses files that users other than the intended ones can write to.
func checkOwner(path string, st *syscall.Stat_t, o *Options) error {
	perm := fs.FileMode(st.Mode) & fs.ModePerm
	switch me := uint32(os.Geteuid()); {
	case perm&0o002 != 0:
		return fmt.Errorf("shm: %s is writable by everybody (mode %#o): chmod o-w it", path, perm)
	case o.Group:
		groups, _ := os.Getgroups()
		if st.Uid != me && st.Gid != uint32(os.Getegid()) && !slices.Contains(groups, int(st.Gid)) {
			return fmt.Errorf("shm: %s belongs to user %d and group %d, and this process, which runs as user %d, is not in that group", path, st.Uid, st.Gid, me)
		}
		if perm&0o060 != 0o060 {
			return fmt.Errorf("shm: %s is not accessible to its group (mode %#o): chmod g+rw it, or omit share=group", path, perm)
		}
	case st.Uid != me:
		return fmt.Errorf("shm: %s belongs to user %d, but this process runs as user %d (share=group shares a file with a group)", path, st.Uid, me)
	case perm&0o020 != 0:
		return fmt.Errorf("shm: %s is writable by its group (mode %#o): chmod g-w it, or share it with share=group", path, perm)
	}
	return nil
}

// allocate makes sure that the bytes from off to end exist on the disk, so that no later access to
// the mapping fails for lack of space.
func allocate(f *os.File, off, end uint64) error {
	// At this limit the kernel not only fails the call but also kills the process.
	var most syscall.Rlimit
	if syscall.Getrlimit(rlimitFileSize, &most) == nil && end > most.Cur {
		return fmt.Errorf("%w: this process cannot create files larger than %d bytes (ulimit -f)", backend.ErrFull, most.Cur)
	}
	return fallocate(f, 0, off, end)
}

func fallocate(f *os.File, mode uint32, off, end uint64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), mode, int64(off), int64(end-off))
		switch err {
		case nil:
			return nil
		case syscall.EINTR:
		case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
			return fmt.Errorf("%w: %w", backend.ErrFull, err)
		case syscall.EOPNOTSUPP:
			return fmt.Errorf("the file system cannot preallocate space: %w", err)
		default:
			return err
		}
	}
}

// ensureAllocated makes sure that every byte of the file has its own space on the disk. Copies made
// by programs like rsync and tar can have holes, and on XFS two files can share blocks (cp
// --reflink). The first write to such a block could fail for lack of space, which would kill the
// process.
func ensureAllocated(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size := uint64(st.Size())
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Blocks*512 < st.Size() {
		if err := allocate(f, 0, size); err != nil {
			return err
		}
	}
	var sfs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &sfs); err != nil || uint32(sfs.Type) != xfsMagic {
		return err
	}
	return unshare(f, size)
}

// unshare gives a file blocks of its own, and returns at once if it shares none. Kernels that do
// not support this, like that of RHEL 7, do not let files share blocks either.
func unshare(f *os.File, size uint64) error {
	err := fallocate(f, unshareRange, 0, size)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	return err
}

// mappings are the files that this process has mapped. A file that was opened stays mapped for
// ever, since words may be in use, so all openings of a file share one mapping: the kernel limits
// their number, and a 32-bit process has few addresses.
var mappings = mappingTable{m: make(map[fileID]*mapping)}

type mappingTable struct {
	sync.Mutex
	m map[fileID]*mapping
}

// of returns the mapping of this memory. t is locked.
func (t *mappingTable) of(mem memory) *mapping {
	for _, m := range t.m {
		if &m.memory[0] == &mem[0] {
			return m
		}
	}
	return nil
}

// fileID identifies a file for as long as it is mapped: the mapping keeps the file in existence,
// even when it has no name any more, so that no other file can get its number.
type fileID struct{ device, inode, size uint64 }

type mapping struct {
	memory
	id    fileID
	users int // calls of mapFile without unmap

	resting *os.File            // has the locks of slots that rest; nil: none has rested
	timers  map[int]*time.Timer // that end their rests
}

// mapFile maps size bytes, most of which are not allocated yet. If this process has mapped the file
// already, it returns the same memory.
func mapFile(f *os.File, size uint64) (memory, error) {
	if size > math.MaxInt {
		return nil, fmt.Errorf("shm: %s: its limit of %d bytes is too large for this machine's address space", f.Name(), size)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("shm: %s: %w", f.Name(), err)
	}
	id := fileID{uint64(st.Dev), uint64(st.Ino), size}
	mappings.Lock()
	defer mappings.Unlock()
	if m := mappings.m[id]; m != nil {
		m.users++
		return m.memory, nil
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shm: mapping %d bytes, the limit of %s (create it with a smaller limit= to need less): %w", size, f.Name(), err)
	}
	mappings.m[id] = &mapping{memory: m, id: id, users: 1}
	return m, nil
}

// unmap undoes a call of mapFile. Only a caller of whose words none can be in use may call it.
func unmap(mem memory) {
	mappings.Lock()
	defer mappings.Unlock()
	m := mappings.of(mem)
	if m == nil {
		return
	}
	if m.users--; m.users == 0 {
		delete(mappings.m, m.id)
		if m.resting != nil {
			m.resting.Close()
		}
		syscall.Munmap(mem)
	}
}

// lock tries to lock one byte, and reports whether it did. It does not wait. The kernel releases
// the lock when the last descriptor of this open file is closed, however the process ends.
func lock(f *os.File, at int64) (bool, error) { return setLock(f, syscall.F_WRLCK, at, 1) }

func unlock(f *os.File, at int64) { setLock(f, syscall.F_UNLCK, at, 1) }

// lockAll tries to lock the bytes of all instances. It fails if any instance is alive.
func lockAll(f *os.File) (bool, error) { return setLock(f, syscall.F_WRLCK, lockByte+1, 0) }

func setLock(f *os.File, typ int16, at, n int64) (bool, error) {
	for {
		err := syscall.FcntlFlock(f.Fd(), ofdSetLock, &syscall.Flock_t{Type: typ, Start: at, Len: n})
		switch err {
		case nil:
			return true, nil
		case syscall.EINTR:
		case syscall.EAGAIN, syscall.EACCES:
			return false, nil
		default:
			return false, fmt.Errorf("shm: locking %s: %w", f.Name(), err)
		}
	}
}

// locked reports whether another instance holds the lock on a byte.
func locked(f *os.File, at int64) bool { return anyLocked(f, at, 1) }

// inUse reports whether another instance has the file open.
func inUse(f *os.File) bool { return anyLocked(f, lockByte+1, 0) }

func anyLocked(f *os.File, at, n int64) bool {
	// Ask about a shared lock, since a file that was opened for reading cannot have an
	// exclusive one.
	for {
		l := syscall.Flock_t{Type: syscall.F_RDLCK, Start: at, Len: n}
		if err := syscall.FcntlFlock(f.Fd(), ofdGetLock, &l); err != syscall.EINTR {
			return err == nil && l.Type != syscall.F_UNLCK
		}
	}
}

// sizeOf returns the size of the file as the kernel knows it.
func sizeOf(f *os.File) (uint64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(st.Size()), nil
}

// isAt reports whether path still names the file.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// place is where a file was opened: its name, and the directories that gave the name its meaning.
type place struct {
	name      string
	dir, root fs.FileInfo // nil if unknown
}

func placeOf(name string) place {
	p := place{name: name}
	p.dir, _ = os.Stat(filepath.Dir(name))
	p.root, _ = os.Stat("/")
	return p
}

// lost reports whether f was removed from its place or replaced there, so that processes that open
// the name get another file. Failing to find it proves nothing: this process may have dropped the
// privileges to look at the path, or have another root, and the file still be where it was.
func (p *place) lost(f *os.File) bool {
	st, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(p.name)
	if err == nil && os.SameFile(st, named) {
		return false
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink == 0 {
		return true // it has no name at all
	}
	same := func(dir string, then fs.FileInfo) bool {
		now, err := os.Stat(dir)
		return err == nil && os.SameFile(now, then)
	}
	switch inDir := same(filepath.Dir(p.name), p.dir); {
	case err == nil:
		return inDir || same("/", p.root)
	case errors.Is(err, fs.ErrNotExist):
		return inDir
	}
	return false
}

// bootID identifies the current boot of the machine. It is zero if unknown. A file must be checked
// after a power failure, but not after the death of a process.
func bootID() (id [16]byte) {
	f, err := os.Open("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	raw, decodeErr := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err == nil && decodeErr == nil && len(raw) == len(id) {
		copy(id[:], raw)
	}
	return id
}
