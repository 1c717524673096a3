//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/backend"
)

// unmap undoes the mapping of a backend whose words nobody uses any more.
func unmap(b *Backend) { syscall.Munmap(b.mem) }

// FuzzFile changes bytes anywhere in a file. Whatever they say, nothing may crash, hang or touch memory
// behind the end of the file.
func FuzzFile(f *testing.F) {
	made := filepath.Join(f.TempDir(), "made")
	b := open(f, made, &Options{Limit: 1 << 20})
	lat := &backend.Family{Name: "latency_seconds", Help: "Latency.", Kind: backend.Histogram, Buckets: []float64{1, 2}}
	cells(f, b, requests, `code="1",method="GET"`)
	cells(f, b, requests, `code="2",method="GET"`)
	cells(f, b, lat, "")
	busy := &backend.Family{Name: "busy", Help: "Busy.", Kind: backend.Gauge, Mode: backend.Sum, Labels: []string{"x"}}
	cells(f, b, busy, `x="1"`)
	newer := *requests
	newer.Help = "Better."
	cells(f, b, &newer, `code="3",method="PUT"`)
	good, err := os.ReadFile(made + Suffix)
	if err != nil {
		f.Fatal(err)
	}
	records := uint32(b.recordsAt)
	bucket := uint32(offIndex + 4*(b.hashOf(typeFamily, 0, requests.Schema())&(numBuckets-1)))
	f.Add(uint32(offTail), []byte{0xff, 0xff, 0xff}, uint32(0), []byte{}, uint32(len(good)))
	f.Add(records+recNext, []byte{0xff, 0xff}, uint32(offTail), []byte{0xc0}, uint32(len(good)))
	f.Add(uint32(offSize), []byte{0xff, 0xff, 0xff, 0xff}, bucket, []byte{0xff, 0xff}, uint32(len(good)))
	f.Add(bucket, []byte{0}, records+recNext, []byte{1}, uint32(len(good)))
	f.Add(records+recSize, []byte{0xff}, records+recWords, []byte{0xff, 0xff}, uint32(len(good)))
	f.Add(records+recText, []byte{0xff}, records+recType, []byte{2}, uint32(records+64))
	f.Add(records+recHash, []byte{1}, records+recSum, []byte{2}, uint32(5000))

	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, at1 uint32, bytes1 []byte, at2 uint32, bytes2 []byte, size uint32) {
		p := append([]byte(nil), good...)
		for at, b := range map[uint32][]byte{at1: bytes1, at2: bytes2} {
			copy(p[int(at)%len(p):], b)
		}
		p = p[:min(int(size), len(p))]
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path+Suffix, p, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Open(path, &Options{AnyFileSystem: true})
		if err != nil {
			return
		}
		defer unmap(b)
		defer b.Close(context.Background())
		b.Sync(context.Background())
		for _, g := range b.Walk() {
			for _, s := range g.Series {
				for i := range s.Words {
					s.Words[i].Load()
				}
				if s.Parts != nil {
					for _, p := range s.Parts.List() {
						p.Live()
						p.Words[0].Load()
					}
				}
			}
		}
		for _, labels := range []string{`code="1",method="GET"`, `code="9",method="GET"`} {
			if w, err := b.Cells(requests, labels); err == nil {
				w[0].Add(1)
			}
		}
		b.Cells(busy, `x="2"`)
		b.Delete(requests, func(string) bool { return true })
		b.Instances()
		b.Sync(context.Background())
	})
}
