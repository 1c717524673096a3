package metrichttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
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
)

// Pusher pushes the page of a registry to a Pushgateway, for jobs that end before they can be
// scraped. Its methods may be called concurrently; its fields must not be changed meanwhile. See
// https://github.com/prometheus/pushgateway/blob/master/README.md.
//
// A job that ends by itself calls Put when its work is done. A program that runs for longer calls
// Run.
type Pusher struct {
	URL      string            // of the gateway, such as http://pushgateway:9091
	Job      string            // value of the grouping label job; required
	Grouping gotheus.Labels    // further grouping labels; metrics should not have them
	Registry *gotheus.Registry // nil: gotheus.Default()
	Client   *http.Client      // nil: http.DefaultClient; the context limits its time
	User     string            // for basic authentication, with Password
	Password string
	Header   http.Header // added to every request, such as a token in Authorization

	// Names selects families by the names of families or samples, with the registry's prefix.
	// Nil: all.
	Names []string

	// Scope says which processes the pushed page covers. It matters where processes share a
	// backend. ScopeAll, the zero value, is the total of all of them: it suits Put and Post by
	// one process, or by several to the same group. If several processes push to separate
	// groups, for instance with a grouping label instance, the sum over the groups would be a
	// multiple of the total: use ScopeLeader, with which one process pushes the total, and the
	// others only their own per-process metrics. Run uses ScopeLeader in place of ScopeAll.
	Scope gotheus.Scope

	// Error is called with the errors of Run's pushes, except the last one. Nil: they are
	// logged through log/slog.
	Error func(error)
}

// Put replaces all metrics of the group.
func (p *Pusher) Put(ctx context.Context) error { return p.push(ctx, http.MethodPut, p.Scope) }

// Post replaces the metrics of the group that have the same names as those pushed.
func (p *Pusher) Post(ctx context.Context) error { return p.push(ctx, http.MethodPost, p.Scope) }

// Delete deletes all metrics of the group.
func (p *Pusher) Delete(ctx context.Context) error { return p.send(ctx, http.MethodDelete, nil) }

// lastPush is how long the last push of Run may take, and the least time that the others are given.
const lastPush = 5 * time.Second

// Run pushes as Post does, at once and then at the given interval until ctx ends, and then once
// more, so that the last counts arrive. It returns the error of this last push, which takes five
// seconds at most. Errors of the other pushes go to p.Error, and Run goes on. Run returns an error
// at once if no push could succeed: if the interval is not positive, or the URL, the job or the
// grouping is invalid.
//
// All processes that share a backend may call Run: unless p.Scope is ScopeOwn, one of them pushes
// the total, and the others only their own per-process metrics. If they have the same Grouping, the
// group shows the per-process metrics of the process that pushed last. The registry must not be
// closed before Run has returned.
func (p *Pusher) Run(ctx context.Context, every time.Duration) error {
	if every <= 0 {
		return fmt.Errorf("metrichttp: Run: the interval %v must be positive", every)
	}
	if _, err := p.group(); err != nil {
		return err
	}
	scope := p.Scope
	if scope == gotheus.ScopeAll {
		scope = gotheus.ScopeLeader
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, max(every, lastPush))
		err := p.push(limited, http.MethodPost, scope)
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
	return p.push(last, http.MethodPost, scope)
}

func (p *Pusher) failed(err error) {
	if p.Error != nil {
		p.Error(err)
		return
	}
	slog.Warn("gotheus: a push failed; the next one follows after the interval", "error", err)
}

func (p *Pusher) push(ctx context.Context, method string, scope gotheus.Scope) error {
	registry := p.Registry
	if registry == nil {
		registry = gotheus.Default()
	}
	// In one piece, so that it can be sent again after a redirect.
	var page bytes.Buffer
	if err := registry.Write(ctx, &page, &gotheus.WriteOptions{Names: p.Names, Scope: scope}); err != nil {
		return fmt.Errorf("metrichttp: nothing was pushed: %w", err)
	}
	return p.send(ctx, method, &page)
}

func (p *Pusher) send(ctx context.Context, method string, page *bytes.Buffer) error {
	target, err := p.group()
	if err != nil {
		return err
	}
	var body io.Reader
	if page != nil {
		body = page
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return fmt.Errorf("metrichttp: %w", err)
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
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("metrichttp: %w", err) // names the method and the redacted URL
	}
	defer resp.Body.Close()
	// The body says what is wrong. Reading it also lets the connection be reused.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("metrichttp: %s %s: %s: %s", method, req.URL.Redacted(), resp.Status, bytes.TrimSpace(text))
	}
	return nil
}

// group returns the URL of the group.
func (p *Pusher) group() (string, error) {
	base, err := url.Parse(p.URL)
	switch {
	case err != nil:
		return "", fmt.Errorf("metrichttp: gateway URL: %w", err)
	case base.Scheme == "" || base.Host == "":
		return "", fmt.Errorf("metrichttp: gateway URL %q: it must have a scheme and a host, as in http://pushgateway:9091", p.URL)
	case base.RawQuery != "" || base.Fragment != "":
		return "", fmt.Errorf("metrichttp: gateway URL %q: it must not have a query or a fragment", base.Redacted())
	case p.Job == "":
		return "", errors.New("metrichttp: Job is required")
	}
	var path strings.Builder
	path.WriteString(strings.TrimRight(strings.TrimSuffix(base.EscapedPath(), "/"), "/") + "/metrics")
	if err := appendPair(&path, "job", p.Job); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Grouping)) {
		if name == "job" || name == "" || strings.HasPrefix(name, "__") || !utf8.ValidString(name) {
			return "", fmt.Errorf("metrichttp: grouping label %q: it must be UTF-8, not empty, not job, and not begin with __", name)
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

// appendPair appends a grouping label. A value that cannot be a path element is encoded in base64.
func appendPair(path *strings.Builder, name, value string) error {
	if !utf8.ValidString(value) {
		return fmt.Errorf("metrichttp: grouping label %q: value %q is not UTF-8", name, value)
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
