package storetest

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus/store"
)

// BenchmarkStore measures a store with records as large as those of metrics: heads of 1 KB, one for
// each of 10 processes with 100,000 series each, and parts of 2 KB.
func BenchmarkStore(b *testing.B, o Stores) {
	ctx := b.Context()
	o.check(b)
	s := opened(b, o, o.Fresh(b))[0]
	const heads, parts = 10, 256
	value := func(n int) []byte {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(i * i >> 3)
		}
		return v
	}
	head, part := value(1000), value(2000)
	must := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	group := func(i int) string { return fmt.Sprintf("i%016x", i) }
	var keys []store.Key
	for i := range heads {
		c := &store.Commit{Heads: map[string][]byte{group(i): head}, Parts: make(map[store.Key][]byte)}
		for n := range uint32(parts) {
			c.Parts[store.Key{Group: group(i), Part: n}] = part
		}
		must(b, s.Commit(ctx, c))
	}
	for n := range uint32(parts) {
		keys = append(keys, store.Key{Group: group(0), Part: n})
	}
	for _, n := range []int{1, 40} { // 40 parts are the largest commit of a publication
		b.Run(fmt.Sprintf("Commit/parts=%d", n), func(b *testing.B) {
			c := &store.Commit{If: map[string][]byte{group(0): head}, Heads: map[string][]byte{group(0): head}, Parts: make(map[store.Key][]byte)}
			for _, k := range keys[:n] {
				c.Parts[k] = part
			}
			for b.Loop() {
				must(b, s.Commit(ctx, c))
			}
		})
	}
	b.Run(fmt.Sprintf("Heads/heads=%d", heads), func(b *testing.B) {
		for b.Loop() {
			if got, err := s.Heads(ctx, nil); err != nil || len(got) != heads {
				b.Fatal(len(got), err)
			}
		}
	})
	b.Run(fmt.Sprintf("Get/parts=%d", parts), func(b *testing.B) {
		b.SetBytes(parts * int64(len(part)))
		for b.Loop() {
			if got, err := s.Get(ctx, keys); err != nil || len(got) != parts {
				b.Fatal(len(got), err)
			}
		}
	})
}
