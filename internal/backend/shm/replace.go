//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// whileUnused calls do while no other process can take an instance slot in the file or replace it.
// done is false, and do is not called, if another process has the file open or has replaced it. It
// does not wait.
func whileUnused(f *os.File, name string, do func() error) (done bool, err error) {
	if ok, err := lockAll(f); !ok || err != nil {
		return false, err
	}
	defer setLock(f, syscall.F_UNLCK, lockByte+1, 0)
	if !isAt(f, name) {
		return false, nil
	}
	return true, do()
}

// setAside renames an unusable file and returns its new name, or "" if the file was empty or
// another process has replaced it.
func setAside(f *os.File, name string) (aside string, err error) {
	done, err := whileUnused(f, name, func() error {
		if size, err := sizeOf(f); err != nil || size == 0 {
			return errors.Join(err, os.Remove(name))
		}
		aside = fmt.Sprintf("%s.damaged-%s-%s", name, time.Now().UTC().Format("20060102T150405"), rand.Text()[:4])
		return os.Rename(name, aside)
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("shm: setting %s aside: %w", name, err)
	case !done && isAt(f, name):
		return "", fmt.Errorf("%w: other processes have it open", backend.ErrBusy)
	}
	return aside, nil
}

// startAfresh replaces a file that nobody has open by an empty one. done is false if another
// process has it open.
func startAfresh(f *os.File, old *header, name string, o *Options) (done bool, err error) {
	h := newHeader(o)
	if o.Limit == 0 {
		h.limit = old.limit
	}
	err = inNewFile(name, h, o, f, nil, func(temp string) (err error) {
		done, err = whileUnused(f, name, func() error { return os.Rename(temp, name) })
		return err
	})
	return done, err
}
