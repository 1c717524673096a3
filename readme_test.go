package gotheus_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Go code in the documentation is part of code that compiles.
func TestReadme(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("docs/*.md")
	if err != nil || len(documents) == 0 {
		t.Fatal(documents, err)
	}
	var sources []string
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		code, err := os.ReadFile(path)
		if !bytes.HasPrefix(code, []byte("//go:build ignore")) {
			sources = append(sources, unindent(code))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```go\n(.*?)\n```")
	for _, document := range append(documents, "README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range block.FindAllSubmatch(text, -1) {
			want := "\n" + unindent(b[1]) + "\n"
			if !slices.ContainsFunc(sources, func(s string) bool { return strings.Contains(s, want) }) {
				t.Errorf("%s: in no Go file:\n%s", document, b[1])
			}
		}
	}
}

var indentation = regexp.MustCompile(`(?m)^\t+`)

func unindent(code []byte) string { return string(indentation.ReplaceAll(code, nil)) }
