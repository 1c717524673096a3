package metrichttp_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
)

func newRegistry() *gotheus.Registry {
	return gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: slog.New(slog.DiscardHandler)})
}

func pageOf(t testing.TB, r *gotheus.Registry) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sums holds a middleware's measurements of requests with the same labels.
type sums struct{ requests, received, sent int64 }

var sample = regexp.MustCompile(`(?m)^http_(\w+){method="([^"]*)",route="([^"]*)",status_code="([^"]*)"} (\d+)$`)

// measured returns the measurements on a registry's page, by "METHOD ROUTE STATUS".
func measured(t testing.TB, r *gotheus.Registry) map[string]sums {
	t.Helper()
	all := make(map[string]sums)
	for _, m := range sample.FindAllStringSubmatch(pageOf(t, r), -1) {
		key := m[2] + " " + m[3] + " " + m[4]
		n, err := strconv.ParseInt(m[5], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s := all[key]
		switch m[1] {
		case "request_duration_seconds_count":
			s.requests = n
		case "request_size_bytes_sum":
			s.received = n
		case "response_size_bytes_sum":
			s.sent = n
		case "request_size_bytes_count", "response_size_bytes_count":
			if s.requests != n {
				t.Errorf("%s: %s is %d, but there were %d requests", key, m[1], n, s.requests)
			}
		}
		all[key] = s
	}
	return all
}

// serve starts a server, and a client for it that follows no redirects.
func serve(t testing.TB, h http.Handler) (*httptest.Server, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	c := s.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, c
}
