package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The demo reads pages like any scraper, over HTTP, and with its own parser, since the library must
// not check itself.

// page maps samples, as they are written with name and labels, to their values.
type page map[string]float64

var errCut = errors.New("the page does not end with a newline")

// parsePage parses the Prometheus text format as far as samples go.
func parsePage(text string) (page, error) {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return nil, errCut
	}
	p := make(page)
	for n, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		end := endOfSample(line)
		fields := strings.Fields(line[end:]) // value and perhaps a timestamp
		if end == 0 || len(fields) == 0 || len(fields) > 2 {
			return nil, fmt.Errorf("line %d is not a sample: %q", n+1, line)
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if _, ok := p[line[:end]]; ok {
			return nil, fmt.Errorf("line %d: %s occurs twice", n+1, line[:end])
		}
		p[line[:end]] = v
	}
	return p, nil
}

// endOfSample returns the end of name and labels in a line; 0 if there is none.
func endOfSample(line string) int {
	i := strings.IndexAny(line, "{ ")
	if i < 0 || line[i] == ' ' {
		return max(i, 0)
	}
	for quoted := false; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '}' && !quoted:
			return i + 1
		}
	}
	return 0
}

// label returns the value of a label of a sample, as it is written.
func label(sample, name string) string {
	_, labels, _ := strings.Cut(sample, "{")
	_, value, ok := strings.Cut(","+labels, ","+name+`="`)
	if !ok {
		return ""
	}
	value, _, _ = strings.Cut(value, `"`)
	return value
}

var scraper = &http.Client{Timeout: 30 * time.Second}

// fetchPage reads the page of the worker whose admin listener has that address.
func fetchPage(ctx context.Context, admin string) (page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := scraper.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return parsePage(string(body))
}
