//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/redisstore"
	"github.com/gotheus/gotheus/store"
)

// Errors name the server, the namespace, the cause and the remedy. If the server refuses, Bind
// returns the error at once, and otherwise nothing.
func TestMessages(t *testing.T) {
	t.Parallel()
	plain, locked := startServer(t), newServer(t)
	locked.startWith("right")
	limited := func(user string, rights ...any) string {
		if err := plain.Do(t.Context(), append([]any{"ACL", "SETUSER", user, "on", ">pw"}, rights...)...).Err(); err != nil {
			t.Fatal(err)
		}
		return "redis://" + user + ":pw@" + plain.addr()
	}
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	secureWeb := httptest.NewTLSServer(http.NotFoundHandler())
	secureWeb.Config.ErrorLog = noLog
	t.Cleanup(secureWeb.Close)
	none, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := none.Addr().String()
	none.Close()
	hostOf := func(url string) string { _, host, _ := strings.Cut(url, "://"); return host }
	for _, c := range []message{
		{"no password", "redis://" + locked.addr(), true, []string{"NOAUTH", "redis://user:password@host"}},
		{"a wrong password", "redis://:wrong@" + locked.addr(), true, []string{"WRONGPASS", "user or password are wrong"}},
		{"an unknown user", "redis://who:wrong@" + locked.addr(), true, []string{"WRONGPASS"}},
		{"a command that is not allowed", limited("a", "~*", "+@all", "-evalsha", "-eval"), true, []string{"command EVALSHA", "NOPERM", "docs/redis.md"}},
		{"a command that is not allowed in a script", limited("b", "~*", "+@all", "-hdel"), true, []string{"command HDEL", "NOPERM", "docs/redis.md"}},
		{"keys that are not allowed", limited("c", "~others", "+@all"), true, []string{"keys of the namespace", "NOPERM", "docs/redis.md"}},
		{"a database that does not exist", "redis://" + plain.addr() + "/99", true, []string{"no database with this number"}},
		{"TLS without TLS", "rediss://" + plain.addr(), true, []string{"does not use TLS: use redis://"}},
		{"HTTP", "redis://" + hostOf(web.URL), true, []string{"HTTP server and not Redis"}},
		{"HTTP with TLS", "rediss://" + hostOf(web.URL), true, []string{"HTTP server and not Redis"}},
		{"HTTPS", "redis://" + hostOf(secureWeb.URL), true, []string{"wants TLS"}},
		{"HTTPS with TLS", "rediss://" + hostOf(secureWeb.URL) + "?skip_verify=true", true, []string{"does not answer as Redis does"}},
		{"something else", "redis://" + answering(t, "SSH-2.0-OpenSSH_9.2\r\n"), true, []string{"does not answer as Redis does"}},
		{"a node of a Cluster", "redis://" + answering(t, "-MOVED 1 127.0.0.1:1\r\n"), true, []string{"cluster=true"}},
		{"a read-only server", "redis://" + answering(t, "-READONLY You can't write against a read only replica.\r\n"), false, []string{"READONLY", "name the master"}},
		{"no memory", "redis://" + answering(t, "-OOM command not allowed when used memory > 'maxmemory'.\r\n"), false, []string{"OOM", "maxmemory"}},
		{"no disk", "redis://" + answering(t, "-MISCONF Redis is configured to save RDB snapshots\r\n"), false, []string{"MISCONF", "disk"}},
		{"a server that starts", "redis://" + answering(t, "-LOADING Redis is loading the dataset in memory\r\n"), false, []string{"LOADING"}},
		{"no server", "redis://" + nobody, false, []string{"cannot be reached", "connection refused"}},
		{"an unwanted password", "redis://:any@" + answering(t, "-ERR AUTH <password> called without any password configured for the default user.\r\n"), true, []string{"the server has no password", "remove it"}},
		{"no scripts", "redis://" + answering(t, "-ERR unknown command 'evalsha'\r\n"), true, []string{"6.2 or later"}},
	} {
		c.test(t)
	}
}

// A server with TLS that is taken for one without, and the other way round.
func TestMessagesOfTLS(t *testing.T) {
	t.Parallel()
	secure := newServer(t)
	cert, key, ca := certificate(t, secure.dir)
	startTLS(t, secure, cert, key, ca)
	for _, c := range []message{
		{"no TLS with TLS", "redis://" + secure.addr(), true, []string{"wants TLS: use rediss://"}},
		{"an unknown certificate", "rediss://" + secure.addr(), true, []string{"certificate", "SSL_CERT_FILE"}},
	} {
		c.test(t)
	}
}

// message is what is said about a URL.
type message struct {
	name, url string
	refused   bool
	want      []string // besides the server and the namespace
}

func (c *message) test(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		t.Parallel()
		u := c.url
		separator := "?"
		if strings.Contains(u, "?") {
			separator = "&"
		}
		u += separator + "ns=named&interval=10ms&alive=1s&max_retries=-1"
		scheme, rest, _ := strings.Cut(c.url, "://")
		rest = rest[strings.Index(rest, "@")+1:]
		server, _, _ := strings.Cut(rest, "?")
		server, _, _ = strings.Cut(server, "/")
		want := append(c.want, scheme+"://"+server, "namespace named")
		begun := time.Now()
		err := newStoreError(t, u)
		if errors.Is(err, store.ErrRefused) != c.refused {
			t.Errorf("ErrRefused: %v: %v", !c.refused, err)
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("no %q in: %v", w, err)
			}
		}
		r := newRegistry()
		defer func() {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			r.Close(ended)
		}()
		bound := r.Bind(t.Context(), u)
		if errors.Is(bound, store.ErrRefused) != c.refused || (bound == nil) == c.refused {
			t.Errorf("Bind returns %v", bound)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		r.NewCounter("c_total", "C.", nil).Inc() // counts all the same
	})
}

// newStoreError returns the error of the first contact.
func newStoreError(t testing.TB, url string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := openStore(t, url).Heads(ctx, []string{"meta"})
	return err
}

// A program's own client has the same messages, as far as the client tells.
func TestMessagesOfOwnClient(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	locked := newServer(t)
	locked.startWith("right")
	for addr, want := range map[string]string{
		locked.addr():                          "NOAUTH",
		strings.TrimPrefix(web.URL, "http://"): "does not answer as Redis does",
	} {
		c, err := redisstore.New(dialTo(t, addr), &redisstore.Options{Namespace: "own"})
		if err != nil {
			t.Fatal(err)
		}
		r := newRegistry()
		err = r.BindStore(t.Context(), c)
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "redis://"+addr+", namespace own") {
			t.Errorf("%s: %v", want, err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		r.Close(ended)
	}
}

// Once the cause is mended, a process that was refused counts in the server.
func TestMended(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	acl(t, s, "resetpass", ">secret")
	r := newRegistry()
	if err := r.Bind(t.Context(), s.url("interval=10ms&alive=1s")); !errors.Is(err, store.ErrRefused) {
		t.Errorf("Bind returns %v", err)
	}
	defer r.Close(t.Context())
	r.NewCounter("c_total", "C.", nil).Inc()
	acl(t, s, "nopass")
	flush(t, r)
	contains(t, page(t, open(t, s.url(""))), "c_total 1")
}
