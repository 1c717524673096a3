package tests_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus"
)

func init() { workers["umask"] = umaskWorker }

// umaskWorker makes every kind of file that the library makes, with a umask that leaves no rights.
func umaskWorker() {
	syscall.Umask(0o777)
	dir := os.Getenv("DIR")
	for name, query := range map[string]string{"own": "?fs=any&limit=1MiB", "shared": "?fs=any&limit=1MiB&share=group", "damaged": "?fs=any&limit=1MiB"} {
		r := gotheus.NewRegistry(nil)
		if err := r.Bind(context.Background(), "shm://"+filepath.Join(dir, name)+query); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		r.NewCounter("some_total", "Some.", nil).Inc()
		if err := r.WriteFile(context.Background(), filepath.Join(dir, name+".prom"), nil); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		r.Close(context.Background())
	}
}

// Files have the documented modes whatever the umask is: also those that replace others, on the
// second run.
func TestUmask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		if err := os.WriteFile(filepath.Join(dir, "damaged.gotheus-v2"), []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=umask", "DIR="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for name, want := range map[string]fs.FileMode{
			"own.gotheus-v2": 0o600, "shared.gotheus-v2": 0o660, "damaged.gotheus-v2": 0o600,
			"own.prom": 0o644, "shared.prom": 0o644,
		} {
			st, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			} else if st.Mode() != want {
				t.Errorf("%s has mode %v, want %v", name, st.Mode(), want)
			}
		}
	}
}
