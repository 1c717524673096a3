package expo_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/pagetest"
)

var update = flag.Bool("update", false, "write testdata instead of comparing it")

// TestGolden compares pages with exemplars, exponential buckets and times in all syntaxes with
// reviewed ones. internal/judges tests how parsers read these and many other pages.
func TestGolden(t *testing.T) {
	t.Parallel()
	p := pagetest.Exemplars()
	for name, f := range map[string]expo.Format{
		"text": {}, "openmetrics": {Syntax: expo.OpenMetrics1, Created: true}, "openmetrics2": {Syntax: expo.OpenMetrics2}, "protobuf": {Syntax: expo.Protobuf},
	} {
		got := p.Encode(nil, f)
		if f.Syntax == expo.Protobuf {
			got = []byte(hex.Dump(got))
		}
		file := "testdata/exemplars." + name
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}

// TestReuse checks that an encoder can be reused after a page, and encodes a large family in pieces
// of bounded size.
func TestReuse(t *testing.T) {
	t.Parallel()
	p := pagetest.Corpus()
	for _, f := range pagetest.Formats() {
		want := p.Encode(nil, f)
		e := expo.NewEncoder(f)
		for range 2 {
			var got []byte
			for i := range p {
				got = e.Family(got, &p[i].Family)
				for j := range p[i].Rows {
					if row := &p[i].Rows[j]; p[i].Type == expo.Histogram || p[i].Type == expo.Summary {
						got = e.Distribution(got, row.Text, &row.Dist)
					} else {
						got = e.Number(got, row.Text, &row.Number)
					}
				}
			}
			if got = e.End(got); !bytes.Equal(got, want) {
				t.Errorf("%+v: another page", f)
			}
		}
	}
	e := expo.NewEncoder(expo.Format{Syntax: expo.Protobuf})
	dst, pieces := e.Family(nil, &expo.Family{Name: "large", Help: "L.", Type: expo.Gauge}), 0
	for i := range 100_000 {
		if dst = e.Number(dst, fmt.Sprintf(`i="%d"`, i), &expo.Number{Float: 1}); len(dst) > 0 {
			if pieces++; len(dst) > 1<<20 {
				t.Fatalf("a piece of %d bytes", len(dst))
			}
			dst = dst[:0]
		}
	}
	if pieces < 3 {
		t.Errorf("%d pieces", pieces)
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	for f, want := range map[expo.Format]string{
		{}:                         "text/plain; version=0.0.4; charset=utf-8",
		{Escaping: expo.AllowUTF8}: "text/plain; version=0.0.4; charset=utf-8",
		{Escaping: expo.Dots}:      "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
		{Syntax: expo.Text1, Escaping: expo.AllowUTF8}:     "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
		{Syntax: expo.OpenMetrics0}:                        "application/openmetrics-text; version=0.0.1; charset=utf-8",
		{Syntax: expo.OpenMetrics1}:                        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
		{Syntax: expo.OpenMetrics2, Escaping: expo.Values}: "application/openmetrics-text; version=2.0.0; charset=utf-8; escaping=values",
	} {
		if got := f.ContentType(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if s := (expo.Format{Syntax: expo.Protobuf}).ContentType(); !strings.Contains(s, "encoding=delimited") {
		t.Error(s)
	}
}

// Values that are no type, syntax or escaping are shown as numbers, or mean the default.
func TestUnknownConstants(t *testing.T) {
	t.Parallel()
	if got := fmt.Sprint(expo.Type(99), expo.Escaping(99)); got != "type(99) escaping(99)" {
		t.Errorf("got %q", got)
	}
	if got, want := (expo.Format{Syntax: 99}).ContentType(), (expo.Format{}).ContentType(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
