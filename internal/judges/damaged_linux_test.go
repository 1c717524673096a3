package judges

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/pagetest"
)

var (
	damages  = flag.Int("damages", 400, "how often TestDamagedBetweenPages damages a file")
	damageNo = flag.Int("damage", -1, "the number of the only damage that TestDamagedBetweenPages does")
)

// TestDamagedBetweenPages damages a mapped file after a page was made of it, and makes more pages,
// whose texts may be the former ones or left out. Whatever is in the file, a page must be valid,
// and take no more time and memory than the file is large. If only texts were damaged, a page must
// not have samples that were not there before, and the values of those that are there stay the
// same.
//
// The long campaign:
//
//	go test -run TestDamagedBetweenPages -damages 20000 -timeout 1h -v .
func TestDamagedBetweenPages(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "gotheus-judges")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	from, to := 0, *damages
	if *damageNo >= 0 {
		from, to = *damageNo, *damageNo+1
	}
	rounds := make(map[string]int)
	pages, failed := 0, make(map[string]int)
	for n := from; n < to; n++ {
		d := &damager{TB: t, Rand: rand.New(rand.NewPCG(uint64(n), 7)), path: filepath.Join(dir, "f")}
		d.run()
		rounds[d.kind]++
		pages += d.pages
		if d.problem != "" {
			if failed[d.kind]++; failed[d.kind] <= 3 {
				t.Errorf("-damage %d (%s): %s", n, d.kind, d.problem)
			}
		}
	}
	t.Logf("damaged: %v; %d pages; failed: %v", rounds, pages, failed)
}

// damager is one round.
type damager struct {
	testing.TB
	*rand.Rand
	path    string
	mem     []byte // the file, mapped once more
	kind    string
	pages   int
	logged  atomic.Int64
	problem string // the first one
}

func (d *damager) fail(format string, args ...any) {
	if d.problem == "" {
		d.problem = fmt.Sprintf(format, args...)
	}
}

// Write implements io.Writer for the log.
func (d *damager) Write(line []byte) (int, error) {
	d.logged.Add(1)
	return len(line), nil
}

func (d *damager) run() {
	list, _ := filepath.Glob(d.path + "*")
	for _, name := range list {
		os.Remove(name)
	}
	options := gotheus.RegistryOptions{Logger: slog.New(slog.NewTextHandler(d, nil)), NoSelfMetrics: true}
	reader, writer := gotheus.NewRegistry(&options), gotheus.NewRegistry(&options)
	ctx := context.Background()
	for _, r := range []*gotheus.Registry{reader, writer} {
		if err := r.Bind(ctx, "shm://"+d.path+"?fs=any&limit=1MiB"); err != nil {
			d.Fatal(err)
		}
		defer r.Close(ctx)
	}
	fill(writer, d.IntN(8))
	if d.IntN(2) == 0 {
		fill(reader, 3) // the same, and it has instruments of its own
	}
	before := d.page(reader, expo.Format{})
	if len(before) < 20 {
		d.Fatalf("%d samples", len(before))
	}
	name, _ := filepath.Glob(d.path + "*")
	f, err := os.OpenFile(name[0], os.O_RDWR, 0)
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		d.Fatal(err)
	}
	if d.mem, err = syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
		d.Fatal(err)
	}
	defer syscall.Munmap(d.mem)
	d.logged.Store(0)
	d.damage(f, st.Size())

	formats := pagetest.Formats()
	for i := range 4 {
		format := expo.Format{}
		if i%2 == 1 {
			format = formats[d.IntN(len(formats))]
		}
		after := d.page(reader, format)
		if d.kind == "texts" && format == (expo.Format{}) {
			for key, v := range after {
				if old, ok := before[key]; !ok && !strings.Contains(key, "touched") {
					d.fail("%s was not on the page before", key)
				} else if ok && old != v && d.logged.Load() == 0 {
					d.fail("%s was %v and is %v, and nobody says why", key, old, v)
				}
			}
			if len(after) < len(before) && d.logged.Load() == 0 {
				d.fail("%d of %d samples are missing, and nobody says so", len(before)-len(after), len(before))
			}
		}
		if i == 1 { // others go on
			writer.NewCounterVec("touched_total", "T.", nil, "x").With("new").Inc()
		}
	}
}

// page makes a page and has the parsers read it.
func (d *damager) page(r *gotheus.Registry, f expo.Format) map[string]float64 {
	var b bytes.Buffer
	var had, has runtime.MemStats
	runtime.ReadMemStats(&had)
	began := time.Now()
	err := r.Write(context.Background(), &b, &gotheus.WriteOptions{Format: f})
	took := time.Since(began)
	runtime.ReadMemStats(&has)
	if err != nil {
		d.logged.Add(1) // whoever asks for the page is told
	}
	if used := has.TotalAlloc - had.TotalAlloc; took > 10*time.Second || used > 64<<20 || b.Len() > 4<<20 {
		d.fail("a page of %d bytes took %v and %d bytes of memory", b.Len(), took, used)
	}
	d.pages++
	body := b.Bytes()
	if f.Syntax == expo.OpenMetrics2 {
		return nil // see strict
	}
	samples, err := readSamples(f.ContentType(), body)
	if err != nil {
		d.fail("%+v: textparse: %v\n%s", f, err, excerpt(body))
	}
	if f == (expo.Format{}) {
		if err := pagetest.CheckText(b.String()); err != nil {
			d.fail("%v", err)
		}
	}
	if f.Syntax != expo.OpenMetrics0 && f.Syntax != expo.OpenMetrics1 {
		if _, err := readFamilies(f, body); err != nil {
			d.fail("%+v: expfmt: %v", f, err)
		}
	}
	return samples
}

// fill makes series of all kinds.
func fill(r *gotheus.Registry, n int) {
	vec := r.NewCounterVec("orders_total", "Orders \\ taken.", nil, "country", "paid_by")
	for i := range 5 + n {
		vec.With(awkward[i], "card").Inc()
	}
	r.NewGaugeVec("level", "Level.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "tank").With("north").Set(4)
	r.NewHistogramVec("request_seconds", "Time.", &gotheus.HistogramOptions{Buckets: []float64{.1, .5}}, "path").With("/a").Observe(.2)
	native := r.NewHistogram("size_bytes", "Size.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 1.1}})
	sums := r.NewSummary("wait_seconds", "Wait.", &gotheus.SummaryOptions{Objectives: []float64{.5, .9}})
	for i := range 50 {
		native.Observe(float64(i * i))
		sums.Observe(float64(i))
	}
	r.NewInfo("shop_info", "Which.", gotheus.Labels{"version": "1.2"})
	r.NewStateSet("state", "State.", []string{"on", "off"}, nil).Set("on")
	r.NewCounter("traced_total", "Traced.", nil).AddExemplar(1, gotheus.Labels{"trace_id": "abc"})
}

// damage changes the file.
func (d *damager) damage(f *os.File, size int64) {
	used := len(d.mem) // end of what is not zero
	for used > 0 && d.mem[used-1] == 0 {
		used--
	}
	// Where something is: what the format of the file is does not matter.
	position := func(from, to int) int {
		at := from + d.IntN(to-from)
		for n := 0; d.mem[at] == 0 && n < to-from; n++ {
			if at++; at == to {
				at = from
			}
		}
		return at
	}
	const header, index = 4096, 4096 + 1<<16
	switch d.IntN(8) {
	case 0, 1, 2:
		d.kind = "texts"
		for range 1 + d.IntN(3) {
			d.damageText(index, used)
		}
	case 3:
		d.kind = "header"
		for range 1 + d.IntN(3) {
			d.mem[position(0, header)] ^= 1 << d.IntN(8)
		}
	case 4:
		d.kind = "index"
		at := position(header, index) &^ 3
		binary.NativeEndian.PutUint32(d.mem[at:], []uint32{uint32(d.IntN(used / 64)), uint32(index/64 + d.IntN((used-index)/64)), ^uint32(0), d.Uint32()}[d.IntN(4)])
	case 5:
		d.kind = "words"
		for range 1 + d.IntN(20) {
			at := position(index, used) &^ 7
			binary.NativeEndian.PutUint64(d.mem[at:], []uint64{0, 1 << 63, ^uint64(0), 1 << 62, d.Uint64(), 0x7ff8_6f74_6865_7573}[d.IntN(6)])
		}
	case 6:
		d.kind = "ranges"
		n := 8 << d.IntN(8)
		a, b := position(index, used-n)&^7, position(index, used-n)&^7
		saved := bytes.Clone(d.mem[a : a+n])
		copy(d.mem[a:a+n], d.mem[b:b+n])
		copy(d.mem[b:b+n], saved)
	case 7:
		d.kind = "bits and size"
		for range 1 + d.IntN(8) {
			d.mem[position(index, used)] ^= 1 << d.IntN(8)
		}
		if err := f.Truncate(size + int64(d.IntN(3))*4096); err != nil {
			d.Fatal(err)
		}
	}
}

// damageText overwrites a part of a text: a name, a help or labels.
func (d *damager) damageText(from, to int) {
	texts := []string{`country="`, `paid_by="card`, `Orders`, `orders_total`, `tank="north`, `path="/a`, `Time.`, `wait_seconds`, `version="1.2`, `trace_id`, `request_seconds`, `state`}
	want := []byte(texts[d.IntN(len(texts))])
	at := bytes.Index(d.mem[from+d.IntN(to-from):to], want)
	if at < 0 {
		if at = bytes.Index(d.mem[from:to], want); at < 0 {
			return // it is damaged already
		}
		at += from
	} else {
		at = bytes.LastIndex(d.mem[from:to], want) + from
	}
	at += d.IntN(len(want))
	evil := []string{"\n", "\"", "\\", "\x00", "\xff", "\"} 1\nevil_total 5\n", "\nevil 5\n", "}", "=", ",", "a", "\r", "# EOF\n"}[d.IntN(13)]
	copy(d.mem[at:], evil[:min(len(evil), 64-at%64)]) // records begin at multiples of 64
}
