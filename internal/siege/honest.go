package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// measurement is what honest pages were like, and what they and an attack have cost.
type measurement struct {
	times      []time.Duration // in ascending order
	wrong      []string        // what was wrong with pages
	took       time.Duration
	cpu        float64 // seconds
	peak       int     // KiB
	goroutines int
}

func (m *measurement) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	n := len(m.times)
	return fmt.Sprintf("%d/%d | %v | %v | %.2f s | %.1f MiB | %d", n-len(m.wrong), n, round(m.times[n/2]), round(m.times[n-1]),
		m.cpu/m.took.Seconds(), float64(m.peak)/1024, m.goroutines)
}

// measure reads honest pages, one after the other.
func (s *service) measure(ctx context.Context, pages int) (*measurement, error) {
	before, err := s.facts()
	if err != nil {
		return nil, err
	}
	m, begun := new(measurement), time.Now()
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	for range pages {
		start := time.Now()
		if err := s.scrape(ctx, client); err != nil {
			m.wrong = append(m.wrong, err.Error())
		}
		m.times = append(m.times, time.Since(start))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	slices.Sort(m.times)
	after, err := s.facts()
	if err != nil {
		return nil, err
	}
	m.took, m.cpu = time.Since(begun), after.CPU-before.CPU
	m.peak, m.goroutines = after.Peak, after.Goroutines
	return m, nil
}

// scrape reads a page as Prometheus does. The error says how it is not complete.
func (s *service) scrape(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.public+"/metrics", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	page := string(body)
	switch n := strings.Count(page, "\nsiege_work_"); {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %.100s", resp.Status, page)
	case !strings.HasSuffix(page, "# EOF\n"):
		return fmt.Errorf("a page of %d bytes without an end", len(page))
	case n < 3*seriesOfFamily:
		return fmt.Errorf("%d lines of work", n)
	}
	for _, name := range []string{"siege_polite 1", "siege_deaf 1", "siege_process 1"} {
		if !strings.Contains(page, "\n"+name) {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}
