package gotheus_test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gotheus/gotheus"

// allowed says what each package of the root module may import of this module's packages and of the
// heavier parts of the standard library. Everything outside of the standard library is forbidden.
var allowed = map[string][]string{
	// reflect for structs with labels and nil pointers; unsafe has a twin without, see direct.go
	"":                             {"store", "internal/open", "internal/backend", "internal/backend/heap", "expo", "internal/sparse", "internal/spread", "reflect", "unsafe"},
	"store":                        {}, // is for everybody
	"store/storetest":              {"store", "internal/backend", "internal/backend/backendtest", "internal/backend/syncer"},
	"internal/open":                {"store", "internal/backend", "internal/backend/heap", "internal/backend/shm", "internal/backend/syncer"},
	"internal/backend":             {"internal/sparse"},
	"internal/backend/heap":        {"internal/backend", "internal/index"},
	"internal/backend/shm":         {"internal/backend", "internal/index", "unsafe"},
	"internal/backend/syncer":      {"store", "internal/backend", "internal/index"},
	"internal/backend/backendtest": {"store", "internal/backend", "internal/backend/syncer", "internal/sparse"},
	"internal/index":               {"internal/backend"},
	"internal/pagetest":            {"internal/backend", "expo"},                                                   // for tests
	"internal/hostiletest":         {"", "internal/backend", "internal/backend/heap", "expo", "internal/pagetest"}, // likewise
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

// Stores that are modules of their own use what anybody can use: they have versions of their own.
func TestStoresImportNothingInternal(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"redisstore", "_examples/sqlite"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imported := range f.Imports {
				if strings.Contains(imported.Path.Value, "/internal/") {
					t.Errorf("%s imports %s", name, imported.Path.Value)
				}
			}
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
