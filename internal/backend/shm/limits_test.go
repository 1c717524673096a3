//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A limit that is too small for the contents does not make every opening copy the file in vain, nor
// does it prevent a rewrite for another reason. A notice says that it is not applied.
func TestLimitTooSmall(t *testing.T) { // not parallel: it sets the hook
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, &Options{Limit: 4 << 20})
	const series = 10_000
	for i := range series {
		cells(t, b, requests, fmt.Sprintf(`code="%d",method=""`, i))[0].Add(1)
	}
	b.Close(t.Context())
	loads := 0
	testHookLoaded = func() { loads++ }
	defer func() { testHookLoaded = nil }()
	for _, limit := range []int64{1000, 1 << 20} {
		b := open(t, path, &Options{Limit: limit})
		if n := b.Notices(); loads != 0 || b.limit != 4<<20 || len(n) != 1 || !strings.Contains(n[0], "keeps its limit of 4194304 bytes") {
			t.Errorf("limit %d: read %d times, limit %d, %q", limit, loads, b.limit, n)
		}
		c := open(t, path, &Options{Limit: 8 << 20}) // while somebody has it open
		if n := c.Notices(); loads != 0 || c.limit != 4<<20 || len(n) != 1 {
			t.Errorf("in use: read %d times, limit %d, %q", loads, c.limit, n)
		}
		c.Close(t.Context())
		b.Close(t.Context())
	}
	b, err := Open(path, &Options{AnyFileSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(b.mem)
	if n := b.Notices(); len(n) != 0 {
		t.Errorf("nothing asked for: %q", n)
	}
	if n, err := b.Delete(requests, func(labels string) bool { return labels < `code="7"` }); n < series/2 || err != nil {
		t.Fatal(n, err)
	}
	end := b.mem.u64(offTail).Load()
	b.Close(t.Context())
	c := open(t, path, &Options{Limit: 256 << 10})
	if now := c.mem.u64(offTail).Load(); loads != 1 || now > end/2 || c.limit != 4<<20 || len(c.Notices()) != 1 {
		t.Errorf("with waste: read %d times, ends at %d, before at %d, limit %d, %q", loads, now, end, c.limit, c.Notices())
	}
	checkFileNow(t, c.Path())
}

// An impossible limit is rejected before an unusable file is created.
func TestImpossibleLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shop")
	limits := []int64{-1, maxLimit + 1, 1 << 62}
	if ^uint(0)>>32 == 0 {
		limits = append(limits, 1<<32) // more than the address space
	}
	for _, limit := range limits {
		for _, fresh := range []bool{false, true} {
			if _, err := Open(path, &Options{Limit: limit, Fresh: fresh, AnyFileSystem: true}); err == nil || !strings.Contains(err.Error(), "limit") {
				t.Errorf("%d: %v", limit, err)
			}
		}
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Fatalf("limit %d left %v", limit, list)
		}
	}
	open(t, path, nil)
}

// A temporary file that could not be published is removed.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cannot := errors.New("no hard links here")
	o := &Options{AnyFileSystem: true, Limit: 1 << 20}
	err := inNewFile(filepath.Join(dir, "shop"+Suffix), newHeader(o), o, nil, nil, func(string) error { return cannot })
	if !errors.Is(err, cannot) {
		t.Error(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
}
