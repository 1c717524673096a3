//go:build linux && (386 || amd64 || arm || arm64 || loong64 || mips64le || ppc64le || riscv64)

package tests_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

// The reader reads the golden file, which was made on a little-endian machine.
func TestForeignReaderGolden(t *testing.T) {
	t.Parallel()
	golden := backendtest.ReadGzip(t, "../backend/shm/testdata/v2.gz")
	name := filepath.Join(t.TempDir(), "golden"+shm.Suffix)
	if err := os.WriteFile(name, golden, 0o600); err != nil {
		t.Fatal(err)
	}
	const start = `"start": 1700000000000000000`
	want := `[{"name": "busy", "help": "Busy.", "series": [{"labels": "", "value": 0}]},
		{"name": "requests_total", "help": "Requests, better.", "series": [{"labels": "code=\"200\",method=\"GET\"", "value": 2.5, ` + start + `}]},
		{"name": "size_bytes", "help": "Size.", "series": [{"labels": "path=\"/a\\\"b\\\\c\\n\"", "sum": 1.75, "buckets": [["1", 1], ["2.5", 3], ["inf", 6]], "count": 6, ` + start + `}]},
		{"name": "temperature", "help": "Temperature.", "series": [{"labels": "", "value": -2.5}]},
		{"name": "took_seconds", "help": "Took.", "series": [{"labels": "job=\"x\"", "count": 7, "sum": 1.5, ` + start + `}]}]`
	if got := decodePage(t, readForeign(t, name)); !reflect.DeepEqual(got, decodePage(t, []byte(want))) {
		t.Errorf("got %v", got)
	}
}
