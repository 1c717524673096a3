//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A copy with holes, as made by rsync and tar, gets its space when it is opened, or is refused:
// otherwise a first access on a full disk would kill the process.
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
	os.WriteFile(ballast, make([]byte, 1<<20), 0o600) // fill the disk
	// In another process, so that the test sees if it is killed.
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

// A file is not refused because the file system or the kernel does not support shared blocks.
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
		t.Error("other errors are ignored")
	}
}
