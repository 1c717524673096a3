package gotheus

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
)

// The seeds are random for every process, so that nobody can choose values that collide.
var (
	seed             = maphash.MakeSeed()
	seedA, seedB     = rand.Uint64(), rand.Uint64()
	seedLen, seedEnd = rand.Uint64() | 1, rand.Uint64()
)

// hashValues returns a hash that is never 0. It multiplies and folds like wyhash, which the runtime
// uses for maps where the processor has no instruction for hashing; being inlined makes it quicker
// than hash/maphash for strings as short as label values are.
func hashValues(values []string) uint64 {
	h := seedB
	for _, v := range values {
		n := len(v)
		var a, b uint64
		switch {
		case n > 16:
			h = hashLong(h, v)
			continue
		case n >= 8:
			a, b = load64(v), load64(v[n-8:])
		case n >= 4:
			a, b = load32(v), load32(v[n-4:])
		case n > 0:
			a = uint64(v[0])<<16 | uint64(v[n>>1])<<8 | uint64(v[n-1])
		}
		h = fold(a^seedA, b^h^uint64(n)*seedLen)
	}
	return h | 1
}

func hashLong(h uint64, v string) uint64 {
	n := len(v)
	if n > 64 {
		return fold(maphash.String(seed, v)^seedA, h^seedEnd)
	}
	for s := v; len(s) > 16; s = s[16:] {
		h = fold(load64(s)^seedA, load64(s[8:])^h)
	}
	return fold(load64(v[n-16:])^seedEnd, load64(v[n-8:])^h^uint64(n)*seedLen)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// load64 and load32 are one instruction each on machines that allow it.

func load64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func load32(s string) uint64 {
	_ = s[3]
	return uint64(uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24)
}
