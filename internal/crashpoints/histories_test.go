//go:build linux && (386 || amd64 || arm64)

package crashpoints_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

// What a step does.
const (
	doOpen     = "open" // another instance, which the steps after it use
	doClose    = "close"
	doDeclare  = "declare"
	doCount    = "count"    // add n to a word of a series
	doBucket   = "bucket"   // add n to an exponential bucket
	doExemplar = "exemplar" // write an exemplar to slot word
	doAdvance  = "advance"  // take the snapshots of epoch n, of a summary with quantiles
	doDelete   = "delete"   // all series whose label texts begin with labels
	doReclaim  = "reclaim"  // the space of deleted series
	doDie      = "die"
)

// step is what a process does, acknowledges, and can be repeated by another one.
type step struct {
	do      string
	family  *backend.Family
	labels  string
	word    int
	n       uint64
	options shm.Options
	alone   bool // no other instance is open
	life    int  // how often series were deleted before, in this history
}

// start is when a series begins that a step makes.
func (p *step) start() uint64 { return 1000 + uint64(p.life) }

func (p *step) String() string {
	if p.family == nil {
		return p.do
	}
	return fmt.Sprintf("%s %s{%.40s} word %d", p.do, p.family.Name, p.labels, p.word)
}

// history is what a process does while it is killed or stopped.
type history struct {
	name  string
	setup []step              // what processes have done before
	spoil func([]byte) []byte // changes the file afterwards
	lost  bool                // spoil makes it unusable
	steps []step
	// what another process does while this one is stopped
	race  []step
	alone bool // no other process has the file open
	group bool // the file is shared with a group
	// records share the buckets of the index, in a file that was made before
	crowded bool
}

func helpOf(name string) string { return "Help of " + name + "." }

func define(f backend.Family, labels ...string) *backend.Family {
	f.Help, f.Labels = helpOf(f.Name), labels
	return &f
}

var (
	total   = define(backend.Family{Name: "requests_total", Kind: backend.Counter}, "x")
	alone   = define(backend.Family{Name: "alone_total", Kind: backend.Counter})
	later   = define(backend.Family{Name: "later_total", Kind: backend.Counter}, "x")
	striped = define(backend.Family{Name: "striped_total", Kind: backend.Counter, Stripes: 3}, "x")
	latency = define(backend.Family{Name: "latency", Kind: backend.Histogram, Buckets: []float64{1, 2}}, "x")
	native  = define(backend.Family{Name: "native", Kind: backend.Histogram, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}, "x")
	sketch  = define(backend.Family{Name: "sketch", Kind: backend.Summary, Sketch: &backend.Sketch{Quantiles: []float64{0.5}, PerDoubling: 20, Slots: 3, MaxAge: 60e9}}, "x")
	level   = define(backend.Family{Name: "level", Kind: backend.Gauge}, "x")
	busy    = define(backend.Family{Name: "busy", Kind: backend.Gauge, Mode: backend.Sum}, "x")
	each    = define(backend.Family{Name: "each_total", Kind: backend.Counter, Mode: backend.PerInstance}, "x")
	wordier = func() *backend.Family { f := *total; f.Help = "A longer help."; return &f }()
	renamed = define(backend.Family{Name: "requests_total", Kind: backend.Counter}, "x", "y")
)

func open(o shm.Options) step { return step{do: doOpen, options: o} }

func closing() step { return step{do: doClose} }

func declare(f *backend.Family) step { return step{do: doDeclare, family: f} }

// x returns a label text, or a prefix of some if it is not complete.
func x(value string) string { return `x="` + value + `"` }

func count(f *backend.Family, labels string, word int) step {
	return step{do: doCount, family: f, labels: labels, word: word, n: 3}
}

// many is count with a number that nobody else counts.
func many(f *backend.Family, labels string) step {
	return step{do: doCount, family: f, labels: labels, n: 1000}
}

func bucket(f *backend.Family, labels string, index int) step {
	return step{do: doBucket, family: f, labels: labels, word: index, n: 2}
}

func exemplar(f *backend.Family, labels string, slot int, n uint64) step {
	return step{do: doExemplar, family: f, labels: labels, word: slot, n: n}
}

func reclaim() step { return step{do: doReclaim} }

func advance(f *backend.Family, labels string, epoch uint64) step {
	return step{do: doAdvance, family: f, labels: labels, n: epoch}
}

func remove(f *backend.Family, prefix string) step {
	return step{do: doDelete, family: f, labels: prefix}
}

func each20(f func(i int) []step) (list []step) {
	for i := range 20 {
		list = append(list, f(i)...)
	}
	return list
}

// crowd makes the index of an empty file so small that records share their buckets: FORMAT.md says
// that the beginning of the header is the same in all versions. What follows the index is empty,
// and the space for records begins later than it might.
func crowd(file []byte) {
	const buckets, sum = 56, 64
	binary.NativeEndian.PutUint32(file[buckets:], 2)
	fixed := slices.Clone(file[:sum])
	clear(fixed[:8])
	checksum := sha256.Sum256(fixed)
	copy(file[sum:sum+8], checksum[:])
}

// histories returns all histories. They use what the package offers to other programs, so that they
// do not depend on the format of the file.
func histories() []history {
	values := []step{
		open(shm.Options{}), count(total, x("a"), 0), count(total, x("ab"), 0), count(total, x("b"), 1), count(latency, x("a"), 0), count(latency, x("a"), 2),
		count(striped, x("a"), 8), count(level, x("a"), 0), count(alone, "", 0), exemplar(total, x("a"), 0, 4), bucket(native, x("a"), 5), closing(),
	}
	full := []step{open(shm.Options{})}
	for i := range backend.FirstBlock - 1 {
		full = append(full, bucket(native, x("a"), i+1), bucket(sketch, x("a"), i+1))
	}
	full = append(full, closing())
	waste := []step{open(shm.Options{}), count(total, x("a"), 0), count(later, x("a"), 0)}
	for i := range 12 {
		waste = append(waste, count(later, x(strings.Repeat(fmt.Sprint(i%10), 60000)+fmt.Sprint(i)), 0))
	}
	waste = append(waste, remove(later, `x="0`), remove(later, `x="1`), remove(later, `x="5`), remove(later, `x="9`), closing())

	// Deletes many series of several shapes, reclaims their space, and uses it for others.
	turnover := func(round int) (list []step) {
		value := func(i int) string { return x(fmt.Sprint(round, "-", i)) }
		for i := range 4 {
			list = append(list, count(total, value(i), 0), count(busy, value(i), 0))
		}
		return append(list, bucket(native, value(0), 3), exemplar(total, value(1), 0, uint64(round)+5), remove(total, x(fmt.Sprint(round, "-"))[:4]), remove(busy, ""), remove(native, ""), reclaim())
	}
	var deleted, turns []step
	for i := range 3 {
		deleted = append(deleted, turnover(i)...)
		turns = append(turns, turnover(3+i)...)
	}
	deleted = append(append([]step{open(shm.Options{}), count(total, x("kept"), 0)}, deleted...), count(total, x("9-1"), 0), remove(total, x("9")), closing())
	turns = append(append([]step{open(shm.Options{})}, turns...), reclaim(), closing())

	list := []history{
		{name: "reclaiming alone", alone: true, setup: deleted, steps: turns, race: []step{reclaim(), count(total, x("a"), 0), remove(total, x("a")), reclaim(), count(total, x("b"), 0), reclaim()}},
		// Others delete and reclaim what a process is about to make its part of.
		{name: "reclaiming parts", crowded: true, setup: deleted, steps: []step{
			open(shm.Options{}), count(busy, x("p"), 0), count(each, x("p"), 0), reclaim(), count(busy, x("q"), 0), reclaim(), count(busy, x("p"), 0), reclaim(), reclaim(), count(each, x("q"), 0),
		}, race: []step{count(busy, x("p"), 0), count(each, x("q"), 0), remove(busy, ""), remove(each, ""), reclaim(), reclaim(), count(busy, x("q"), 0), reclaim(), reclaim()}},
		{name: "reclaiming", crowded: true, setup: deleted, steps: turns, race: []step{
			reclaim(), count(total, x("a"), 0), count(busy, x("a"), 0), remove(total, x("a")), reclaim(), count(total, x("b"), 0), reclaim(), count(striped, x("a"), 8), reclaim(),
		}},
		{name: "creation", steps: []step{
			open(shm.Options{}), declare(total), declare(wordier), count(total, x("a"), 0), count(total, x("b"), 1), count(latency, x("a"), 0), count(latency, x("a"), 3),
			count(level, x("a"), 0), count(busy, x("a"), 0), count(each, x("a"), 0), declare(renamed), count(renamed, `x="a",y="b"`, 0), count(alone, "", 0), closing(),
		}, race: []step{count(total, x("c"), 0), count(latency, x("c"), 1), count(busy, x("a"), 0), count(renamed, `x="a",y="c"`, 0)}},
		// Another process creates the same, at every point of the creation.
		{name: "racing creators", crowded: true, steps: []step{
			open(shm.Options{}), count(total, x("a"), 0), count(striped, x("a"), 0), count(busy, x("a"), 0), bucket(native, x("a"), 7), exemplar(total, x("a"), 0, 3),
		}, race: []step{count(total, x("a"), 0), count(striped, x("a"), 0), count(busy, x("a"), 0), bucket(native, x("a"), 7)}},
		{name: "first file", alone: true, steps: []step{open(shm.Options{}), count(total, x("a"), 0), closing()}, race: []step{count(total, x("a"), 0)}},
		{name: "deletion", setup: values, steps: []step{
			open(shm.Options{}), remove(total, `x="a`), remove(latency, ""), remove(striped, x("a")), remove(level, ""), closing(),
		}, race: []step{count(total, x("a"), 0), count(total, x("c"), 0), count(latency, x("a"), 2)}},
		{name: "deletion and return", crowded: true, setup: values, steps: []step{
			open(shm.Options{}), count(total, x("a"), 0), remove(total, x("a")), count(total, x("a"), 0), count(latency, x("a"), 1), remove(latency, ""), count(latency, x("a"), 2),
			count(busy, x("a"), 0), remove(busy, ""), count(busy, x("a"), 0), remove(striped, ""), count(striped, x("a"), 16), closing(),
		}, race: []step{count(total, x("a"), 0), count(latency, x("a"), 3), count(busy, x("a"), 0)}},
		// As a time to live does it: auxiliary families first, and label sets that were
		// seen before.
		{name: "expiry", setup: append(append([]step(nil), full...), open(shm.Options{}), bucket(native, x("a"), 40), exemplar(native, x("a"), 1, 9), closing()), steps: []step{
			open(shm.Options{}), remove(native, x("a")), remove(sketch, x("a")), bucket(native, x("a"), 3), closing(),
		}, race: []step{bucket(native, x("a"), 2), count(total, x("c"), 0)}},
		{name: "churn", crowded: true, steps: append([]step{open(shm.Options{})}, each20(func(i int) []step {
			return []step{count(total, x(fmt.Sprint(i)), 0), remove(total, x(fmt.Sprint(i)))}
		})...), race: []step{count(total, x("c"), 0), count(later, x("c"), 0)}},
		{name: "exponential blocks", crowded: true, setup: full, steps: []step{
			open(shm.Options{}), bucket(native, x("a"), 32), bucket(native, x("a"), 33), bucket(native, x("a"), 33), bucket(native, x("b"), 1), bucket(sketch, x("a"), 50), bucket(sketch, x("a"), 51), closing(),
		}, race: []step{bucket(native, x("a"), 33), bucket(native, x("b"), 1), bucket(sketch, x("a"), 51)}},
		{name: "windows", setup: full, steps: []step{
			open(shm.Options{}), advance(sketch, x("a"), 7), bucket(sketch, x("a"), 5), advance(sketch, x("a"), 8), bucket(sketch, x("a"), 50), advance(sketch, x("a"), 12), closing(),
		}, race: []step{advance(sketch, x("a"), 7), bucket(sketch, x("a"), 5), advance(sketch, x("a"), 8), bucket(sketch, x("b"), 5)}},
		{name: "exemplars", setup: values, steps: []step{
			open(shm.Options{}), exemplar(total, x("a"), 0, 5), exemplar(total, x("a"), 0, 6), exemplar(latency, x("a"), 2, 7), closing(),
		}, race: []step{count(total, x("a"), 0)}},
		{name: "stripes", crowded: true, steps: []step{
			open(shm.Options{}), count(striped, x("a"), 0), count(striped, x("a"), 8), count(striped, x("a"), 17), remove(striped, ""), count(striped, x("a"), 8), closing(),
		}, race: []step{count(striped, x("a"), 8), count(striped, x("b"), 16)}},
		{name: "joining and leaving", setup: values, steps: []step{
			open(shm.Options{}), count(busy, x("a"), 0), closing(), open(shm.Options{}), count(each, x("a"), 0), closing(),
		}, race: []step{count(busy, x("a"), 0), count(each, x("a"), 0), count(total, x("a"), 0)}},
		{name: "slot of a dead process", crowded: true, setup: []step{
			open(shm.Options{}), many(busy, x("a")), open(shm.Options{}), many(busy, x("a")), many(each, x("a")), {do: doDie},
		}, steps: []step{open(shm.Options{}), count(busy, x("a"), 0), count(each, x("a"), 0), closing()}, race: []step{count(busy, x("a"), 0)}},
		{name: "start=fresh", alone: true, setup: values, steps: []step{open(shm.Options{Fresh: true}), count(total, x("a"), 0), closing()}, race: []step{count(total, x("a"), 0)}},
		{name: "rewriting with another limit", alone: true, setup: values, steps: []step{open(shm.Options{Limit: 6 << 20}), count(total, x("a"), 0), closing()}, race: []step{count(total, x("a"), 0)}},
		{name: "rewriting without waste", alone: true, setup: waste, steps: []step{open(shm.Options{}), count(total, x("a"), 0), closing()}, race: []step{count(total, x("a"), 0)}},
		{name: "damaged file", alone: true, setup: values, spoil: func(b []byte) []byte { b[33] ^= 1; return b }, lost: true, steps: []step{
			open(shm.Options{}), count(total, x("a"), 0), closing(),
		}, race: []step{count(total, x("a"), 0)}},
		{name: "empty file", alone: true, setup: values, spoil: func([]byte) []byte { return nil }, lost: true, steps: []step{open(shm.Options{}), count(total, x("a"), 0), closing()}, race: []step{count(total, x("a"), 0)}},
		// The boot id is that of another boot, so the whole file is checked.
		{name: "restart of the machine", alone: true, setup: values, spoil: func(b []byte) []byte { b[80] ^= 1; return b }, steps: []step{
			open(shm.Options{}), count(total, x("a"), 0), closing(),
		}, race: []step{count(total, x("a"), 0)}},
		{name: "group", alone: true, group: true, steps: []step{
			open(shm.Options{Group: true}), count(total, x("a"), 0), closing(), open(shm.Options{Group: true, Fresh: true}), count(total, x("b"), 0), closing(),
		}, race: []step{count(total, x("c"), 0)}},
		{name: "growth", steps: append([]step{open(shm.Options{})}, each20(func(i int) []step {
			return []step{count(total, x(strings.Repeat("v", 9000)+fmt.Sprint(i)), 0)}
		})...), race: []step{count(total, x(strings.Repeat("v", 9000)+"7"), 0), count(total, x(strings.Repeat("w", 9000)), 0)}},
	}
	for i := range list {
		h := &list[i]
		for j := range h.steps {
			h.steps[j].alone = h.alone
		}
		life := 0
		for _, steps := range [][]step{h.setup, h.steps} {
			for j := range steps {
				if steps[j].do == doDelete {
					life++
				}
				steps[j].life = life
			}
		}
		for j := range h.race {
			h.race[j].life = life
		}
	}
	return list
}
