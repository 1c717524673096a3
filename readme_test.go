package gotheus_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Go code in the documentation is part of code that compiles.
func TestReadme(t *testing.T) {
	t.Parallel()
	snippetsAreIn(t, "README.md", "examples/service/main.go")
	snippetsAreIn(t, "docs/labels.md", "example_labels_test.go")
	snippetsAreIn(t, "docs/store.md", "_examples/sqlite/store.go", "_examples/sqlite/store_test.go")
}

func snippetsAreIn(t *testing.T, document string, sources ...string) {
	t.Helper()
	readme, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var code []byte
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		code = append(code, text...)
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(snippets) == 0 {
		t.Error("no Go code in " + document)
	}
	for _, s := range snippets {
		if !strings.Contains(string(code), s[1]) {
			t.Errorf("%s: not part of %s:\n%s", document, strings.Join(sources, " or "), s[1])
		}
	}
}
