//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/collectors"
	"github.com/gotheus/gotheus/metrichttp"
	_ "github.com/gotheus/gotheus/redisstore"
)

// envWorker has the workerConfig of a process that is a worker.
const envWorker = "GOTHEUS_SOAK_WORKER"

// workerConfig is what a worker is told by the process that starts it.
type workerConfig struct {
	URL    string // of the backend
	Acks   string // the file of its acknowledgements
	Number int    // distinguishes all workers of a run
	Rate   int    // operations per second

	Sessions int // that begin each second
}

const (
	tick        = 20 * time.Millisecond
	sessionTTL  = 5 * time.Second
	sessionLife = time.Second // how long a session is used
)

// perTenant are the families whose samples with a label tenant each operation adds 1 to.
var perTenant = []string{"soak_tenant_ops_total", "soak_request_seconds_count", "soak_payload_bytes_count", "soak_wait_seconds_count"}

// grand is the family that each operation adds 1 to, whatever its tenant.
const grand = "soak_ops_total"

// service has the metrics of a realistic service.
type service struct {
	workerConfig
	acks *os.File

	ops      *gotheus.Counter
	tenants  *gotheus.CounterVec
	latency  *gotheus.HistogramVec
	payload  *gotheus.HistogramVec
	wait     *gotheus.SummaryVec
	limits   *gotheus.GaugeVec
	sessions *gotheus.CounterVec
	inFlight *gotheus.Gauge
	byMode   []*gotheus.Gauge
	health   *gotheus.StateSet

	mu          sync.Mutex // held during a batch, and while the worker pauses
	paused      bool
	first, many int // the tenants that are alive
	begun, done uint64
}

func newService(c workerConfig, acks *os.File) *service {
	// Windows and native buckets are filled long before the end of the warm-up.
	summary := &gotheus.SummaryOptions{Objectives: []float64{.5, .9, .99}, MaxAge: 10 * time.Second}
	s := &service{
		workerConfig: c, acks: acks, paused: true,
		ops:      gotheus.NewCounter(grand, "Operations.", &gotheus.CounterOptions{Stripes: 2}),
		tenants:  gotheus.NewCounterVec("soak_tenant_ops_total", "Operations by tenant.", nil, "tenant"),
		latency:  gotheus.NewHistogramVec("soak_request_seconds", "Latency by tenant.", &gotheus.HistogramOptions{Unit: "seconds"}, "tenant"),
		payload:  gotheus.NewHistogramVec("soak_payload_bytes", "Sizes by tenant.", &gotheus.HistogramOptions{Unit: "bytes", Native: &gotheus.NativeOptions{}}, "tenant"),
		wait:     gotheus.NewSummaryVec("soak_wait_seconds", "Waiting by tenant.", summary, "tenant"),
		limits:   gotheus.NewGaugeVec("soak_tenant_limit", "Limit of a tenant.", nil, "tenant"),
		sessions: gotheus.NewCounterVec("soak_session_ops_total", "Operations by session.", &gotheus.CounterOptions{TTL: sessionTTL}, "session"),
		inFlight: gotheus.NewGauge("soak_in_flight", "Operations in progress.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}),
		health:   gotheus.NewStateSet("soak_health", "Health.", []string{"good", "bad"}, &gotheus.StateSetOptions{Mode: gotheus.ModePerProcess}),
	}
	for name, mode := range map[string]gotheus.Mode{
		"max": gotheus.ModeMax, "min": gotheus.ModeMin, "mean": gotheus.ModeMean, "latest": gotheus.ModeLatest, "process": gotheus.ModePerProcess,
	} {
		s.byMode = append(s.byMode, gotheus.NewGauge("soak_depth_"+name, "A gauge of mode "+name+".", &gotheus.GaugeOptions{Mode: mode}))
	}
	gotheus.NewInfo("soak_release_info", "The release of a worker.", gotheus.Labels{"release": strconv.Itoa(c.Number)})
	return s
}

// operate is one operation of the service.
func (s *service) operate(r *rand.Rand) {
	tenant := "tenant-" + strconv.Itoa(s.first+r.IntN(s.many))
	s.inFlight.Inc()
	defer s.inFlight.Dec()
	s.ops.Inc()
	if r.IntN(50) == 0 {
		trace := gotheus.Labels{"trace_id": strconv.FormatUint(r.Uint64(), 16)}
		s.tenants.With(tenant).AddExemplar(1, trace)
		s.latency.With(tenant).ObserveExemplar(r.ExpFloat64()/50, trace)
	} else {
		s.tenants.With(tenant).Inc()
		s.latency.With(tenant).Observe(r.ExpFloat64() / 50)
	}
	s.payload.With(tenant).Observe(float64(uint(100) << r.IntN(10)))
	s.wait.With(tenant).Observe(float64(1+r.IntN(30)) / 100)
	s.limits.With(tenant).Set(float64(1000 + r.IntN(10)))
	if n := int64(s.Sessions); n > 0 {
		session := n*(time.Now().UnixNano()/int64(sessionLife)) + r.Int64N(n)
		s.sessions.With("session-" + strconv.FormatInt(session, 10)).Inc()
	}
	for _, g := range s.byMode {
		g.Set(float64(r.IntN(10)))
	}
	s.health.Set([]string{"good", "bad"}[r.IntN(2)])
}

// batch does what is due at a tick, in two goroutines. What it may have counted is acknowledged
// before, what it has counted for certain afterwards, in a file that survives kill -9.
func (s *service) batch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused {
		return
	}
	n := s.Rate * int(tick) / int(time.Second)
	s.begun += uint64(n)
	s.acknowledge()
	var both sync.WaitGroup
	for half := range 2 {
		both.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			for range (n + half) / 2 {
				s.operate(r)
			}
		})
	}
	both.Wait()
	s.done = s.begun
	s.acknowledge()
}

func (s *service) acknowledge() {
	b := binary.LittleEndian.AppendUint64(nil, s.begun)
	if _, err := s.acks.WriteAt(binary.LittleEndian.AppendUint64(b, s.done), 0); err != nil {
		panic(err)
	}
}

// readAcks returns what a worker has acknowledged, which may be dead.
func readAcks(name string) (begun, done uint64, err error) {
	b, err := os.ReadFile(name)
	if err != nil || len(b) < 16 {
		return 0, 0, err // it has not begun
	}
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), nil
}

// delete deletes tenants.
func (s *service) delete(first, n int) {
	for i := range n {
		tenant := "tenant-" + strconv.Itoa(first+i)
		s.tenants.Delete(tenant)
		s.latency.Delete(tenant)
		s.payload.Delete(tenant)
		s.wait.Delete(tenant)
		s.limits.Delete(tenant)
	}
}

// own is what a worker measures itself.
type own struct {
	Heap       uint64        // bytes after a collection
	Goroutines int           // without those of the measurement
	CPU        time.Duration // for one page
}

// measure measures the worker while it pauses. It gives freed memory back, so that the resident set
// is what is in use.
func measure(ctx context.Context) (o own, err error) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	o.Heap, o.Goroutines = m.HeapAlloc, runtime.NumGoroutine()
	for range 5 { // the least of several is not disturbed by others
		const pages = 4
		before := cpuTime()
		for range pages {
			if err := gotheus.Default().Write(ctx, io.Discard, nil); err != nil {
				return o, err
			}
		}
		if took := (cpuTime() - before) / pages; o.CPU == 0 || took < o.CPU {
			o.CPU = took
		}
	}
	return o, nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runWorker is main of a worker. It ends at SIGTERM, and when its stdin does, since its parent is
// dead then.
func runWorker(config string) error {
	var c workerConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	signal.Ignore(os.Interrupt) // the parent decides
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(exitFailed)
	}()
	acks, err := os.OpenFile(c.Acks, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer acks.Close()
	if err := gotheus.Bind(ctx, c.URL); err != nil {
		return err
	}
	collectors.Register(nil)
	s := newService(c, acks)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.handler()}
	go server.Serve(l)
	var work sync.WaitGroup
	work.Go(func() {
		ticks := time.NewTicker(tick)
		defer ticks.Stop()
		for ctx.Err() == nil {
			select {
			case <-ticks.C:
				s.batch()
			case <-ctx.Done():
			}
		}
	})
	fmt.Println(l.Addr())
	<-ctx.Done()
	work.Wait()
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(end), gotheus.Close(end))
}

// handler serves the page, and the commands of the parent.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", &metrichttp.Handler{})
	command := func(path string, do func(r *http.Request, first, n int) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			first, _ := strconv.Atoi(r.FormValue("first"))
			n, _ := strconv.Atoi(r.FormValue("n"))
			answer, err := do(r, first, n)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			json.NewEncoder(w).Encode(answer)
		})
	}
	command("/pause", func(r *http.Request, _, _ int) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.paused = true
		return s.done, gotheus.Flush(r.Context())
	})
	command("/resume", func(_ *http.Request, first, n int) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.paused, s.first, s.many = false, first, n
		return nil, nil
	})
	command("/delete", func(r *http.Request, first, n int) (any, error) {
		s.delete(first, n)
		return nil, gotheus.Flush(r.Context()) // or a kill could undo it in a store
	})
	command("/measure", func(r *http.Request, _, _ int) (any, error) { return measure(r.Context()) })
	return mux
}
