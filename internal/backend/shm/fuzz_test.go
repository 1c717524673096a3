//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// FuzzFile changes bytes anywhere in a file, then checks, opens, reads and writes it, see
// TestMutations.
func FuzzFile(f *testing.F) {
	good := smallFile(f)
	c, err := examine(append(newMemory(0), good...))
	if err != nil {
		f.Fatal(err)
	}
	bucket := uint32(offIndex)
	for _, r := range c.records {
		f.Add(uint32(r.off+recNext), []byte{0xff, 0xff}, uint32(offTail), []byte{0xc0}, uint32(len(good)))
		f.Add(bucket, []byte{0}, uint32(r.off+recNext), []byte{1}, uint32(len(good)))
		f.Add(uint32(r.off+recSize), []byte{0xff}, uint32(r.off+recWords), []byte{0xff, 0xff}, uint32(len(good)))
		f.Add(uint32(r.off+recText), []byte{0xff}, uint32(r.off+recType), []byte{2}, uint32(r.off+align))
	}
	f.Add(uint32(offTail), []byte{0xff, 0xff, 0xff}, uint32(0), []byte{}, uint32(len(good)))
	f.Add(uint32(offSize), []byte{0xff, 0xff, 0xff, 0xff}, bucket, []byte{0xff, 0xff}, uint32(len(good)))
	m := &mutator{good: good, path: filepath.Join(quickDir(f), "f"), mem: newMemory(len(good)), log: quiet()}
	f.Fuzz(func(t *testing.T, at1 uint32, bytes1 []byte, at2 uint32, bytes2 []byte, size uint32) {
		debug.SetPanicOnFault(true)
		m.TB, m.what, m.Rand = t, "fuzzed", rand.New(rand.NewPCG(0, 0))
		p := m.mem[:len(good)]
		copy(p, good)
		copy(p[int(at1)%len(p):], bytes1)
		copy(p[int(at2)%len(p):], bytes2)
		m.try(p[:min(int(size), len(p))], &Options{AnyFileSystem: true}, false)
	})
}
