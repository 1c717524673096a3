//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a Redis or Valkey server that this process has started.
type server struct {
	addr, socket string
	client       *redis.Client
	cmd          *exec.Cmd
}

func serverProgram() (string, error) {
	exe := os.Getenv("GOTHEUS_REDIS_SERVER")
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			exe = cmp.Or(exe, path)
		}
	}
	if exe == "" {
		return "", errors.New("there is neither redis-server nor valkey-server: install one, or name one in GOTHEUS_REDIS_SERVER")
	}
	return exe, nil
}

// startServer starts a server without persistence, on a free port and a socket.
func startServer(ctx context.Context, dir string) (*server, error) {
	exe, err := serverProgram()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{addr: l.Addr().String(), socket: filepath.Join(dir, "socket")}
	l.Close()
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command(exe, "--port", port, "--bind", "127.0.0.1", "--unixsocket", s.socket, "--save", "", "--appendonly", "no",
		"--dir", dir, "--loglevel", "warning", "--maxclients", "20000", "--tcp-backlog", "511",
		"--slowlog-log-slower-than", "1000", "--slowlog-max-len", "20000")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, DisableIdentity: true, ReadTimeout: time.Minute})
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err = s.client.Ping(ctx).Err(); err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("%s does not answer: %w", exe, err), s.stop())
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
}

func (s *server) stop() error {
	err := s.client.Close()
	s.cmd.Process.Kill()
	s.cmd.Wait() // whose error says that it was killed
	return err
}

// counters are what a server has counted since its start, or since an earlier moment.
type counters struct {
	in, out  float64 // bytes from and to clients
	commands float64 // those of scripts included
	scripts  float64
	hmgets   float64 // those of scripts included
	cpu      time.Duration
	memory   float64 // bytes at this moment
	at       time.Time
}

// read asks the server for its counters.
func (s *server) read(ctx context.Context) (c counters, err error) {
	text, err := s.client.Info(ctx, "everything").Result()
	if err != nil {
		return c, err
	}
	c.at = time.Now()
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if calls, ok := strings.CutPrefix(value, "calls="); ok {
			value, _, _ = strings.Cut(calls, ",")
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "total_net_input_bytes":
			c.in = v
		case "total_net_output_bytes":
			c.out = v
		case "total_commands_processed":
			c.commands = v
		case "cmdstat_evalsha", "cmdstat_eval":
			c.scripts += v
		case "cmdstat_hmget":
			c.hmgets = v
		case "used_cpu_sys", "used_cpu_user":
			c.cpu += time.Duration(v * float64(time.Second))
		case "used_memory":
			c.memory = v
		}
	}
	if c.memory == 0 || c.commands == 0 {
		return c, fmt.Errorf("the server's INFO is not understood: %.200q", text)
	}
	return c, nil
}

// since returns the difference from an earlier moment, but for memory.
func (c counters) since(before counters) counters {
	return counters{
		in: c.in - before.in, out: c.out - before.out, commands: c.commands - before.commands,
		scripts: c.scripts - before.scripts, hmgets: c.hmgets - before.hmgets, cpu: c.cpu - before.cpu, memory: c.memory,
	}
}

// longest returns the longest command since the last call, and how many took a millisecond or
// longer.
func (s *server) longest(ctx context.Context) (took time.Duration, what string, n int, err error) {
	list, err := s.client.SlowLogGet(ctx, 20000).Result()
	if err != nil {
		return 0, "", 0, err
	}
	for _, e := range list {
		if len(e.Args) > 0 && strings.EqualFold(e.Args[0], "slowlog") || len(e.Args) > 0 && strings.EqualFold(e.Args[0], "memory") {
			continue // this process's own
		}
		if n++; e.Duration > took {
			took, what = e.Duration, strings.Join(e.Args[:min(len(e.Args), 1)], " ")
		}
	}
	return took, what, n, s.client.Do(ctx, "slowlog", "reset").Err()
}
