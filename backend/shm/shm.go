// Package shm keeps words in a file that every process of a host maps. An update is an atomic
// operation on shared memory: it costs what it costs in the heap, is seen by all processes at once,
// and is not lost when the process is killed.
//
// The file of the path /dev/shm/shop is /dev/shm/shop.gotheus-v1: the format's version is part of the
// name. It is made when the first process opens it, with permission for its owner only, and grows as
// series are created, up to a limit that is fixed when it is made. It stays when all processes have
// ended, and so do the values in it; removing it while no process has it open starts afresh.
//
// Only Linux is supported, on architectures with 64-bit atomic instructions. The file should be on
// tmpfs (/dev/shm; containers often give it 64 MB), where no increment ever waits for a disk. ext4 and
// XFS work, with rare delays while pages are written back. Other file systems are refused unless
// [Options.AnyFileSystem] is set, since a full disk could then kill the process.
//
// Truncating the file while processes have it mapped kills them. Nothing can prevent that, so the
// file belongs in a directory where nobody else may write.
package shm

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// Suffix is what the file's name has behind the path given to Open.
const Suffix = ".gotheus-v1"

// DefaultLimit is Options.Limit's default. About 2 million counter series with short labels fit in.
const DefaultLimit = 256 << 20

// Options are for Open. The zero value is good.
type Options struct {
	// Limit is the size in bytes that the file may reach; 0 is DefaultLimit. It counts only when
	// the file is made. Every process reserves so much address space, but memory or disk only for
	// what is used.
	Limit int64
	// AnyFileSystem allows file systems other than tmpfs, ext4 and XFS.
	AnyFileSystem bool
}

// Instance is a process that has the file open, or that died with it open.
type Instance struct {
	ID    uint64
	Host  string
	PID   int // for information: pids are reused, and mean little across containers
	Start time.Time
	Alive bool // it holds its lock, even if it is stopped
}

// ErrUnsupported says that the system or architecture lacks what shared memory needs.
var ErrUnsupported = errors.New("shm: not supported here")

func init() {
	backend.Register("shm", func(ctx context.Context, u *url.URL) (backend.Backend, error) {
		path, o, err := parseURL(u)
		if err != nil {
			return nil, err
		}
		b, err := OpenContext(ctx, path, o)
		if err != nil {
			return nil, err
		}
		return b, nil
	})
}

// Open opens the file for path, which it makes if there is none. See OpenContext.
func Open(path string, o *Options) (*Backend, error) {
	return OpenContext(context.Background(), path, o)
}

// parseURL understands shm:///path?limit=64MiB&fs=any.
func parseURL(u *url.URL) (string, *Options, error) {
	if u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || u.User != nil || u.Fragment != "" {
		return "", nil, fmt.Errorf("shm: URL %q: must be shm:// and the absolute path of a file, as in shm:///dev/shm/shop", u.Redacted())
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", nil, fmt.Errorf("shm: URL %q: %w", u.Redacted(), err)
	}
	o := new(Options)
	for key, values := range query {
		v := values[len(values)-1]
		switch {
		case key == "limit":
			n, err := parseSize(v)
			if err != nil {
				return "", nil, fmt.Errorf("shm: URL %q: %w", u.Redacted(), err)
			}
			o.Limit = n
		case key == "fs" && v == "any":
			o.AnyFileSystem = true
		default:
			return "", nil, fmt.Errorf("shm: URL %q: unknown option %s=%s (known: limit=64MiB, fs=any)", u.Redacted(), key, v)
		}
	}
	return u.Path, o, nil
}

func parseSize(s string) (int64, error) {
	number, shift := s, 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			number, shift = n, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("size %q: must be a number of bytes, KiB, MiB or GiB, as in 64MiB", s)
	}
	return n << shift, nil
}
