//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/needs"
)

// If an instance opens the file, counts and closes it while it is read for a rewrite, the copy is
// discarded.
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

// If rewriting a large file takes longer than others wait for it, they use the file as it is, and
// the copy is discarded.
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
	// The process that has given up has released the lock.
	if locked(other.file, lockByte) || locked(b.file, lockByte) {
		t.Error("the creators' lock is still held")
	}
}

// If many instances open a file that needs rewriting, only one rewrites it. The patient ones wait
// without starting their own rewrite, and find the new file afterwards.
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

// Many instances open a file that needs rewriting at once: the counts of all of them are there in
// the end.
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

// A file that replaces a group's file belongs to the same group.
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

// In a setgid directory, new files belong to the directory's group, even one that replaces a
// damaged file.
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

// A file with two names is one file, until one of the names is given to another. A link to a
// foreign file in place of ours does not let us change that file.
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

// Only a process that has checked a file marks it as intact, not one that finds it locked: the lock
// may belong to a process that is setting it aside.
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
	// Release it without setting it aside. A child that has just been started may have a copy
	// of the descriptor.
	if ok, err := setLock(f, syscall.F_UNLCK, lockByte+1, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if outcome, err := Peek(path, &Options{AnyFileSystem: true}); outcome != Replace || err != nil {
		t.Errorf("%v, %v: it counts as intact, though nobody has checked it", outcome, err)
	}
}

// Families that no program declares any more are removed with their series.
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
