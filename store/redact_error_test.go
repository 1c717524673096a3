package store_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/store"
)

// places are URLs with S where a user may put a secret, on purpose or because something around it
// is not escaped.
var places = []string{
	"hostile://user:S@h:1", "hostile://S:pw@h", "hostile://S@h", "hostile://:S@h", "hostile://user:S@h:1/0?ns=shop", "hostile://user:S", "hostile://user:S/x@h", "hostile://user:12/S@h", "hostile://user:12?S@h",
	"hostile://user:12#S@h", "hostile://user:12?a=S@h", "hostile://S/12@h", "hostile://S?12@h", "hostile://S#12@h", "hostile://:12/x?ns=S@h", "hostile://user:p@S@h", "hostile://user:p@S/x@h", "hostile://a@b@c:S@h",
	"hostile://h/S", "hostile://h/0/S/1", "hostile://h/S?ns=shop", "hostile://h#S", "hostile://h/0#S", "hostile://h?ns=shop#S", "hostile://h:S", "hostile://h:1S", "hostile://h?S", "hostile://h?S=1", "hostile://h?S&a=1",
	"hostile://h?password=S", "hostile://h?pasword=S&ns=shop", "hostile://h?a=1;b=S", "hostile://h?ns=%zz&p=S", "hostile://h?dsn=x%3Ay%40S", "hostile://user:%zz@h/S", "hostile://user:S%zz@h", "hostile://user: S@h",
	"hostile://user:S@[::1]:1/x", "hostile://user:S@[::1", "hostile://user:S@[::1]:x", "hostile://user:S@[S]", "hostile:///run/x.sock?password=S", "hostile:///user:S@h/x", "hostile+unix:///run/x.sock?p=S", "hostile+unix://user:S@/run/x.sock",
	"hostile://user:S@a:1,b:2,c:3/db", "hostile://user:S@a,b,c/db", "hostile://u:S@a:1,u:S@b:2/", "hostile://a:1,b:2/S", "hostile:S", "hostile:user:S@h", "hostile:/S", "hostile:/user:S@h", "hostile://user:S@h\n", " hostile://user:S@h", "hostile://user:S@h?\x7f", "hostile://us\ter:S@h",
	"Hostile://user:S@h?x=1", "user:S@h", "S@h:1", "//user:S@h", "/S", "h/S", "hostile//user:S@h", "heap://user:S@h", "shm://user:S@h/x", "shm:///nonexistent/x?password=S", "shm:///nonexistent/x?limit=S", "shm:///nonexistent/x#S",
}

// hostileError has a URL in all forms that a client of a database may come up with.
func hostileError(rawURL string) error {
	list := []error{fmt.Errorf("cannot use %s, %q, %#v", rawURL, rawURL, rawURL)}
	u, err := url.Parse(rawURL)
	if err != nil {
		return errors.Join(append(list, err)...)
	}
	password, _ := u.User.Password()
	for _, v := range []any{u, u.Redacted(), u.User, u.User.Username(), password, u.Path, u.RawPath, u.EscapedPath(), u.Opaque, u.RawQuery, u.Query(), u.Fragment, u.EscapedFragment(), u.RequestURI()} {
		list = append(list, fmt.Errorf("%v", v), fmt.Errorf("%q", v), errors.New(url.QueryEscape(fmt.Sprint(v))), errors.New(url.PathEscape(fmt.Sprint(v))))
	}
	list = append(list, fmt.Errorf("dial user=%s password=%s database=%s", u.User.Username(), password, strings.TrimPrefix(u.Path, "/")),
		fmt.Errorf("Authorization: Basic %s", base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))),
		&url.Error{Op: "Get", URL: rawURL, Err: fmt.Errorf("at %s: %w", u, errHostile)})
	return errors.Join(list...)
}

var errHostile = errors.New("hostile")

// secretIn reports whether a text has the secret of the tests.
func secretIn(text string) bool { return strings.Contains(text, "q9sec") }

// otherURL reports whether a secret makes a URL another one, whose scheme or host it is in.
func otherURL(rawURL string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && secretIn(u.Scheme+u.Host) && !strings.Contains(u.Path, "@")
}

func checkRedacted(t testing.TB, place, secret string) {
	t.Helper()
	rawURL := strings.ReplaceAll(place, "S", secret)
	if otherURL(rawURL) {
		return
	}
	if shown := store.RedactURL(rawURL); secretIn(shown) {
		t.Errorf("%q is shown as %s", rawURL, shown)
	}
	err := hostileError(rawURL)
	redacted := store.RedactError(err, rawURL)
	if text := fmt.Sprintf("%v %+v %q", redacted, redacted, redacted); secretIn(text) {
		t.Errorf("%q:\n%v\n%v", rawURL, redacted, err)
	}
	if errors.Is(err, errHostile) != errors.Is(redacted, errHostile) || errors.Unwrap(redacted) != nil {
		t.Errorf("%q: what the error wraps has changed: %v", rawURL, redacted)
	}
}

// Nothing of a URL but scheme, host and namespace is in an error after RedactError.
func TestRedactError(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		for _, secret := range []string{"zq9secret", "%7Aq9secret", "zq9sec%2Fret", "a:zq9secret", `"zq9secret\`, "zq9secret\n", "a b zq9secret", "é%E9zq9secret", "@@zq9secret"} {
			checkRedacted(t, place, secret)
		}
	}
	for _, c := range []struct{ rawURL, text, want string }{
		// What people need stays.
		{"hostile://:a@h/1", "shard=10, user=admin, password=a, 'a'", "shard=10, user=admin, password=xxxxx, 'xxxxx'"},
		{"hostile://h?cluster=true&addr=h2:6380&addr=[::1]:6381", "dial h2:6380, [::1]:6381, lookup h2: remove cluster=true", ""},
		{"hostile:///dir/shop?key=zq9secret", "open /dir/shop with zq9secret", "open /dir/shop with xxxxx"},
		{"hostile:///dir/sh%20op", "open /dir/sh op or /dir/sh%20op", ""},
		{"hostile://:secret@h", "secretive, topsecret", ""},
		// Escaped once more, a secret is not a part of the word before it.
		{"hostile://user:secret@h", `u%3Asecret u%253asecret u%25253Asecret %3A%3Asecret`, `u%3Axxxxx u%253axxxxx u%25253Axxxxx %3A%3Axxxxx`},
		{"hostile://:secret@h", `u\nsecret u\x01secret u\u00e9secret u\U0001f600secret`, `u\nxxxxx u\x01xxxxx u\u00e9xxxxx u\U0001f600xxxxx`},
		{"hostile://:secret@h", `100%secret, \usecret, %3secret`, `100%xxxxx, \usecret, %3secret`},
		{"hostile://:a%3Czq9secret%3E%26@h", `"a\u003czq9secret\u003e\u0026"`, `"xxxxx"`},
		{"hostile://:%C3%A9%20zq9secret@h", `"\u00e9 zq9secret"`, `"xxxxx"`},
	} {
		if got := store.RedactError(errors.New(c.text), c.rawURL).Error(); got != cmp.Or(c.want, c.text) {
			t.Errorf("%s: got %s, want %s", c.rawURL, got, cmp.Or(c.want, c.text))
		}
	}
	both := errors.Join(&url.Error{Op: "Get", URL: "http://a:zq9secret@b", Err: errHostile},
		fmt.Errorf("again: %w", &url.Error{Op: "Get", URL: "http://a:2q9secret@b/x", Err: errHostile}))
	if got := store.RedactError(both, "hostile://h"); secretIn(got.Error()) {
		t.Error(got)
	}
	plain := errors.New("connection refused")
	if got := store.RedactError(plain, "hostile://user:pass@h/db"); got != plain {
		t.Errorf("got another error: %v", got)
	}
	if got := store.RedactError(nil, "hostile://user:pass@h"); got != nil {
		t.Error(got)
	}
	got := store.RedactError(errors.New("hostile://user:pass@h:1/shop?ns=a&timeout=7: pass the password of user to shopkeepers, timeout=7"),
		"hostile://user:pass@h:1/shop?ns=a&timeout=7")
	if want := "hostile://h:1?ns=a: xxxxx the password of xxxxx to shopkeepers, timeout=xxxxx"; got.Error() != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Errors of clients may quote the URL of a proxy.
func TestRedactProxy(t *testing.T) { // not parallel: it changes the environment
	t.Setenv("HTTPS_PROXY", "http://user:zq9secret@[proxy")
	err := store.RedactError(fmt.Errorf("invalid proxy address %q", "http://user:zq9secret@[proxy"), "hostile://h")
	if secretIn(err.Error()) {
		t.Error(err)
	}
}

func FuzzRedactError(f *testing.F) {
	for i := range places {
		f.Add(i, "", "a/b")
		f.Add(i, "x@", "?#")
		f.Add(i, "0", " ,")
	}
	f.Fuzz(func(t *testing.T, place int, before, after string) {
		if place < 0 || place >= len(places) || len(before)+len(after) > 100 {
			return
		}
		secret := before + "zq9secret" + after
		checkRedacted(t, places[place], secret)
		checkRedacted(t, places[place], url.QueryEscape(secret))
		checkRedacted(t, places[place], url.PathEscape(secret))
	})
}

// hostileStore fails with the URL that it was opened from.
type hostileStore struct{ url string }

func (s hostileStore) Heads(context.Context, []string) (map[string]store.Head, error) {
	return nil, fmt.Errorf("%w, %w", store.ErrRefused, hostileError(s.url))
}
func (s hostileStore) Get(context.Context, []store.Key) ([][]byte, error) { panic(s.url) }
func (s hostileStore) Commit(context.Context, *store.Commit) error        { panic(s.url) }
func (s hostileStore) Close() error                                       { return hostileError(s.url) }

var registerHostile = sync.OnceFunc(func() {
	store.Register("hostile", func(_ context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
		switch rawURL := u.String(); {
		case u.Query().Has("panics"):
			panic(rawURL)
		case u.Query().Has("fails"):
			return nil, hostileError(rawURL)
		default:
			return &store.Config{Shards: []store.Store{hostileStore{rawURL}}}, nil
		}
	})
})

// lines is a log. Several goroutines may write to it.
type lines struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

// What a registry says about a store has nothing of the URL's secrets, even if the driver and the
// store quote all of it.
func TestHostileDriver(t *testing.T) {
	t.Parallel()
	registerHostile()
	for _, place := range append(places, "hostile://user:S@h/S?fails=S", "hostile://user:S@h/S?panics=S") {
		rawURL := strings.ReplaceAll(place, "S", "zq9secret")
		if otherURL(rawURL) {
			continue
		}
		log := new(lines)
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.NewTextHandler(log, nil))})
		r.NewCounter("a_total", "A.", nil).Inc()
		var page strings.Builder
		// What has failed is tried again for as long as there is time.
		over, cancel := context.WithCancel(t.Context())
		cancel()
		errs := []error{r.Bind(t.Context(), rawURL), r.Bind(t.Context(), "heap:"), r.Flush(over), r.Write(t.Context(), &page, nil), r.Close(over)}
		log.mu.Lock()
		if said := fmt.Sprintf("%v %+v %s %s", errs, errs, page.String(), log.String()); secretIn(said) {
			t.Errorf("%q:\n%s", rawURL, said)
		}
		log.mu.Unlock()
	}
}
