package judges

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

// envWorker makes the test binary a worker; its value is the worker's number.
const envWorker = "JUDGES_WORKER"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(envWorker)); err == nil {
		if err := work(n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	workers    = 4
	goroutines = 4   // of each worker
	rounds     = 500 // of each goroutine
)

// work is what a worker does: it counts, serves its page, says where, and ends with its standard
// input.
func work(n int) error {
	r := gotheus.Default() // bound by the environment
	var wait sync.WaitGroup
	for range goroutines {
		wait.Add(1)
		go func() {
			defer wait.Done()
			count(r, n)
		}()
	}
	wait.Wait()
	if err := r.Flush(context.Background()); err != nil {
		return err
	}
	server := httptest.NewServer(new(metrichttp.Handler))
	defer server.Close()
	fmt.Println(server.URL)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return r.Close(context.Background())
}

var workerBounds = []float64{0, 1, 2}

func count(r *gotheus.Registry, n int) {
	worker := strconv.Itoa(n)
	counter := r.NewCounter("work_total", "Rounds.", nil)
	float := r.NewCounter("float_total", "Quarters.", nil)
	each := r.NewCounterVec("each_total", "Rounds by worker.", nil, "worker", "who")
	gauge := r.NewGauge("gauge", "Threes.", nil)
	set := r.NewGaugeVec("set", "Set to the worker's number.", nil, "worker")
	histogram := r.NewHistogramVec("sizes", "Observed.", &gotheus.HistogramOptions{Buckets: workerBounds}, "parity")
	summary := r.NewSummary("sums", "Observed.", nil)
	own := r.NewCounter("own_"+worker+"_total", "Of one worker alone.", nil)
	for i := range rounds {
		counter.Inc()
		float.Add(0.25)
		each.With(worker, awkward[i%len(awkward)]).Inc()
		gauge.Add(3)
		histogram.With(strconv.Itoa(i % 2)).Observe(float64(i % 4))
		summary.Observe(2)
		own.Inc()
	}
	set.With(worker).Set(float64(n))
}

// workersPage is the expected page of each of n workers.
func workersPage(n int) *expected {
	e := &expected{page: make(page)}
	all := float64(n * goroutines * rounds)
	e.family("work_total", "counter", "Rounds.")
	e.put("work_total", "", all)
	e.family("float_total", "counter", "Quarters.")
	e.put("float_total", "", all/4)
	e.family("each_total", "counter", "Rounds by worker.")
	e.family("gauge", "gauge", "Threes.")
	e.put("gauge", "", 3*all)
	e.family("set", "gauge", "Set to the worker's number.")
	e.family("sizes", "histogram", "Observed.")
	e.family("sums", "summary", "Observed.")
	e.put("sums", "_sum", 2*all)
	e.put("sums", "_count", all)
	for parity := range 2 {
		var observed []float64
		for i := parity; i < n*goroutines*rounds; i += 2 {
			observed = append(observed, float64(i%4))
		}
		e.histogram("sizes", workerBounds, observed, "parity", strconv.Itoa(parity))
	}
	for w := range n {
		worker := strconv.Itoa(w)
		for i, who := range awkward {
			times := (rounds - i + len(awkward) - 1) / len(awkward)
			e.put("each_total", "", float64(goroutines*times), "worker", worker, "who", who)
		}
		e.put("set", "", float64(w), "worker", worker)
		e.family("own_"+worker+"_total", "counter", "Of one worker alone.")
		e.put("own_"+worker+"_total", "", goroutines*rounds)
	}
	return e
}

// startWorker starts a worker and returns the URL of its page, once it has counted.
func startWorker(t *testing.T, n int, backend string) (cmd *exec.Cmd, url func() string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), envWorker+"="+strconv.Itoa(n), gotheus.EnvBackend+"="+backend,
		"GORACE=atexit_sleep_ms=0") // a second otherwise, for each worker
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = deathSignal()
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
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && cmd.ProcessState.Exited() {
			t.Errorf("worker %d: %v", n, err)
		}
	})
	return cmd, func() string {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("worker %d has not served its page: %v", n, err)
		}
		return strings.TrimSpace(line)
	}
}

// TestWorkers checks that the page of each process is the total of all, including one that was
// killed.
func TestWorkers(t *testing.T) {
	t.Parallel()
	backend := "shm://" + filepath.Join(t.TempDir(), "words") + "?fs=any&limit=16MiB"
	var waits []func() string
	for n := range workers {
		_, url := startWorker(t, n, backend)
		waits = append(waits, url)
	}
	victim, url := startWorker(t, workers, backend)
	url()
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.Wait() // until then it may be alive
	var urls []string
	for _, url := range waits {
		urls = append(urls, url())
	}
	want := workersPage(workers + 1)
	for n, url := range urls {
		resp, err := http.Get(url + "/metrics") // asks for gzip and unpacks it
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !resp.Uncompressed {
			t.Fatalf("worker %d: %s, compressed: %t, %v", n, resp.Status, resp.Uncompressed, err)
		}
		checkFormat(t, resp.Header)
		got := judge(t, resp.Header.Get("Content-Type"), body)
		got.takeOwn(t, "", workers)
		if d := diff(got, want.page); d != "" {
			t.Errorf("worker %d: %s", n, d)
		}
	}
}
