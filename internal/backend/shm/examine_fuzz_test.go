//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

var (
	smallLatency = &backend.Family{Name: "latency_seconds", Help: "Latency.", Kind: backend.Histogram, Buckets: []float64{1, 2}}
	smallBusy    = &backend.Family{Name: "busy", Help: "Busy.", Kind: backend.Gauge, Mode: backend.Sum, Labels: []string{"x"}}
)

// smallFile returns the bytes of a file with small tables, so that random changes often hit used
// parts.
func smallFile(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small")
	o := &Options{AnyFileSystem: true, Limit: 1 << 20}
	h := newHeader(o)
	h.buckets, h.instances = 8, 2
	h.derive()
	err := inNewFile(path+Suffix, h, o, nil, nil, func(temp string) error { return os.Rename(temp, path+Suffix) })
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, path, o)
	cells(t, b, requests, `code="1",method="GET"`)
	cells(t, b, requests, `code="2",method="GET"`)
	cells(t, b, smallLatency, "")
	cells(t, b, smallBusy, `x="1"`)
	newer := *requests
	newer.Help = "Better."
	cells(t, b, &newer, `code="3",method="PUT"`)
	b.Delete(requests, func(labels string) bool { return labels == `code="3",method="PUT"` })
	end := b.mem.u64(offTail).Load()
	p, err := os.ReadFile(path + Suffix)
	if err != nil {
		t.Fatal(err)
	}
	b.Close(context.Background())
	return p[:end+64]
}

// FuzzExamine changes a file in two places and cuts it. Checking the header and the contents must
// end without a panic. TestBitFlips and TestMutations test what must be noticed.
func FuzzExamine(f *testing.F) {
	good := smallFile(f)
	c, err := examine(append(newMemory(0), good...))
	if err != nil || len(c.problems) > 1 { // the size is that of the whole file
		f.Fatal(err, c.problems)
	}
	for _, r := range c.records {
		f.Add(uint32(r.off+recNext), []byte{0xff, 0xff}, uint32(r.off+recWords), []byte{9}, uint32(len(good)))
		f.Add(uint32(r.off+recSize), []byte{0xff}, uint32(offIndex), []byte{1}, uint32(r.off+70))
		f.Add(uint32(r.off+recNext), []byte{byte(r.off / align), byte(r.off / align >> 8)}, uint32(r.textAt), []byte{0}, uint32(len(good)))
	}
	f.Add(uint32(offTail), []byte{0xff, 0xff, 0xff}, uint32(offSize), []byte{0xc0}, uint32(len(good)))
	f.Add(uint32(offBuckets), []byte{0}, uint32(offInstances), []byte{0xff, 0xff}, uint32(100))
	mem := newMemory(len(good))
	f.Fuzz(func(t *testing.T, at1 uint32, bytes1 []byte, at2 uint32, bytes2 []byte, size uint32) {
		p := mem[:len(good)]
		copy(p, good)
		copy(p[int(at1)%len(p):], bytes1)
		copy(p[int(at2)%len(p):], bytes2)
		p = p[:min(int(size), len(p))]
		c, err := examine(p)
		if err != nil {
			return
		}
		c.report(&Report{Instances: listInstances(c.header, c.mem, func(uint64) bool { return true })})
	})
}

// A flip of any single bit that never changes is noticed.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	good := smallFile(t)
	mem := newMemory(len(good))
	problems := func(p []byte) int {
		copy(mem, p)
		c, err := examine(mem[:len(good)])
		if err != nil {
			return 1000
		}
		return len(c.problems)
	}
	base := problems(good)
	c, err := examine(append(newMemory(0), good...))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(what string, from, to uint64) {
		t.Helper()
		for at := from; at < to; at++ {
			for bit := range 8 {
				p := append([]byte(nil), good...)
				p[at] ^= 1 << bit
				if problems(p) <= base {
					t.Fatalf("%s: bit %d of byte %d flipped unnoticed", what, bit, at)
				}
			}
		}
	}
	flip("header", 0, offSum+8)
	for _, r := range c.records {
		flip("record", r.off, r.off+recNext)
		flip("texts", r.textAt, r.off+r.size)
	}
}
