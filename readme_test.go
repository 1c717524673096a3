package gotheus_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Go code in the README is part of code that compiles.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("examples/service/main.go")
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(snippets) == 0 {
		t.Error("no Go code in the README")
	}
	for _, s := range snippets {
		if !strings.Contains(string(code), s[1]) {
			t.Errorf("not part of examples/service:\n%s", s[1])
		}
	}
}
