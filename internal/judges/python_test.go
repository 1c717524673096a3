package judges

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/needs"
	"github.com/gotheus/gotheus/internal/pagetest"
)

func needPython(t *testing.T) {
	t.Helper()
	err := exec.Command(python, "-c", "import prometheus_client.openmetrics.parser").Run()
	needs.Check(t, pythonClient, err, "apt-get install "+pythonClient)
}

// readPython reads a page by the parsers of the Python client; false if they do not know the
// format, or are left out. They know no quoted names.
func readPython(t *testing.T, f expo.Format, body []byte) (map[string]float64, bool) {
	t.Helper()
	kind := "text"
	switch {
	case f.NameEscaping() == expo.AllowUTF8, f.Syntax == expo.Protobuf, f.Syntax == expo.OpenMetrics2, f.Syntax == expo.Text1:
		return nil, false
	case f.Syntax != expo.Text:
		kind = "openmetrics"
	}
	if needs.LeftOut(pythonClient) {
		return nil, false
	}
	needPython(t)
	name := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "testdata/judge.py", kind, name).CombinedOutput()
	if err != nil {
		t.Fatalf("%+v: %v\n%s", f, err, out)
	}
	var samples []struct {
		Name   string
		Labels map[string]string
		Value  string
	}
	if err := json.Unmarshal(out, &samples); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := make(map[string]float64)
	for _, s := range samples {
		var pairs []string
		for k, v := range s.Labels {
			pairs = append(pairs, k, v)
		}
		v, err := strconv.ParseFloat(s.Value, 64)
		if err != nil {
			t.Fatal(err)
		}
		if base, ok := strings.CutSuffix(s.Name, "_suffix_total"); ok && kind == "text" {
			// the parser gives a counter the suffix that it lacks
			s.Name = base + "_suffix"
		}
		got[pagetest.Key(s.Name, pairs)] = v
	}
	return got, true
}

// TestPython has the parsers of the Python client read the corpus.
func TestPython(t *testing.T) {
	t.Parallel()
	needPython(t)
	p := pagetest.Corpus()
	for _, f := range pagetest.Formats() {
		got, ok := readPython(t, f, p.Encode(nil, f))
		if !ok {
			continue
		}
		metric, label := escapers(f.NameEscaping())
		if d := pagetest.Diff(got, p.Expect(f, metric, label)); d != "" {
			t.Errorf("%+v: %s", f, d)
		}
	}
}
