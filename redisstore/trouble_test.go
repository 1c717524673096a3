//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/store"
)

// Whatever is wrong with the server, updates work, pages answer 503 in time, and everything arrives
// in the end.
func TestTrouble(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, trouble := range map[string]struct {
		begin, end func(t *testing.T, s *server, p *proxy)
		refuses    bool // and Bind says so
	}{
		"absent": {func(_ *testing.T, _ *server, p *proxy) { p.lead("") }, func(_ *testing.T, s *server, p *proxy) { p.lead(s.addr()) }, false},
		"hung":   {func(_ *testing.T, s *server, _ *proxy) { s.pause() }, func(_ *testing.T, s *server, _ *proxy) { s.resume() }, false},
		"out of memory": {
			func(t *testing.T, s *server, _ *proxy) { config(t, s, "maxmemory", "1") },
			func(t *testing.T, s *server, _ *proxy) { config(t, s, "maxmemory", "0") }, false,
		},
		"read-only": {
			func(t *testing.T, s *server, _ *proxy) { s.ReplicaOf(ctx, "127.0.0.1", "1") },
			func(t *testing.T, s *server, _ *proxy) { s.ReplicaOf(ctx, "no", "one") }, false,
		},
		"no scripts": {
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "-@scripting") },
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "+@scripting") }, true,
		},
		"wrong password": {
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "resetpass", ">secret") },
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "nopass") }, true,
		},
		"some commands refused": {
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "-evalsha", "-eval") },
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "+evalsha", "+eval") }, true,
		},
		"keys refused": {
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "resetkeys", "~others:*") },
			func(t *testing.T, s *server, _ *proxy) { acl(t, s, "allkeys") }, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			p := newProxy(t, s.addr())
			trouble.begin(t, s, p)
			r := newRegistry()
			defer r.Close(ctx)
			url := "redis://" + p.addr() + "?interval=10ms&alive=1s&timeout=2s&dial_timeout=2s&read_timeout=2s"
			if err := r.Bind(ctx, url); errors.Is(err, store.ErrRefused) != trouble.refuses || err != nil && !trouble.refuses {
				t.Errorf("Bind returns %v", err)
			}
			c := r.NewCounter("c_total", "C.", nil)
			c.Add(3)
			server := httptest.NewServer(&metrichttp.Handler{Registry: r})
			defer server.Close()
			req, err := http.NewRequest("GET", server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "0.5")
			begun := time.Now()
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if took := time.Since(begun); resp.StatusCode != http.StatusServiceUnavailable || took > 5*time.Second {
				t.Errorf("the scrape took %v: %s", took, resp.Status)
			}
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			if r.Flush(short) == nil {
				t.Error("Flush has succeeded")
			}
			c.Add(4)
			trouble.end(t, s, p)
			flush(t, r)
			contains(t, page(t, open(t, s.url(""))), "c_total 7")
		})
	}
}

func config(t *testing.T, s *server, name, value string) {
	t.Helper()
	if err := s.ConfigSet(context.Background(), name, value).Err(); err != nil {
		t.Fatal(err)
	}
}

func acl(t *testing.T, s *server, rules ...string) {
	t.Helper()
	if err := s.Do(context.Background(), append([]any{"ACL", "SETUSER", "default"}, toAny(rules)...)...).Err(); err != nil {
		t.Fatal(err)
	}
}
