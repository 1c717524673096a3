//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/redisstore"
)

var quiet = slog.New(slog.DiscardHandler)

func newRegistry() *gotheus.Registry {
	return gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
}

// open returns a registry bound to a URL.
func open(t testing.TB, url string) *gotheus.Registry {
	t.Helper()
	r := newRegistry()
	if err := r.Bind(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		r.Close(ctx)
	})
	return r
}

func page(t testing.TB, r *gotheus.Registry) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func contains(t testing.TB, page string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+page, "\n"+l+"\n") {
			t.Errorf("no line %s in\n%s", l, page)
		}
	}
}

func flush(t testing.TB, r *gotheus.Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// Two processes count the same metrics; any page is the total, also of one that declares nothing. What one leaves
// behind stays.
func TestTotals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("ns=totals&interval=1h&alive=4h") // nothing takes a process' number before its time
	a, b, exporter := open(t, url), open(t, url), open(t, url)
	for i, r := range []*gotheus.Registry{a, b} {
		c := r.NewCounterVec("orders_total", "Orders.", nil, "country")
		c.With("SE").Add(float64(1 + i))
		c.With(fmt.Sprint("only", i)).Add(0.5)
		h := r.NewHistogram("seconds", "Time.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}})
		h.Observe(0.5)
		h.Observe(1.5)
		r.NewSummary("bytes", "Size.", nil).Observe(10)
		r.NewGauge("shared", "Shared.", nil).Add(2)
		r.NewGauge("sum", "Sum.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}).Set(float64(3 + i))
		r.NewGauge("most", "Max.", &gotheus.GaugeOptions{Mode: gotheus.ModeMax}).Set(float64(3 + i))
		r.NewGauge("latest", "Latest.", &gotheus.GaugeOptions{Mode: gotheus.ModeLatest}).Set(float64(3 + i))
		r.NewGauge("each", "Each.", &gotheus.GaugeOptions{Mode: gotheus.ModePerProcess}).Set(float64(3 + i))
		flush(t, r)
	}
	want := []string{
		`orders_total{country="SE"} 3`, `orders_total{country="only0"} 0.5`, `orders_total{country="only1"} 0.5`,
		`seconds_bucket{le="1"} 2`, `seconds_bucket{le="2"} 4`, `seconds_bucket{le="+Inf"} 4`, `seconds_sum 4`, `bytes_sum 20`, `bytes_count 2`,
		"shared 4",
	}
	live := []string{"sum 7", "most 4", "latest 4", `each{process="0"} 3`, `each{process="1"} 4`}
	for _, r := range []*gotheus.Registry{a, b, exporter} {
		contains(t, page(t, r), append(live, want...)...)
	}
	// The gauge is set by one, and added to by the other, who has not heard of it.
	a.NewGauge("shared", "Shared.", nil).Set(100)
	b.NewGauge("shared", "Shared.", nil).Inc()
	flush(t, a)
	flush(t, b)
	contains(t, page(t, exporter), "shared 101")
	b.NewGauge("shared", "Shared.", nil).Set(5)
	flush(t, b)
	contains(t, page(t, exporter), "shared 5")
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*gotheus.Registry{a, exporter} {
		p := page(t, r)
		contains(t, p, want[:len(want)-1]...)
		contains(t, p, "shared 5", "sum 3", "most 3", `each{process="0"} 3`)
		if strings.Contains(p, `each{process="1"}`) {
			t.Error("a dead process's part is still there")
		}
	}
	// In this namespace, and nowhere else.
	keys, err := s.Client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	listed, err := ns.Keys(t.Context())
	if err != nil || len(listed) != len(keys) {
		t.Errorf("Keys lists %q, %v; there are %q", listed, err, keys)
	}
	for _, k := range keys {
		if !strings.HasPrefix(k, "gotheus:{totals}:") {
			t.Errorf("key %s", k)
		}
		if ttl, err := s.TTL(t.Context(), k).Result(); err != nil || ttl >= 0 {
			t.Errorf("key %s expires in %v, %v", k, ttl, err)
		}
	}
	if n, err := ns.Size(t.Context()); err != nil || n < 500 || n > 20000 {
		t.Errorf("size %d, %v", n, err)
	}
}

// With expire, all keys go when there was no process for so long, and every publication puts that off.
func TestExpire(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := open(t, s.url("ns=e&interval=1h&alive=4h&expire=6h"))
	left := open(t, s.url("ns=e&interval=1h&alive=4h&expire=6h"))
	left.NewCounter("left_total", "Left.", nil).Inc()
	if err := left.Close(t.Context()); err != nil { // so that there is a base
		t.Fatal(err)
	}
	c := r.NewCounter("c_total", "C.", nil)
	c.Inc()
	flush(t, r)
	groups := map[byte]int{}
	for _, k := range s.Client.Keys(t.Context(), "*").Val() {
		if ttl := s.TTL(t.Context(), k).Val(); ttl <= time.Hour || ttl > 6*time.Hour {
			t.Errorf("%s expires in %v", k, ttl)
		}
		groups[strings.TrimPrefix(k, "gotheus:{e}:")[0]]++
	}
	if groups['h'] != 1 || groups['f'] != 1 || groups['d'] != 1 || groups['b'] != 1 || groups['i'] < 1 {
		t.Errorf("keys %v", groups)
	}
	own := ""
	for name := range s.HGetAll(t.Context(), "gotheus:{e}:heads").Val() {
		if name[0] == 'i' {
			own = name
		}
	}
	lasting := []string{"heads", "f", "d", "b", own}
	for _, k := range lasting {
		s.Client.Expire(t.Context(), "gotheus:{e}:"+k, time.Minute)
	}
	c.Inc()
	flush(t, r)
	for _, k := range lasting {
		if ttl := s.TTL(t.Context(), "gotheus:{e}:"+k).Val(); ttl <= time.Hour {
			t.Errorf("%s expires in %v: a publication has not put it off", k, ttl)
		}
	}
}

// Remove takes the keys of a namespace and no others, and live processes restore what is theirs.
func TestRemove(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.Set(t.Context(), "gotheus:other", "stays", 0)
	other := open(t, s.url("ns=ab"))
	other.NewCounter("c_total", "C.", nil).Inc()
	flush(t, other)
	url := s.url("ns=a&interval=10ms&alive=200ms")
	left := open(t, url)
	left.NewCounter("left_total", "Left.", nil).Inc()
	if err := left.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	before := len(s.Client.Keys(t.Context(), "gotheus:{ab}:*").Val())
	if err := ns.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys := s.Client.Keys(t.Context(), "gotheus:{a}:*").Val(); len(keys) > 0 {
		t.Errorf("%q are left", keys)
	}
	if n, err := ns.Size(t.Context()); n != 0 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	if err := ns.Remove(t.Context()); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	if after := len(s.Client.Keys(t.Context(), "gotheus:{ab}:*").Val()); before == 0 || after != before || s.Get(t.Context(), "gotheus:other").Val() != "stays" {
		t.Errorf("of %d other keys, %d are left", before, after)
	}
	r := open(t, url)
	r.NewCounter("live_total", "Live.", nil).Add(3)
	flush(t, r)
	if p := page(t, r); strings.Contains(p, "left_total") {
		t.Errorf("what was removed is back: %s", p)
	}
	if err := ns.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await("have again what a live process has counted", func() bool {
		var b strings.Builder
		return r.WriteText(&b) == nil && strings.Contains(b.String(), "live_total 3\n")
	})
}

// TestSize says how many bytes a counter takes in the server, for each process and in all.
func TestSize(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("interval=1h&alive=4h")
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const series, processes = 10000, 4
	var sizes []int64
	for range processes {
		r := open(t, url)
		v := r.NewCounterVec("requests_total", "Requests.", nil, "path")
		for i := range series {
			v.With(fmt.Sprintf("/api/v1/items/%05d", i)).Add(float64(1 + i))
		}
		flush(t, r)
		n, err := ns.Size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, n)
	}
	each := float64(sizes[processes-1]-sizes[0]) / (processes - 1) / series
	directory := float64(sizes[0])/series - each
	t.Logf("%.1f bytes for each series and process, %.1f for the directory of each series", each, directory)
	if each > 10 || directory > 45 {
		t.Errorf("%.1f bytes for each series and process, %.1f for the directory: more than the documentation says", each, directory)
	}
}

// A deletion is for all processes, and what others count afterwards begins at zero.
func TestDelete(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := open(t, s.url("interval=1h&alive=4h")), open(t, s.url("interval=1h&alive=4h"))
	ca, cb := a.NewCounterVec("c_total", "C.", nil, "x"), b.NewCounterVec("c_total", "C.", nil, "x")
	ca.With("1").Add(5)
	kept := cb.With("1")
	kept.Add(7)
	cb.With("2").Inc()
	flush(t, b)
	contains(t, page(t, a), `c_total{x="1"} 12`)
	if n := ca.DeleteMatching(gotheus.Labels{"x": "1"}); n != 1 {
		t.Errorf("%d deleted", n)
	}
	if p := page(t, a); strings.Contains(p, `x="1"`) || !strings.Contains(p, `c_total{x="2"} 1`) {
		t.Errorf("after the deletion: %s", p)
	}
	if p := page(t, b); strings.Contains(p, `x="1"`) {
		t.Errorf("in the other process: %s", p)
	}
	kept.Add(3)
	contains(t, page(t, b), `c_total{x="1"} 3`)
	ca.With("1").Inc()
	contains(t, page(t, a), `c_total{x="1"} 4`)
}

func TestTTL(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := open(t, s.url("interval=10ms")), open(t, s.url("interval=10ms"))
	s.await("have what is set again and again", func() bool {
		for _, r := range []*gotheus.Registry{a, b} {
			r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{TTL: 300 * time.Millisecond}, "x").With("1").Set(1)
			flush(t, r)
		}
		return strings.Contains(page(t, a), "g{x=\"1\"} 1\n")
	})
	s.await("forget", func() bool { return !strings.Contains(page(t, b), `x="1"`) })
}

// Whatever is wrong with the server, counting goes on at once, pages answer 503 in time, and all arrives in the end.
func TestTrouble(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, trouble := range map[string]struct {
		begin, end func(t *testing.T, s *server, p *proxy)
		closes     bool
	}{
		"absent": {func(_ *testing.T, _ *server, p *proxy) { p.lead("") }, func(_ *testing.T, s *server, p *proxy) { p.lead(s.addr()) }, true},
		"hung":   {func(_ *testing.T, s *server, _ *proxy) { s.pause() }, func(_ *testing.T, s *server, _ *proxy) { s.resume() }, true},
		"out of memory": {
			func(t *testing.T, s *server, _ *proxy) { config(t, s, "maxmemory", "1") },
			func(t *testing.T, s *server, _ *proxy) { config(t, s, "maxmemory", "0") }, true,
		},
		"read-only": {
			func(t *testing.T, s *server, _ *proxy) { s.ReplicaOf(ctx, "127.0.0.1", "1") },
			func(t *testing.T, s *server, _ *proxy) { s.ReplicaOf(ctx, "no", "one") }, true,
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
			r := open(t, "redis://"+p.addr()+"?interval=10ms&alive=1s&timeout=2s&dial_timeout=2s&read_timeout=2s")
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

// A job that closes leaves its counts for good, in no more time than the server needs.
func TestJobs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for range 5 {
		r := open(t, s.url(""))
		r.NewCounter("jobs_total", "Jobs.", nil).Inc()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, page(t, open(t, s.url(""))), "jobs_total 5")
	n, err := s.HLen(t.Context(), "gotheus:{default}:b").Result()
	if err != nil || n != 1 {
		t.Errorf("the base has %d parts, %v", n, err)
	}
}

// What leaves many series behind writes the base anew in pieces, and the key of the former one goes.
func TestLargeBase(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("interval=1h&alive=3h&expire=9h&timeout=1m")
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	reader := open(t, url)
	const series = 3500
	value := func(i int) float64 { return 0.1 * float64(1+i) } // of eight bytes
	for round := 1; round <= 3; round++ {
		r := open(t, url)
		for f := range 4 {
			v := r.NewCounterVec(fmt.Sprintf("jobs%d_total", f), "Jobs.", nil, "x")
			for i := range series {
				v.With(fmt.Sprintf("%05d", i)).Add(value(i))
			}
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		sum := func(i int) (v float64) {
			for range round {
				v += value(i)
			}
			return v
		}
		contains(t, page(t, reader), fmt.Sprintf(`jobs0_total{x="00000"} %v`, sum(0)), fmt.Sprintf(`jobs3_total{x="%05d"} %v`, series-1, sum(series-1)))
		keys, err := s.Client.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(keys)
		if listed, err := ns.Keys(t.Context()); err != nil || !slices.Equal(listed, keys) {
			t.Errorf("Keys lists %q, %v; there are %q", listed, err, keys)
		}
		bases := 0
		for _, k := range keys {
			if gen, ok := strings.CutPrefix(k, "gotheus:{default}:b"); ok {
				if bases++; len(gen) != 16 {
					t.Errorf("%s: it was small enough for one commit", k)
				}
			}
			if ttl := s.TTL(t.Context(), k).Val(); ttl <= 8*time.Hour {
				t.Errorf("%s expires in %v", k, ttl)
			}
		}
		if bases != 1 {
			t.Errorf("%d keys of bases: %q", bases, keys)
		}
	}
	if err := ns.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys := s.Client.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("%q are left", keys)
	}
}

// Closing a registry leaves the client that it was given, and closes that of a URL.
func TestClosed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	c, err := redisstore.New(client, &redisstore.Options{Shards: 2})
	if err != nil {
		t.Fatal(err)
	}
	r := newRegistry()
	if err := r.BindStore(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the user's client was closed: %v", err)
	}
	if c, err = redisstore.Open(s.url("shards=2")); err != nil {
		t.Fatal(err)
	}
	for i, shard := range c.Shards {
		if _, err := shard.Heads(t.Context()); err != nil {
			t.Errorf("the client was closed with %d of 2 shards: %v", i, err)
		}
		if err := shard.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Shards[1].Heads(t.Context()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("the client is still open: %v", err)
	}
}

// Without a client there is nothing to bind.
func TestNoClient(t *testing.T) {
	t.Parallel()
	for _, client := range []redis.UniversalClient{nil, (*redis.Client)(nil), (*redis.ClusterClient)(nil)} {
		if _, err := redisstore.New(client, nil); err == nil || !strings.Contains(err.Error(), "the client is nil") {
			t.Errorf("New(%#v): %v", client, err)
		}
		if _, err := redisstore.NewNamespace(client, "x"); err == nil || !strings.Contains(err.Error(), "the client is nil") {
			t.Errorf("NewNamespace(%#v): %v", client, err)
		}
	}
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	if _, err := redisstore.NewNamespace(client, "a/1"); err == nil || !strings.Contains(err.Error(), `namespace "a/1"`) {
		t.Errorf("a name that cannot be: %v", err)
	}
}
