package judges

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/hostiletest"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// TestHostile has the parsers read pages of registries with hostile texts and words from every
// source.
func TestHostile(t *testing.T) {
	t.Parallel()
	for name, r := range hostiletest.Registries(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range pagetest.Formats() {
				var b bytes.Buffer
				if err := r.Write(context.Background(), &b, &gotheus.WriteOptions{Format: f}); err != nil {
					t.Fatal(err)
				}
				body := b.Bytes()
				checkLines(t, f, body)
				if f.Syntax == expo.OpenMetrics2 {
					continue // see strict
				}
				got, err := readSamples(f.ContentType(), body)
				if err != nil {
					t.Errorf("%+v: textparse: %v", f, err)
				}
				hostiletest.Check(t, f, got)
				// The Python client cannot read exemplars with a brace (0.16) or an
				// escaped quote (0.26).
				exemplars := strings.Contains(name, "exemplar") || name == "collector" || name == "neighbour's texts"
				if !f.Created && f.Escaping == expo.Underscores && !strings.Contains(name, `"`) && !exemplars {
					if got, ok := readPython(t, f, body); ok {
						hostiletest.Check(t, f, got)
					}
				}
				if f.Syntax == expo.OpenMetrics0 || f.Syntax == expo.OpenMetrics1 {
					continue
				}
				list, err := readFamilies(f, body)
				if err != nil {
					t.Errorf("%+v: expfmt: %v", f, err)
				}
				hostiletest.Check(t, f, flatten(list))
			}
		})
	}
}
