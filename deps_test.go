package gotheus_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gotheus/gotheus"

// allowed says what each package of the root module may import of this module's packages and of the
// heavier parts of the standard library. Everything outside of the standard library is forbidden.
var allowed = map[string][]string{
	// reflect for structs with labels, and unsafe, which has a twin without, see direct.go
	"":                             {"internal/backend", "internal/backend/heap", "internal/backend/shm", "expo", "internal/sparse", "internal/spread", "reflect", "unsafe"},
	"internal/backend":             {"internal/sparse"},
	"internal/backend/heap":        {"internal/backend", "internal/index"},
	"internal/backend/shm":         {"internal/backend", "internal/index", "unsafe"},
	"internal/backend/syncer":      {"internal/backend", "internal/index"},
	"internal/backend/backendtest": {"internal/backend", "internal/backend/syncer", "internal/sparse"},
	"internal/index":               {"internal/backend"},
	"internal/pagetest":            {"internal/backend", "expo"},                                                   // for tests
	"internal/hostiletest":         {"", "internal/backend", "internal/backend/heap", "expo", "internal/pagetest"}, // likewise
	"internal/needs":               {},                                                                             // for tests
	"internal/sparse":              {},
	"internal/spread":              {"unsafe"}, // for go:linkname; there is a twin without
	"expo":                         {},
	"metrichttp":                   {"", "expo", "net/http"},
	"collectors":                   {"", "internal/backend"},
	"collectors/expvars":           {"", "expo"},
	"examples/service":             {"", "metrichttp", "net/http"},
	"metrictest":                   {"", "internal/backend", "net/http"},
}

var restricted = []string{"net/http", "unsafe", "reflect", "C"}

// Imports are policy: they keep the layers apart and an application's dependencies at zero.
func TestImports(t *testing.T) {
	t.Parallel()
	// For another platform, too: files for other systems count as well.
	for _, env := range [][]string{{"GOOS=linux", "GOARCH=amd64"}, {"GOOS=windows", "GOARCH=amd64"}} {
		cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "./...")
		cmd.Env = append(cmd.Environ(), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(strings.NewReader(string(out)))
		seen := 0
		for {
			var p struct {
				ImportPath string
				Imports    []string
			}
			if err := dec.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			name := relative(p.ImportPath)
			rules, ok := allowed[name]
			if !ok {
				t.Errorf("%s: no rule says what it may import", p.ImportPath)
			}
			seen++
			for _, imported := range p.Imports {
				ours := imported == module || strings.HasPrefix(imported, module+"/")
				switch {
				case ours && !slices.Contains(rules, relative(imported)),
					!ours && slices.Contains(restricted, imported) && !slices.Contains(rules, imported):
					t.Errorf("%s must not import %s", p.ImportPath, imported)
				case !ours && strings.Contains(strings.Split(imported, "/")[0], "."):
					t.Errorf("%s imports %s, which is not in the standard library", p.ImportPath, imported)
				}
			}
		}
		if seen != len(allowed) {
			t.Errorf("%d packages, rules for %d", seen, len(allowed))
		}
	}
}

func relative(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

// The hot path has to be inlined into the program's own code.
func TestInlining(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "build", "-gcflags=-m", ".")
	cmd.Env = append(cmd.Environ(), "GOARCH=amd64") // 32-bit machines have no such instruction to inline
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "can inline (*Counter).Inc\n") {
		t.Error("Counter.Inc is not inlined")
	}
}
