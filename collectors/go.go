package collectors

import (
	"context"
	"math"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
)

// Go collects go_*, metrics of the Go runtime. By default these are go_goroutines, go_threads,
// go_info, go_gc_duration_seconds, go_memstats_*, go_gc_gogc_percent, go_gc_gomemlimit_bytes and
// go_sched_gomaxprocs_threads. All other metrics of package runtime/metrics can be chosen, under
// names derived from the runtime's: /sched/latencies:seconds is go_sched_latencies_seconds, and
// cumulative ones end in _total. Reading them does not stop the program.
// go_memstats_alloc_bytes_total is untyped, since OpenMetrics does not allow it next to
// go_memstats_alloc_bytes.
//
// Histograms have fewer buckets than the runtime's: powers of 2 for bytes, powers of 10 up to a
// second for seconds. If the runtime does not provide their sum, it is estimated from the midpoints
// of the runtime's buckets.
type Go struct {
	perProcess

	// Choose selects families by name, like go_sched_latencies_seconds. byDefault says whether
	// a family is one of the default ones. Nil selects the default ones. It must not be changed
	// after the first scrape.
	Choose func(name string, byDefault bool) bool

	once    sync.Once
	samples []metrics.Sample // to be read
	at      map[string]int   // index in samples, by the runtime's names
	further []further
	mu      sync.Mutex // guards samples and the memory of their histograms
}

// further is a metric of runtime/metrics whose name here is derived from the runtime's.
type further struct {
	metrics.Description
	name string
}

// memstat is a family go_memstats_*, which is a sum of values of runtime/metrics.
type memstat struct {
	name, help string
	counter    bool
	of         []string
}

const (
	allocObjects   = "/gc/heap/allocs:objects"
	freeObjects    = "/gc/heap/frees:objects"
	tinyObjects    = "/gc/heap/tiny/allocs:objects"
	heapObjects    = "/memory/classes/heap/objects:bytes"
	heapUnused     = "/memory/classes/heap/unused:bytes"
	heapFree       = "/memory/classes/heap/free:bytes"
	heapReleased   = "/memory/classes/heap/released:bytes"
	heapStacks     = "/memory/classes/heap/stacks:bytes"
	osStacks       = "/memory/classes/os-stacks:bytes"
	mspanInUse     = "/memory/classes/metadata/mspan/inuse:bytes"
	mspanFree      = "/memory/classes/metadata/mspan/free:bytes"
	mcacheInUse    = "/memory/classes/metadata/mcache/inuse:bytes"
	mcacheFree     = "/memory/classes/metadata/mcache/free:bytes"
	allocBytes     = "/gc/heap/allocs:bytes"
	freeBytes      = "/gc/heap/frees:bytes"
	allocsBySize   = "/gc/heap/allocs-by-size:bytes"
	freesBySize    = "/gc/heap/frees-by-size:bytes"
	memstatsPrefix = "go_memstats_"

	// allocTotal is a counter, but OpenMetrics would take it and the gauge
	// go_memstats_alloc_bytes for one family, which strict parsers reject. Dashboards need both
	// names, but not the types.
	allocTotal = "go_memstats_alloc_bytes_total"
)

var memstats = []memstat{
	{"alloc_bytes", "Bytes in objects on the heap, including those not yet freed.", false, []string{heapObjects}},
	{"sys_bytes", "Bytes obtained from the system.", false, []string{"/memory/classes/total:bytes"}},
	{"mallocs_total", "Objects ever allocated on the heap.", true, []string{allocObjects, tinyObjects}},
	{"frees_total", "Objects ever freed.", true, []string{freeObjects, tinyObjects}},
	{"heap_alloc_bytes", "The same as go_memstats_alloc_bytes.", false, []string{heapObjects}},
	{"heap_sys_bytes", "Bytes of the heap obtained from the system.", false, []string{heapObjects, heapUnused, heapReleased, heapFree}},
	{"heap_idle_bytes", "Bytes of the heap in unused spans.", false, []string{heapReleased, heapFree}},
	{"heap_inuse_bytes", "Bytes of the heap in used spans.", false, []string{heapObjects, heapUnused}},
	{"heap_released_bytes", "Bytes of the heap given back to the system.", false, []string{heapReleased}},
	{"heap_objects", "Objects on the heap.", false, []string{"/gc/heap/objects:objects"}},
	{"stack_inuse_bytes", "Bytes of the heap in use for stacks.", false, []string{heapStacks}},
	{"stack_sys_bytes", "Bytes obtained from the system for stacks.", false, []string{heapStacks, osStacks}},
	{"mspan_inuse_bytes", "Bytes in use for mspan structures.", false, []string{mspanInUse}},
	{"mspan_sys_bytes", "Bytes obtained from the system for mspan structures.", false, []string{mspanInUse, mspanFree}},
	{"mcache_inuse_bytes", "Bytes in use for mcache structures.", false, []string{mcacheInUse}},
	{"mcache_sys_bytes", "Bytes obtained from the system for mcache structures.", false, []string{mcacheInUse, mcacheFree}},
	{"buck_hash_sys_bytes", "Bytes in use for the hash table of profiling.", false, []string{"/memory/classes/profiling/buckets:bytes"}},
	{"gc_sys_bytes", "Bytes in use for the garbage collector's data.", false, []string{"/memory/classes/metadata/other:bytes"}},
	{"other_sys_bytes", "Bytes in use for the rest of the runtime.", false, []string{"/memory/classes/other:bytes"}},
	{"next_gc_bytes", "Size of the heap at which the next collection is to end.", false, []string{"/gc/heap/goal:bytes"}},
}

// furtherByDefault are the other metrics of runtime/metrics that are shown by default.
var furtherByDefault = map[string]bool{
	"/gc/gogc:percent":          true,
	"/gc/gomemlimit:bytes":      true,
	"/sched/gomaxprocs:threads": true,
}

// exactSums are the metrics with the sums of histograms, where the runtime provides them.
var exactSums = map[string]string{allocsBySize: allocBytes, freesBySize: freeBytes}

func (g *Go) chooses(name string, byDefault bool) bool {
	if g.Choose != nil {
		return g.Choose(name, byDefault)
	}
	return byDefault
}

// prepare determines what to read. Names that this runtime does not have are skipped.
func (g *Go) prepare() {
	known := make(map[string]bool)
	g.at = make(map[string]int)
	read := func(name string) {
		if _, ok := g.at[name]; !ok && known[name] {
			g.at[name] = len(g.samples)
			g.samples = append(g.samples, metrics.Sample{Name: name})
		}
	}
	all := metrics.All()
	for _, d := range all {
		known[d.Name] = true
	}
	for _, m := range memstats {
		if g.chooses(memstatsPrefix+m.name, true) {
			for _, name := range m.of {
				read(name)
			}
		}
	}
	if g.chooses(allocTotal, true) {
		read(allocBytes)
	}
	for _, d := range all {
		name, ok := runtimeName(&d)
		if !ok || !g.chooses(name, furtherByDefault[d.Name]) {
			continue
		}
		g.further = append(g.further, further{d, name})
		read(d.Name)
		read(exactSums[d.Name])
	}
}

// runtimeName derives a family's name from that of a runtime metric.
func runtimeName(d *metrics.Description) (string, bool) {
	key, unit, _ := strings.Cut(d.Name, ":")
	name := "go" + path.Dir(key) + "/" + path.Base(key) + "_" + strings.ReplaceAll(unit, "/", "_per_")
	name = strings.NewReplacer("/", "_", "-", "_", "*", "_", ".", "_").Replace(name)
	switch d.Kind {
	case metrics.KindUint64, metrics.KindFloat64:
		if d.Cumulative {
			name += "_total"
		}
	case metrics.KindFloat64Histogram:
	default:
		return "", false
	}
	return name, backend.ValidName(name)
}

// Collect implements gotheus.Collector.
func (g *Go) Collect(_ context.Context, s *gotheus.Sink) error {
	g.once.Do(g.prepare)
	if g.chooses("go_info", true) {
		s.Info("go_info", "Version of Go that the program was built with.", "version").Put(runtime.Version())
	}
	if g.chooses("go_goroutines", true) {
		s.Gauge("go_goroutines", "Goroutines.").Put(float64(runtime.NumGoroutine()))
	}
	if g.chooses("go_threads", true) {
		n, _ := runtime.ThreadCreateProfile(nil)
		s.Gauge("go_threads", "Operating system threads that were created.").Put(float64(n))
	}
	g.pauses(s)
	g.mu.Lock()
	defer g.mu.Unlock()
	metrics.Read(g.samples)
	for _, m := range memstats {
		if name := memstatsPrefix + m.name; g.chooses(name, true) {
			if v, ok := g.sum(m.of); ok && m.counter {
				s.Counter(name, m.help).Put(v)
			} else if ok {
				s.Gauge(name, m.help).Put(v)
			}
		}
	}
	if v, ok := g.sum([]string{allocBytes}); ok && g.chooses(allocTotal, true) {
		s.Untyped(allocTotal, "Bytes ever allocated on the heap.").Put(v)
	}
	for _, f := range g.further {
		g.put(s, &f)
	}
	return nil
}

// pauses emits what package runtime/debug knows about garbage collections.
func (g *Go) pauses(s *gotheus.Sink) {
	summary, last := g.chooses("go_gc_duration_seconds", true), g.chooses("go_memstats_last_gc_time_seconds", true)
	if !summary && !last {
		return
	}
	quantiles := []float64{0, .25, .5, .75, 1}
	stats := debug.GCStats{PauseQuantiles: make([]time.Duration, len(quantiles))}
	debug.ReadGCStats(&stats)
	if summary {
		at := make([]float64, len(quantiles))
		for i, d := range stats.PauseQuantiles {
			at[i] = d.Seconds()
		}
		s.Summary("go_gc_duration_seconds", "Pauses of the garbage collector.", quantiles).
			Put(uint64(stats.NumGC), stats.PauseTotal.Seconds(), at)
	}
	if last {
		v := 0.0
		if !stats.LastGC.IsZero() {
			v = float64(stats.LastGC.UnixNano()) / 1e9
		}
		s.Gauge("go_memstats_last_gc_time_seconds", "When the last collection ended, in seconds since 1970; 0: there was none.").Put(v)
	}
}

func (g *Go) sum(names []string) (sum float64, ok bool) {
	for _, name := range names {
		i, found := g.at[name]
		if !found {
			return 0, false
		}
		sum += number(g.samples[i].Value)
	}
	return sum, true
}

func number(v metrics.Value) float64 {
	if v.Kind() == metrics.KindUint64 {
		return float64(v.Uint64())
	}
	return v.Float64()
}

func (g *Go) put(s *gotheus.Sink, f *further) {
	i, ok := g.at[f.Name]
	if !ok {
		return
	}
	v, help := g.samples[i].Value, f.Description.Description
	switch {
	case f.Kind == metrics.KindFloat64Histogram:
		h := v.Float64Histogram()
		bounds := coarse(h.Buckets, f.Name)
		count, sum, cumulative := reduce(h, bounds)
		if exact, ok := g.at[exactSums[f.Name]]; ok {
			sum = number(g.samples[exact].Value)
		}
		s.Histogram(f.name, help, bounds).Put(count, sum, cumulative)
	case f.Cumulative:
		s.Counter(f.name, help).Put(number(v))
	default:
		s.Gauge(f.name, help).Put(number(v))
	}
}

// coarse selects the upper bounds of buckets from a runtime histogram's bounds: each is at least a
// power of the base above the previous one.
func coarse(bounds []float64, name string) (list []float64) {
	base, most := 1.0, math.Inf(1)
	switch {
	case strings.HasSuffix(name, ":bytes"):
		base = 2
	case strings.HasSuffix(name, ":seconds"):
		base, most = 10, 1
	}
	last := math.Inf(-1)
	for _, b := range bounds[1:] { // the first one is below everything
		if b > most || math.IsInf(b, 0) {
			break
		}
		if b >= last*base || last <= 0 {
			list = append(list, b)
			last = b
		}
	}
	return list
}

// reduce returns a runtime histogram's counts at a subset of its bounds.
func reduce(h *metrics.Float64Histogram, bounds []float64) (count uint64, sum float64, cumulative []uint64) {
	for i, n := range h.Counts {
		low, high := h.Buckets[i], h.Buckets[i+1]
		for len(cumulative) < len(bounds) && bounds[len(cumulative)] <= low {
			cumulative = append(cumulative, count)
		}
		count += n
		switch {
		case n == 0:
		case math.IsInf(low, -1):
			sum += float64(n) * high
		case math.IsInf(high, 1):
			sum += float64(n) * low
		default:
			sum += float64(n) * (low + high) / 2
		}
	}
	for len(cumulative) < len(bounds) {
		cumulative = append(cumulative, count)
	}
	return count, sum, cumulative
}
