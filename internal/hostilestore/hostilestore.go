// Package hostilestore writes records into a store that no honest process writes, as a stranger
// with access to a namespace can: for tests of what a page costs then, and of whether the counts of
// honest processes stay on it. It knows the format from LAYOUT.md of module redisstore alone.
package hostilestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// Attack is a kind of hostile records.
type Attack struct {
	Name string
	What string // for people
	Size int    // for experiments
	Few  int    // a size for tests
	Put  func(n *Namespace, size int)
}

// Fill writes the records of an attack into a store that an honest process has begun. It returns
// how many bytes these records have.
func (a Attack) Fill(ctx context.Context, st store.Store, size int) (bytes int, err error) {
	for range 10 {
		n := &Namespace{heads: make(map[string][]byte), parts: make(map[store.Key][]byte)}
		if err := n.read(ctx, st); err != nil {
			return 0, err
		}
		a.Put(n, size)
		if bytes, err = n.write(ctx, st); !errors.Is(err, store.ErrConflict) {
			return bytes, err
		}
	}
	return bytes, err
}

// Namespace is what an attack writes.
type Namespace struct {
	epoch    uint64
	version  uint64 // of the directory, once this is written
	token    uint64
	raw      []byte // the head of the directory
	families uint64
	chain    uint64
	breaks   uint64
	tokens   []uint32
	chunks   map[uint32]uint64

	heads     map[string][]byte
	parts     map[store.Key][]byte
	directory bool // it changes
}

const list = ^uint32(0)

// read finds out what the namespace has.
func (n *Namespace) read(ctx context.Context, st store.Store) error {
	heads, err := st.Heads(ctx, []string{"meta", "dir"})
	if err != nil {
		return err
	}
	parts, err := st.Get(ctx, []store.Key{{Group: "f", Part: list}})
	if err != nil {
		return err
	}
	meta := heads["meta"].Value
	if len(meta) < 9 || len(parts) != 1 || parts[0] == nil {
		return errors.New("hostilestore: no honest process has begun the namespace")
	}
	n.epoch, n.raw = binary.LittleEndian.Uint64(meta[1:]), heads["dir"].Value
	b := parts[0]
	num := func() uint64 {
		v, size := binary.Uvarint(b)
		b = b[size:]
		return v
	}
	fixed := func() uint64 {
		v := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return v
	}
	n.version = num() + 1
	fixed() // the token
	fixed() // the epoch
	n.families, n.chain, n.breaks = num(), fixed(), num()
	for range num() {
		n.tokens = append(n.tokens, binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	n.token = n.version * 0x9e3779b97f4a7c15
	n.chunks = make(map[uint32]uint64)
	last := uint32(0)
	for range num() {
		last += uint32(num())
		n.chunks[last] = num()
	}
	return nil
}

// write commits everything.
func (n *Namespace) write(ctx context.Context, st store.Store) (bytes int, err error) {
	if n.directory {
		head := binary.AppendUvarint(nil, n.version)
		head = binary.LittleEndian.AppendUint64(head, n.token)
		head = binary.LittleEndian.AppendUint64(head, n.epoch)
		n.heads["dir"] = head
		b := binary.AppendUvarint(slices.Clone(head), n.families)
		b = binary.LittleEndian.AppendUint64(b, n.chain)
		b = binary.AppendUvarint(b, n.breaks)
		tokens := append(n.tokens, uint32(n.token))
		tokens = tokens[max(0, len(tokens)-256):]
		b = binary.AppendUvarint(b, uint64(len(tokens)))
		for _, t := range tokens {
			b = binary.LittleEndian.AppendUint32(b, t)
		}
		n.parts[store.Key{Group: "f", Part: list}] = appendChunks(b, n.chunks)
	}
	// The parts that heads refer to come first, and the head of the directory is in the last
	// commit, with what depends on it.
	const most = 1 << 20
	c := &store.Commit{If: map[string][]byte{"dir": n.raw}, Heads: map[string][]byte{}, Parts: map[store.Key][]byte{}}
	size := 0
	commit := func() error {
		err := st.Commit(ctx, c)
		size = 0
		c.Heads, c.Parts = map[string][]byte{}, map[store.Key][]byte{}
		return err
	}
	byKey := func(a, b store.Key) int {
		return slices.Compare([]string{a.Group, fmt.Sprint(a.Part)}, []string{b.Group, fmt.Sprint(b.Part)})
	}
	for _, k := range slices.SortedFunc(maps.Keys(n.parts), byKey) {
		if k.Group == "f" && k.Part == list {
			continue
		}
		c.Parts[k] = n.parts[k]
		if size += len(n.parts[k]); size > most {
			if err := commit(); err != nil {
				return 0, err
			}
		}
	}
	for i, name := range slices.Sorted(maps.Keys(n.heads)) {
		if name == "dir" {
			continue
		}
		c.Heads[name] = n.heads[name]
		if size += len(n.heads[name]); size > most || i%1000 == 999 {
			if err := commit(); err != nil {
				return 0, err
			}
		}
	}
	if n.directory {
		c.Heads["dir"], c.Parts[store.Key{Group: "f", Part: list}] = n.heads["dir"], n.parts[store.Key{Group: "f", Part: list}]
	}
	if err := commit(); err != nil {
		return 0, err
	}
	for _, b := range n.heads {
		bytes += len(b)
	}
	for _, b := range n.parts {
		bytes += len(b)
	}
	return bytes, nil
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendChunks(b []byte, chunks map[uint32]uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(chunks)))
	last := uint32(0)
	for _, n := range slices.Sorted(maps.Keys(chunks)) {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(n-last)), chunks[n])
		last = n
	}
	return b
}

// What families say of their list.
const (
	ofSeries = 1
	ofGauges = 2
	varying  = 16
)

// Family adds a family, and returns its number.
func (n *Namespace) Family(words, kind, start int, schema string) uint64 {
	b := binary.AppendUvarint(nil, uint64(words))
	b = append(b, byte(kind))
	b = binary.AppendUvarint(b, uint64(start))
	b = appendBytes(appendBytes(b, schema), "Hostile.")
	h := n.chain
	if n.families == 0 {
		h = 0xcbf29ce484222325
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	n.chain = h ^ h>>32
	n.parts[store.Key{Group: "f", Part: uint32(n.families)}] = b
	n.families++
	n.directory = true
	return n.families - 1
}

// Numbers adds a chunk of the directory in which a family has series with these label texts.
func (n *Namespace) Numbers(chunk uint32, family uint64, labels ...string) {
	b := binary.AppendUvarint(nil, n.version)
	for i, l := range labels {
		head := (family + 1) << 3
		if i == 0 {
			head |= 1
		}
		b = binary.AppendUvarint(b, head)
		if i == 0 {
			b = binary.AppendUvarint(b, n.version)
			b = binary.LittleEndian.AppendUint32(b, uint32(n.token))
		}
		b = appendBytes(b, l)
	}
	n.parts[store.Key{Group: "d", Part: chunk}] = b
	n.chunks[chunk] = n.version
	n.directory = true
}

// Free returns the first chunk that no honest process uses, and that stays free.
func (n *Namespace) Free() uint32 {
	first := uint32(0)
	for c := range n.chunks {
		if c < 1<<20 {
			first = max(first, c+1)
		}
	}
	return first + 1
}

// Instance is the head of an instance, as far as attacks choose it.
type Instance struct {
	ID     uint64
	Alive  uint64 // ms
	Number uint64
	Left   bool
	Host   string
	Chunks map[uint32][]byte // records, with the version before them
	Listed map[uint32]uint64 // further chunks, which do not exist
}

// Instance adds an instance.
func (n *Namespace) Instance(i Instance) {
	seqs := maps.Clone(i.Listed)
	if seqs == nil {
		seqs = make(map[uint32]uint64)
	}
	name := fmt.Sprintf("i%016x", i.ID)
	for c, records := range i.Chunks {
		seqs[c] = 1
		n.parts[store.Key{Group: name, Part: c}] = append([]byte{1}, records...)
	}
	n.heads[name] = n.instanceHead(i, seqs)
}

func (n *Namespace) instanceHead(i Instance, seqs map[uint32]uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, n.epoch)
	flags := byte(0)
	if i.Left {
		flags = 1
	}
	b = append(b, flags)
	for _, v := range []uint64{1, 1_700_000_000_000, i.Number, i.Alive, 0, 4242, 1, n.version, 0} {
		b = binary.AppendUvarint(b, v)
	}
	b = append(appendBytes(b, i.Host), 0)
	return appendChunks(b, seqs)
}

// Records begins the records of a chunk.
func (n *Namespace) Records() []byte { return binary.AppendUvarint(nil, n.version) }

// zeroRun appends a run of series all of whose words are zero.
func zeroRun(b []byte, family uint64, series, words, start int) []byte {
	b = append(b, 0)
	b = binary.AppendUvarint(b, family)
	b = binary.AppendUvarint(b, uint64(series))
	for w := range words {
		if w == start {
			b = append(b, 0) // the earliest one
		}
		b = append(b, 0)
	}
	return b
}
