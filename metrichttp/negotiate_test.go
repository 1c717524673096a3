package metrichttp

import (
	"math"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/expo"
)

const prometheusAccept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
	"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4," +
	"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

func TestNegotiateFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		accept []string
		ok     bool
	}{
		{nil, true},
		{[]string{""}, true},
		{[]string{", ,"}, true},
		{[]string{prometheusAccept}, true},
		{strings.Split(prometheusAccept, ","), true},
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}, true},
		{[]string{"*/*"}, true},
		{[]string{"text/*"}, true},
		{[]string{"TEXT/Plain ; Version=0.0.4"}, true},
		{[]string{`text/plain;version="0.0.4";charset=UTF-8`}, true},
		{[]string{"text/plain;version=0.0.4;q=0.001"}, true},
		{[]string{"text/plain;version=1.0.0"}, false},
		{[]string{"text/plain;version=1.0.0, */*;q=0.1"}, true},
		{[]string{"text/plain;version=0.0.4;q=0, */*"}, false}, // the more specific element counts
		{[]string{"text/*;q=0, */*"}, false},
		{[]string{"*/*;q=0, text/plain"}, true},
		{[]string{"*/*;q=0"}, false},
		{[]string{"image/png"}, false},
		{[]string{"application/openmetrics-text;version=1.0.0"}, false},
		{[]string{"text/plain;q=2"}, false},
		{[]string{"text/plain;q=-1"}, false},
		{[]string{"text/plain;q=NaN"}, false},
		{[]string{"text/plain;q="}, false},
		{[]string{"nonsense"}, false},
		{[]string{";;;=,;q=1"}, true}, // nothing in it
	} {
		if format, ok := negotiateFormat(c.accept); ok != c.ok || ok && format != expo.Text {
			t.Errorf("%q: %v, %v, want %v", c.accept, format, ok, c.ok)
		}
	}
}

func TestNegotiateCoding(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"":                               "identity",
		"gzip":                           "gzip",
		"GZIP":                           "gzip",
		"x-gzip":                         "gzip",
		"zstd,gzip":                      "gzip",
		"gzip, deflate, br, zstd":        "gzip",
		"gzip;q=0.001":                   "gzip",
		"*":                              "gzip",
		"*;q=0.5":                        "gzip",
		"br":                             "identity",
		"identity":                       "identity",
		"identity;q=0":                   "identity", // gzip was not asked for either
		"identity;q=0, gzip":             "gzip",
		"identity;q=0, *":                "gzip",
		"gzip;q=0":                       "identity",
		"gzip;q=0, *":                    "identity",
		"*;q=0":                          "identity",
		"*;q=0, gzip":                    "gzip",
		"gzip;q=0.5, identity":           "identity",
		"gzip;q=0.5, identity;q=0.5":     "gzip",
		"gzip;q=1.0, identity; q=0.5, *": "gzip",
		"gzip;q=much":                    "identity",
		"gzip;q=1e9":                     "identity",
	} {
		if got := negotiateCoding([]string{accept}); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
	if got := negotiateCoding(nil); got != "identity" {
		t.Errorf("no header: %s", got)
	}
	if got := negotiateCoding([]string{"br", "gzip"}); got != "gzip" {
		t.Errorf("two headers: %s", got)
	}
}

func TestParseAccept(t *testing.T) {
	t.Parallel()
	got := parseAccept([]string{" Text/Plain ; Version=\"0.0.4\" ;q=0.5 , */*", "gzip;q=x"})
	want := []accepted{
		{"text/plain", map[string]string{"version": "0.0.4"}, 0.5},
		{"*/*", nil, 1},
		{"gzip", nil, 0},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParseAccept(f *testing.F) {
	for _, s := range []string{"", prometheusAccept, "*/*", "gzip;q=0,*;q=NaN", ";,=;q", `a;b="c,d";q=1`, "text/plain;q=0.5;q=0.7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := parseAccept([]string{s})
		if len(list) > strings.Count(s, ",")+1 {
			t.Errorf("%d elements", len(list))
		}
		for _, a := range list {
			if a.value == "" || a.value != strings.TrimSpace(a.value) || strings.ContainsAny(a.value, ",;") {
				t.Errorf("value %q", a.value)
			}
			if !(a.q >= 0 && a.q <= 1) {
				t.Errorf("weight %v", a.q)
			}
			if _, ok := a.params["q"]; ok {
				t.Errorf("the weight of %q is a parameter", a.value)
			}
		}
		if twice := parseAccept([]string{s, s}); len(twice) != 2*len(list) {
			t.Errorf("%d elements in two headers, %d in one", len(twice), len(list))
		}
		if format, ok := negotiateFormat([]string{s}); ok && format.ContentType() == "" {
			t.Errorf("format %v", format)
		}
		if c := negotiateCoding([]string{s}); c != "gzip" && c != "identity" || c == "gzip" && !strings.ContainsAny(s, "*gG") {
			t.Errorf("coding %q", c)
		}
	})
}

func TestHandlerTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		own    time.Duration
		header string
		want   time.Duration
	}{
		{0, "", 10 * time.Second},
		{0, "4", 3800 * time.Millisecond},
		{0, "0.5", 475 * time.Millisecond},
		{0, "15", 10 * time.Second},
		{30 * time.Second, "20", 19 * time.Second},
		{2 * time.Second, "20", 2 * time.Second},
		{-1, "", 10 * time.Second},
		{time.Hour, "1e300", time.Hour},
		{time.Hour, "1e999", time.Hour},
		{math.MaxInt64, "9223372036.854775807", 8762203435012037120},
		{math.MaxInt64, "1e10", math.MaxInt64},
		{time.Hour, "Inf", time.Hour},
		{time.Hour, "-Inf", time.Hour},
		{time.Hour, "NaN", time.Hour},
		{time.Hour, "-3", time.Hour},
		{time.Hour, "0", time.Hour},
		{time.Hour, "1e-300", time.Hour},
		{time.Hour, "10s", time.Hour},
		{time.Hour, "ten", time.Hour},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if c.header != "" {
			r.Header.Set(timeoutHeader, c.header)
		}
		got := (&Handler{Timeout: c.own}).timeout(r)
		if diff := got - c.want; diff < -time.Millisecond || diff > time.Millisecond {
			t.Errorf("%v, header %q: %v, want %v", c.own, c.header, got, c.want)
		}
	}
}
