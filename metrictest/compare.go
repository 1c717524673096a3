package metrictest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gotheus/gotheus"
)

// Compare fails the test if r's page is not the expected one, and shows the difference. If names of
// families are passed, it compares only these; otherwise all but the library's own (gotheus_*),
// which vary from page to page. The expected page is in the text format. Blank lines, indentation,
// and the order of families, series and labels do not matter; HELP and TYPE may be omitted.
func Compare(t TB, r *gotheus.Registry, expected string, families ...string) {
	t.Helper()
	p, err := Read(r)
	if err != nil {
		t.Fatalf("%v", err)
		return
	}
	d, err := p.Diff(expected, families...)
	switch {
	case err != nil:
		t.Fatalf("%v", err)
	case d != "":
		t.Errorf("the page differs (- expected, + on the page):\n%s", d)
	}
}

// Diff returns the difference between the page and the expected text, line by line, see [Compare]:
// "-" marks expected lines that are missing, "+" those that were not expected. It is empty if
// nothing differs. The error says what is wrong with the expected text.
func (p *Page) Diff(expected string, families ...string) (string, error) {
	var lines []string
	for line := range strings.Lines(expected) {
		lines = append(lines, strings.TrimSpace(line)+"\n")
	}
	w, err := parse(strings.Join(lines, ""), true)
	if err != nil {
		return "", err
	}
	selected := func(f *family) bool {
		if len(families) > 0 {
			return contains(families, f.name)
		}
		return !strings.Contains(f.name, "gotheus_")
	}
	// Families expected without HELP or TYPE are compared without it; without TYPE, a
	// histogram's lines are families of their own.
	var d []string
	byName := make(map[string]*family) // the expected families
	plain := make(map[string]bool)     // expected lines
	for _, f := range w.families {
		byName[f.name] = f
		for _, s := range f.samples {
			plain[s.line] = true
		}
	}
	found := make(map[string]bool)
	for _, f := range p.families {
		e := byName[f.name]
		if !selected(f) && (e == nil || len(families) > 0) {
			continue
		}
		found[f.name] = true
		if e != nil && e.hasHelp && e.help != f.help {
			d = append(d, "-# HELP "+f.name+" "+escapeHelp(e.help), "+# HELP "+f.name+" "+escapeHelp(f.help))
		}
		if e != nil && e.typ != "" && e.typ != f.typ {
			d = append(d, "-# TYPE "+f.name+" "+e.typ, "+# TYPE "+f.name+" "+f.typ)
		}
		for _, s := range f.samples {
			if !plain[s.line] {
				d = append(d, "+"+s.line)
			}
			delete(plain, s.line)
		}
		if e == nil && len(f.samples) == 0 {
			d = append(d, "+# TYPE "+f.name+" "+f.typ)
		}
	}
	for _, f := range w.families {
		if len(families) > 0 && !slices.ContainsFunc(families, f.maybeOf) {
			continue
		}
		if !found[f.name] && len(f.samples) == 0 {
			d = append(d, "-# TYPE "+f.name+" "+f.typ)
		}
		for _, s := range f.samples {
			if plain[s.line] {
				d = append(d, "-"+s.line)
			}
		}
	}
	slices.SortFunc(d, func(a, b string) int {
		// - before +
		return cmp.Or(strings.Compare(sortKey(a), sortKey(b)), cmp.Compare(b[0], a[0]))
	})
	return strings.Join(d, "\n"), nil
}

// maybeOf reports whether the family, which may have no type, may be part of the family with this
// name.
func (f *family) maybeOf(name string) bool {
	suffix, ok := strings.CutPrefix(f.name, name)
	return ok && contains([]string{"", "_bucket", "_sum", "_count"}, suffix)
}

// sortKey puts lines about one series together, and before them those about its family.
func sortKey(line string) string {
	text := line[1:]
	if rest, ok := strings.CutPrefix(text, "# "); ok {
		word, rest, _ := strings.Cut(rest, " ")
		name, _, _ := strings.Cut(rest, " ")
		return name + " " + word
	}
	if i := strings.LastIndexByte(text, ' '); i >= 0 {
		text = text[:i]
	}
	return strings.Replace(text, "{", "!{", 1) // after the comments
}

func escapeHelp(text string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(text)
}
