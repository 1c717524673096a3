package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/gotheus/gotheus"
)

// env is where a table's contenders get their memory and files.
type env struct {
	dir     string
	files   int
	cleanup []func()
}

func (e *env) close() {
	for i := len(e.cleanup) - 1; i >= 0; i-- {
		e.cleanup[i]()
	}
}

func (e *env) path() string {
	e.files++
	return filepath.Join(e.dir, fmt.Sprint("words", e.files))
}

// heap returns a registry whose words are in the heap.
func (e *env) heap() *gotheus.Registry {
	return gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, MaxSeries: -1})
}

// shm returns a registry bound to a file of its own, which drop removes.
func (e *env) shm() (r *gotheus.Registry, drop func(), err error) {
	path := e.path()
	r = e.heap()
	if err := r.Bind(context.Background(), "shm://"+path+"?fs=any&limit=1GiB"); err != nil {
		return nil, nil, err
	}
	return r, func() {
		r.Close(context.Background())
		names, _ := filepath.Glob(path + ".*")
		for _, name := range names {
			os.Remove(name)
		}
	}, nil
}

// kept is shm for registries that are needed as long as the table.
func (e *env) kept() (*gotheus.Registry, error) {
	r, drop, err := e.shm()
	if err == nil {
		e.cleanup = append(e.cleanup, drop)
	}
	return r, err
}

const cacheLine = 64

// heapWord returns a word that has its cache lines to itself.
func heapWord() *atomic.Uint64 {
	return &make([]atomic.Uint64, 4*cacheLine/8)[2*cacheLine/8]
}

// mappedWord returns a word in a page of a file that is mapped as shm maps its own.
func (e *env) mappedWord() (*atomic.Uint64, error) {
	size := os.Getpagesize()
	f, err := os.OpenFile(e.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	e.cleanup = append(e.cleanup, func() { syscall.Munmap(mem); os.Remove(f.Name()) })
	return (*atomic.Uint64)(unsafe.Pointer(&mem[size/2])), nil
}
