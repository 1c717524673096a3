// Package shm keeps words in a file that every process of a host maps. An update is an atomic
// operation on shared memory: it costs as much as in the heap, all processes see it at once, and it
// is not lost when the process is killed.
//
// The file for the path /dev/shm/shop is /dev/shm/shop.gotheus-v2; the format's version is part of
// the name, and FORMAT.md next to the source specifies it. The first process to open the file
// creates it, accessible to its owner only. It grows up to its limit as series are created. The
// file and its values outlive the processes, unless [Options.Fresh] is set. If no process has the
// file open when it is opened, it is rewritten without deleted series if that saves enough space,
// or if another limit is requested. A damaged file is set aside under another name.
//
// Only Linux is supported, on architectures with 64-bit atomic instructions. The file should be on
// tmpfs (/dev/shm; containers often give it 64 MB), where no increment ever waits for a disk. ext4
// and XFS work, with rare delays while pages are written back. Other file systems are refused
// unless [Options.AnyFileSystem] is set, since a full disk could then kill the process.
//
// Truncating the file while processes have it mapped kills them. Nothing can prevent that, so keep
// the file in a directory that nobody else can write to.
package shm

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// Suffix is appended to the path given to Open to form the file's name.
const Suffix = ".gotheus-v2"

// DefaultLimit is the default for Options.Limit: 256 MiB, which holds about 2 million counter
// series with short labels, or 64 MiB on 32-bit machines, where address space is scarce.
const DefaultLimit = 64 << 20 << (2 * (^uint(0) >> 63))

// Options configures Open. The zero value is ready to use.
type Options struct {
	// Limit is the maximum size of the file in bytes, at most 256 GiB. 0 keeps the file's
	// present limit, or means DefaultLimit for a new file. It takes effect when the file is
	// created, or opened while no other process has it open. Every process reserves this much
	// address space, but uses memory or disk only for what is stored. The last sixteenth, at
	// most 1 MiB, is reserved for families, series without labels and overflow series.
	Limit int64
	// AnyFileSystem allows file systems other than tmpfs, ext4 and XFS.
	AnyFileSystem bool
	// Fresh discards the values in the file if no process has it open. Otherwise values survive
	// restarts.
	Fresh bool
	// Group shares the file with all members of its group: it is created with mode 0660. All
	// processes that use the file must set it. They trust each other: each can kill the others
	// by truncating the file.
	Group bool
}

// Outcome is what Open does with a file.
type Outcome int

// Outcomes of Open.
const (
	Resume Outcome = iota // keep the values in the file
	Create                // create the file, since there is none
	// discard the values: Options.Fresh is set and no process has the file open
	StartAfresh
	Replace // set the damaged file aside and create a new one
)

func (o Outcome) String() string {
	names := [...]string{"resume", "create", "start afresh", "replace"}
	if o >= 0 && int(o) < len(names) {
		return names[o]
	}
	return "outcome(" + strconv.Itoa(int(o)) + ")"
}

// Report is the result of Inspect.
type Report struct {
	Path      string
	Minor     int       // minor format version of the program that created the file
	Created   time.Time // when the file was first created; rewrites keep it
	Limit     int64     // sizes are in bytes
	Size      int64     // of the file
	Used      int64     // header, index, instance table and records
	Waste     int64     // the part of Used that a rewrite would free
	Free      int64     // the part of Waste that serves new series while processes live
	Families  []FamilyReport
	Instances []Instance // live ones, and dead ones that still have a slot
	Problems  []string   // damage that was found; at most a hundred entries
}

// FamilyReport describes a family in a file. If programs disagree about a metric's definition,
// several families have its name.
type FamilyReport struct {
	Family   *backend.Family
	Help     string   // the newest
	Series   []string // label texts of the existing series, in ascending order
	Deleted  int      // deleted series whose records still take up space
	Bytes    int64    // of all its records
	Declared bool     // whether a live process has declared it
}

// Instance is a process that has the file open, or that died while it had it open.
type Instance struct {
	ID     uint64 // never reused in this file
	Number int    // its slot in the file, reused when the instance is dead
	Host   string
	PID    int // for information: pids are reused, and mean little across containers
	Start  time.Time
	Alive  bool // whether it holds its lock, which it also does while it is stopped
}

// ErrFormat is wrapped by errors about files that are damaged, of another kind or of another
// version.
var ErrFormat = errors.New("shm: not a usable gotheus file")

// ErrUnsupported means that the system or architecture does not support shared memory.
var ErrUnsupported = errors.New("shm: not supported here")

// OpenURL is OpenContext for what a URL asks for, see ParseURL.
func OpenURL(ctx context.Context, u *url.URL) (*Backend, error) {
	path, o, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	return OpenContext(ctx, path, o)
}

// Open opens the file for path, or creates it. See OpenContext.
func Open(path string, o *Options) (*Backend, error) {
	return OpenContext(context.Background(), path, o)
}

// ParseURL returns the path and the options of a URL such as shm:///dev/shm/shop. Its query may
// contain limit=64MiB, start=fresh, start=resume, share=group and fs=any. The error wraps
// store.ErrInvalid.
func ParseURL(rawURL string) (path string, o *Options, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", nil, fmt.Errorf("shm: %w: this is not a URL", store.ErrInvalid)
	}
	if u.Scheme != "shm" {
		return "", nil, fmt.Errorf("shm: %w: URL %q: the scheme must be shm", store.ErrInvalid, store.RedactURL(u.String()))
	}
	return parseURL(u)
}

func parseURL(u *url.URL) (string, *Options, error) {
	if u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || u.User != nil || u.Fragment != "" {
		return "", nil, fmt.Errorf("shm: %w: URL %q: must be shm:// and the absolute path of a file, as in shm:///dev/shm/shop", store.ErrInvalid, store.RedactURL(u.String()))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", nil, fmt.Errorf("shm: %w: URL %q: the options cannot be read: special characters must be escaped", store.ErrInvalid, store.RedactURL(u.String()))
	}
	o := new(Options)
	for key, values := range query {
		v := values[len(values)-1]
		switch {
		case key == "limit":
			n, err := parseSize(v)
			if err != nil {
				return "", nil, fmt.Errorf("shm: %w: URL %q: %w", store.ErrInvalid, store.RedactURL(u.String()), err)
			}
			o.Limit = n
		case key == "fs" && v == "any":
			o.AnyFileSystem = true
		case key == "start" && (v == "fresh" || v == "resume"):
			o.Fresh = v == "fresh"
		case key == "share" && v == "group":
			o.Group = true
		default:
			return "", nil, fmt.Errorf("shm: %w: URL %q: unknown option, which is not shown (known: limit=64MiB, start=fresh, start=resume, share=group, fs=any)",
				store.ErrInvalid, store.RedactURL(u.String()))
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
		return 0, errors.New("limit must be in bytes, KiB, MiB or GiB")
	}
	return n << shift, nil
}
