package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// attackers is how many requests an attack has at a time.
const attackers = 16

// repeat sends requests to the service until ctx ends: those that make returns, with a pause in
// between. What comes of them does not matter.
func repeat(ctx context.Context, s *service, begun func(), pause time.Duration, make func(i int) (target string, header http.Header)) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: attackers, DisableCompression: true}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	first := sync.OnceFunc(begun)
	for a := range attackers {
		all.Go(func() {
			for i := a; ctx.Err() == nil; i += attackers {
				target, header := make(i)
				req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.public, nil)
				if err != nil {
					panic(err)
				}
				// Set after parsing: what is sent need not be a valid URL.
				req.URL.Opaque, req.Header = target, header
				if resp, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				first()
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	all.Wait()
}

// accept sends headers of some 900 KB: servers take 1 MiB in all, unless they are told otherwise.
func accept(ctx context.Context, s *service, _ *options, begun func()) {
	value := strings.Repeat("text/*,", 60_000) + strings.Repeat("text/plain;q=0,", 30_000) + "*/*"
	names := []string{"Accept", "Accept-Encoding"}
	repeat(ctx, s, begun, 0, func(i int) (string, http.Header) {
		return "/metrics", http.Header{names[i%2]: {value}}
	})
}

// manyNames asks for families: for 3,000, for 50,000, and for one with a very long name.
func manyNames(ctx context.Context, s *service, _ *options, begun func()) {
	queries := []string{"", "", url.QueryEscape("name[]") + "=" + strings.Repeat("x", 800_000)}
	for i, n := range []int{3000, 50_000} {
		var b strings.Builder
		for j := range n {
			fmt.Fprintf(&b, "name[]=n%d&", j)
		}
		queries[i] = b.String()
	}
	repeat(ctx, s, begun, 0, func(i int) (string, http.Header) { return "/metrics?" + queries[i%3], nil })
}

// impatient scrapes with a timeout of a millisecond, twenty times a second.
func impatient(ctx context.Context, s *service, _ *options, begun func()) {
	repeat(ctx, s, begun, attackers*time.Second/20, func(int) (string, http.Header) {
		return "/metrics", http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {"0.001"}}
	})
}

// stalled holds connections that ask for the page and read none of it, and replaces each one after
// two seconds.
func stalled(ctx context.Context, s *service, o *options, begun func()) {
	var all, first sync.WaitGroup
	first.Add(o.connections)
	for range o.connections {
		all.Go(func() {
			once := sync.OnceFunc(first.Done)
			defer once()
			for ctx.Err() == nil {
				if conn, err := ask(s); err == nil {
					once()
					select {
					case <-ctx.Done():
					case <-time.After(2 * time.Second):
					}
					conn.Close()
				}
			}
		})
	}
	first.Wait()
	begun()
	all.Wait()
}

// ask sends a request on a connection that takes few bytes unless they are read.
func ask(s *service) (net.Conn, error) {
	conn, err := net.Dial("tcp", s.public)
	if err != nil {
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: siege\r\n\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// values sends requests with paths and agents that are new, and of 4 KB each.
func values(ctx context.Context, s *service, _ *options, begun func()) {
	long := strings.Repeat("v", 4000)
	repeat(ctx, s, begun, time.Millisecond, func(i int) (string, http.Header) {
		return fmt.Sprint("/", i, long), http.Header{"User-Agent": {fmt.Sprint(i, long)}}
	})
}

// invalid sends requests with paths and agents that are not UTF-8.
func invalid(ctx context.Context, s *service, _ *options, begun func()) {
	repeat(ctx, s, begun, time.Millisecond, func(i int) (string, http.Header) {
		return fmt.Sprintf("/%d%%ff%%c0", i), http.Header{"User-Agent": {"\xff\xc0 agent"}}
	})
}
