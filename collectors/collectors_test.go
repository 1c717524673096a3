package collectors

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

var began = time.Now()

// values returns the samples of a registry's page by name and labels, and the types of its
// families.
func values(t *testing.T, r *gotheus.Registry) (v map[string]float64, types map[string]string) {
	t.Helper()
	v, types = make(map[string]float64), make(map[string]string)
	for f, err := range r.Families(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		types[f.Name] = f.Type.String()
		for s := range f.Samples() {
			key := s.Name
			for _, l := range s.Labels {
				key += "," + l.Name + "=" + l.Value
			}
			v[key] = s.Value
		}
	}
	return v, types
}

func registry(t *testing.T, c ...gotheus.Collector) *gotheus.Registry {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { r.Close(context.Background()) })
	for _, c := range c {
		r.Register(c)
	}
	return r
}

// The default families are those that dashboards for Go programs expect, with these types.
func TestGoDefault(t *testing.T) {
	runtime.GC()
	v, types := values(t, registry(t, new(Go)))
	want := map[string]string{
		"go_goroutines": "gauge", "go_threads": "gauge", "go_info": "info", "go_gc_duration_seconds": "summary",
		"go_gc_gogc_percent": "gauge", "go_gc_gomemlimit_bytes": "gauge", "go_sched_gomaxprocs_threads": "gauge",
		"go_memstats_last_gc_time_seconds": "gauge", allocTotal: "untyped", "gotheus_collector_errors_total": "counter",
	}
	for _, m := range memstats {
		want[memstatsPrefix+m.name] = map[bool]string{true: "counter", false: "gauge"}[m.counter]
	}
	for name, typ := range want {
		if types[name] != typ {
			t.Errorf("%s is %q, want %q", name, types[name], typ)
		}
	}
	for name := range types {
		if want[name] == "" {
			t.Errorf("%s is not expected", name)
		}
	}
	if v["gotheus_collector_errors_total"] != 0 {
		t.Error("there were errors")
	}
	if v["go_info,version="+runtime.Version()] != 1 || v["go_sched_gomaxprocs_threads"] != float64(runtime.GOMAXPROCS(0)) {
		t.Errorf("got %v", v)
	}
	if n := v["go_goroutines"]; n < 1 || n > float64(runtime.NumGoroutine()+10) {
		t.Errorf("%v goroutines", n)
	}
	if v["go_gc_duration_seconds_count"] < 1 || v["go_gc_duration_seconds,quantile=1"] < v["go_gc_duration_seconds,quantile=0"] {
		t.Errorf("pauses: %v", v)
	}
}

// Values on the page lie between those of the runtime before and afterwards.
func TestGoValues(t *testing.T) {
	r := registry(t, &Go{Choose: func(string, bool) bool { return true }})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	all := metrics.All()
	samples := func() (list []metrics.Sample) {
		for _, d := range all {
			list = append(list, metrics.Sample{Name: d.Name})
		}
		metrics.Read(list)
		return list
	}
	first := samples()
	v, types := values(t, r)
	last := samples()
	runtime.ReadMemStats(&after)
	between := func(name string, low, high float64) {
		t.Helper()
		if got, ok := v[name]; !ok || got < low || got > high {
			t.Errorf("%s is %v, want it from %v to %v", name, got, low, high)
		}
	}
	between("go_memstats_alloc_bytes_total", float64(before.TotalAlloc), float64(after.TotalAlloc))
	between("go_memstats_mallocs_total", float64(before.Mallocs), float64(after.Mallocs))
	between("go_memstats_frees_total", float64(before.Frees), float64(after.Frees))
	between("go_memstats_sys_bytes", float64(before.Sys), float64(after.Sys))
	between("go_gc_duration_seconds_count", float64(before.NumGC), float64(after.NumGC))
	sys := v["go_memstats_heap_sys_bytes"]
	if sys != v["go_memstats_heap_idle_bytes"]+v["go_memstats_heap_inuse_bytes"] {
		t.Errorf("the heap's %v bytes are not its idle and used ones", sys)
	}
	shown := 0
	for i, d := range all {
		name, ok := runtimeName(&d)
		if !ok {
			continue
		}
		shown++
		low, high := first[i].Value, last[i].Value
		switch {
		case d.Kind == metrics.KindFloat64Histogram:
			if types[name] != "histogram" {
				t.Errorf("%s is %q", name, types[name])
			}
			between(name+"_count", count(low), count(high))
		case d.Cumulative && types[name] != "counter", !d.Cumulative && types[name] != "gauge":
			t.Errorf("%s is %q", name, types[name])
		case d.Cumulative:
			between(name, number(low), number(high))
		}
	}
	if shown < 60 {
		t.Errorf("only %d metrics of the runtime", shown)
	}
	if v["gotheus_collector_errors_total"] != 0 {
		t.Error("there were errors")
	}
	if v["go_gc_heap_allocs_by_size_bytes_sum"] > v["go_gc_heap_allocs_bytes_total"] {
		t.Error("the exact sum is not used")
	}
}

func count(v metrics.Value) (n float64) {
	for _, c := range v.Float64Histogram().Counts {
		n += float64(c)
	}
	return n
}

func TestChoose(t *testing.T) {
	t.Parallel()
	g := &Go{Choose: func(name string, byDefault bool) bool {
		return byDefault && !strings.HasPrefix(name, "go_memstats_") && name != "go_info" || name == "go_sched_latencies_seconds"
	}}
	_, types := values(t, registry(t, g))
	for name, want := range map[string]bool{
		"go_goroutines": true, "go_sched_latencies_seconds": true, "go_memstats_alloc_bytes": false, "go_info": false,
		"go_gc_pauses_seconds": false,
	} {
		if _, ok := types[name]; ok != want {
			t.Errorf("%s: %t, want %t", name, ok, want)
		}
	}
}

func TestRuntimeNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]metrics.Description{
		"go_gc_cycles_automatic_gc_cycles_total":          {Name: "/gc/cycles/automatic:gc-cycles", Kind: metrics.KindUint64, Cumulative: true},
		"go_gc_heap_allocs_by_size_bytes":                 {Name: "/gc/heap/allocs-by-size:bytes", Kind: metrics.KindFloat64Histogram, Cumulative: true},
		"go_cpu_classes_gc_mark_assist_cpu_seconds_total": {Name: "/cpu/classes/gc/mark/assist:cpu-seconds", Kind: metrics.KindFloat64, Cumulative: true},
		"go_sched_goroutines_goroutines":                  {Name: "/sched/goroutines:goroutines", Kind: metrics.KindUint64},
	} {
		if got, ok := runtimeName(&want); !ok || got != name {
			t.Errorf("%s becomes %s", want.Name, got)
		}
	}
}

func TestReduce(t *testing.T) {
	t.Parallel()
	inf := math.Inf(1)
	h := &metrics.Float64Histogram{Buckets: []float64{-inf, 0, 1e-3, 2e-3, 2e-2, .5, 1, 5, inf}, Counts: []uint64{1, 2, 4, 8, 16, 32, 64, 128}}
	bounds := coarse(h.Buckets, "/x:seconds")
	n, sum, cumulative := reduce(h, bounds)
	if want := []float64{0, 1e-3, 2e-2, .5}; !equal(bounds, want) {
		t.Errorf("bounds %v, want %v", bounds, want)
	}
	if want := []uint64{1, 3, 15, 31}; !equal(cumulative, want) || n != 255 {
		t.Errorf("%d, %v, want %v", n, cumulative, want)
	}
	if want := 2*.0005 + 4*.0015 + 8*.011 + 16*.26 + 32*.75 + 64*3 + 128*5; math.Abs(sum-want) > 1e-9 {
		t.Errorf("sum %v, want %v", sum, want)
	}
	if got := coarse([]float64{1, 2, 3, 4, 8, inf}, "/x:bytes"); !equal(got, []float64{2, 4, 8}) {
		t.Errorf("got %v", got)
	}
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// The page agrees with other files in /proc.
func TestProcess(t *testing.T) {
	r := registry(t, new(Process))
	if runtime.GOOS != "linux" {
		if v, _ := values(t, r); len(v) != 1 {
			t.Errorf("got %v", v)
		}
		return
	}
	var held []*os.File
	defer func() {
		for _, f := range held {
			f.Close()
		}
	}()
	v, _ := values(t, r)
	for range 7 {
		f, err := os.Open("/proc/self/stat")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
	}
	again, _ := values(t, r)
	if d := again["process_open_fds"] - v["process_open_fds"]; d != 7 {
		t.Errorf("7 files were opened, it shows %v", d)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || again["process_open_fds"] != float64(len(entries)-1) {
		t.Errorf("%v file descriptors, ReadDir sees %d with its own", again["process_open_fds"], len(entries))
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for field, name := range map[string]string{"VmSize:": "process_virtual_memory_bytes", "VmRSS:": "process_resident_memory_bytes"} {
		_, rest, _ := strings.Cut(string(status), field)
		kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		got, _ := values(t, r)
		if err != nil || math.Abs(got[name]-kb*1024) > .2*kb*1024 {
			t.Errorf("%s is %v, /proc/self/status says %v kB", name, got[name], kb)
		}
	}
	if s := v["process_start_time_seconds"]; s > float64(began.Unix())+2 || s < float64(began.Unix())-60 {
		t.Errorf("started at %v, package variables were set at %v", s, began.Unix())
	}
	if v["process_cpu_seconds_total"] < 0 || again["process_cpu_seconds_total"] < v["process_cpu_seconds_total"] {
		t.Errorf("CPU time went from %v to %v", v["process_cpu_seconds_total"], again["process_cpu_seconds_total"])
	}
	if v["process_max_fds"] <= 0 || v["process_virtual_memory_max_bytes"] <= 0 {
		t.Errorf("limits: %v", v)
	}
	if v["gotheus_collector_errors_total"] != 0 {
		t.Error("there were errors")
	}
}

// Values from files with known content.
func TestProcessFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := registry(t, &Process{root: root})
	if v, _ := values(t, r); len(v) != 1 {
		t.Errorf("without files: %v", v)
	}
	write("stat", "cpu 1 2\nbtime 1000\n")
	write("self/stat", "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 1234 8192 3 21\n")
	write("self/limits", "Limit  Soft  Hard  Units\nMax open files            64   128   files\nMax address space         unlimited            unlimited            bytes\n")
	write("self/fd/0", "")
	write("self/fd/1", "")
	v, _ := values(t, r)
	for name, want := range map[string]float64{
		"process_cpu_seconds_total": 3, "process_start_time_seconds": 1012.34, "process_virtual_memory_bytes": 8192,
		"process_resident_memory_bytes": 3 * float64(os.Getpagesize()), "process_open_fds": 1, "process_max_fds": 64,
		"process_virtual_memory_max_bytes": math.Inf(1), "gotheus_collector_errors_total": 0,
	} {
		if v[name] != want {
			t.Errorf("%s is %v, want %v", name, v[name], want)
		}
	}
	write("self/stat", "42 (a) S 1")
	if v, _ := values(t, r); v["gotheus_collector_errors_total"] != 1 || len(v) != 1 {
		t.Errorf("with a damaged file: %v", v)
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 1234 8192 3 21\n"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := parseStat(text)
		if err == nil && (st.cpu < 0 || st.start < 0 || st.virtual < 0 || st.resident < 0) {
			t.Errorf("%q gives %+v", text, st)
		}
		softLimit(text, "Max")
	})
}

func TestDB(t *testing.T) {
	t.Parallel()
	db := sql.OpenDB(fakeConnector{})
	defer db.Close()
	db.SetMaxOpenConns(7)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := sql.OpenDB(fakeConnector{})
	defer other.Close()
	r := registry(t, &DB{DB: db, Name: "orders"}, &DB{DB: other, Name: "users"})
	v, types := values(t, r)
	st := db.Stats()
	for name, want := range map[string]float64{
		"max_open_connections": 7, "open_connections": 1, "in_use_connections": 1, "idle_connections": 0,
		"wait_count_total": float64(st.WaitCount), "wait_duration_seconds_total": st.WaitDuration.Seconds(),
		"max_idle_closed_total": 0, "max_idle_time_closed_total": 0, "max_lifetime_closed_total": 0,
	} {
		name = "go_sql_" + name
		if got, ok := v[name+",db_name=orders"]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
		if _, ok := v[name+",db_name=users"]; !ok {
			t.Errorf("%s of the other one is missing", name)
		}
		if typ := map[bool]string{true: "counter", false: "gauge"}[strings.HasSuffix(name, "_total")]; types[name] != typ {
			t.Errorf("%s is a %s", name, types[name])
		}
	}
	conn.Close()
	if v, _ := values(t, r); v["go_sql_idle_connections,db_name=orders"] != 1 || v["go_sql_in_use_connections,db_name=orders"] != 0 {
		t.Errorf("after the connection was given back: %v", v)
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	r := registry(t)
	remove := Register(r)
	v, _ := values(t, r)
	found := 0
	for name, value := range v {
		if strings.HasPrefix(name, "go_build_info,") && value == 1 {
			found++
		}
	}
	if found != 1 || v["go_goroutines"] < 1 {
		t.Errorf("got %v", v)
	}
	remove()
	if v, _ := values(t, r); len(v) != 1 {
		t.Errorf("after remove: %v", v)
	}
}

// A pool that is missing is an error that says so, not a panic.
func TestNoDB(t *testing.T) {
	t.Parallel()
	err := (&DB{Name: "orders"}).Collect(t.Context(), nil)
	if !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), `"orders": DB is nil`) {
		t.Errorf("got %v", err)
	}
}
