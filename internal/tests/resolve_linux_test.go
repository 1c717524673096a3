package tests_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/needs"
)

func init() {
	workers["resolve"] = func() {
		r := gotheus.NewRegistry(nil) // logs to standard error
		c := r.NewCounterVec("c_total", "C.", nil, "by")
		err := r.Bind(context.Background(), os.Getenv("FILE"))
		if dir := os.Getenv("CHROOT"); err == nil && dir != "" {
			err = syscall.Chroot(dir)
		}
		if err == nil && os.Getenv("DROP") != "" {
			if err = syscall.Setgid(65534); err == nil {
				err = syscall.Setuid(65534)
			}
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
		for i := range 5000 { // the file grows
			c.With(fmt.Sprint("worker ", i)).Inc()
		}
		if err := r.Write(context.Background(), os.Stdout, &gotheus.WriteOptions{Strict: true}); err != nil {
			fmt.Println(err)
		}
	}
}

// A process that can no longer find the file by its path goes on showing, and counting, everything.
func TestUnresolvablePath(t *testing.T) {
	t.Parallel()
	var err error
	if uid := os.Getuid(); uid != 0 {
		err = fmt.Errorf("the user is %d", uid)
	}
	needs.Check(t, "root", err, "sudo go test ./internal/tests")
	for _, c := range []struct {
		name      string
		private   bool // the file's directory is in one that only root can search
		drop      bool
		root      string // "": the worker keeps its root; "same": the path exists in it
		sameNamed bool   // and there, another file
	}{
		{name: "privileges", private: true, drop: true},
		{name: "chroot", root: "empty"},
		{name: "chroot without privileges", private: true, root: "empty", drop: true},
		{name: "chroot with the same directory", root: "same"},
		{name: "chroot with another file", root: "same", sameNamed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// Unlike that of t.TempDir, its parent can be searched by all.
			top, err := os.MkdirTemp("", "gotheus")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(top) })
			mode := os.FileMode(0o755)
			if c.private {
				mode = 0o700
			}
			dir, jail := filepath.Join(top, "dir"), ""
			for path, mode := range map[string]os.FileMode{top: mode, dir: 0o755} {
				os.Mkdir(path, mode)
				os.Chmod(path, mode)
			}
			url := "shm://" + dir + "/shop?fs=any&limit=8MiB"
			if c.root != "" {
				jail = t.TempDir()
			}
			if c.root == "same" {
				if err := os.MkdirAll(filepath.Join(jail, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			r, _ := newRegistry(t, nil)
			v := r.NewCounterVec("c_total", "C.", nil, "by")
			bind(t, r, url)
			if c.sameNamed {
				other, _ := newRegistry(t, nil)
				bind(t, other, "shm://"+filepath.Join(jail, dir)+"/shop?fs=any&limit=2MiB")
			}

			worker := exec.Command(os.Args[0])
			worker.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=resolve", "FILE="+url, "CHROOT="+jail)
			if c.drop {
				worker.Env = append(worker.Env, "DROP=1")
			}
			var log strings.Builder
			worker.Stderr = &log
			in, _ := worker.StdinPipe()
			out, _ := worker.StdoutPipe()
			if err := worker.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			if line, _ := lines.ReadString('\n'); line != "ready\n" {
				t.Fatalf("worker: %s %s", line, &log)
			}
			v.With("parent").Add(7)
			in.Close()
			got, _ := io.ReadAll(lines)
			worker.Wait()
			if n := strings.Count(string(got), "\nc_total{by="); n != 5001 || !strings.Contains(string(got), `c_total{by="parent"} 7`) {
				t.Errorf("%d series: %.300s", n, got)
			}
			if log.Len() > 0 {
				t.Errorf("log: %s", &log)
			}
			if n := strings.Count(page(t, r), "c_total{by="); n != 5001 {
				t.Errorf("%d series on the parent's page", n)
			}
		})
	}
}
