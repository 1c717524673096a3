//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// When all instances that a file can have are alive, the error of the next one says so, and what
// helps. The next one gets in when one of them has ended.
func TestTooManyInstances(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "full")
	first, err := Open(path, &Options{AnyFileSystem: true, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close(t.Context())
	others, err := os.OpenFile(path+Suffix, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	if ok, err := setLock(others, syscall.F_WRLCK, lockByte+2, numInstances-1); !ok || err != nil {
		t.Fatal("the other slots cannot be taken: ", err)
	}
	_, err = Open(path, &Options{AnyFileSystem: true})
	if !errors.Is(err, backend.ErrBusy) {
		t.Fatalf("got error %v, want that the file is busy", err)
	}
	for _, want := range []string{path + Suffix, "1024 processes", "another file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error: %v", want, err)
		}
	}
	unlock(others, lockByte+numInstances)
	last, err := Open(path, &Options{AnyFileSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := last.Number(); n != numInstances-1 {
		t.Errorf("the new instance has slot %d, want that of the one that has ended", n)
	}
	last.Close(t.Context())
}
