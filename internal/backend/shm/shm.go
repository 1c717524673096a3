// Package shm keeps words in a file that every process of a host maps. An update is an atomic
// operation on shared memory: it costs what it costs in the heap, is seen by all processes at once,
// and is not lost when the process is killed.
//
// The file of the path /dev/shm/shop is /dev/shm/shop.gotheus-v1: the format's version is part of the
// name, and FORMAT.md beside the source specifies it. The file is made when the first process opens it, with
// permission for its owner only, and grows as series are created, up to its limit. It stays when all
// processes have ended, and so do the values in it, unless [Options.Fresh] says otherwise. When it is opened
// and no process has it open, it is rewritten without what was deleted, if that is worth it, and with the
// limit that is asked for. A file that is damaged is set aside under another name.
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

	"github.com/gotheus/gotheus/internal/backend"
)

// Suffix is what the file's name has behind the path given to Open.
const Suffix = ".gotheus-v1"

// DefaultLimit is Options.Limit's default: 256 MiB, in which about 2 million counter series with short labels
// fit; 64 MiB on 32-bit machines, whose addresses are few.
const DefaultLimit = 64 << 20 << (2 * (^uint(0) >> 63))

// Options are for Open. The zero value is good.
type Options struct {
	// Limit is the size in bytes that the file may reach, 256 GiB at most; 0 is what the file has, or DefaultLimit. It
	// counts when the file is made, and when it is opened while no process has it open. Every process
	// reserves so much address space, but memory or disk only for what is used. A last part of it, a
	// sixteenth and 1 MiB at most, is kept for families, series without labels and overflow series.
	Limit int64
	// AnyFileSystem allows file systems other than tmpfs, ext4 and XFS.
	AnyFileSystem bool
	// Fresh drops what is in the file if no process has it open. Otherwise, values survive restarts.
	Fresh bool
	// Group shares the file with all members of the group it belongs to: it is made with mode 0660. All
	// its processes must say so. They trust each other: each can end the others by truncating the file.
	Group bool
}

// Outcome is what Open does with a file.
type Outcome int

// The outcomes.
const (
	Resume      Outcome = iota // goes on with the values in the file
	Create                     // makes the file, since there is none
	StartAfresh                // drops the values, since Options.Fresh is set and no process has the file open
	Replace                    // sets the file aside, since it is damaged, and makes a new one
)

func (o Outcome) String() string {
	names := [...]string{"resume", "create", "start afresh", "replace"}
	if o >= 0 && int(o) < len(names) {
		return names[o]
	}
	return "outcome(" + strconv.Itoa(int(o)) + ")"
}

// Report is what Inspect found.
type Report struct {
	Path      string
	Minor     int       // of the format's version, of the program that made the file
	Created   time.Time // when the first file was made of which this is a rewrite
	Limit     int64     // sizes are in bytes
	Size      int64     // of the file
	Used      int64     // header, index, instance table and records
	Waste     int64     // of Used, what a rewrite would save: deleted, of dead instances, or never used
	Families  []FamilyReport
	Instances []Instance // those that live, and those that died
	Problems  []string   // what is damaged; a hundred at most
}

// FamilyReport is about a family in a file. A name may have several families, if programs disagree about it.
type FamilyReport struct {
	Family   *backend.Family
	Help     string   // the newest
	Series   []string // label texts of those that exist, in ascending order
	Deleted  int      // series that were deleted and whose place is kept
	Bytes    int64    // of all its records
	Declared bool     // by a live process
}

// Instance is a process that has the file open, or that died with it open.
type Instance struct {
	ID     uint64 // never used again in this file
	Number int    // its place in the file, used again when it is dead
	Host   string
	PID    int // for information: pids are reused, and mean little across containers
	Start  time.Time
	Alive  bool // it holds its lock, even if it is stopped
}

// ErrFormat is wrapped by errors that say that a file is damaged, foreign or of another version.
var ErrFormat = errors.New("shm: not a usable gotheus file")

// ErrUnsupported says that the system or architecture lacks what shared memory needs.
var ErrUnsupported = errors.New("shm: not supported here")

// OpenURL is OpenContext for what a URL asks for, see ParseURL.
func OpenURL(ctx context.Context, u *url.URL) (*Backend, error) {
	path, o, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	return OpenContext(ctx, path, o)
}

// Open opens the file for path, which it makes if there is none. See OpenContext.
func Open(path string, o *Options) (*Backend, error) {
	return OpenContext(context.Background(), path, o)
}

// ParseURL returns the path and the options that a URL asks for: shm:///dev/shm/shop, and behind a question
// mark limit=64MiB, start=fresh, start=resume, share=group or fs=any, joined by &.
func ParseURL(rawURL string) (path string, o *Options, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", nil, fmt.Errorf("shm: %w", err)
	}
	if u.Scheme != "shm" {
		return "", nil, fmt.Errorf("shm: URL %q: its scheme must be shm", u.Redacted())
	}
	return parseURL(u)
}

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
		case key == "start" && (v == "fresh" || v == "resume"):
			o.Fresh = v == "fresh"
		case key == "share" && v == "group":
			o.Group = true
		default:
			return "", nil, fmt.Errorf("shm: URL %q: unknown option %s=%s (known: limit=64MiB, start=fresh, start=resume, share=group, fs=any)", u.Redacted(), key, v)
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
