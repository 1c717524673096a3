//go:build ignore

// Command width prints lines with comments and lines of Markdown that take more than 100 columns:
// go run scripts/width.go. Tables, code and links in Markdown may, as may directives to the
// compiler and comments that are one word, such as a link.
package main

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"log"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"unicode/utf8"
)

const most = 100

func columns(line string) int {
	n := 0
	for _, r := range line {
		if n++; r == '\t' {
			n = (n + 7) / 8 * 8
		}
	}
	return n
}

func main() {
	files, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		log.Fatal(err)
	}
	wide := 0
	for name := range strings.SplitSeq(strings.Trim(string(files), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		if err != nil || !utf8.Valid(text) {
			continue // deleted, or binary
		}
		if name == "bench/RESULTS.md" {
			continue // a program's output
		}
		lines := strings.Split(string(text), "\n")
		var check map[int]bool
		switch {
		case strings.HasSuffix(name, ".go"):
			check = comments(text)
		case strings.HasSuffix(name, ".md"):
			check = prose(lines)
		case bytes.HasPrefix(text, []byte("#!")):
			check = scriptComments(lines)
		}
		for i, line := range lines {
			if n := columns(line); n > most && check[i+1] {
				fmt.Printf("%s:%d: %d columns\n", name, i+1, n)
				wide++
			}
		}
	}
	if wide > 0 {
		fmt.Printf("%d lines with comments or prose take more than %d columns\n", wide, most)
		os.Exit(1)
	}
}

// comments returns the numbers of a Go file's lines with comments of more than a word.
func comments(text []byte) map[int]bool {
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(text))
	s.Init(file, text, nil, scanner.ScanComments)
	found := make(map[int]bool)
	output, last := false, 0 // within the expected output of an example; the line before
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return found
		}
		if tok != token.COMMENT || strings.HasPrefix(literal, "//go:") {
			continue
		}
		line := file.Line(pos)
		output = output && line == last+1 || strings.HasPrefix(strings.ToLower(literal), "// output:") ||
			strings.HasPrefix(strings.ToLower(literal), "// unordered output:")
		if last = line; output {
			continue
		}
		for i, part := range strings.Split(literal, "\n") {
			if len(strings.Fields(strings.TrimPrefix(part, "//"))) > 1 {
				found[line+i] = true
			}
		}
	}
}

var (
	marker     = regexp.MustCompile(`^\s*([-*+>]|\d+\.)\s+`)
	definition = regexp.MustCompile(`^\s*\[[^]]+\]:\s+\S+$`)
)

// prose returns the numbers of a Markdown file's lines that can be broken.
func prose(lines []string) map[int]bool {
	found := make(map[int]bool)
	code := false
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			code = !code
		case code, strings.HasPrefix(trimmed, "|"), definition.MatchString(line):
		case len(strings.Fields(marker.ReplaceAllString(line, ""))) > 1:
			found[i+1] = true
		}
	}
	return found
}

// scriptComments returns the numbers of a script's lines that are comments of more than a word.
func scriptComments(lines []string) map[int]bool {
	found := make(map[int]bool)
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "#"); ok && len(strings.Fields(rest)) > 1 {
			found[i+1] = true
		}
	}
	return found
}
