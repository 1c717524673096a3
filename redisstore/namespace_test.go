//go:build linux

package redisstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/redisstore"
)

// instances returns the names of the heads of instances, without those that are folded.
func instances(t testing.TB, s *server, ns string) (names []string) {
	t.Helper()
	all, err := s.HKeys(t.Context(), "gotheus:{"+ns+"}:heads").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if name[0] == 'i' {
			names = append(names, name)
		}
	}
	return names
}

// foldAll runs a keeper until it has folded all instances but itself and some others.
func foldAll(t testing.TB, s *server, ns, query string, others int) {
	t.Helper()
	keeper := open(t, s.url("ns="+ns+"&interval=20ms&alive=200ms"+query))
	s.await("have only live instances", func() bool {
		return len(instances(t, s, ns)) == others+1 && s.HExists(t.Context(), "gotheus:{"+ns+"}:heads", "k0").Val()
	})
	if err := keeper.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// With expire, all keys expire after that time without any process, and every publication extends
// it. What heads refer to does not expire before them.
func TestExpire(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("ns=e&interval=1h&alive=3h&expire=6h")
	ttl := func(key string) time.Duration { return s.TTL(t.Context(), "gotheus:{e}:"+key).Val() }
	leave := func() {
		t.Helper()
		left := open(t, url)
		left.NewCounter("left_total", "Left.", nil).Inc()
		if err := left.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	first := instances(t, s, "e")[0]
	s.Client.Expire(t.Context(), "gotheus:{e}:"+first, time.Minute)
	leave() // too early to fold the first one
	if d := ttl(first); d <= ttl("heads") {
		t.Errorf("what a process has left expires in %v, before it is in the base", d)
	}
	foldAll(t, s, "e", "&expire=6h", 0)
	before := instances(t, s, "e")
	r := open(t, url)
	c := r.NewCounter("c_total", "C.", nil)
	c.Inc()
	flush(t, r)
	groups := map[byte]int{}
	for _, k := range s.Client.Keys(t.Context(), "*").Val() {
		k = strings.TrimPrefix(k, "gotheus:{e}:")
		if d := ttl(k); d <= time.Hour || d > 6*time.Hour*5/4 || k != "heads" && d <= ttl("heads") {
			t.Errorf("%s expires in %v, heads in %v", k, d, ttl("heads"))
		}
		groups[k[0]]++
	}
	if groups['h'] != 1 || groups['f'] != 1 || groups['d'] != 1 || groups['b'] != 1 || groups['i'] < 1 {
		t.Errorf("keys %v", groups)
	}
	lasting := []string{"heads", "f", "d", "b"}
	for _, name := range instances(t, s, "e") {
		if !slices.Contains(before, name) {
			lasting = append(lasting, name) // of r
		}
	}
	for _, k := range lasting {
		s.Client.Expire(t.Context(), "gotheus:{e}:"+k, time.Minute)
	}
	c.Inc()
	flush(t, r)
	for _, k := range lasting {
		if d := ttl(k); d <= time.Hour {
			t.Errorf("%s expires in %v: a publication has not put it off", k, d)
		}
	}
}

// Remove removes the keys of a namespace and no others, and live processes restore their counts.
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

// TestSize reports the server's memory per counter, for each process and in all.
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
