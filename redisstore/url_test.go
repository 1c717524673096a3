//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/redisstore"
	"github.com/gotheus/gotheus/store"
)

// Errors in a URL are reported when it is opened, without its passwords.
func TestURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://h?interval=fast":                 "interval must be a time above zero, such as 500ms",
		"redis://h?interval=-1s":                  "interval must be a time above zero",
		"redis://h?interval=6s":                   "interval=6s with alive=10s: alive must be at least twice as long",
		"redis://h?alive=500ms":                   "interval=500ms with alive=500ms",
		"redis://h?alive=24h&expire=6h":           "expire=6h0m0s with alive=24h0m0s: expire must be at least twice as long",
		"redis://h?alive=0s":                      "alive must be a time above zero",
		"redis://h?timeout=":                      "timeout is empty",
		"redis://h?stale=yes":                     "stale must be serve",
		"redis://h?ns=a%20b":                      `namespace "a b"`,
		"redis://h?ns=a/1":                        `namespace "a/1"`,
		"redis://h?ns=":                           "ns is empty",
		"redis://h?ns=a&ns=b":                     "ns is given twice",
		"redis://h?expire=10s":                    "at least an hour",
		"redis://h?shards=0":                      "shards must be from 1 to 64",
		"redis://h?shards=65":                     "shards must be from 1 to 64",
		"redis://h?shards=many":                   "shards must be from 1 to 64",
		"redis://h?cluster=true&master=m":         "use either cluster or master",
		"redis://u:secret@h?cluster=maybe":        "cluster must be true",
		"redis://h/3?cluster=true":                "no databases but 0",
		"redis://h?cluster=true&db=3":             "no databases but 0",
		"redis://h?cluster=true&read_only=true":   "read_only: a replica may be behind",
		"redis://h?master=m&replica_only=true":    "replica_only: a replica may be behind",
		"redis://h?master=m&route_randomly=true":  "route_randomly: a replica may be behind",
		"redis://h?addr=h2:6379":                  "addr: further addresses",
		"redis://h?cluster=true&addr=h2":          "addr must be a host and a port",
		"redis://h?cluster=true&addr=":            "addr is empty",
		"redis://h?sentinel_password=secret":      "are for sentinels",
		"redis://h?master=m&password=secret":      "before the host",
		"redis://h?master=m&master_name=n":        "use master instead",
		"redis://h?master_name=n":                 "use master instead",
		"redis://u:secret@h?nosuch=1":             "redis://h: parameter 1 is unknown (it is not shown",
		"redis://u:secret@h?Interval=1s":          "parameter 1 is unknown, perhaps interval is meant",
		"redis://u:secret@h/notanumber":           "the database after the host must be a number",
		"redis://h/1?db=2":                        "the database is given twice",
		"redis://u:secret#@h":                     "must be escaped",
		"redis://h?skip_verify=true":              "skip_verify is for TLS",
		"redis://u:secret@h#x":                    "the URL has a #",
		"http://u:secret@h":                       "must begin with redis:// or rediss://",
		"redis://u:secret@h?ns=%z":                "must be escaped, such as % as %25",
		"redis://u:secret@h:99999999x?ns=a":       "must be escaped",
		"rediss://h?skip_verify=perhaps":          "skip_verify",
		"redis://h?pool_size=big":                 "pool_size has a wrong value",
		"redis://h?master=m&sentinel_password=":   "sentinel_password is empty",
		"redis://h?db=secret":                     "db must be a number",
		"redis://h?max_redirects=3":               "max_redirects is not for a server of this kind",
		"redis://u:secret@h?pasword=secret":       "must be escaped, such as ? as %3F and & as %26); known are ns interval alive timeout",
		"redis://u:12/secret@h":                   "the URL has an @ after the host",
		"redis://u:12?secret@h":                   "the URL has an @ after the host",
		"redis://u:12#secret@h":                   "the URL has an @ after the host",
		"redis://h:99999":                         "the port of the URL must be from 1 to 65535",
		"redis://h!secret":                        "the host of the URL has a special character",
		"redis://h?cluster=true&ns=a&shards=4&x=": "parameter 4 is unknown",
	} {
		_, openErr := redisstore.Open(url)
		_, namespaceErr := redisstore.OpenNamespace(url)
		for _, err := range []error{openErr, namespaceErr} {
			if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: error %v, want an ErrInvalid: %s", url, err, want)
			}
		}
	}
	for _, url := range []string{
		"redis://u:p@h:1/3?ns=shop&interval=1s&alive=5s&timeout=2s&expire=48h&stale=serve&pool_size=3&shards=2", "redis://h/0?cluster=true",
		"rediss://h", "redis://h/2?master=main&addr=h2:26379&sentinel_username=u&sentinel_password=p", "rediss://h?cluster=true&addr=h2:6379&addr=h3:6379&skip_verify=true",
		"redis://[::1]:6379?db=2",
	} {
		n, err := redisstore.OpenNamespace(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		n.Close()
	}
	// The registry's log line has no password either.
	var log strings.Builder
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := r.Bind(t.Context(), "redis://u:secret@h?master=m&sentinel_password=secret&nosuch=1"); err == nil {
		t.Error("no error")
	}
	r.Close(t.Context())
	if !strings.Contains(log.String(), "parameter 3 is unknown") || strings.Contains(log.String(), "secret") {
		t.Errorf("logged: %s", log.String())
	}
}

// A user with the minimal rights, in a separate database.
func TestUserAndDatabase(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	rights := []any{"ACL", "SETUSER", "metrics", "on", ">p@ss:word", "resetkeys"}
	for _, command := range strings.Fields(rightsInDocs(t)) {
		rights = append(rights, command)
	}
	if err := s.Do(t.Context(), rights...).Err(); err != nil {
		t.Fatal(err)
	}
	url := "redis://metrics:p%40ss%3Aword@" + s.addr() + "/3?ns=shop&interval=10ms"
	r := open(t, url)
	r.NewCounter("c_total", "C.", nil).Add(2)
	flush(t, r)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	contains(t, page(t, open(t, url)), "c_total 2")
	if n := s.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys in database 0", n)
	}
	other := redis.NewClient(&redis.Options{Addr: s.addr(), DB: 3})
	defer other.Close()
	if n, err := other.DBSize(t.Context()).Result(); n == 0 || err != nil {
		t.Errorf("%d keys in database 3: %v", n, err)
	}
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if n, err := ns.Size(t.Context()); n == 0 || err != nil {
		t.Errorf("%d bytes: %v", n, err)
	}
	if err := ns.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	// Wrong credentials.
	bad := newRegistry()
	defer bad.Close(t.Context())
	err = bad.Bind(t.Context(), "redis://metrics:wrong@"+s.addr()+"/3?ns=shop")
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// isTimeout reports whether err only says that a context or its connection timed out.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// rightsInDocs returns the rights listed in the documentation.
func rightsInDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "resetkeys ")
	rights, _, ok2 := strings.Cut(rest, "\n")
	if !ok || !ok2 {
		t.Fatal("docs/redis.md does not say which rights are needed")
	}
	return rights
}

// Options for a program's own client.
func TestOptions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{s.addr()}, ContextTimeoutEnabled: true})
	defer client.Close()
	bind := func(o *redisstore.Options) *gotheus.Registry {
		t.Helper()
		c, err := redisstore.New(client, o)
		if err != nil {
			t.Fatal(err)
		}
		r := newRegistry()
		if err := r.BindStore(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		return r
	}
	o := &redisstore.Options{Namespace: "opt", Expire: time.Hour, Shards: 2}
	r := bind(o)
	r.NewCounter("c_total", "C.", nil).Add(2)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = bind(o)
	contains(t, page(t, r), "c_total 2")
	r.Close(t.Context())
	for _, k := range s.Client.Keys(t.Context(), "*").Val() {
		if ttl := s.TTL(t.Context(), k).Val(); ttl <= 0 || !strings.HasPrefix(k, "gotheus:{opt}:") && !strings.HasPrefix(k, "gotheus:{opt/1}:") {
			t.Errorf("%s expires in %v", k, ttl)
		}
	}
	r = bind(nil)
	if strings.Contains(page(t, r), "c_total") {
		t.Error("another namespace has the same counts")
	}
	r.Close(t.Context())
}

// Arguments that can never work are refused at once, with the value and what to do.
func TestInvalidArguments(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(new(redis.Options))
	defer client.Close()
	for want, o := range map[string]*redisstore.Options{
		"shards=65: must be from 1 to 64":                         {Shards: 65},
		"shards=-1: must be from 1 to 64":                         {Shards: -1},
		`namespace "a{b}": only letters`:                          {Namespace: "a{b}"},
		"expire=1m0s: must be at least an hour":                   {Expire: time.Minute},
		"expire=-1ns: must be a time above zero":                  {Expire: -1},
		"interval=6s with alive=10s: alive must":                  {Interval: 6 * time.Second},
		"interval=-1ns: must be a time above zero":                {Interval: -1},
		"alive=-1ns: must be a time above zero":                   {Alive: -1},
		"timeout=-1ns: must be a time above zero":                 {Timeout: -1},
		"expire=1h0m0s with alive=31m0s: expire must be at least": {Expire: time.Hour, Alive: 31 * time.Minute},
	} {
		if c, err := redisstore.New(client, o); c != nil || !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want an ErrInvalid: %s", o, err, want)
		}
	}
	for _, none := range []redis.UniversalClient{nil, (*redis.Client)(nil)} {
		if _, err := redisstore.New(none, nil); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "New: the client is nil: make one with redis.NewClient of go-redis, or use Open with") {
			t.Errorf("New(%#v): %v", none, err)
		}
		if _, err := redisstore.NewNamespace(none, ""); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "NewNamespace: the client is nil: make one with redis.NewClient of go-redis, or use OpenNamespace with") {
			t.Errorf("NewNamespace(%#v): %v", none, err)
		}
	}
	if _, err := redisstore.NewNamespace(client, "a b"); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), `namespace "a b"`) {
		t.Errorf("NewNamespace with an invalid name: %v", err)
	}
}

// New passes all options on.
func TestOptionsOfConfig(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(new(redis.Options))
	defer client.Close()
	c, err := redisstore.New(client, &redisstore.Options{
		Shards: 3, Interval: time.Second, Alive: time.Minute, Timeout: 2 * time.Second, ServeStale: true, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Options{Interval: time.Second, Alive: time.Minute, Timeout: 2 * time.Second, ServeStale: true, Logger: quiet}
	if len(c.Shards) != 3 || c.Options != want {
		t.Errorf("%d shards, %+v", len(c.Shards), c.Options)
	}
}

// With stale=serve, the last known values are served while the server is away, unless the process
// cannot know whether it leads. A process's own values are always available.
func TestStale(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := newProxy(t, s.addr())
	for _, stale := range []string{"", "&stale=serve"} {
		r := open(t, "redis://"+p.addr()+"?interval=10ms&timeout=10s&dial_timeout=10s&max_retries=-1"+stale)
		r.NewCounter("c_total", "C.", nil).Inc()
		flush(t, r)
		ask := func(scope gotheus.Scope) int {
			req := httptest.NewRequest("GET", "/metrics", nil)
			rec := httptest.NewRecorder()
			(&metrichttp.Handler{Registry: r, Scope: scope, Timeout: time.Minute}).ServeHTTP(rec, req)
			if whole := strings.Contains(rec.Body.String(), "c_total "); whole != (rec.Code == http.StatusOK) {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			return rec.Code
		}
		for _, scope := range []gotheus.Scope{gotheus.ScopeAll, gotheus.ScopeOwn, gotheus.ScopeLeader} {
			if code := ask(scope); code != http.StatusOK {
				t.Errorf("scope %v: %d", scope, code)
			}
		}
		p.lead("")
		all := http.StatusServiceUnavailable
		if stale != "" {
			all = http.StatusOK
		}
		for scope, want := range map[gotheus.Scope]int{gotheus.ScopeAll: all, gotheus.ScopeOwn: http.StatusOK, gotheus.ScopeLeader: http.StatusServiceUnavailable} {
			if code := ask(scope); code != want {
				t.Errorf("without the server, %q: scope %v: %d, not %d", stale, scope, code, want)
			}
		}
		facts := func() (up, last, lag float64) {
			rec := httptest.NewRecorder()
			(&metrichttp.Handler{Registry: r}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
			for line := range strings.Lines(rec.Body.String()) {
				for name, v := range map[string]*float64{"backend_up": &up, "backend_last_success_timestamp_seconds": &last, "publish_lag_seconds": &lag} {
					fmt.Sscanf(line, "gotheus_"+name+`{process="0"} %g`, v)
				}
			}
			return up, last, lag
		}
		if stale != "" {
			up, last, lag := facts()
			up2, last2, lag2 := facts()
			if up != 0 || up2 != 0 || last == 0 || last2 != last || lag2 <= lag {
				t.Errorf("without the server: up %v, %v, last success %v, %v, lag %v, %v", up, up2, last, last2, lag, lag2)
			}
			p.lead(s.addr())
			s.await("be up", func() bool { up, now, _ := facts(); return up == 1 && now > last })
		}
		p.lead(s.addr())
		if err := r.Close(t.Context()); err != nil { // the next one then leads
			t.Fatal(err)
		}
	}
}
