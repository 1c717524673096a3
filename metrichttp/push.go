package metrichttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Pusher sends the page of a registry to a Pushgateway, for jobs that end before they could be scraped. Its
// methods may be called concurrently; fields must not be changed meanwhile. See
// https://github.com/prometheus/pushgateway/blob/master/README.md.
type Pusher struct {
	URL      string            // of the gateway, such as http://pushgateway:9091
	Job      string            // value of the grouping label job; must not be empty
	Grouping gotheus.Labels    // further labels of the group. Metrics should not have any of them
	Registry *gotheus.Registry // nil: gotheus.Default()
	Client   *http.Client      // nil: http.DefaultClient; time is limited by the context alone
	User     string            // for basic authentication, with Password; "": none
	Password string
}

// Put replaces all metrics of the group.
func (p *Pusher) Put(ctx context.Context) error { return p.push(ctx, http.MethodPut) }

// Post replaces the metrics of the group that have the same names as those that are sent.
func (p *Pusher) Post(ctx context.Context) error { return p.push(ctx, http.MethodPost) }

// Delete deletes all metrics of the group.
func (p *Pusher) Delete(ctx context.Context) error { return p.send(ctx, http.MethodDelete, nil) }

func (p *Pusher) push(ctx context.Context, method string) error {
	registry := p.Registry
	if registry == nil {
		registry = gotheus.Default()
	}
	// In one piece, so that it can be sent again where a redirection asks for that.
	var page bytes.Buffer
	if err := registry.Write(ctx, &page, nil); err != nil {
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
		return fmt.Errorf("metrichttp: %w", err) // names the method and the URL without the password
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // of what is wrong; also frees the connection
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
		return "", fmt.Errorf("metrichttp: URL of the gateway: %w", err)
	case base.Scheme == "" || base.Host == "":
		return "", fmt.Errorf("metrichttp: URL of the gateway %q: scheme or host is missing, as in http://pushgateway:9091", p.URL)
	case base.RawQuery != "" || base.Fragment != "":
		return "", fmt.Errorf("metrichttp: URL of the gateway %q: must have no query and no fragment", base.Redacted())
	case p.Job == "":
		return "", errors.New("metrichttp: Job is missing")
	}
	var path strings.Builder
	path.WriteString(strings.TrimRight(strings.TrimSuffix(base.EscapedPath(), "/"), "/") + "/metrics")
	if err := appendPair(&path, "job", p.Job); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Grouping)) {
		if name == "job" || name == "" || strings.HasPrefix(name, "__") || !utf8.ValidString(name) {
			return "", fmt.Errorf("metrichttp: grouping label %q: must be UTF-8, neither job nor empty, and not begin with __", name)
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

// appendPair appends a grouping label. A value that cannot be an element of a path is in base64.
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
