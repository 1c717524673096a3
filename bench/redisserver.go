package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server process for one table, without persistence.
type server struct {
	*redis.Client
	addr string
}

// redis starts a server that is stopped with the table.
func (e *env) redis() (*server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("this needs redis-server: apt-get install --no-install-recommends redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", e.dir, "--loglevel", "warning")
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, deathSignal()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := connect("127.0.0.1:" + port)
	e.cleanup = append(e.cleanup, func() {
		s.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		err := s.Ping(context.Background()).Err()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

func connect(addr string) *server {
	return &server{redis.NewClient(&redis.Options{Addr: addr}), addr}
}

// url returns the URL of a namespace. Nothing is published in the background for an hour.
func (s *server) url(ns string) string {
	return "redis://" + s.addr + "/0?interval=1h&alive=3h&timeout=1m&ns=" + ns
}

// stall watches a server over a separate connection.
type stall struct {
	server *server
	stop   chan struct{}
	done   chan struct{}
	worst  time.Duration
}

// watch starts to send PING in a loop, and records the longest time that it takes.
func (s *server) watch() (*stall, error) {
	ctx := context.Background()
	if err := s.ConfigSet(ctx, "slowlog-log-slower-than", "0").Err(); err != nil {
		return nil, err
	}
	if err := s.ConfigSet(ctx, "slowlog-max-len", "100000").Err(); err != nil {
		return nil, err
	}
	if err := s.Do(ctx, "SLOWLOG", "RESET").Err(); err != nil {
		return nil, err
	}
	w := &stall{server: s, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			began := time.Now()
			s.Ping(ctx)
			w.worst = max(w.worst, time.Since(began))
			time.Sleep(50 * time.Microsecond)
		}
	}()
	return w, nil
}

// end returns the longest command by the server's own account, its name, and the longest PING of
// the separate connection, which includes other load on the machine.
func (w *stall) end() (command time.Duration, name string, ping time.Duration, err error) {
	close(w.stop)
	<-w.done
	log, err := w.server.SlowLogGet(context.Background(), -1).Result()
	for _, l := range log {
		if l.Duration > command && l.Args[0] != "SLOWLOG" {
			command, name = l.Duration, l.Args[0]
		}
	}
	return command, name, w.worst, err
}
