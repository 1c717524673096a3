//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/needs"
)

func init() {
	workers["fill"] = fillWorker
	workers["touch"] = touchWorker
}

// mount mounts a new file system for a test and returns its directory. A disk file system is in an
// image of a few megabytes, or of the least size that it allows.
func mount(t *testing.T, kind string) string {
	t.Helper()
	needRoot(t)
	known := func() bool {
		list, err := os.ReadFile("/proc/filesystems")
		return err != nil || slices.Contains(strings.Fields(string(list)), kind)
	}
	var err error
	if !known() {
		exec.Command("modprobe", kind).Run()
		if !known() {
			err = errors.New("this machine's kernel has none")
		}
	}
	needs.Check(t, kind, err, "modprobe "+kind)
	dir := t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	switch kind {
	case "tmpfs":
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
	case "ramfs":
		err = syscall.Mount("ramfs", dir, "ramfs", 0, "")
	case "overlay":
		lower, upper, work := t.TempDir(), filepath.Join(image, "upper"), filepath.Join(image, "work")
		for _, d := range []string{upper, work} {
			os.MkdirAll(d, 0o700)
		}
		err = syscall.Mount("overlay", dir, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
	default:
		size := map[string]int64{"ext4": 4 << 20, "xfs": 300 << 20, "btrfs": 128 << 20}[kind]
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Truncate(image, size)
		force := map[string]string{"ext4": "-F", "xfs": "-f", "btrfs": "-f"}[kind]
		pkg := map[string]string{"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}[kind]
		_, err := exec.LookPath("mkfs." + kind)
		needs.Check(t, pkg, err, "apt-get install "+pkg)
		_, err = exec.LookPath("mount")
		needs.Check(t, "mount", err, "apt-get install mount")
		for _, args := range [][]string{{"mkfs." + kind, "-q", force, image}, {"mount", "-o", "loop", image, dir}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s (the kernel must have loop devices)", args, err, out)
			}
		}
	}
	if err != nil {
		t.Fatalf("mounting %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 2); err != nil {
			// lazily: this process has a file mapped
			t.Error(err)
		}
	})
	return dir
}

// fill leaves at most so many bytes of a file system free.
func fill(t *testing.T, dir string, free int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "rest"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(0)
	for step := int64(256 << 20); step >= 4096; {
		if err := syscall.Fallocate(int(f.Fd()), 0, at, step); err == nil {
			at += step
		} else if step /= 2; !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(max(at-free, 0)); err != nil {
		t.Fatal(err)
	}
}

// free removes a file and waits until its space is free again: XFS releases it in the background.
func free(t *testing.T, name string) {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(name)
	var before, now syscall.Statfs_t
	if err := syscall.Statfs(dir, &before); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	os.Remove(name)
	// Other processes may take some of it at once.
	backendtest.Eventually(t, "the space of the removed file is free", func() bool {
		exec.Command("sync", "-f", dir).Run()
		if err := syscall.Statfs(dir, &now); err != nil {
			t.Fatal(err)
		}
		return int64(now.Bfree-before.Bfree)*int64(now.Bsize) >= st.Size()/2
	})
}

// On file systems where a full disk could kill a process, files are refused unless fs=any is set.
func TestOtherFileSystems(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"btrfs", "overlay", "ramfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := mount(t, kind)
			path := filepath.Join(dir, "shop")
			refused := func() {
				t.Helper()
				b, err := Open(path, nil)
				if err == nil {
					b.Close(t.Context())
					t.Fatal("opened")
				}
				if !strings.Contains(err.Error(), "the file system is "+kind) || !strings.Contains(err.Error(), "fs=any") {
					t.Error(err)
				}
			}
			refused()
			if list, _ := os.ReadDir(dir); len(list) > 0 {
				t.Errorf("left: %v", list)
			}
			b, err := Open(path, &Options{AnyFileSystem: true, Limit: 1 << 20})
			if kind == "ramfs" { // which cannot preallocate space at all
				if err == nil || !strings.Contains(err.Error(), "cannot preallocate space") {
					t.Errorf("opened with fs=any: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			cells(t, b, requests, `code="1",method=""`)[0].Add(1)
			checkFileNow(t, b.Path())
			b.Close(t.Context())
			unmap(b.mem)
			refused()
			if _, err := Peek(path, nil); err == nil {
				t.Error("Peek returns no error")
			}
		})
	}
}

// fillWorker creates series until the disk is full, prints their number, and goes on counting. It
// waits for a line of input first: a full disk may have no room for another process to open the
// file.
func fillWorker(string) {
	b := workerOpen()
	in := bufio.NewReader(os.Stdin)
	fmt.Println("open")
	in.ReadString('\n')
	var first backend.Words
	for n := 0; ; n++ {
		w, err := b.Cells(requests, fmt.Sprintf(`code="%d-%d",method=""`, os.Getpid(), n))
		if err != nil {
			if !errors.Is(err, backend.ErrFull) {
				fmt.Println(err)
				os.Exit(3)
			}
			fmt.Println(n, strings.Contains(err.Error(), "no space left"))
			break
		}
		if w[0].Add(1); first == nil {
			first = w
		}
	}
	if first != nil {
		first[0].Add(10)
	}
	fmt.Println("counted on")
	in.ReadString('\n') // wait until there is room again
	if _, err := b.Cells(requests, fmt.Sprintf(`code="%d-more",method=""`, os.Getpid())); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	fmt.Println("there is room")
}

// Real file systems that are full: a tmpfs, and ext4 and XFS images on loop devices, mounted for
// this test only. Processes get an error, none is killed by a signal, and their counts survive.
func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tmpfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := mount(t, kind)
			if kind == "xfs" { // which cannot be as small as the others
				fill(t, dir, 1<<20)
			}
			// Really full: without root's reserve, and with an odd remainder.
			path := filepath.Join(dir, "shop")
			b, err := Open(path, &Options{Limit: 8 << 20})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				b.Close(context.Background())
				unmap(b.mem)
			})
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 200<<10), 0o600); err != nil {
				t.Fatal(err)
			}
			total := 0
			type worker struct {
				in  *os.File
				out *bufio.Reader
			}
			var fillers []worker
			for range 2 {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "GOTHEUS_SHM_WORKER=fill", "FILE="+path)
				cmd.Stdin, cmd.Stderr = r, os.Stderr
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					w.Close()
					if err := cmd.Wait(); err != nil {
						t.Error(err)
					}
				})
				fillers = append(fillers, worker{w, bufio.NewReader(out)})
			}
			for _, f := range fillers {
				if line, _ := f.out.ReadString('\n'); line != "open\n" {
					t.Fatal(line)
				}
			}
			for _, f := range fillers {
				f.in.WriteString("\n")
			}
			for _, f := range fillers {
				var n int
				var full bool
				line, _ := f.out.ReadString('\n')
				if _, err := fmt.Sscan(line, &n, &full); err != nil || !full {
					t.Fatalf("%q: %v", line, err)
				}
				total += n
				if n > 0 {
					total += 10
				}
				if line, _ := f.out.ReadString('\n'); line != "counted on\n" {
					t.Fatal(line)
				}
			}
			got := walk(t, b)
			counted := 0
			for _, s := range got {
				var n int
				fmt.Sscan(s[strings.LastIndex(s, " "):], &n)
				counted += n
			}
			if counted != total || total < 1000 {
				t.Errorf("%d counted, %d acknowledged", counted, total)
			}
			checkFileNow(t, b.Path())
			if _, err := Open(filepath.Join(dir, "another"), nil); !errors.Is(err, backend.ErrFull) {
				t.Errorf("a new file on a full disk: %v", err)
			}
			if list, _ := filepath.Glob(filepath.Join(dir, "another*")); len(list) != 0 {
				t.Errorf("left: %q", list)
			}
			free(t, ballast)
			for _, f := range fillers {
				f.in.WriteString("\n")
				if line, _ := f.out.ReadString('\n'); line != "there is room\n" {
					t.Error(line)
				}
			}
			checkFileNow(t, b.Path())
			t.Logf("%d series filled it", len(got))
		})
	}
}

// touchWorker opens a file and, at a line of input, adds to a word on each of its pages.
func touchWorker(string) {
	b := workerOpen()
	fmt.Println("opened")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for at := uint64(0); at < b.allocated.Load(); at += 4096 {
		b.mem.u64(at).Add(0)
	}
	fmt.Println("touched")
}

// On XFS, a copy can share its blocks with the original. It gets its own blocks when it is opened,
// or is refused: otherwise the first write on a full disk would kill the process.
func TestSharedBlocks(t *testing.T) {
	t.Parallel()
	dir := mount(t, "xfs")
	good, _ := made(t)
	path, original := filepath.Join(dir, "shop"), filepath.Join(dir, "original")
	if err := os.WriteFile(original, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--reflink=always", "--preserve=mode", original, path+Suffix).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fill(t, dir, 0)
	cmd, out := startWorker(t, "touch", "FILE="+path)
	if line, _ := out.ReadString('\n'); !strings.Contains(line, "no space left") {
		t.Errorf("on a full disk: %q, %v", line, cmd.Wait())
	}
	free(t, filepath.Join(dir, "rest"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GOTHEUS_SHM_WORKER=touch", "FILE="+path)
	cmd.Stdin = r
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	out = bufio.NewReader(pipe)
	if line, _ := out.ReadString('\n'); line != "opened\n" {
		t.Fatal(line)
	}
	fill(t, dir, 0)
	w.WriteString("\n")
	if line, _ := out.ReadString('\n'); line != "touched\n" {
		t.Errorf("with blocks of its own: %q", line)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
