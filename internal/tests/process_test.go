package tests_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/metrictest"
	"github.com/gotheus/gotheus/store"
)

// giveAll passes a family of each type to s.
func giveAll(s *gotheus.Sink, v float64) {
	s.Counter("all_c_total", "C.", "l").Put(v, "a")
	s.Gauge("all_g", "G.").Put(-v)
	s.Untyped("all_u", "U.").Put(v)
	s.Info("all_info", "I.", "version").Put("1")
	s.StateSet("all_state", "S.", []string{"on", "off"}).Put([]string{"off"})
	s.Histogram("all_h", "H.", []float64{1, 2}).Put(5, v, []uint64{1, 4})
	s.Summary("all_s", "S.", []float64{.5, 1}).Put(5, v, []float64{1, v})
}

// everythingLines returns the lines that giveAll makes, with a label or without.
func everythingLines(process string, v float64) []string {
	l, with := "", ""
	if process != "" {
		l, with = "{"+process+"}", ","+process
	}
	h := strings.TrimPrefix(with+",", ",")
	return []string{
		fmt.Sprintf(`all_c_total{l="a"%s} %v`, with, v), fmt.Sprintf("all_g%s %v", l, -v), fmt.Sprintf("all_u%s %v", l, v),
		fmt.Sprintf(`all_info{version="1"%s} 1`, with),
		fmt.Sprintf(`all_state{%sall_state="on"} 0`, h), fmt.Sprintf(`all_state{%sall_state="off"} 1`, h),
		fmt.Sprintf(`all_h_bucket{%sle="1"} 1`, h), fmt.Sprintf(`all_h_bucket{%sle="2"} 4`, h), fmt.Sprintf(`all_h_bucket{%sle="+Inf"} 5`, h),
		fmt.Sprintf("all_h_sum%s %v", l, v), fmt.Sprintf("all_h_count%s 5", l),
		fmt.Sprintf(`all_s{%squantile="0.5"} 1`, h), fmt.Sprintf(`all_s{%squantile="1"} %v`, h, v),
		fmt.Sprintf("all_s_sum%s %v", l, v), fmt.Sprintf("all_s_count%s 5", l),
	}
}

func init() {
	workers["instance"] = func() {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{SampleInterval: 5 * time.Millisecond, Logger: quiet})
		var v atomic.Int64
		r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
			giveAll(s, float64(v.Load()))
			return nil
		}))
		if err := r.Bind(context.Background(), os.Getenv("FILE")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var n int64
			fmt.Sscan(in.Text(), &n)
			v.Store(n)
			fmt.Println("set")
		}
	}
}

// The series of process collectors in several processes are on the page of a process that has none,
// without scraping them, and disappear when they are killed.
func TestProcessCollectors(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, nil)
	bind(t, r, url) // process 0
	var cmds []*exec.Cmd
	var ins []io.Writer
	for i := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=instance", "FILE="+url, "GORACE=atexit_sleep_ms=0")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		fmt.Fprintln(in, 10+i)
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "set\n" {
			t.Fatalf("worker %d: %q, %v", i, line, err)
		}
		cmds, ins = append(cmds, cmd), append(ins, in)
	}
	want := func(values map[int]float64) bool {
		lines := []string{}
		for process, v := range values {
			lines = append(lines, everythingLines(fmt.Sprintf(`process="%d"`, process), v)...)
		}
		got := []string{}
		for line := range strings.Lines(page(t, r)) {
			if !strings.HasPrefix(line, "#") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		slices.Sort(lines)
		slices.Sort(got)
		return slices.Equal(got, lines)
	}
	// Numbers are assigned in this order, since each process answered before the next one
	// started.
	backendtest.Eventually(t, "all three are there", func() bool { return want(map[int]float64{1: 10, 2: 11, 3: 12}) })
	fmt.Fprintln(ins[1], 99)
	backendtest.Eventually(t, "a value changes without a scrape there", func() bool { return want(map[int]float64{1: 10, 2: 99, 3: 12}) })
	cmds[0].Process.Kill()
	cmds[0].Wait()
	if !want(map[int]float64{2: 99, 3: 12}) {
		t.Errorf("after one was killed: %s", page(t, r))
	}
}

// In the heap there is no process label. If a collector fails or drops a series, the series
// disappears from the page. Nothing is lost by binding and closing.
func TestProcessCollector(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, nil)
	var fail, half, told atomic.Bool
	remove := r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		if fail.Load() {
			return errors.New("out of luck")
		}
		if half.Load() {
			s.Gauge("all_g", "G.").Put(1)
			return nil
		}
		giveAll(s, 7)
		return nil
	}))
	pageHas(t, r, everythingLines("", 7)...)
	r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Counter("all_c_total", "C.", "l").Put(1, "b") // another series of the same family
		if !told.Load() {
			s.Gauge("all_g", "G.").Put(3) // the same one
			s.Gauge("timed", "T.").PutNumber(expo.Number{Float: 1, Time: 5})
		}
		return nil
	}))
	pageHas(t, r, everythingLines("", 7)...)
	pageHas(t, r, `all_c_total{l="b"} 1`)
	for _, want := range []string{"two collectors have the series", "must not have timestamps, exemplars"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not contain %q: %s", want, log)
		}
	}
	told.Store(true)
	bind(t, r, shmURL(t))
	pageHas(t, r, everythingLines(`process="0"`, 7)...)
	half.Store(true)
	if p := page(t, r); !strings.Contains(p, `all_g{process="0"} 1`) || strings.Contains(p, "\nall_h_") || strings.Contains(p, "\nall_info{") {
		t.Errorf("with one family: %s", p)
	}
	half.Store(false)
	pageHas(t, r, everythingLines(`process="0"`, 7)...)
	fail.Store(true)
	if p := page(t, r); strings.Contains(p, "\nall_info{") || !strings.Contains(p, `all_c_total{l="b",process="0"} 1`) {
		t.Errorf("while the function fails: %s", p)
	}
	fail.Store(false)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	bindHeap(t, r)
	pageHas(t, r, everythingLines("", 7)...)
	remove()
	if p := page(t, r); strings.Contains(p, "\nall_info{") {
		t.Errorf("after remove: %s", p)
	}
}

// Several scrape collectors may provide series of one family, too.
func TestCollectorsShareFamilies(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, nil)
	for _, name := range []string{"mail", "sms", "mail"} {
		r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
			s.Gauge("queue", "Q.", "name").Put(1, name)
			return nil
		}))
	}
	r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Counter("queue", "Q.", "name").Put(1, "push")
		return nil
	}))
	metrictest.Compare(t, r, "# HELP queue Q.\n# TYPE queue gauge\nqueue{name=\"mail\"} 1\nqueue{name=\"sms\"} 1\n")
	pageHas(t, r, "gotheus_collector_errors_total 4")
	if !strings.Contains(log.String(), "given twice") {
		t.Errorf("log: %s", log)
	}
}

// Timestamps, start times and exemplars of custom collectors are in the formats that support them.
func TestSinkNumbers(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	at := time.Unix(1000, 5e8).UnixNano()
	x := expo.Exemplar{Labels: `trace="abc"`, Value: 2, Time: at}
	r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Counter("c_total", "C.").PutNumber(expo.Number{Int: 1<<53 + 1, Start: at, Time: at, Exemplar: x})
		s.Histogram("h", "H.", []float64{1}).PutDistribution(expo.Distribution{
			Count: 3, Sum: 4, Buckets: []uint64{1}, Time: at, Exemplars: []expo.Exemplar{{}, x},
		})
		s.Summary("s", "S.", nil).PutDistribution(expo.Distribution{Count: 3, Sum: 4, Time: at})
		s.Info("build_info", "B.", "v").Put("1")
		s.StateSet("mode", "M.", []string{"a", "b"}).Put([]string{"b"})

		s.Gauge("bad_exemplar", "B.").PutNumber(expo.Number{Exemplar: x})
		s.Gauge("bad_start", "B.").PutNumber(expo.Number{Start: 1})
		s.Counter("text_total", "T.").PutNumber(expo.Number{Exemplar: expo.Exemplar{Labels: `a=b`, Time: 1}})
		s.Counter("length_total", "L.").PutNumber(expo.Number{Exemplar: expo.Exemplar{Labels: `a="` + strings.Repeat("é", 128) + `"`, Time: 1}})
		s.Histogram("bad_native", "B.", nil).PutDistribution(expo.Distribution{Count: 3, Native: &expo.Native{ZeroCount: 2}})
		s.Histogram("bad_schema", "B.", nil).PutDistribution(expo.Distribution{Native: &expo.Native{Schema: 9}})
		s.Summary("bad_buckets", "B.", nil).PutDistribution(expo.Distribution{Buckets: []uint64{1}})
		s.StateSet("bad_state", "B.", []string{"a"}).Put([]string{"c"})
		s.Info("bad", "B.").Put()
		s.Gauge("gotheus_mine", "B.").Put(1)
		s.Error(errors.New("and one more"))
		return nil
	}))
	var b strings.Builder
	if err := r.Write(t.Context(), &b, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1}}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`# TYPE c counter`, `c_total 9007199254740993 1000.5 # {trace="abc"} 2.0 1000.5`, `h_bucket{le="+Inf"} 3 1000.5 # {trace="abc"} 2.0 1000.5`,
		`s_count 3 1000.5`, `# TYPE build info`, `build_info{v="1"} 1`, `# TYPE mode stateset`, `mode{mode="a"} 0`, `mode{mode="b"} 1`,
		`text_total 0`, `length_total 0`, // without their exemplars, which are invalid
	} {
		if !strings.Contains("\n"+b.String(), "\n"+line+"\n") {
			t.Errorf("the page does not contain %q:\n%s", line, &b)
		}
	}
	if strings.Contains(b.String(), "bad") || strings.Contains(b.String(), "mine") {
		t.Errorf("got %s", &b)
	}
}

// A process collector that is too slow for the library's own calls fails, whether it heeds its
// context or not: what it gave before disappears, also where nobody scrapes that process.
func TestSlowProcessCollector(t *testing.T) {
	t.Parallel()
	for _, honours := range []bool{false, true} {
		for _, interval := range []time.Duration{time.Second, 0, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				shared := new(backendtest.Memory)
				config := &store.Config{Shards: []store.Store{shared}}
				r, log := newRegistry(t, &gotheus.RegistryOptions{SampleInterval: interval})
				var slow atomic.Bool
				release := make(chan struct{})
				r.Register(gotheus.ProcessCollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
					s.Gauge("mine", "M.").Put(1)
					if !slow.Load() {
						return nil
					}
					if honours {
						<-ctx.Done()
						return ctx.Err()
					}
					<-release
					return nil
				}))
				if err := r.BindStore(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				other, _ := newRegistry(t, nil)
				if err := other.BindStore(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				seen := func() (values, errors bool) {
					var p strings.Builder
					if err := other.WriteText(&p); err != nil {
						t.Error(err)
					}
					return strings.Contains(p.String(), "\nmine{"), !strings.Contains(p.String(), "gotheus_collector_errors_total 0\n")
				}
				time.Sleep(2 * time.Minute)
				if values, errors := seen(); !values || errors {
					t.Errorf("at first: values %v, errors %v", values, errors)
				}
				slow.Store(true)
				time.Sleep(3 * time.Minute)
				if values, errors := seen(); values || !errors {
					t.Errorf("honours its context: %v, interval %v: values %v, errors %v: %s", honours, interval, values, errors, log)
				}
				close(release)
			})
		}
	}
}
