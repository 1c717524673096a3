package gotheus_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Go code in docs/timing.md is part of runnable examples, apart from its indentation.
func TestTimingPage(t *testing.T) {
	t.Parallel()
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	flat := func(code string) string { return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(code, "") }
	code := flat(read("timing_example_test.go") + read("example_test.go"))
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read("docs/timing.md"), -1)
	if len(snippets) == 0 {
		t.Error("no Go code")
	}
	for _, s := range snippets {
		if !strings.Contains(code, strings.TrimSuffix(flat(s[1]), "\n")) {
			t.Errorf("not part of an example:\n%s", s[1])
		}
	}
}
