package metrictest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gotheus/gotheus"
)

// Problem is a deviation of a working family from the conventions of Prometheus.
type Problem struct {
	Metric string
	Text   string // what to change
}

func (p Problem) String() string { return p.Metric + ": " + p.Text }

// Lint fails the test for each problem of r's page, except for problems of the given families, see
// [Page.Lint].
func Lint(t TB, r *gotheus.Registry, except ...string) {
	t.Helper()
	p, err := Read(r)
	if err != nil {
		t.Fatalf("%v", err)
		return
	}
	for _, problem := range p.Lint() {
		if !contains(except, problem.Metric) {
			t.Errorf("%v", problem)
		}
	}
}

// Lint checks names, help texts and labels against the conventions at
// https://prometheus.io/docs/practices/naming/ and returns the problems, sorted by family.
func (p *Page) Lint() []Problem {
	var list []Problem
	for _, f := range p.families {
		for _, rule := range rules {
			for _, text := range rule(f) {
				list = append(list, Problem{f.name, text})
			}
		}
	}
	return list
}

var rules = []func(*family) []string{lintHelp, lintCounter, lintSuffix, lintUnit, lintType, lintCase, lintLabels}

func lintHelp(f *family) []string {
	switch {
	case strings.TrimSpace(f.help) == "":
		return []string{"add a help text that says what it counts or measures"}
	case f.typ == "" || f.typ == "untyped":
		return []string{"give it a type"}
	}
	return nil
}

func lintCounter(f *family) []string {
	total := strings.HasSuffix(f.name, "_total")
	switch {
	case f.typ == "counter" && !total:
		return []string{"the name of a counter should end in _total"}
	case f.typ != "counter" && f.typ != "untyped" && f.typ != "" && total:
		return []string{"only the name of a counter should end in _total"}
	}
	return nil
}

// lintSuffix checks for name suffixes that the samples of other types use.
func lintSuffix(f *family) (list []string) {
	for _, suffix := range []string{"_bucket", "_count", "_sum", "_created"} {
		if f.typ != "untyped" && strings.HasSuffix(f.name, suffix) {
			list = append(list, fmt.Sprintf("the name should not end in %s, which is for samples of histograms and summaries", suffix))
		}
	}
	return list
}

// baseUnits maps discouraged units to base units.
var baseUnits = map[string]string{
	"milliseconds": "seconds", "microseconds": "seconds", "nanoseconds": "seconds", "minutes": "seconds", "hours": "seconds",
	"days": "seconds", "weeks": "seconds", "ms": "seconds", "us": "seconds", "ns": "seconds", "secs": "seconds", "sec": "seconds",
	"kilobytes": "bytes", "megabytes": "bytes", "gigabytes": "bytes", "terabytes": "bytes", "kibibytes": "bytes",
	"mebibytes": "bytes", "gibibytes": "bytes", "tebibytes": "bytes", "kb": "bytes", "mb": "bytes", "gb": "bytes", "bits": "bytes",
	"fahrenheit": "celsius", "kelvin": "celsius", "percent": "ratio", "percentage": "ratio", "kilometers": "meters",
	"millimeters": "meters", "centimeters": "meters", "inches": "meters", "feet": "meters", "miles": "meters", "yards": "meters",
	"kilograms": "grams", "milligrams": "grams", "pounds": "grams", "ounces": "grams", "millivolts": "volts", "kilovolts": "volts",
	"milliamperes": "amperes", "kilojoules": "joules", "calories": "joules",
}

func lintUnit(f *family) (list []string) {
	for _, word := range strings.Split(strings.ToLower(f.name), "_") {
		if base := baseUnits[word]; base != "" {
			list = append(list, fmt.Sprintf("use the base unit %s instead of %s", base, word))
		}
	}
	return list
}

func lintType(f *family) []string {
	for _, word := range strings.Split(f.name, "_") {
		if slices.Contains([]string{"gauge", "counter", "histogram", "summary", "untyped", "metric", "metrics"}, word) {
			return []string{fmt.Sprintf("the name should not say %q", word)}
		}
	}
	return nil
}

var (
	camel = regexp.MustCompile(`[a-z][A-Z]`)
	// distributionLabels are reserved for histograms and summaries.
	distributionLabels = []string{"le", "quantile"}
)

func lintCase(f *family) (list []string) {
	if camel.MatchString(f.name) {
		list = append(list, "write the name in snake_case, not in camelCase")
	}
	if strings.Contains(f.name, ":") {
		list = append(list, "the name should not contain a colon, which is for recording rules")
	}
	return list
}

func lintLabels(f *family) (list []string) {
	seen := make(map[string]bool)
	for _, s := range f.samples {
		for name := range s.label {
			if seen[name] || slices.Contains(distributionLabels, name) && (f.typ == "histogram" || f.typ == "summary") {
				continue
			}
			seen[name] = true
			switch {
			case camel.MatchString(name):
				list = append(list, fmt.Sprintf("write the label %s in snake_case", name))
			case slices.Contains(distributionLabels, name):
				list = append(list, fmt.Sprintf("the label %s is for histograms and summaries", name))
			case slices.Contains([]string{"instance", "job"}, name):
				list = append(list, fmt.Sprintf("the label %s is set by the scraper", name))
			case strings.Contains("_"+f.name+"_", "_by_"+name+"_"):
				list = append(list, fmt.Sprintf("the name should not repeat the label %s", name))
			}
		}
	}
	slices.Sort(list)
	return list
}
