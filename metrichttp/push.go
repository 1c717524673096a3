package metrichttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/internal/report"
	"github.com/gotheus/gotheus/store"
)

// Pusher pushes the metrics of a registry to a Pushgateway, for jobs that end before they could be
// scraped. Its methods may be called concurrently; its fields must not be changed while they run.
// See https://github.com/prometheus/pushgateway/blob/master/README.md.
//
// A batch job calls Put when its work is done. A program that runs for longer calls Run.
//
// All methods return an error that wraps gotheus.ErrInvalid, before anything is sent, if the
// Pusher or the context is nil, or if the URL, the job or the grouping is invalid.
type Pusher struct {
	URL      string            // of the gateway, such as http://pushgateway:9091
	Job      string            // value of the grouping label job; must not be empty
	Grouping gotheus.Labels    // further grouping labels, which the metrics should not have
	Registry *gotheus.Registry // nil: gotheus.Default()
	Client   *http.Client      // nil: http.DefaultClient; contexts limit how long it may take
	User     string            // for basic authentication, with Password; "": none
	Password string
	Header   http.Header // added to every request, such as Authorization with a token

	// Names selects families by their names or those of their samples, including the registry's
	// prefix. Nil selects all.
	Names []string

	// Scope determines whose counts are pushed, by every method, if several processes share a
	// backend. ScopeAll, the zero value, is the total of all processes. It suits one process
	// that pushes, or several that push to one group. If several processes push to different
	// groups, such as by a grouping label instance, the sum over the groups would be a multiple
	// of the total: they need ScopeLeader, with which one process pushes the total and the
	// others only their own series.
	Scope gotheus.Scope

	// Error is called with the error of each failed push by Run, except the last push. If it is
	// nil, the registry's logger gets the errors, at most one a minute.
	Error func(error)
}

// Put replaces all metrics of the group.
func (p *Pusher) Put(ctx context.Context) error { return p.push(ctx, http.MethodPut) }

// Post replaces those metrics of the group that have the same names as the pushed ones.
func (p *Pusher) Post(ctx context.Context) error { return p.push(ctx, http.MethodPost) }

// Delete deletes all metrics of the group.
func (p *Pusher) Delete(ctx context.Context) error {
	target, err := p.group(ctx)
	if err != nil {
		return err
	}
	return p.send(ctx, http.MethodDelete, target, nil)
}

// lastPush limits the last push of Run, and the others if their interval is shorter.
const lastPush = 5 * time.Second

// Run pushes as Post does, at once and then at intervals of every, until ctx ends. It then pushes
// once more, for at most five seconds, so that the last counts arrive, and returns the error of
// that push. Errors of other pushes go to p.Error or the registry's logger. Run returns an error
// that wraps gotheus.ErrInvalid at once if no push could ever succeed, or if the interval is not
// positive.
//
// All processes that share a backend may call Run. If they have the same Grouping, each pushes the
// total, and the group has that of the last push. If their Groupings differ, they need ScopeLeader.
// The registry must not be closed before Run has returned.
func (p *Pusher) Run(ctx context.Context, every time.Duration) error {
	if _, err := p.group(ctx); err != nil {
		return err
	}
	if every <= 0 {
		return invalid("Run: the interval %v must be positive", every)
	}
	defer p.log().Forget(p.cause())
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, max(every, lastPush))
		err := p.push(limited, http.MethodPost)
		cancel()
		if err != nil && ctx.Err() == nil {
			p.failed(err)
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPush)
	defer cancel()
	return p.push(last, http.MethodPost)
}

func (p *Pusher) failed(err error) {
	if p.Error != nil {
		defer inside.Home(p.registry()).Contain("Pusher.Error")
		p.Error(err)
		return
	}
	p.log().Log(slog.LevelWarn, p.cause(), "a push failed; it will be retried", "error", err)
}

// log returns the registry's log.
func (p *Pusher) log() *report.Log { return &inside.Home(p.registry()).Log }

func (p *Pusher) cause() string { return fmt.Sprintf("push %p", p) }

func (p *Pusher) registry() *gotheus.Registry {
	if p.Registry == nil {
		return gotheus.Default()
	}
	return p.Registry
}

func (p *Pusher) push(ctx context.Context, method string) error {
	target, err := p.group(ctx)
	if err != nil {
		return err
	}
	// The page is buffered so that the client can send it again after a redirect.
	var page bytes.Buffer
	if err := p.registry().Write(ctx, &page, &gotheus.WriteOptions{Names: p.Names, Scope: p.Scope}); err != nil {
		return fmt.Errorf("metrichttp: nothing was pushed: %w", err)
	}
	return p.send(ctx, method, target, &page)
}

func (p *Pusher) send(ctx context.Context, method, target string, page *bytes.Buffer) error {
	var body io.Reader
	if page != nil {
		body = page
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return fmt.Errorf("metrichttp: %w", p.redacted(err))
	}
	maps.Copy(req.Header, p.Header)
	if page != nil {
		req.Header.Set("Content-Type", expo.Format{}.ContentType())
	}
	if p.User != "" || p.Password != "" {
		req.SetBasicAuth(p.User, p.Password)
	}
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := do(client, req)
	if err != nil {
		return fmt.Errorf("metrichttp: %w", p.redacted(err)) // has the method and the URL
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // lets the connection be reused
	if resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
		return fmt.Errorf("metrichttp: %s %s: %w", method, store.RedactURL(p.URL), p.redacted(err))
	}
	return nil
}

// redacted returns err without what people may not see: clients quote whole URLs, and servers may
// quote anything.
func (p *Pusher) redacted(err error) error {
	auth := url.URL{Scheme: "http", User: url.UserPassword(p.User, p.Password)}
	return store.RedactError(store.RedactError(err, p.URL), auth.String())
}

// String shows neither passwords nor headers.
func (p *Pusher) String() string {
	if p == nil {
		return "no Pusher"
	}
	return fmt.Sprintf("Pusher of job %s to %s", p.Job, store.RedactURL(p.URL))
}

// do sends a request. The client may be the program's own: if it panics, that is an error.
func do(client *http.Client, req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = report.PanicError(p)
		}
	}()
	return client.Do(req)
}

// invalid returns an error about something that no method of a Pusher can work with.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: Pusher: "+format, append([]any{gotheus.ErrInvalid}, args...)...)
}

// group returns the URL of the group. The context is only checked.
func (p *Pusher) group(ctx context.Context) (string, error) {
	switch {
	case p == nil:
		return "", invalid("it is nil")
	case ctx == nil:
		return "", invalid("the context is nil")
	}
	base, err := url.Parse(p.URL)
	shown := store.RedactURL(p.URL)
	switch {
	case err != nil || base.Scheme != "" && !strings.HasPrefix(shown, base.Scheme):
		// err is not wrapped: it may quote a part of a password.
		return "", invalid("URL of the gateway: this is not a URL: special characters in a password must be escaped, " +
			"such as # as %%23, / as %%2F, ? as %%3F and @ as %%40; a gateway's URL has no fragment")
	case base.Scheme == "" || base.Host == "":
		return "", invalid("URL of the gateway %q: must have a scheme and a host, as in http://pushgateway:9091", shown)
	case base.RawQuery != "" || base.Fragment != "":
		return "", invalid("URL of the gateway %q: must not have a query or a fragment", shown)
	case p.Job == "":
		return "", invalid("Job is missing")
	}
	var path strings.Builder
	path.WriteString(strings.TrimRight(strings.TrimSuffix(base.EscapedPath(), "/"), "/") + "/metrics")
	if err := appendPair(&path, "job", p.Job); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Grouping)) {
		if name == "job" || name == "" || strings.HasPrefix(name, "__") || !utf8.ValidString(name) {
			return "", invalid("grouping label %q: must be UTF-8, must not be empty or job, and must not begin with __", name)
		}
		if err := appendPair(&path, expo.Values.LabelName(name), p.Grouping[name]); err != nil {
			return "", err
		}
	}
	if base.Path, err = url.PathUnescape(path.String()); err != nil {
		return "", fmt.Errorf("metrichttp: %w", err)
	}
	base.RawPath = path.String()
	return base.String(), nil
}

// appendPair appends a grouping label to a path. It encodes values that cannot be path elements in
// base64.
func appendPair(path *strings.Builder, name, value string) error {
	if !utf8.ValidString(value) {
		return invalid("grouping label %q: value %q is not UTF-8", name, value)
	}
	path.WriteByte('/')
	path.WriteString(name)
	switch {
	case value == "":
		path.WriteString("@base64/=")
	case strings.Contains(value, "/") || value == "." || value == "..":
		path.WriteString("@base64/")
		path.WriteString(base64.RawURLEncoding.EncodeToString([]byte(value)))
	default:
		path.WriteByte('/')
		path.WriteString(url.PathEscape(value))
	}
	return nil
}
