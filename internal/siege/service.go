package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

// envService makes this program the service.
const envService = "GOTHEUS_SIEGE_SERVICE"

// seriesOfFamily is how many series each of the four large families has.
const seriesOfFamily = 500

// serve is the service. It writes the addresses of its listeners, and serves until in ends: its
// customers and scrapers on the first, its facts on the second.
func serve(in io.Reader, out io.Writer) error {
	r := gotheus.NewRegistry(nil)
	register(r)
	visits := r.NewCounterVec("siege_visits_total", "Visits, with what clients choose.", nil, "path", "agent")
	mux := http.NewServeMux()
	mux.Handle("/metrics", &metrichttp.Handler{Registry: r})
	mux.HandleFunc("/", func(_ http.ResponseWriter, req *http.Request) {
		visits.With(req.URL.Path, req.UserAgent()).Inc()
	})
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	private, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:  (&metrichttp.Middleware{Registry: r}).Wrap(mux),
		ErrorLog: nil,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
			return ctx
		},
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(public) }()
	go func() { failed <- http.Serve(private, http.HandlerFunc(serveFacts)) }()
	fmt.Fprintln(out, public.Addr(), private.Addr())
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		ended <- err
	}()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}

// register makes the metrics.
func register(r *gotheus.Registry) {
	for i := range 3 {
		v := r.NewCounterVec(fmt.Sprintf("siege_work_%d_total", i), "Work.", nil, "kind", "shard")
		for j := range seriesOfFamily {
			v.With(fmt.Sprint("kind-", j%20), fmt.Sprint("shard-", j/20)).Inc()
		}
	}
	h := r.NewHistogramVec("siege_work_seconds", "Time.", nil, "kind")
	for j := range seriesOfFamily / 10 {
		h.With(fmt.Sprint("kind-", j)).Observe(float64(j) / 10)
	}
	r.Register(gotheus.CollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
		s.Gauge("siege_polite", "Of a collector that heeds its context.").Put(1)
		select {
		case <-time.After(200 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("siege_deaf", "Of a collector that does not.").Put(1)
		time.Sleep(300 * time.Millisecond)
		return nil
	}))
	r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("siege_process", "Of a process collector.").Put(1)
		time.Sleep(100 * time.Millisecond)
		return nil
	}))
}

// service is the service as its parent sees it.
type service struct {
	cmd             *exec.Cmd
	stdin           io.Closer
	public, private string // addresses
}

// start starts a service.
func start(stderr io.Writer) (*service, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &service{cmd: exec.Command(exe)}
	s.cmd.Env = append(os.Environ(), envService+"=1", "GOTHEUS_BACKEND=", "GORACE=atexit_sleep_ms=0")
	s.cmd.Stderr = &quiet{to: stderr}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &s.public, &s.private); scanErr != nil {
		return nil, fmt.Errorf("the service did not start: %w", errors.Join(err, scanErr, s.stop()))
	}
	return s, nil
}

// stop ends the service. The error says whether it has crashed.
func (s *service) stop() error {
	s.stdin.Close()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the service: %w", err)
	}
	return nil
}

// quiet passes on the first lines that the service logs.
type quiet struct {
	to    io.Writer
	lines int
}

func (q *quiet) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if q.lines++; q.lines <= 20 {
			fmt.Fprint(q.to, "siege: service: ", line)
		}
	}
	return len(p), nil
}

// facts asks the service for its facts.
func (s *service) facts() (f facts, err error) {
	resp, err := http.Get("http://" + s.private)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return f, fmt.Errorf("facts of the service: %s", text)
	}
	return f, json.NewDecoder(resp.Body).Decode(&f)
}
