package exact

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// bigSum adds up finite floats with math/big alone.
func bigSum(list []float64) *big.Float {
	sum := new(big.Float).SetPrec(2400)
	for _, x := range list {
		sum.Add(sum, new(big.Float).SetFloat64(x))
	}
	return sum
}

func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

// check compares the sum of a list with that of math/big, and of folding it in parts.
func check(t *testing.T, list []float64) {
	t.Helper()
	var s Sum
	plain, allFinite, zeros := 0.0, true, true
	for _, x := range list {
		s.Add(x)
		plain += x
		allFinite = allFinite && finite(x)
		zeros = zeros && x == 0
	}
	got := s.Rounded()
	hi, lo := s.Split()
	switch {
	case !same(hi, got):
		t.Fatalf("%x: rounded to %v, split into %v and %v", list, got, hi, lo)
	case !allFinite:
		if !same(got, plain) || lo != 0 {
			t.Fatalf("%x: %v and %v, plain addition gives %v", list, got, lo, plain)
		}
		return
	case zeros:
		return // the sign depends on the order
	}
	exact := bigSum(list)
	if want, _ := exact.Float64(); want != got {
		t.Fatalf("%x: %v, want %v", list, got, want)
	}
	if !finite(got) {
		return
	}
	switch split := bigSum([]float64{hi, lo}); {
	case split.Cmp(exact) < 0:
		t.Fatalf("%x: %v and %v are less", list, hi, lo)
	case split.Cmp(exact) > 0:
		if lower := bigSum([]float64{hi, math.Nextafter(lo, math.Inf(-1))}); lower.Cmp(exact) >= 0 {
			t.Fatalf("%x: %v and %v are too large", list, hi, lo)
		}
	}
	if hi+lo < got {
		t.Fatalf("%x: %v and %v add up to less than %v", list, hi, lo, got)
	}
	if len(list) >= 2 {
		checkSub(t, list[0], list[1])
	}
}

func checkSub(t *testing.T, a, b float64) {
	t.Helper()
	got := SubUp(a, b)
	if !finite(got) {
		return
	}
	exact := bigSum([]float64{a, -b})
	if c := bigSum([]float64{got}).Cmp(exact); c < 0 || c > 0 && bigSum([]float64{math.Nextafter(got, math.Inf(-1))}).Cmp(exact) >= 0 {
		t.Fatalf("%v - %v is %v", a, b, got)
	}
}

func FuzzSum(f *testing.F) {
	add := func(list ...float64) {
		var b []byte
		for _, x := range list {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		}
		f.Add(b)
	}
	add()
	add(math.Copysign(0, -1))
	add(1, math.Ldexp(1, -53), math.Ldexp(1, -106), math.Ldexp(1, -200))
	add(1, math.Ldexp(1, -53), -math.Ldexp(1, -1074))
	add(math.MaxFloat64, math.MaxFloat64, -math.MaxFloat64)
	add(math.MaxFloat64, math.Ldexp(1, 969), math.Ldexp(1, 969))
	add(math.MaxFloat64, -math.MaxFloat64, 5e-324)
	add(math.Inf(1), 1, math.Inf(1))
	add(1, math.Inf(1), math.Inf(-1), math.MaxFloat64)
	add(math.NaN(), math.Inf(1))
	add(5e-324, 5e-324, -5e-324, 2.5e-308)
	f.Fuzz(func(t *testing.T, b []byte) {
		var list []float64
		for ; len(b) >= 8; b = b[8:] {
			list = append(list, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
		check(t, list)
	})
}

// Sums of random lists are exact, from the narrowest range of exponents to the widest.
func TestSum(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 7))
	for range 20_000 {
		list := make([]float64, 1+rnd.IntN(12))
		width := 1 << rnd.IntN(12)
		for i := range list {
			exp := 1023 + rnd.IntN(width) - width/2
			list[i] = math.Float64frombits(uint64(max(0, min(exp, 0x7fe)))<<52 | rnd.Uint64()>>12>>rnd.IntN(53)<<rnd.IntN(12)&(1<<52-1))
			if rnd.IntN(4) == 0 {
				list[i] = -list[i]
			}
		}
		check(t, list)
	}
}

// Folding term after term into two floats never makes a sum smaller, whatever is added to it.
func TestFold(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(2, 7))
	number := func() float64 { return math.Ldexp(rnd.Float64(), rnd.IntN(240)-120) }
	for range 2000 {
		terms := make([]float64, 8)
		for i := range terms {
			terms[i] = number()
		}
		var hi, lo, last float64
		for i := range len(terms) + 1 {
			sum := Sum{Hi: hi, Lo: lo}
			for _, x := range terms[i:] {
				sum.Add(x)
			}
			if now := sum.Rounded(); now < last {
				t.Fatalf("%x: %v after %v", terms, now, last)
			} else {
				last = now
			}
			if i < len(terms) {
				base := Sum{Hi: hi, Lo: lo}
				base.Add(terms[i])
				hi, lo = base.Split()
			}
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for name, least := range map[string]int{"two": -20, "rest": -120} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var s Sum
				for i := range 10 {
					s.Add(math.Ldexp(1.1, least*(i&1)+i))
				}
				if s.Rounded() == 0 {
					b.Fatal("zero")
				}
			}
		})
	}
}
