//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// makeFile creates an empty file, unless another process was faster.
func makeFile(name string, o *Options) error {
	return inNewFile(name, newHeader(o), o, nil, nil, func(temp string) error {
		if err := os.Link(temp, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// checkLimit rejects limits that no file can have.
func checkLimit(path string, o *Options) error {
	if o.Limit < 0 || o.Limit > maxLimit {
		return fmt.Errorf("shm: %s: the limit of %d bytes must be from 0 to %d", path+Suffix, o.Limit, int64(maxLimit))
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

// inNewFile creates a file under a temporary name, fills it, and calls publish, which gives it its
// final name. If it replaces a file that is shared with a group, it belongs to the same group.
func inNewFile(name string, h *header, o *Options, old *os.File, fill func(f *os.File) error, publish func(temp string) error) error {
	err := func() error {
		if least := h.recordsAt + minGrowth; least > h.limit {
			return fmt.Errorf("the limit of %d bytes is too small, the minimum is %d", h.limit, least)
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
		defer os.Remove(temp) // has no effect if it was renamed
		if err := keepMode(f, mode); err != nil {
			return err
		}
		// The lock tells removeStale that the process that makes it is alive.
		if _, err := lock(f, lockByte); err != nil {
			return err
		}
		if o.Group {
			if err := keepGroup(f, old); err != nil {
				return err
			}
		}
		if err := checkFile(f, o); err != nil {
			return err
		}
		if err := writeEmpty(f, h); err != nil {
			return err
		}
		// A file that its creator cannot map would be of no use to anybody.
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
		// there may be no space for the directory entry
		err = fmt.Errorf("%w: %w", backend.ErrFull, err)
	}
	if err != nil {
		return fmt.Errorf("shm: creating %s: %w", name, err)
	}
	return nil
}

// keepMode gives f the mode that it was created with if the umask has taken some of that away. File
// systems whose files all have one mode may refuse to change it.
func keepMode(f *os.File, mode fs.FileMode) error {
	if st, err := f.Stat(); err != nil || st.Mode().Perm()&mode == mode {
		return err
	}
	return f.Chmod(mode)
}

// keepGroup gives f the group of old, if old is not nil.
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

// tempSuffix is appended to the names of files that are being created.
const tempSuffix = ".new-"

// removeStale removes temporary files of processes that were killed while they created a file.
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

// writeEmpty turns a file of size 0 into one without records.
func writeEmpty(f *os.File, h *header) error {
	if err := allocate(f, 0, h.recordsAt+minGrowth); err != nil {
		return err
	}
	page := h.encode()
	boot := bootID()
	copy(page[offBoot:], boot[:])
	copy(page, magic)
	_, err := f.WriteAt(page, 0)
	return err
}
