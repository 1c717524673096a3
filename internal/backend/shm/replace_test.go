//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/needs"
)

// Somebody comes, counts and leaves while a file is being read to be rewritten: what was read is not used.
func TestRewriteMissesNobody(t *testing.T) { // not parallel: it sets the hook
	path := filepath.Join(t.TempDir(), "shop")
	count := func(o *Options) uint64 {
		b := open(t, path, o)
		defer b.Close(t.Context())
		return cells(t, b, requests, `code="1",method=""`)[0].Add(1)
	}
	count(&Options{Limit: 1 << 20})
	testHookLoaded = func() {
		testHookLoaded = nil
		count(&Options{Limit: 1 << 20})
	}
	if got := count(&Options{Limit: 2 << 20}); got != 3 || testHookLoaded != nil {
		t.Errorf("%d counted, want 3", got)
	}
}

// Rewriting a large file may take longer than others wait for it: they take the file as it is, and the copy is not
// used.
func TestLongRewrite(t *testing.T) { // not parallel: it sets the hook
	path := filepath.Join(t.TempDir(), "shop")
	first := open(t, path, &Options{Limit: 1 << 20})
	cells(t, first, requests, `code="1",method=""`)[0].Add(1)
	first.Close(t.Context())
	var other *Backend
	testHookLoaded = func() {
		testHookLoaded = nil
		other = open(t, path, &Options{Limit: 3 << 20}) // would rewrite it, too
		cells(t, other, requests, `code="1",method=""`)[0].Add(1)
	}
	b := open(t, path, &Options{Limit: 2 << 20})
	if got := cells(t, b, requests, `code="1",method=""`)[0].Add(1); got != 3 || other == nil || other.limit != 1<<20 || b.limit != 1<<20 {
		t.Errorf("%d counted, limit %d", got, b.limit)
	}
	if list, _ := filepath.Glob(path + "*"); len(list) != 1 {
		t.Errorf("left: %q", list)
	}
	// Nobody waits for nothing: the lock of who has given up is free.
	if locked(other.file, lockByte) || locked(b.file, lockByte) {
		t.Error("somebody still holds the creators' lock")
	}
}

// Of many that open a file that is to be rewritten, one does it: whoever comes meanwhile, and has patience, does not even
// begin, and finds the new file afterwards.
func TestRewrittenOnce(t *testing.T) { // not parallel: it sets the hook
	dir := t.TempDir()
	path := filepath.Join(dir, "shop")
	b := open(t, path, &Options{Limit: 1 << 20})
	cells(t, b, requests, `code="1",method=""`)[0].Add(1)
	b.Close(t.Context())
	o := &Options{Limit: 2 << 20, AnyFileSystem: true}
	loads := 0
	testHookLoaded = func() {
		loads++
		for range 3 {
			var notices []string
			if s, again, err := tryOpen(path+Suffix, o, true, &notices); s != nil || again || err != nil || len(notices) > 0 {
				t.Errorf("another one meanwhile: %v, %v, %v, %q", s, again, err, notices)
			}
		}
	}
	first := open(t, path, o)
	testHookLoaded = nil
	second := open(t, path, o)
	if loads != 1 || first.limit != 2<<20 {
		t.Errorf("it was read %d times, limit %d", loads, first.limit)
	}
	for i, b := range []*Backend{first, second} {
		if got := cells(t, b, requests, `code="1",method=""`)[0].Add(1); got != uint64(i+2) {
			t.Errorf("%d counted", got)
		}
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

// Many open a file that is to be rewritten, at once: what each of them counts is there in the end.
func TestRewrittenAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shop")
	b := open(t, path, &Options{Limit: 1 << 20})
	for i := range 2000 {
		cells(t, b, requests, fmt.Sprintf(`code="%d",method=""`, i))[0].Add(1)
	}
	b.Close(t.Context())
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			b, err := Open(path, &Options{Limit: 2 << 20, AnyFileSystem: true})
			if err != nil {
				t.Error(err)
				return
			}
			if w, err := b.Cells(requests, `code="1",method=""`); err != nil {
				t.Error(err)
			} else {
				w[0].Add(1)
			}
			b.Close(context.Background())
			unmap(b.mem)
		})
	}
	wait.Wait()
	b = open(t, path, nil)
	if got := cells(t, b, requests, `code="1",method=""`)[0].Load(); got != 9 {
		t.Errorf("%d counted", got)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

// A group's file stays the group's when another takes its place.
func TestGroupStays(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, o := range map[string]*Options{"rewritten": {Group: true, Limit: 2 << 20}, "afresh": {Group: true, Fresh: true}} {
		path := filepath.Join(t.TempDir(), "shop")
		b := open(t, path, &Options{Group: true, Limit: 1 << 20})
		b.Close(t.Context())
		if err := os.Chown(path+Suffix, -1, 4242); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Stat(path + Suffix)
		b, err := Open(path, &Options{Group: o.Group, Limit: o.Limit, Fresh: o.Fresh, AnyFileSystem: true})
		if err != nil {
			t.Fatal(err)
		}
		b.Close(t.Context())
		unmap(b.mem)
		after, _ := os.Stat(path + Suffix)
		if os.SameFile(before, after) {
			t.Fatalf("%s: the file was not replaced", name)
		}
		if gid := after.Sys().(*syscall.Stat_t).Gid; gid != 4242 || after.Mode() != 0o660 {
			t.Errorf("%s: group %d, mode %v", name, gid, after.Mode())
		}
	}
}

// In a setgid directory, a group's file stays the group's, also the one that follows a damaged file.
func TestGroupDirectory(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	if err := os.Chown(dir, -1, 4242); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o770|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "shop")
	for _, damaged := range []bool{false, true} {
		if damaged {
			if err := os.WriteFile(path+Suffix, []byte("something else"), 0); err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, path, &Options{Group: true})
		st, err := os.Stat(b.Path())
		if err != nil || st.Sys().(*syscall.Stat_t).Gid != 4242 || st.Mode() != 0o660 || len(b.Notices()) == 1 != damaged {
			t.Errorf("damaged %v: %v, %v, %q", damaged, st, err, b.Notices())
		}
		b.Close(t.Context())
	}
}

// A file with two names is one file, until one of the names gets another. One that somebody has put where ours should
// be, by a link to something that is not ours, is not changed.
func TestHardLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	a := open(t, one, nil)
	if err := os.Link(one+Suffix, two+Suffix); err != nil {
		t.Fatal(err)
	}
	b := open(t, two, &Options{Fresh: true})
	cells(t, a, requests, `code="1",method=""`)[0].Add(1)
	if n := cells(t, b, requests, `code="1",method=""`)[0].Add(1); n != 2 {
		t.Errorf("%d counted under two names", n)
	}
	a.Close(t.Context())
	b.Close(t.Context())
	c := open(t, two, &Options{Fresh: true})
	if n := cells(t, c, requests, `code="1",method=""`)[0].Load(); n != 0 {
		t.Errorf("%d in a fresh file", n)
	}
	if n := cells(t, open(t, one, nil), requests, `code="1",method=""`)[0].Load(); n != 2 {
		t.Errorf("%d counted under the other name", n)
	}

	for _, content := range []string{"", "not ours"} {
		theirs := filepath.Join(dir, "theirs"+content)
		if err := os.WriteFile(theirs, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "shop"+content)
		if err := os.Link(theirs, path+Suffix); err != nil {
			t.Fatal(err)
		}
		cells(t, open(t, path, nil), requests, `code="1",method=""`)[0].Add(1)
		if now, err := os.ReadFile(theirs); string(now) != content || err != nil {
			t.Errorf("it was %q, and is %q, %v", content, now, err)
		}
	}
}

// A limit that is too small for what is there does not make every opening copy the file in vain, nor does it keep it from
// being rewritten for another reason; that it is not kept is said.
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

// A limit that cannot be is refused before there is a file that nobody could use.
func TestImpossibleLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shop")
	limits := []int64{-1, maxLimit + 1, 1 << 62}
	if ^uint(0)>>32 == 0 {
		limits = append(limits, 1<<32) // more than there are addresses
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

// What could not be published is not left lying about.
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

// Only who has checked a file says that it is whole: not who finds it locked by somebody who may be setting
// it aside.
func TestLockedIsNotWhole(t *testing.T) {
	t.Parallel()
	good, _ := made(t)
	path := filepath.Join(t.TempDir(), "shop")
	damaged := change(change(good, offBoot, make([]byte, 16)...), offIndex+4*numBuckets+numInstances*instanceSize+recHeader, 0xff)
	if err := os.WriteFile(path+Suffix, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path+Suffix, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ok, err := lockAll(f); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenContext(ctx, path, &Options{AnyFileSystem: true}); !errors.Is(err, backend.ErrBusy) {
		t.Error(err)
	}
	// It is left without having been set aside. A copy of the descriptor may be in a child that has just begun.
	if ok, err := setLock(f, syscall.F_UNLCK, lockByte+1, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if outcome, err := Peek(path, &Options{AnyFileSystem: true}); outcome != Replace || err != nil {
		t.Errorf("%v, %v: it counts as whole, though nobody has checked it", outcome, err)
	}
}

// Definitions that no program has any more go with their series.
func TestFamiliesGo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	old, kept := *requests, *requests
	old.Name, kept.Name = "old_total", "kept_total"
	b := open(t, path, &Options{Limit: 1 << 20})
	cells(t, b, &old, `code="1",method=""`)[0].Add(1)
	cells(t, b, &kept, `code="1",method=""`)[0].Add(2)
	b.Close(t.Context())
	b = open(t, path, nil)
	if n, err := b.Forget("old_total"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.Close(t.Context())
	b = open(t, path, &Options{Limit: 2 << 20}) // rewrites it
	if got := walk(t, b); !slices.Equal(got, []string{`kept_total{code="1",method=""} 2`}) {
		t.Errorf("got %q", got)
	}
	if r := checkFileNow(t, b.Path()); len(r.Families) != 1 {
		t.Errorf("%d families", len(r.Families))
	}
}

// A copy with holes, as rsync and tar make them, gets its space when it is opened, or is refused; a first
// access on a full disk would kill the process.
func TestHoles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	good, _ := made(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 2) })
	path := filepath.Join(dir, "shop")
	f, err := os.OpenFile(path+Suffix, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good); at += 4096 {
		page := good[at:min(at+4096, len(good))]
		if slices.ContainsFunc(page, func(b byte) bool { return b != 0 }) {
			f.WriteAt(page, int64(at))
		}
	}
	f.Truncate(int64(len(good)))
	f.Close()
	ballast := filepath.Join(dir, "ballast")
	os.WriteFile(ballast, make([]byte, 1<<20), 0o600) // as far as there is room
	// In a process of its own: if it is killed, that is to be seen.
	cmd, out := startWorker(t, "open", "FILE="+path)
	line, _ := out.ReadString('\n')
	if !strings.Contains(line, "no space left") {
		t.Errorf("on a full disk: %q, %v", line, cmd.Wait())
	}
	os.Remove(ballast)
	_, out = startWorker(t, "open", "FILE="+path)
	if line, _ := out.ReadString('\n'); line != "opened\n" {
		t.Errorf("with room: %q", line)
	}
	st, err := os.Stat(path + Suffix)
	if err != nil || st.Sys().(*syscall.Stat_t).Blocks*512 < st.Size() {
		t.Errorf("%v, %v: holes are left", st, err)
	}
}

// A file system that cannot let files share blocks, or a kernel that does not know of it, is no reason to refuse a file.
func TestUnshare(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(quickDir(t), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Truncate(4096)
	if err := unshare(f, 4096); err != nil {
		t.Error(err)
	}
	f.Close()
	if err := unshare(f, 4096); err == nil {
		t.Error("no other error is seen")
	}
}

func init() { workers["open"] = openWorker }

// openWorker opens a file, makes many series, says how it went, and ends.
func openWorker(string) {
	b, err := Open(os.Getenv("FILE"), &Options{AnyFileSystem: os.Getenv("ANY") != ""})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 1000 {
		if w, err := b.Cells(requests, fmt.Sprintf(`code="%d",method=""`, i)); err == nil {
			w[0].Add(1)
		}
	}
	fmt.Println("opened")
}

// needRoot is for tests with file systems, groups, users or namespaces of their own.
func needRoot(t testing.TB) {
	t.Helper()
	var err error
	if uid := os.Getuid(); uid != 0 {
		err = fmt.Errorf("the user is %d", uid)
	}
	needs.Check(t, "root", err, "sudo go test ./internal/backend/shm")
}
