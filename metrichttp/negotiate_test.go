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
	text := expo.Format{}
	text1 := expo.Format{Syntax: expo.Text1, Escaping: expo.AllowUTF8}
	om0 := expo.Format{Syntax: expo.OpenMetrics0}
	om1 := expo.Format{Syntax: expo.OpenMetrics1, Escaping: expo.AllowUTF8}
	om2 := expo.Format{Syntax: expo.OpenMetrics2, Escaping: expo.AllowUTF8}
	proto := expo.Format{Syntax: expo.Protobuf}
	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for _, c := range []struct {
		accept string
		want   expo.Format
		no     bool
	}{
		{"", text, false},
		{", ,", text, false},
		{prometheusAccept, om1, false},
		// Prometheus 2.x
		{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", expo.Format{Syntax: expo.OpenMetrics1}, false},
		{"application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", om0, false},
		// Prometheus 3.0 with names restricted
		{"application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", expo.Format{Syntax: expo.OpenMetrics1}, false},
		// protobuf first
		{protobuf + ";q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", proto, false},
		// Prometheus 3.16
		{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3", om1, false},
		{"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,*/*;q=0.2", text1, false},
		{"application/openmetrics-text;version=2.0.0;escaping=allow-utf-8;q=0.8," + prometheusAccept, om2, false},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", text, false},
		{"*/*", text, false},
		{"text/*", text, false},
		{"TEXT/Plain ; Version=0.0.4", text, false},
		{`text/plain;version="0.0.4";charset=UTF-8`, text, false},
		{"text/plain;charset=latin1", text, true},
		{"text/plain;version=0.0.4;q=0.001", text, false},
		{"text/plain;version=0.0.4;escaping=allow-utf-8", text, false},
		{"text/plain;version=0.0.4;escaping=values", expo.Format{Escaping: expo.Values}, false},
		{"text/plain;version=1.0.0;escaping=dots", expo.Format{Syntax: expo.Text1, Escaping: expo.Dots}, false},
		{"text/plain;version=1.0.0;escaping=new", expo.Format{Syntax: expo.Text1}, false},
		{"text/plain;version=2.0.0, */*;q=0.1", text, false},
		// the more specific element counts
		{"text/plain;version=0.0.4;q=0, */*", text, true},
		{"text/*;q=0, */*", text, true},
		{"*/*;q=0, text/plain", text, false},
		{"*/*;q=0", text, true},
		{"image/png", text, true},
		{"application/openmetrics-text", expo.Format{Syntax: expo.OpenMetrics1}, false},
		{"application/vnd.google.protobuf", text, true},
		{protobuf + ";escaping=allow-utf-8", expo.Format{Syntax: expo.Protobuf, Escaping: expo.AllowUTF8}, false},
		{"text/plain;q=2", text, true},
		{"text/plain;q=-1", text, true},
		{"text/plain;q=NaN", text, true},
		{"text/plain;q=", text, true},
		{"nonsense", text, true},
		{";;;=,;q=1", text, false}, // nothing in it
	} {
		for _, headers := range [][]string{{c.accept}, strings.Split(c.accept, ",")} {
			if format, ok := negotiateFormat(headers, true); ok == c.no || ok && format != c.want {
				t.Errorf("%q: %v, %v, want %v", headers, format, ok, c.want)
			}
		}
	}
	if format, ok := negotiateFormat([]string{"application/openmetrics-text;version=2.0.0," + prometheusAccept}, false); !ok || format != om1 {
		t.Errorf("without OpenMetrics 2.0: %v, %v", format, ok)
	}
	if format, ok := negotiateFormat(nil, false); !ok || format != text {
		t.Errorf("no header: %v, %v", format, ok)
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
		if got := codingFor([]string{accept}); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
	if got := codingFor(nil); got != "identity" {
		t.Errorf("no header: %s", got)
	}
	if got := codingFor([]string{"br", "gzip"}); got != "gzip" {
		t.Errorf("two headers: %s", got)
	}
}

// codingFor returns the name of the coding that is chosen where there is nothing but gzip.
func codingFor(headers []string) string {
	if c := negotiateCoding(headers, []*coding{{name: "gzip"}}); c != nil {
		return c.name
	}
	return "identity"
}

func TestNegotiateCodings(t *testing.T) {
	t.Parallel()
	list := []*coding{{name: "zstd"}, {name: "gzip"}}
	for accept, want := range map[string]string{
		"zstd,gzip": "zstd", "gzip,zstd": "zstd", "gzip": "gzip", "*": "zstd", "zstd;q=0.5,gzip": "gzip", "zstd;q=0,*": "gzip",
		"gzip, deflate, br, zstd": "zstd", "br": "", "identity": "", "*;q=0": "",
	} {
		got := ""
		if c := negotiateCoding([]string{accept}, list); c != nil {
			got = c.name
		}
		if got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
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
		twice := parseAccept([]string{s, s})
		least := 2 * len(list)
		if 2*len(s) > maxAccept || least > maxAccepted { // some of them are ignored
			least = len(list)
		}
		if len(twice) < least || len(twice) > min(2*len(list), maxAccepted) {
			t.Errorf("%d elements in two headers, %d in one", len(twice), len(list))
		}
		if format, ok := negotiateFormat([]string{s}, true); ok && format.ContentType() == "" {
			t.Errorf("format %v", format)
		}
		if c := codingFor([]string{s}); c != "gzip" && c != "identity" || c == "gzip" && !strings.ContainsAny(s, "*gG") {
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
