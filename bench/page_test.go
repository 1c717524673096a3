package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestPagesAreTheSame: the compared pages are comparable. client_golang's page is byte-identical to
// ours; the others lack comments but have as many samples.
func TestPagesAreTheSame(t *testing.T) {
	const series = 12_000 // more than the default limit of a family
	for name, make := range map[string]func(*env, int) (*page, error){
		"counters":   counterPage,
		"histograms": histogramPage,
	} {
		t.Run(name, func(t *testing.T) {
			e := &env{dir: t.TempDir()}
			t.Cleanup(e.close)
			var out bytes.Buffer
			p, err := make(e, series)
			if err != nil {
				t.Fatal(err)
			}
			texts := map[string]string{}
			for _, c := range p.plain(&out) {
				out.Reset()
				c.run(1)
				texts[c.name] = out.String()
			}
			want := texts[ours+" heap"]
			for name, text := range texts {
				if got := samples(text); got != samples(want) {
					t.Errorf("%s has %d samples, want %d", name, got, samples(want))
				}
				if (strings.HasPrefix(name, ours) || strings.HasPrefix(name, peer)) && text != want {
					t.Errorf("%s has another page:\n%.500s\nwant\n%.500s", name, text, want)
				}
			}
		})
	}
}

func samples(page string) (n int) {
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}
