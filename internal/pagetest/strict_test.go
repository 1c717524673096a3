package pagetest

import (
	"math/rand/v2"
	"testing"

	"github.com/gotheus/gotheus/expo"
)

// CheckText accepts what the encoder writes.
func TestCheckTextAccepts(t *testing.T) {
	t.Parallel()
	samples := 0
	for n := range uint64(2000) {
		p := Random(rand.New(rand.NewPCG(n, 1)))
		page := string(p.Encode(nil, expo.Format{}))
		if err := CheckText(page); err != nil {
			t.Fatalf("%v\n%s", err, page)
		}
		samples += len(page)
	}
	if samples < 1e5 {
		t.Errorf("%d bytes", samples)
	}
}

func TestCheckTextRejects(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{
		"no UTF-8":        "# TYPE a counter\na{b=\"\xff\"} 1\n",
		"cut":             "# TYPE a counter\na 1",
		"empty line":      "# TYPE a counter\na 1\n\n",
		"comment":         "# TIPE a counter\n",
		"family twice":    "# TYPE a gauge\n# TYPE b gauge\n# TYPE a gauge\n",
		"type twice":      "# TYPE a gauge\n# TYPE a gauge\n",
		"type":            "# TYPE a gage\n",
		"late help":       "# TYPE a gauge\na 1\n# HELP a b\n",
		"help's escape":   "# HELP a \\x\n",
		"help's name":     "# HELP a-b x\n",
		"name":            "# TYPE a gauge\na-b 1\n",
		"other family":    "# TYPE a gauge\nb 1\n",
		"no family":       "b 1\n",
		"bucket of gauge": "# TYPE a gauge\na_bucket 1\n",
		"value":           "# TYPE a gauge\na one\n",
		"no value":        "# TYPE a gauge\na\n",
		"second value":    "# TYPE a gauge\na 1 2 3\n",
		"injected line":   "# TYPE a gauge\na{b=\"x\ny\"} 1\n",
		"open quote":      "# TYPE a gauge\na{b=\"x} 1\n",
		"escape":          "# TYPE a gauge\na{b=\"\\t\"} 1\n",
		"label's name":    "# TYPE a gauge\na{0b=\"x\"} 1\n",
		"label twice":     "# TYPE a gauge\na{b=\"x\",b=\"y\"} 1\n",
		"no comma":        "# TYPE a gauge\na{b=\"x\"c=\"y\"} 1\n",
		"no brace":        "# TYPE a gauge\na{b=\"x\" 1\n",
		"sample twice":    "# TYPE a gauge\na{b=\"x\",c=\"y\"} 1\na{c=\"y\",b=\"x\"} 1\n",
		"bound":           "# TYPE a histogram\na_bucket{le=\"x\"} 1\n",
		"no bound":        "# TYPE a histogram\na_bucket 1\n",
		"bounds' order":   "# TYPE a histogram\na_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\n",
		"decreasing":      "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n",
		"no last bucket":  "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_sum 1\na_count 2\n",
		"other count":     "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 3\n# TYPE b gauge\n",
	} {
		if CheckText(page) == nil {
			t.Errorf("%s: %q was accepted", name, page)
		}
	}
}
