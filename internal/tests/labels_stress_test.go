package tests_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus"
)

type stressLabels struct{ Region, Method, Path string }

// Many goroutines look up random label sets in all ways; a map is the model. With a limit, counts
// without a series of their own are in the overflow series, and their look-ups are counted as
// overflowed.
func TestLabelsConcurrently(t *testing.T) {
	t.Parallel()
	for _, most := range []int{-1, 100} {
		t.Run(fmt.Sprint("limit ", most), func(t *testing.T) { testLabelsConcurrently(t, most) })
	}
}

func testLabelsConcurrently(t *testing.T, most int) {
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		o := &gotheus.CounterOptions{
			Defaults:  gotheus.Labels{"region": "EU"},
			Normalize: normalizers{"region": strings.ToLower, "method": gotheus.OneOf("GET", "PUT")},
			MaxSeries: most,
		}
		typed := newOf[stressLabels](t, r, "v_total", o)
		byPath := gotheus.Partial(typed, func(path string) stressLabels { return stressLabels{"us", "GET", path} })
		v := typed.Vec()
		plain := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: most}, "path", "region", "method")
		us := v.Partial(gotheus.Labels{"region": "Us"})
		model := newModel()
		var wait sync.WaitGroup
		for g := range 8 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				rnd := rand.New(rand.NewPCG(2, uint64(g)))
				mine := map[string]int{}
				for range 2000 {
					region, method := []string{"", "eu", "Us", "EU"}[rnd.IntN(4)], []string{"GET", "PUT", "get", "x"}[rnd.IntN(4)]
					path := fmt.Sprint(rnd.IntN(40))
					switch rnd.IntN(8) {
					case 0:
						region = ""
						v.With(method, path).Inc()
					case 1:
						region = "us"
						us.With(method, path).Inc()
					case 2:
						region = "us"
						us.Partial(gotheus.Labels{"path": path}).With(method).Inc()
					case 3:
						region, method = "us", "GET"
						byPath.With(path).Inc()
					case 4:
						region = "x"
						v.WithLabels(gotheus.Labels{"region": "X", "method": method, "path": path}).Inc()
					case 5:
						region = ""
						v.WithLabels(gotheus.Labels{"method": method, "path": path}).Inc()
					case 6:
						region, method = "eu", "other"
						plain.With(path, region, method).Inc()
					default:
						typed.With(stressLabels{region, method, path}).Inc()
					}
					if region = strings.ToLower(region); region == "" {
						region = "eu"
					}
					if method != "GET" && method != "PUT" {
						method = "other"
					}
					mine[fmt.Sprintf(`v_total{method="%s",path="%s",region="%s"}`, method, path, region)]++
					if rnd.IntN(100) == 0 {
						typed.Declare(stressLabels{"eu", "GET", path})
					}
				}
				model.add(mine)
			}()
		}
		wait.Wait()
		model.check(t, r, most)
	})
}

type model struct {
	mu     sync.Mutex
	counts map[string]int
}

func newModel() *model { return &model{counts: map[string]int{}} }

func (m *model) add(counts map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range counts {
		m.counts[k] += n
	}
}

func (m *model) check(t *testing.T, r *gotheus.Registry, most int) {
	t.Helper()
	const overflow = `v_total{method="gotheus_overflow",path="gotheus_overflow",region="gotheus_overflow"}`
	total, missing, over, series := 0, 0, 0, 0
	lines := map[string]int{}
	var page strings.Builder
	if err := r.WriteText(&page); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(page.String()) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, "v_total{") {
			n := 0
			fmt.Sscan(value, &n)
			lines[name] = n
		}
	}
	for name, n := range lines {
		total += n
		if name == overflow {
			over = n
		} else if series++; n > m.counts[name] || most < 0 && n != m.counts[name] {
			t.Errorf("%s is %d, want %d", name, n, m.counts[name])
		}
	}
	want := 0
	for name, n := range m.counts {
		want += n
		missing += n - lines[name]
	}
	if total != want || missing != over {
		t.Errorf("counted %d, want %d; %d overflowed, want %d", total, want, over, missing)
	}
	if most >= 0 && (over == 0 || series > most+40) { // up to 40 may be declared
		t.Errorf("%d series, %d overflowed", series, over)
	}
	if over > 0 {
		pageHas(t, r, fmt.Sprintf(`gotheus_overflowed_lookups_total{metric="v_total"} %d`, over))
	}
}

var poolsDrop bool

// No kind of look-up allocates, including those that overflow.
func TestLookUpAllocations(t *testing.T) {
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		options := func(most int) *gotheus.CounterOptions {
			return &gotheus.CounterOptions{
				Defaults:  gotheus.Labels{"region": "eu"},
				Normalize: normalizers{"method": gotheus.OneOf("GET")},
				MaxSeries: most,
			}
		}
		check := func(what string, v, plain *gotheus.Vec[gotheus.Counter], typed *gotheus.VecOf[stressLabels, gotheus.Counter]) {
			path, i := []byte("/some/path/of/some/length"), byte(0)
			next := func() string { // returns a different string each time
				if what == "overflow" {
					i++
					path[5] = i%64 + '0'
				}
				return ""
			}
			partial := v.Partial(gotheus.Labels{"region": "us"})
			typedPartial := gotheus.Partial(typed, func(l stressLabels) stressLabels { return l })
			labels := gotheus.Labels{"method": "GET", "path": "/"}
			structs := []stressLabels{{"us", "GET", "/"}, {"", "x", "/1"}, {"", "y", "/2"}, {"", "z", "/3"}}
			for name, f := range map[string]func(){
				"plain":         func() { next(); plain.With("eu", "GET", string(path)).Inc() },
				"defaults":      func() { next(); v.With("GET", string(path)).Inc() },
				"partial":       func() { next(); partial.With("GET", string(path)).Inc() },
				"by name":       func() { v.WithLabels(labels).Inc() },
				"typed":         func() { next(); typed.With(structs[i%4]).Inc() },
				"typed literal": func() { typed.With(stressLabels{"eu", "GET", "/"}).Inc() },
				"typed partial": func() { next(); typedPartial.With(structs[i%4]).Inc() },
			} {
				f()
				most := 0.0
				if strings.HasPrefix(name, "typed") {
					most = structsAllocate
				}
				// All but plain look-ups use a pool, which drops some objects at
				// random under the race detector. Without it, none allocates.
				if n := testing.AllocsPerRun(200, f); n > most && !(poolsDrop && (what == "overflow" || name != "plain")) {
					t.Errorf("%s: %s allocates %v times", what, name, n)
				}
			}
		}
		names := []string{"region", "method", "path"}
		typed := newOf[stressLabels](t, r, "v_total", options(-1))
		check("hit", typed.Vec(), r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: -1}, names...), typed)
		full := newOf[stressLabels](t, r, "full_total", options(1))
		full.With(stressLabels{"1", "1", "1"})
		full.With(stressLabels{"2", "2", "2"})
		check("overflow", full.Vec(), r.NewCounterVec("full_total", "V.", &gotheus.CounterOptions{MaxSeries: 1}, names...), full)

		// A value with a String method does not allocate once it is cached.
		v := newOf[everything](t, r, "everything_total", nil)
		v.With(everything{})
		if n := testing.AllocsPerRun(200, func() { v.With(everything{}).Inc() }); n > structsAllocate {
			t.Errorf("Stringers: %v allocations", n)
		}
	})
}
