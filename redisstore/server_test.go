//go:build linux

package redisstore_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/internal/needs"
	"github.com/gotheus/gotheus/store/storetest"
)

// server is a redis-server process.
type server struct {
	t    testing.TB
	port string
	cmd  *exec.Cmd
	dir  string
	*redis.Client
}

func (s *server) addr() string { return "127.0.0.1:" + s.port }
func (s *server) url(query string) string {
	return "redis://" + s.addr() + "/0?" + query
}

// startServer starts a server without persistence, with additional command-line options.
func startServer(t testing.TB, options ...string) *server {
	t.Helper()
	s := newServer(t)
	s.start(options...)
	return s
}

// newServer returns a server that is not started yet. It is killed when the test or its process
// ends.
func newServer(t testing.TB) *server {
	s := &server{t: t, port: freePort(t), dir: t.TempDir()}
	t.Cleanup(s.kill)
	return s
}

// serverBinary is a redis-server or valkey-server.
func serverBinary(t testing.TB) string {
	t.Helper()
	binary := cmp.Or(os.Getenv("GOTHEUS_REDIS_SERVER"), "redis-server")
	_, err := exec.LookPath(binary)
	needs.Check(t, "redis-server", err, "apt-get install --no-install-recommends redis-server, "+
		"or give the path of another one in GOTHEUS_REDIS_SERVER")
	return binary
}

// freePort returns a port below the ephemeral range. A Cluster node's bus uses that port plus
// 10000.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		n := 12000 + rand.N(10000)
		if _, given := givenPorts.LoadOrStore(n, true); !given && isFree(n) && isFree(n+10000) {
			return fmt.Sprint(n)
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// givenPorts are the ports handed out in this test process.
var givenPorts sync.Map

func isFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err == nil {
		l.Close()
	}
	return err == nil
}

func (s *server) start(options ...string) {
	s.t.Helper()
	s.run(&redis.Options{}, append([]string{
		"--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--loglevel", "warning",
		"--repl-diskless-sync-delay", "0",
	}, options...)...)
}

// startWith starts a server with a password.
func (s *server) startWith(password string, options ...string) {
	s.t.Helper()
	s.run(&redis.Options{Password: password}, append([]string{
		"--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--loglevel", "warning",
		"--repl-diskless-sync-delay", "0", "--requirepass", password, "--masterauth", password,
	}, options...)...)
}

// run starts the server with exactly these arguments, and a client with these options.
func (s *server) run(o *redis.Options, args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(serverBinary(s.t), args...)
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = deathSignal()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	o.Addr, o.MaxRetries, o.ContextTimeoutEnabled = s.addr(), -1, true
	s.Client = redis.NewClient(o)
	s.await("answer", func() bool { return s.Ping(context.Background()).Err() == nil })
}

// await polls for something that the server does at its own pace.
func (s *server) await(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server on %s does not %s", s.port, what)
		}
	}
}

func (s *server) kill() {
	if s.cmd != nil {
		s.Client.Close()
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) pause()  { s.cmd.Process.Signal(syscall.SIGSTOP) }
func (s *server) resume() { s.cmd.Process.Signal(syscall.SIGCONT) }

// replica starts a server that replicates s.
func (s *server) replica() *server {
	s.t.Helper()
	r := startServer(s.t, "--replicaof", "127.0.0.1", s.port)
	r.await("replicate", func() bool {
		info, _ := r.Info(context.Background(), "replication").Result()
		return strings.Contains(info, "master_link_status:up")
	})
	return r
}

func (s *server) isMaster() bool {
	role, _ := s.Do(context.Background(), "ROLE").Slice()
	return len(role) > 0 && role[0] == "master"
}

// proxy is the network in front of a server: it can be cut, or redirected to another server.
type proxy struct {
	l  net.Listener
	mu sync.Mutex
	to string // "": disconnected
	by map[net.Conn]bool
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to, by: make(map[net.Conn]bool)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); p.lead("") })
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	if to == "" {
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	if p.to != to {
		p.mu.Unlock()
		return
	}
	p.by[c], p.by[up] = true, true
	p.mu.Unlock()
	done := make(chan struct{}, 2)
	pipe := func(dst, src net.Conn) {
		io.Copy(dst, src)
		done <- struct{}{}
	}
	go pipe(up, c)
	go pipe(c, up)
	<-done
	c.Close()
	up.Close()
	<-done
	p.mu.Lock()
	delete(p.by, c)
	delete(p.by, up)
	p.mu.Unlock()
}

// cut cuts all connections, in the middle of any transfer.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.by {
		c.Close()
	}
}

// lead cuts all connections and redirects new ones to another server.
func (p *proxy) lead(to string) {
	p.mu.Lock()
	p.to = to
	p.mu.Unlock()
	p.cut()
}

// child is this test binary running as another process.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

var children = map[string]func(){}

func TestMain(m *testing.M) {
	if name := os.Getenv("GOTHEUS_TEST_CHILD"); name != "" {
		children[name]()
		return
	}
	storetest.Worker(conforming)
	os.Exit(m.Run())
}

func startChild(t testing.TB, name string, env ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(append(os.Environ(), "GOTHEUS_TEST_CHILD="+name, "GORACE=atexit_sleep_ms=0"), env...)
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = deathSignal()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.cmd.Process.Kill()
			c.cmd.Wait()
		}
	})
	return c
}

// deathSignal kills a child when the test's process dies.
func deathSignal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
