package gotheus_test

import (
	"bytes"
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

// floors are the packages of the root module, from the ground up. A package may import only
// packages of floors below its own.
var floors = [][]string{
	{"store", "internal/atomicfile", "internal/bounds", "internal/courtesy", "internal/crashpoints", "internal/crashpoints/point", "internal/exact", "internal/interleave", "internal/labelstruct", "internal/labeltext", "internal/needs", "internal/report", "internal/retry", "internal/schedules/turn", "internal/sparse", "internal/spread", "internal/textmap"},
	{"expo", "internal/backend", "internal/periodic", "internal/schedules"},
	{"internal/index", "internal/lookup", "internal/names", "internal/word"},
	{"internal/backend/heap", "internal/backend/shm", "internal/backend/syncer", "internal/leader"},
	{"internal/backend/backendtest", "internal/fleetsim", "internal/open", "internal/page", "internal/series"},
	{"internal/collect", "internal/inside"},
	{""},
	{"collectors", "collectors/expvars", "metrichttp", "metrictest", "store/storetest"},
	{"examples/service", "internal/pagetest", "internal/siege", "internal/tests"},
	{"internal/hostilestore", "internal/hostiletest"},
}

// heavy lists packages of the standard library that only some packages may import, and which these
// are.
var heavy = map[string][]string{
	"net/http": {"metrichttp", "metrictest", "examples/service", "internal/siege"},
	// Structs with labels, nil pointers.
	"reflect": {"", "internal/labelstruct", "internal/open"},
	// For mapped memory, in two packages, for strings in structs, and for go:linkname. The
	// last two have variants without it.
	"unsafe": {"internal/backend/shm", "internal/backend/backendtest", "internal/labelstruct", "internal/spread", "internal/textmap"},
	"C":      {},
}

// Imports obey the floors, and the module has no dependencies.
func TestImports(t *testing.T) {
	t.Parallel()
	floor := make(map[string]int)
	for i, names := range floors {
		for _, name := range names {
			floor[name] = i
		}
	}
	// Another platform as well, so that its files are checked.
	for _, env := range [][]string{{"GOOS=linux", "GOARCH=amd64"}, {"GOOS=windows", "GOARCH=amd64"}} {
		cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
		cmd.Env = append(cmd.Environ(), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(out))
		found := 0
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
			if _, ok := floor[name]; !ok {
				t.Errorf("%s is on no floor", p.ImportPath)
				continue
			}
			found++
			for _, imported := range p.Imports {
				allowed, isHeavy := heavy[imported]
				switch other, ours := floor[relative(imported)], imported == module || strings.HasPrefix(imported, module+"/"); {
				case ours && other >= floor[name]:
					t.Errorf("%s, on floor %d, must not import %s on floor %d", p.ImportPath, floor[name], imported, other)
				case !ours && isHeavy && !slices.Contains(allowed, name):
					t.Errorf("%s must not import %s", p.ImportPath, imported)
				case !ours && strings.Contains(strings.Split(imported, "/")[0], "."):
					t.Errorf("%s imports %s, which is not in the standard library", p.ImportPath, imported)
				}
			}
		}
		if found != len(floor) {
			t.Errorf("%d packages, %d on floors", found, len(floor))
		}
	}
}

// Stores in separate modules use only public packages, since they are versioned separately. Their
// tests may use others.
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
				test := strings.HasSuffix(name, "_test.go") && strings.HasSuffix(imported.Path.Value, `/internal/needs"`)
				if strings.Contains(imported.Path.Value, "/internal/") && !test {
					t.Errorf("%s imports %s", name, imported.Path.Value)
				}
			}
		}
	}
}

func relative(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

// The hot path must be inlined into the caller's code.
func TestInlining(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "build", "-gcflags=-m", ".")
	// 32-bit processors have no instruction to inline.
	cmd.Env = append(cmd.Environ(), "GOARCH=amd64")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "can inline (*Counter).Inc\n") {
		t.Error("Counter.Inc is not inlined")
	}
}
