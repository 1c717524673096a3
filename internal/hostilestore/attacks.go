package hostilestore

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/store"
)

// Attacks are all kinds.
var Attacks = []Attack{
	{"numbers", "a number far from all others, of a series and of a gauge", 1, 1, sparse},
	{"beyond", "a number that no series can have", 1, 1, beyond},
	{"zeros", "words of histograms with 10,000 buckets, all of them zero, in chunks", 50, 4, func(n *Namespace, size int) { zeros(n, size, 10_000, 256) }},
	{"wide", "the same without words", 50, 4, func(n *Namespace, size int) { zeros(n, size, 10_000, 0) }},
	{"runs", "words of histograms with 300 buckets, all of them zero, in runs as long as they may be", 50, 4, func(n *Namespace, size int) { zeros(n, size, 300, 32) }},
	{"later", "families that no version knows, with a million words, and a run of them", 1, 1, later},
	{"windows", "families with large blocks for quantiles", 1000, 20, windows},
	{"families", "families without series", 20_000, 500, families},
	{"collisions", "exponential buckets that collide", 1 << 16, 1 << 12, collisions},
	{"heads", "instances without words that live for ever", 200_000, 2000, func(n *Namespace, size int) { heads(n, size, math.MaxUint64>>1, false) }},
	{"leavers", "instances without words that have left", 200_000, 2000, func(n *Namespace, size int) { heads(n, size, 1000, true) }},
	{"hosts", "the head of an instance with a long name of its host", 10 << 20, 1 << 20, func(n *Namespace, size int) {
		n.Instance(Instance{ID: 2, Alive: 1000, Host: strings.Repeat("h", size)})
	}},
	{"folds", "a base that lists very many folds", 200_000, 10_000, folds},
	{"roster", "a keeper whose roster has very many instances", 200_000, 2000, roster},
	{"labels", "long label texts of histograms with many buckets", 10, 2, labels},
	{"inline", "very many series without numbers", 100_000, 5000, inline},
	{"duplicates", "chunks of the directory that repeat one label text", 1000, 50, duplicates},
	{"garbage", "instances whose heads and parts are damaged", 200, 40, garbage},
	{"absent", "instances whose heads list parts that do not exist", 1000, 100, absent},
}

// A schema is fields of a number, a length and a content, see internal/backend.
func field(b []byte, n byte, content string) []byte { return appendBytes(append(b, n), content) }

func schema(name string, kind byte) []byte {
	return field(field(nil, 1, name), 2, string([]byte{kind}))
}

const (
	counterKind   = 1
	histogramKind = 3
	summaryKind   = 4
)

// histogram returns the schema of a histogram with so many buckets and a label.
func histogram(name string, buckets int) string {
	b := field(schema(name, histogramKind), 4, "l")
	for i := range buckets {
		b = field(b, 5, string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(float64(i+1)))))
	}
	return string(b)
}

func label(i int) string { return fmt.Sprintf(`l="%x"`, i) }

func sparse(n *Namespace, _ int) {
	n.Numbers(1<<20-1, n.Family(3, ofSeries, 3, string(field(schema("sparse_total", counterKind), 4, "l"))), `l=""`)
	gauge := n.Family(3, ofGauges, 0, string(field(schema("sparse", 2), 4, "l")))
	n.Numbers(1<<21-1, gauge, `l=""`)
}

func beyond(n *Namespace, _ int) {
	n.Numbers(1<<24-1, n.Family(3, ofGauges, 0, string(field(schema("beyond", 2), 4, "l"))), `l=""`)
}

// zeros adds chunks of histograms whose words are zero, in runs of so many series; 0: no words.
func zeros(n *Namespace, size, buckets, run int) {
	f := n.Family(buckets+3, ofSeries, buckets+3, histogram("wide", buckets))
	chunks := make(map[uint32][]byte)
	first := n.Free()
	for c := range size {
		var texts []string
		for i := range 256 {
			texts = append(texts, label(256*c+i))
		}
		n.Numbers(first+uint32(c), f, texts...)
		if run > 0 {
			records := n.Records()
			for range 256 / run {
				records = zeroRun(records, f, run, buckets+3, buckets+2)
			}
			chunks[first+uint32(c)] = records
		}
	}
	n.Instance(Instance{ID: 2, Alive: 1000, Chunks: chunks})
}

func later(n *Namespace, size int) {
	const words = 1 << 20
	f := n.Family(words, ofSeries, 0, "later")
	chunks := make(map[uint32][]byte)
	for c := range size {
		texts := make([]string, 256)
		for i := range texts {
			texts[i] = label(256*c + i)
		}
		at := n.Free()
		n.Numbers(at, f, texts...)
		chunks[at] = zeroRun(n.Records(), f, 256, words, -1)
	}
	n.Instance(Instance{ID: 2, Alive: 1000, Chunks: chunks})
}

func windows(n *Namespace, size int) {
	// 60 snapshots of 8192 buckets.
	sketch := binary.LittleEndian.AppendUint16(nil, 8)
	sketch = binary.LittleEndian.AppendUint16(sketch, 60)
	sketch = binary.LittleEndian.AppendUint64(sketch, 60e9)
	sketch = binary.LittleEndian.AppendUint64(sketch, math.Float64bits(.5))
	block := binary.LittleEndian.AppendUint32([]byte{1, 0}, 1<<13)
	const words = 2 + 2*60 + 1<<12 + 61<<13
	for i := range size {
		b := field(field(schema(fmt.Sprint("w", i), summaryKind), 9, string(sketch)), 10, string(block))
		n.Family(words, ofSeries|varying, 0, string(b))
	}
}

func families(n *Namespace, size int) {
	for i := range size {
		n.Family(3, ofSeries, 3, string(schema(fmt.Sprintf("f%x", i), counterKind)))
	}
}

func collisions(n *Namespace, size int) {
	size = 1 << (bits.Len(uint(max(size, 32))) - 1)
	// 256 buckets per doubling, so that very many indexes are valid.
	native := binary.LittleEndian.AppendUint64([]byte{8}, 0)
	native = binary.LittleEndian.AppendUint32(native, 1<<16)
	b := field(schema("collisions", histogramKind), 4, "l")
	b = field(b, 8, string(native))
	block := binary.LittleEndian.AppendUint32([]byte{1, 0}, uint32(size))
	f := n.Family(2+size/2+size, ofSeries|varying, 0, string(field(b, 10, string(block))))
	at := n.Free()
	n.Numbers(at, f, `l=""`)
	// The positions of all keys are in the first part of the block.
	const bias, lowest = 1 << 30, -256 * 1022
	var keys []uint32
	for index := int32(lowest); len(keys) < size && index < 256*1023; index++ {
		if at := uint32(index+bias) & uint32(size-1); at < uint32(size/4) {
			keys = append(keys, uint32(index+bias)<<1)
		}
	}
	for len(keys) < size {
		keys = append(keys, uint32(bias+1<<29+len(keys)*size)<<1)
	}
	for id := range uint64(2) {
		words := []uint64{0, 0}
		for i := 0; i < size; i += 2 {
			words = append(words, uint64(keys[i])|uint64(keys[i+1])<<32)
		}
		words = append(words, slices.Repeat([]uint64{1}, size)...)
		records := append(n.Records(), 1)
		records = binary.AppendUvarint(records, f)
		records = binary.AppendUvarint(records, uint64(len(words)))
		for _, w := range words {
			records = binary.AppendUvarint(records, w)
		}
		n.Instance(Instance{ID: 2 + id, Alive: 1000, Chunks: map[uint32][]byte{at: records}})
	}
}

func heads(n *Namespace, size int, alive uint64, left bool) {
	for i := range size {
		n.Instance(Instance{ID: uint64(i + 2), Alive: alive, Number: uint64(i + 1), Left: left})
	}
}

func folds(n *Namespace, size int) {
	b := binary.AppendUvarint(nil, 1<<40)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = append(b, 0, 0, 0)
	b = binary.AppendUvarint(b, uint64(size))
	for i := range size {
		b = binary.AppendUvarint(binary.LittleEndian.AppendUint64(b, uint64(i+1)), 1)
	}
	n.heads["base"] = b
}

func roster(n *Namespace, size int) {
	const version = 77
	ids := binary.LittleEndian.AppendUint64(nil, version)
	ids = binary.LittleEndian.AppendUint64(ids, 0)
	for i := range size {
		ids = binary.LittleEndian.AppendUint64(ids, uint64(i+2))
	}
	n.parts[store.Key{Group: "f", Part: list - 2}] = ids
	k := binary.LittleEndian.AppendUint64(nil, 99)
	n.heads["k0"] = append(binary.LittleEndian.AppendUint64(k, version), 1)
	for i := range size {
		n.Instance(Instance{ID: uint64(i + 2), Alive: 1000, Number: uint64(i + 1)})
	}
}

func labels(n *Namespace, size int) {
	const buckets = 10_000
	f := n.Family(buckets+3, ofSeries, buckets+3, histogram("labels", buckets))
	at := n.Free()
	var texts []string
	for i := range size {
		texts = append(texts, fmt.Sprintf(`l="%s%x"`, strings.Repeat("x", 1<<20), i))
	}
	n.Numbers(at, f, texts...)
	n.Instance(Instance{ID: 2, Alive: 1000, Chunks: map[uint32][]byte{at: zeroRun(n.Records(), f, 1, buckets+3, buckets+2)}})
}

func inline(n *Namespace, size int) {
	entry := []byte{3, ofSeries, 3}
	entry = appendBytes(appendBytes(entry, string(field(schema("inline_total", counterKind), 4, "l"))), "H.")
	b := appendBytes([]byte{1}, entry)
	for i := range size {
		b = appendBytes(append(b, 0), label(i))
		b = append(b, 3, 1, 0, 0)
	}
	n.Instance(Instance{ID: 2, Alive: 1000, Chunks: map[uint32][]byte{list - 1: b}})
}

func duplicates(n *Namespace, size int) {
	f := n.Family(3, ofSeries, 3, string(schema("duplicates_total", counterKind)))
	first := n.Free()
	for c := range size {
		n.Numbers(first+uint32(c), f, make([]string, 256)...)
	}
}

func garbage(n *Namespace, size int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := func(bytes int) []byte {
		b := make([]byte, bytes)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for i := range size {
		id := uint64(i + 2)
		switch i % 4 {
		case 0: // a part without even a seq
			n.Instance(Instance{ID: id, Alive: 1000, Number: id, Chunks: map[uint32][]byte{0: nil}})
			for k := range n.parts {
				if k.Group == fmt.Sprintf("i%016x", id) {
					n.parts[k] = []byte{0x81}
				}
			}
		case 1: // records
			n.Instance(Instance{ID: id, Alive: 1000, Number: id, Chunks: map[uint32][]byte{0: append(n.Records(), noise(200)...)}})
		case 2: // series without numbers
			n.Instance(Instance{ID: id, Alive: 1000, Number: id, Chunks: map[uint32][]byte{list - 1: noise(200)}})
		default: // a head
			n.heads[fmt.Sprintf("i%016x", id)] = append(binary.LittleEndian.AppendUint64(nil, n.epoch), noise(50)...)
		}
	}
}

func absent(n *Namespace, size int) {
	listed := make(map[uint32]uint64)
	for i := range size {
		listed[uint32(i)] = 1
	}
	n.Instance(Instance{ID: 2, Alive: 1000, Listed: listed})
}
