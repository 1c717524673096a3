package tests_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// A process that was stopped while it replaced a file holds the locks of all instances. A registry
// that binds the file waits for a second, then counts in the heap, and moves to the file once the
// locks are free.
func TestStoppedReplacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time advances only while all goroutines are blocked
		path := filepath.Join(t.TempDir(), "shop")
		url := "shm://" + path + "?fs=any&limit=8MiB"
		before, _ := newRegistry(t, nil)
		bind(t, before, url)
		before.NewCounter("c_total", "C.", nil).Add(5)
		if err := before.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path+".gotheus-v2", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const setLock, first = 37, 1<<46 + 1 // see FORMAT.md, Making and replacing a file
		if err := syscall.FcntlFlock(f.Fd(), setLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: first}); err != nil {
			t.Fatal(err)
		}
		r, _ := newRegistry(t, nil)
		c := r.NewCounter("c_total", "C.", nil)
		c.Inc()
		began := time.Now()
		if err := r.Bind(t.Context(), url); !errors.Is(err, backend.ErrBusy) || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		c.Inc()
		pageHas(t, r, "c_total 2")
		if err := syscall.FcntlFlock(f.Fd(), setLock, &syscall.Flock_t{Type: syscall.F_UNLCK, Start: first}); err != nil {
			// Closing f is not enough: a new child process may still have a copy.
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.Inc()
		pageHas(t, r, "c_total 8")
	})
}
