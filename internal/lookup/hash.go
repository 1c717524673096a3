package lookup

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
)

// The seeds are random in each process, so that an attacker cannot choose label values that
// collide.
var (
	seed             = maphash.MakeSeed()
	seedA, seedB     = rand.Uint64(), rand.Uint64()
	seedLen, seedEnd = rand.Uint64() | 1, rand.Uint64()
)

// seedStep is the difference between the seeds of consecutive values.
const seedStep = 0x9e3779b97f4a7c15

// identity is compared before label values are. For one or two values of at most 254 bytes each,
// the lower half of id has their lengths, and a to d are their first and last bytes: if all of that
// is equal, values of at most 16 bytes are equal. For others, the lowest byte of id is otherMark,
// which is no such length, and a and b are the lengths, or all ones if these do not fit.
type identity struct {
	id         uint64 // the upper half is a hash
	a, b, c, d uint64 // not an array, which the compiler would keep in memory
}

const (
	maxShort   = 254 // longest value, in bytes, whose length fits in an id
	maxWhole   = 16  // longest value, in bytes, that its ends determine
	otherMark  = 0xff
	noID       = 1 << 16 // the id of no values: no lengths reach that bit of the lower half
	lengthMost = 1<<16 - 2
	lengths    = 8 // most values whose lengths fit in a and b
	noLengths  = 1<<64 - 1
)

func identify(values []string) (x identity) {
	n := len(values)
	if n != 1 && n != 2 || len(values[0]) > maxShort || len(values[n-1]) > maxShort {
		return identifyMany(values)
	}
	x.a, x.b = ends(values[0])
	if n == 1 {
		x.id = identifyOne(values[0], x.a, x.b)
	} else {
		x.c, x.d = ends(values[1])
		x.id = identifyTwo(values[0], values[1], x.a, x.b, x.c, x.d)
	}
	return x
}

// ID returns a number that is the same for the same values in this process, and seldom for others.
func ID(values []string) uint64 { return identify(values).id }

// identifyOne returns the id of a value of at most maxShort bytes with these ends.
func identifyOne(v string, a, b uint64) uint64 {
	h := fold(a^seedA, b^seedB) + uint64(len(v))*seedLen
	if len(v) > maxWhole {
		h += hashMiddle(seedA, v)
	}
	return h&^(1<<32-1) | uint64(len(v))
}

// identifyTwo returns the id of two such values.
func identifyTwo(v, w string, a, b, c, d uint64) uint64 {
	lengths := uint64(len(v))<<8 | uint64(len(w))
	h := fold(a^seedA, b^seedB) + fold(c^(seedA+seedStep), d^seedB) + lengths*seedLen
	if len(v) > maxWhole || len(w) > maxWhole {
		h += hashMiddle(seedA, v) + hashMiddle(seedA+seedStep, w)
	}
	return h&^(1<<32-1) | lengths
}

func identifyMany(values []string) identity {
	var h, most, high, low uint64
	k := seedA
	for _, v := range values {
		n := uint64(len(v))
		var a, b uint64
		switch { // ends, written out
		case n >= 8:
			a, b = load64(v), load64(v[n-8:])
		case n >= 4:
			a, b = load32(v), load32(v[n-4:])
		case n > 0:
			a, b = uint64(v[0])<<8|uint64(v[n>>1]), uint64(v[n-1])
		}
		h += fold(a^k, b^seedB^n*seedLen)
		if n > maxWhole {
			h += hashMiddle(k, v)
		}
		k += seedStep
		high, low = high<<16|low>>48, low<<16|n
		most = max(most, n)
	}
	if len(values) > lengths || most > lengthMost {
		high, low = noLengths, noLengths
	}
	return identity{id: h | otherMark, a: high, b: low}
}

// ends returns the first and the last bytes of v: 8 of each, or fewer if v is shorter. Together
// with its length, they determine a v of at most 16 bytes.
func ends(v string) (first, last uint64) {
	if n := len(v); n >= 8 {
		return load64(v), load64(v[n-8:])
	}
	return endsOfFew(v)
}

func endsOfFew(v string) (first, last uint64) {
	switch n := len(v); {
	case n >= 4:
		return load32(v), load32(v[n-4:])
	case n > 0:
		return uint64(v[0])<<8 | uint64(v[n>>1]), uint64(v[n-1])
	}
	return 0, 0
}

// hashMiddle hashes the bytes between the ends of a long v. It multiplies and folds like wyhash,
// which the runtime uses for maps on processors without instructions for hashing. For strings as
// short as label values, that is faster than hash/maphash.
//
//go:noinline
func hashMiddle(k uint64, v string) uint64 {
	if len(v) <= maxWhole {
		return 0
	}
	middle := v[8 : len(v)-8]
	if len(middle) > 64 {
		return fold(maphash.String(seed, middle)^k, seedEnd)
	}
	for ; len(middle) > 8; middle = middle[8:] {
		k = fold(load64(middle)^seedEnd, k)
	}
	return fold(load64(v[len(v)-16:])^seedEnd, k)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// load64 and load32 compile to one instruction each on processors with unaligned loads.

func load64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func load32(s string) uint64 {
	_ = s[3]
	return uint64(uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24)
}
