package metrichttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

// gateways are URLs with S where a user may put a secret, on purpose or because something around it
// is not escaped.
var gateways = []string{
	"http://user:S@gw", "http://S:pw@gw", "http://S@gw", "http://user:S@gw/path", "http://gw/S", "http://gw/a/S/b", "http://gw?token=S", "http://gw?S", "http://gw?S=1", "http://gw#S",
	"http://user:S@gw?x=1", "http://user:S@gw#x", "http://user:12/S@gw", "http://user:12?S@gw", "http://user:12#S@gw", "http://S/12@gw", "http://user:p@S@gw", "http://user:S@[::1", "http://user:S@[::1]:x",
	"http://user:S@[::1]:9091/x", "http://user:S@gw:x", "http://user:S@gw:99999999", "http://gw:S", "http://user:%zz@gw/S", "http://user:S%zz@gw", "http://gw/%zzS", "http://user:S@gw\n", " http://user:S@gw",
	"user:S@gw:9091", "S@gw", "gw/S", "//user:S@gw", "/S", "S", "http:S", "http:/user:S@gw", "http:user:S@gw", "http:///S", "http:///user:S@gw", "ftp://user:S@gw", "nosuch:S", "http+unix://%2Frun%2Fgw.sock/S",
	"unix:///run/S@gw.sock", "http://user:S@a:1,b:2/", "http://user:S@a,b", "http://user:S@gw\x7f", "http://user: S@gw", "http//user:S@gw", "http://gw/a@S", "http://gw/a;S", "http://gw/a:S",
}

// hostile answers, or fails, in a way that has the URL of the request in it.
type hostile string

func (h hostile) RoundTrip(req *http.Request) (*http.Response, error) {
	text := fmt.Sprintf("%s %+v %q %s %v", req.URL, req.URL, req.URL, req.URL.Redacted(), req.URL.User)
	answer := func(code int, status, location string) (*http.Response, error) {
		header := http.Header{"Location": {location}}
		return &http.Response{StatusCode: code, Status: status, Header: header, Body: io.NopCloser(strings.NewReader("no page " + text)), Request: req}, nil
	}
	switch h {
	case "answers":
		return answer(http.StatusNotFound, "404 no "+req.URL.Path, "")
	case "redirects":
		return answer(http.StatusTemporaryRedirect, "307", req.URL.String()+"/again")
	case "redirects nowhere":
		return answer(http.StatusTemporaryRedirect, "307", req.URL.String()+"/%zz\x7f")
	case "panics":
		panic(text)
	}
	return nil, &url.Error{Op: "Post", URL: req.URL.String(), Err: errors.New("cannot connect to " + text)}
}

var hostiles = []hostile{"answers", "redirects", "redirects nowhere", "panics", "fails"}

// saidOf returns everything that is said about pushes to a URL.
func saidOf(t testing.TB, h hostile, rawURL string) string {
	said := new(strings.Builder)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: slog.New(slog.NewTextHandler(said, nil))})
	p := &metrichttp.Pusher{URL: rawURL, Job: "j", Registry: r, Client: &http.Client{Transport: h}}
	fmt.Fprintf(said, "%v %+v\n", p, p)
	for err := range errorTree(p.Put(t.Context()), p.Delete(t.Context())) {
		fmt.Fprintf(said, "%v\n%+v\n%q\n", err, err, err)
	}
	slog.New(slog.NewTextHandler(said, nil)).Info("pushing", "pusher", p, "value", slog.AnyValue(p))
	return said.String()
}

// errorTree ranges over errors and what they wrap, as trackers of errors do.
func errorTree(errs ...error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		for len(errs) > 0 {
			err := errs[0]
			errs = errs[1:]
			if err == nil {
				continue
			}
			if !yield(err) {
				return
			}
			switch err := err.(type) {
			case interface{ Unwrap() error }:
				errs = append(errs, err.Unwrap())
			case interface{ Unwrap() []error }:
				errs = append(errs, err.Unwrap()...)
			}
		}
	}
}

func checkPushed(t testing.TB, place, secret string) {
	t.Helper()
	rawURL := strings.ReplaceAll(place, "S", secret)
	if u, err := url.Parse(rawURL); err == nil && strings.Contains(u.Scheme+u.Host, "q9sec") && !strings.Contains(u.Path, "@") {
		return // the secret makes it another URL, whose scheme or host it is in
	}
	for _, h := range hostiles {
		if said := saidOf(t, h, rawURL); strings.Contains(said, "q9sec") {
			t.Errorf("%q, a transport that %s:\n%s", rawURL, h, said)
		}
	}
}

// Nothing that is said about a gateway has a secret from its URL, wherever that is, escaped or not.
func TestPushSecrets(t *testing.T) {
	t.Parallel()
	for _, place := range gateways {
		for _, secret := range []string{"zq9secret", "%7Aq9secret", "zq9sec%2Fret", "a:zq9secret", `"zq9secret\`} {
			checkPushed(t, place, secret)
		}
	}
}

func FuzzPushSecrets(f *testing.F) {
	for i := range gateways {
		f.Add(i, "", "a/b")
		f.Add(i, "x@", "?#")
	}
	f.Fuzz(func(t *testing.T, place int, before, after string) {
		if place < 0 || place >= len(gateways) || len(before)+len(after) > 100 {
			return
		}
		checkPushed(t, gateways[place], before+"zq9secret"+after)
		checkPushed(t, gateways[place], url.QueryEscape(before+"zq9secret"+after))
		checkPushed(t, gateways[place], url.PathEscape(before+"zq9secret"+after))
	})
}

// quoting answers with what it was given to authenticate with.
type quoting struct{}

func (quoting) RoundTrip(req *http.Request) (*http.Response, error) {
	user, password, _ := req.BasicAuth()
	text := fmt.Sprintf("%s: %q may not push with %q", req.Header.Get("Authorization"), user, password)
	return &http.Response{StatusCode: http.StatusForbidden, Status: "403 Forbidden", Body: io.NopCloser(strings.NewReader(text)), Request: req}, nil
}

// A user and a password that are no part of the URL are not shown either.
func TestPushPassword(t *testing.T) {
	t.Parallel()
	p := &metrichttp.Pusher{URL: "http://gw", Job: "j", Registry: gotheus.NewRegistry(nil), User: "zq9user", Password: "zq9 secret/", Client: &http.Client{Transport: quoting{}}}
	err := p.Put(t.Context())
	if want := `403 Forbidden: Basic xxxxx: "xxxxx" may not push with "xxxxx"`; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the error is %v, and must end with %s", err, want)
	}
}

// untilWritten calls done once something was written.
type untilWritten struct {
	strings.Builder
	done func()
}

func (w *untilWritten) Write(p []byte) (int, error) {
	defer w.done()
	return w.Builder.Write(p)
}

// What Run logs has no secret either.
func TestPushLogSecrets(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &untilWritten{done: cancel}
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: slog.New(slog.NewTextHandler(said, nil))})
	p := &metrichttp.Pusher{URL: "http://gw/zq9secret", Job: "j", Registry: r, User: "zq9secret", Password: "zq9secret", Client: &http.Client{Transport: hostile("fails")}}
	err := p.Run(ctx, time.Hour)
	if err == nil || strings.Contains(err.Error()+said.String(), "q9sec") || !strings.Contains(said.String(), "a push failed") {
		t.Errorf("%v; %s", err, said)
	}
}
