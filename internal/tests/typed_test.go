package tests_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

type (
	code      int
	method    string
	named     string
	origin    struct{ Region, Zone string }
	ipv4      [4]byte
	pair      struct{ A, B int8 }
	withText  struct{ S string }
	byPointer int
)

func (c code) String() string       { return fmt.Sprintf("code %d", int(c)) }
func (m method) String() string     { return strings.ToUpper(string(m)) }
func (a ipv4) String() string       { return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]) }
func (p pair) String() string       { return fmt.Sprint(p.A, "/", p.B) }
func (w withText) String() string   { return w.S }
func (b *byPointer) String() string { return "" }

type everything struct {
	HTTPMethod  method
	StatusCode2 code
	Text        string `label:"t"`
	Named       named
	OK          bool
	I           int
	I8          int8
	I16         int16
	I32         int32
	I64         int64
	U           uint
	U8          uint8
	U16         uint16
	U32         uint32
	U64         uint64
	Ptr         uintptr
	Took        time.Duration
	Address     ipv4
	Pair        pair
	origin
}

func newOf[L comparable](t testing.TB, r *gotheus.Registry, name string, o *gotheus.CounterOptions) *gotheus.VecOf[L, gotheus.Counter] {
	t.Helper()
	v, err := gotheus.TryNewVecOf[L, gotheus.Counter](r, name, "V.", o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTypedLabels(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		v := newOf[everything](t, r, "v_total", nil)
		l := everything{"get", 200, "x", "n", true, -1, -8, -16, -32, -1 << 63, 1, 8, 16, 32, 1<<64 - 1, 7, time.Second, ipv4{1, 2, 3, 4}, pair{1, 2}, origin{"eu", "a"}}
		m := v.With(l)
		m.Inc()
		if try, err := v.TryWith(l); err != nil || try != m {
			t.Errorf("got another series, %v", err)
		}
		pageHas(t, r, `v_total{address="1.2.3.4",http_method="GET",i="-1",i16="-16",i32="-32",i64="-9223372036854775808",i8="-8",named="n",ok="true",pair="1/2",ptr="7",region="eu",`+
			`status_code2="code 200",t="x",took="1s",u="1",u16="16",u32="32",u64="18446744073709551615",u8="8",zone="a"} 1`)
		l.OK, l.Zone = false, "b"
		if v.With(l) == m {
			t.Error("another set is the same series")
		}

		// The same family by values, which are in the order of the fields.
		two := newOf[struct{ B, A string }](t, r, "two_total", nil)
		if two.Vec().With("1", "2") != two.With(struct{ B, A string }{"1", "2"}) || r.NewCounterVec("two_total", "V.", nil, "a", "b").With("2", "1") != two.With(struct{ B, A string }{"1", "2"}) {
			t.Error("not the same series by values")
		}
		isErr(t, two.TryDeclare(struct{ B, A string }{"1", "\xff"}), gotheus.ErrLabels, `two_total: value "\xff" of label "a" is not UTF-8`)
		isErr(t, panicOf(func() { two.Declare(struct{ B, A string }{"\xff", ""}) }), gotheus.ErrLabels, `label "b"`)
	})
}

func TestTypedInvalid(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	try := func(_ any, err error) error { return err }
	for want, err := range map[string]error{
		`the type of the labels is string: it must be a struct`:                 try(gotheus.TryNewVecOf[string, gotheus.Counter](r, "v", "V.", nil)),
		`the type of the labels is interface {}: it must be a struct`:           try(gotheus.TryNewVecOf[any, gotheus.Counter](r, "v", "V.", nil)),
		`struct {} has no fields`:                                               try(gotheus.TryNewVecOf[struct{}, gotheus.Counter](r, "v", "V.", nil)),
		`field a is not exported: its name must begin with a capital`:           try(gotheus.TryNewVecOf[struct{ a string }, gotheus.Counter](r, "v", "V.", nil)),
		`field _ is not exported`:                                               try(gotheus.TryNewVecOf[struct{ _ string }, gotheus.Counter](r, "v", "V.", nil)),
		`field F is of type float64: a label is a string, a bool, an integer`:   try(gotheus.TryNewVecOf[struct{ F float64 }, gotheus.Counter](r, "v", "V.", nil)),
		`field P is of type *int: a label is`:                                   try(gotheus.TryNewVecOf[struct{ P *int }, gotheus.Counter](r, "v", "V.", nil)),
		`field E is of type error`:                                              try(gotheus.TryNewVecOf[struct{ E error }, gotheus.Counter](r, "v", "V.", nil)),
		`field S of type fmt.Stringer has a method String, but may change`:      try(gotheus.TryNewVecOf[struct{ S fmt.Stringer }, gotheus.Counter](r, "v", "V.", nil)),
		`field W of type tests_test.withText has a method String, but`:          try(gotheus.TryNewVecOf[struct{ W withText }, gotheus.Counter](r, "v", "V.", nil)),
		`field B: the method String of tests_test.byPointer must not have a po`: try(gotheus.TryNewVecOf[struct{ B byPointer }, gotheus.Counter](r, "v", "V.", nil)),
		`field S is of type struct`:                                             try(gotheus.TryNewVecOf[struct{ S struct{ X string } }, gotheus.Counter](r, "v", "V.", nil)),
		"fields A and B of struct": try(gotheus.TryNewVecOf[struct {
			A string
			B string `label:"a"`
		}, gotheus.Counter](r, "v", "V.", nil)),
		"field A of struct { A string \"label:\\\"__x\\\"\" }: v: label \"__x\": names that begin with __ are reserved: rename it with a tag, as in `label:\"name\"`": try(gotheus.TryNewVecOf[struct {
			A string `label:"__x"`
		}, gotheus.Counter](r, "v", "V.", nil)),
		`label "le" is reserved in a histogram`:                                     try(gotheus.TryNewVecOf[struct{ LE string }, gotheus.Histogram](r, "v", "V.", nil)),
		`Defaults: label "i" is field I of type int: only strings without a method`: try(gotheus.TryNewVecOf[struct{ I int }, gotheus.Counter](r, "v", "V.", &gotheus.CounterOptions{Defaults: gotheus.Labels{"i": "1"}})),
		`Defaults: label "m" is field M of type tests_test.method`:                  try(gotheus.TryNewVecOf[struct{ M method }, gotheus.Counter](r, "v", "V.", &gotheus.CounterOptions{Defaults: gotheus.Labels{"m": "1"}})),
		`help is missing`: try(gotheus.TryNewVecOf[struct{ A string }, gotheus.Counter](r, "v", "", nil)),
	} {
		isErr(t, err, gotheus.ErrInvalid, want, "v")
	}
	if got := page(t, r); got != "" {
		t.Errorf("refused families are on the page: %s", got)
	}
}

func TestTypedDefaults(t *testing.T) {
	t.Parallel()
	type labels struct {
		Region, Method string
		Code           int
	}
	r, _ := newRegistry(t, nil)
	v := newOf[labels](t, r, "v_total", &gotheus.CounterOptions{
		Defaults:  gotheus.Labels{"region": "EU"},
		Normalize: normalizers{"region": strings.ToLower, "method": gotheus.OneOf("GET"), "code": func(s string) string { return s[:1] + "xx" }},
	})
	m := v.Declare(labels{Method: "GET", Code: 200}).With(labels{Method: "GET", Code: 201})
	if v.With(labels{"eu", "GET", 202}) != m || v.With(labels{"Eu", "GET", 299}) != m || v.Vec().With("GET", "200") != m || v.With(labels{"us", "GET", 200}) == m {
		t.Error("wrong series")
	}
	v.With(labels{}).Inc()
	pageHas(t, r, `v_total{code="2xx",method="GET",region="eu"} 0`, `v_total{code="0xx",method="other",region="eu"} 1`)
}

func TestTypedPartial(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	type labels struct{ A, B, C string }
	v := newOf[labels](t, r, "v_total", &gotheus.CounterOptions{MaxSeries: 5})
	type bc struct{ B, C string }
	p := gotheus.Partial(v, func(l bc) labels { return labels{"1", l.B, l.C} })
	q := gotheus.Partial(p, func(c string) bc { return bc{"2", c} })
	m := v.With(labels{"1", "2", "3"})
	try, err := q.TryWith("3")
	if p.With(bc{"2", "3"}) != m || q.With("3") != m || try != m || err != nil || q.Vec() != v.Vec() {
		t.Error("partials lead to other series")
	}
	q.Declare("4")
	isErr(t, panicOf(func() { q.Declare("\xff") }), gotheus.ErrLabels, `label "c"`)
	pageHas(t, r, `v_total{a="1",b="2",c="4"} 0`)
}

// The memo does not hold the overflow series for a struct, which may get its own series later.
func TestTypedMaxSeries(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	type labels struct{ A string }
	v := newOf[labels](t, r, "v_total", &gotheus.CounterOptions{MaxSeries: 1})
	one, over := v.With(labels{"1"}), v.With(labels{"2"})
	over.Inc()
	if v.With(labels{"3"}) != over || v.With(labels{"1"}) != one || one == over {
		t.Error("wrong series")
	}
	if two := v.Declare(labels{"2"}).With(labels{"2"}); two == over {
		t.Error("a declared series is not reached")
	}
	pageHas(t, r, `v_total{a="gotheus_overflow"} 1`, `v_total{a="2"} 0`, `gotheus_overflowed_lookups_total{metric="v_total"} 2`)
}

// Strings in a cached struct may be substrings of larger ones, which the memo must not keep in
// memory.
func TestTypedStringsAreCloned(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	type labels struct {
		A string
		M method
	}
	v := newOf[labels](t, r, "v_total", nil)
	long := v.With(labels{A: strings.Repeat("x", 5000)})
	if v.With(labels{A: strings.Repeat("x", 5000)}) != long {
		t.Error("a long value has two series")
	}
	buf := []byte("one two")
	for range 2 {
		v.With(labels{string(buf[:3]), method(buf[4:])}).Inc()
	}
	copy(buf, "TWO ONE")
	v.With(labels{"one", "two"}).Inc()
	pageHas(t, r, `v_total{a="one",m="TWO"} 3`)
}

// With normalisers, any number of structs may lead to one series. Memory is still bounded.
func TestTypedManyToOne(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	type labels struct{ N int }
	v := newOf[labels](t, r, "v_total", &gotheus.CounterOptions{Normalize: normalizers{"n": gotheus.OneOf()}})
	m := v.With(labels{})
	for range 2 {
		for i := range 5000 {
			if v.With(labels{i}) != m {
				t.Fatal("another series")
			}
		}
	}
}

func TestTypedConstructors(t *testing.T) {
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	r := new(gotheus.Registry)
	gotheus.SetDefault(r)
	type l struct{ X string }
	gotheus.NewCounterOf[l]("c_total", "C.", nil).Declare(l{"1"})
	gotheus.NewGaugeOf[l]("g", "G.", nil).Declare(l{"1"})
	gotheus.NewHistogramOf[l]("h", "H.", nil).Declare(l{"1"})
	gotheus.NewSummaryOf[l]("s", "S.", nil).Declare(l{"1"})
	pageHas(t, r, `c_total{x="1"} 0`, `g{x="1"} 0`, `h_count{x="1"} 0`, `s_count{x="1"} 0`)
	isErr(t, panicOf(func() { gotheus.NewCounterOf[struct{ x string }]("d_total", "D.", nil) }), gotheus.ErrInvalid, "field x")
}
