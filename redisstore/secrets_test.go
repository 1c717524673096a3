//go:build linux

package redisstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/redisstore"
)

// places are URLs with S where a user may put a secret, on purpose or because something around it
// is not escaped.
var places = []string{
	"redis://:S@h:1", "redis://user:S@h:1", "redis://user:S@h:1/0?ns=shop", "redis://S@h:1", "redis://S:pw@h:1", "rediss://user:S@h:1?skip_verify=true",
	"redis://user:S", "redis://user:S/x@h:1", "redis://user:12/S@h:1", "redis://user:12?S@h:1", "redis://user:12#S@h:1", "redis://user:12?a=S@h:1", "redis://user:S#12@h:1",
	"redis://S/12@h:1", "redis://S?12@h:1", "redis://S#12@h:1", "redis://S/12?ns=a@h:1", "redis://:12/x?ns=S@h:1", "redis://u:12?ns=S&x=@h:1", "redis://user:p@S/x@h:1",
	"redis://h:1/S", "redis://h:1/0/S", "redis://h:1/S?ns=shop", "redis://h:1#S", "redis://h:1/0#S", "redis://h:1?ns=shop#S", "redis://h:S", "redis://h:1S", "redis://h:1?S",
	"redis://h:1?S=1", "redis://h:1?pasword=S", "redis://h:1?password=S", "redis://h:1?username=S", "redis://h:1?Password=S", "redis://h:1?ns=shop&pw=S&alive=1s",
	"redis://h:1?interval=S", "redis://h:1?alive=S", "redis://h:1?timeout=S", "redis://h:1?expire=S", "redis://h:1?stale=S", "redis://h:1?shards=S", "redis://h:1?cluster=S",
	"redis://h:1?cluster=true&addr=S", "redis://h:1?cluster=true&addr=h:S", "redis://h:1?cluster=true&addr=S@h:1", "redis://user:S@h:1?cluster=true", "redis://h:1?skip_verify=S",
	"redis://h:1?db=S", "redis://h:1?pool_size=S", "redis://h:1?dial_timeout=S", "redis://h:1?pool_fifo=S", "redis://h:1?client_name=x&max_retries=S",
	"redis://h:1?sentinel_password=S", "redis://h:1?master=m&sentinel_pasword=S", "redis://h:1?master=m&sentinel_password=S&x=1", "redis://h:1?master=m&sentinel_username=S&x=1",
	"redis://user:S@h:1?master=m&db=x", "redis://h:1?ns=%z&password=S", "redis://h:1?a;S", "redis:S", "redis:S@h:1", "redis:/S", "redis:///S", "user:S@h:1", "S@h:1", "//user:S@h:1", "/S",
	"http://user:S@h:1", "Redis://user:S@h:1?x=1", "redis//user:S@h:1", "redis://user:S@h:1\n", " redis://user:S@h:1", "redis://user:S@[::1", "redis://user:S@h:1?\x7f",
	"shm://user:S@h/x", "shm:///nonexistent/x?password=S", "shm:///nonexistent/x?limit=1MiB&S=1", "shm:///nonexistent/x?start=S", "shm:///nonexistent/x#S", "shm:S",
	"heap:S", "heap://user:S@h", "heap:?password=S", "heap:#S", "nosuch://user:S@h", "nosuch://user:S@h?x=S", "nosuch:S@h", "nosuch:S",
}

// said returns everything that is said about a URL. Without bound, a registry is not bound to one
// that is valid, which takes a while.
func said(t testing.TB, rawURL string, bound bool) string {
	log := new(lockedBuilder)
	logger := slog.New(slog.NewTextHandler(log, nil))
	say := func(err error) {
		if err != nil {
			fmt.Fprintf(log, "%v\n%+v\n%s\n", err, err, err)
		}
	}
	// Nothing is waited for: what a server answers has nothing of the URL in it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := redisstore.Open(rawURL); err != nil {
		say(err)
		bound = true
	} else {
		_, err := c.Shards[0].Heads(ctx, nil)
		say(err)
		for _, s := range c.Shards {
			s.Close()
		}
	}
	if n, err := redisstore.OpenNamespace(rawURL); err != nil {
		say(err)
	} else {
		_, err := n.Keys(ctx)
		say(err)
		n.Close()
	}
	if !bound {
		return log.String()
	}
	short, cancel2 := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel2()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: logger})
	say(r.Bind(short, rawURL))
	say(r.Bind(short, "heap:"))
	say(r.Flush(short))
	say(r.Close(ctx))
	return log.String()
}

// Nothing that is said about a URL has a secret from it, wherever that is, escaped or not.
func TestSecrets(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		for _, secret := range []string{"Zq9secret", "%5Aq9%23secret", "Zq9:se%2F"} {
			check(t, place, secret, true)
		}
	}
}

// The same for secrets of all kinds of characters.
func TestStrangeSecrets(t *testing.T) {
	t.Parallel()
	const special = "#/?@:%&=;[]!$'() ,\\\"<>~|^+ab12"
	rnd := rand.New(rand.NewPCG(1, 2))
	strange := func() string {
		b := make([]byte, rnd.IntN(6))
		for i := range b {
			b[i] = special[rnd.IntN(len(special))]
		}
		return string(b)
	}
	for range 30 {
		for _, place := range places {
			check(t, place, strange()+"Zq9secret"+strange(), false)
		}
	}
}

func FuzzSecrets(f *testing.F) {
	for i := range places {
		f.Add(i, "Zq9", "a/b")
		f.Add(i, "x@", "?#")
	}
	f.Fuzz(func(t *testing.T, place int, before, after string) {
		if place < 0 || place >= len(places) || len(before)+len(after) > 100 {
			return
		}
		check(t, places[place], before+"Zq9secret"+after, false)
		check(t, places[place], url.QueryEscape(before+"Zq9secret"+after), false)
	})
}

func check(t testing.TB, place, secret string, bound bool) {
	t.Helper()
	rawURL := strings.ReplaceAll(place, "S", secret)
	if got := said(t, rawURL, bound); strings.Contains(strings.ToLower(got), "zq9") {
		t.Errorf("%s:\n%s", rawURL, got)
	}
}
