package main

import (
	"context"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParsePage(t *testing.T) {
	t.Parallel()
	p, err := parsePage(`# HELP a_total Help with { and " in it.
# TYPE a_total counter
a_total 3
b{x="1",y="2"} 4.5

c{x="} 9 \" \\"} 1e+06 1700000000000
d{le="+Inf"} +Inf
e{} 0
`)
	want := page{"a_total": 3, `b{x="1",y="2"}`: 4.5, `c{x="} 9 \" \\"}`: 1e6, `d{le="+Inf"}`: math.Inf(1), "e{}": 0}
	if err != nil || !maps.Equal(p, want) {
		t.Errorf("parsePage = %v, %v; want %v", p, err, want)
	}
	if p, err := parsePage(""); err != nil || len(p) != 0 {
		t.Errorf("empty page: %v, %v", p, err)
	}
	for _, text := range []string{
		"a_total 3",
		"a_total 3\nb_tot",
		"a_total\n",
		"a_total \n",
		" 3\n",
		"a_total three\n",
		"a_total 3 4 5\n",
		`a{x="1" 3` + "\n",
		`a{x="1\"} 3` + "\n",
		"a_total 3\na_total 3\n",
	} {
		if p, err := parsePage(text); err == nil {
			t.Errorf("parsePage(%q) = %v without an error", text, p)
		}
	}
}

func TestLabel(t *testing.T) {
	t.Parallel()
	const sample = `a{method="GET",other_route="x",route="/",status_code="200"}`
	for name, want := range map[string]string{"method": "GET", "route": "/", "status_code": "200", "code": "", "": ""} {
		if got := label(sample, name); got != want {
			t.Errorf("label(%q) = %q, want %q", name, got, want)
		}
	}
	if got := label("a_total", "route"); got != "" {
		t.Errorf("without labels: %q", got)
	}
}

func TestFetchPage(t *testing.T) {
	t.Parallel()
	var handle http.HandlerFunc
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r) }))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	fetch := func(h http.HandlerFunc) (page, error) {
		handle = h
		return fetchPage(context.Background(), addr)
	}
	p, err := fetch(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("a 1\n")) })
	if err != nil || p["a"] != 1 {
		t.Errorf("page: %v, %v", p, err)
	}
	if p, err := fetch(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "a 1", http.StatusServiceUnavailable) }); err == nil {
		t.Errorf("status 503: %v", p)
	}
	if p, err := fetch(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("a 1\n"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}); err == nil {
		t.Errorf("cut page: %v", p)
	}
}
