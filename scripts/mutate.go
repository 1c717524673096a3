//go:build ignore

// Command mutate measures how good tests are: it changes one place of a package at a time, and
// reports the changes that no test notices.
//
//	go run scripts/mutate.go -pkg ./internal/series -n 100 -seed 1
//
// The changed file is only in an overlay of the build (go help build), so the tree stays as it is.
// A mutant is killed when a test fails, and fails again when it is run alone, or does not end in
// time. Those that do not compile are not counted. The same seed selects the same mutants as long
// as the package does not change; -only repeats one of them by its number.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mutant is a change of the text of a file.
type mutant struct {
	file     string
	from, to int // offsets of the text that is replaced
	with     string
	what     string
	line     int
}

func main() {
	log.SetFlags(0)
	pkg := flag.String("pkg", "./internal/series", "package to change")
	files := flag.String("files", "", "regular expression for the names of the files to change; default: all")
	tests := flag.String("tests", "./internal/tests", "packages whose tests run after the package's own, separated by commas")
	skip := flag.String("skip", "", "regular expression for tests to leave out")
	n := flag.Int("n", 100, "number of mutants")
	seed := flag.Uint64("seed", 1, "selects the mutants")
	only := flag.Int("only", -1, "run the mutant with this number only")
	timeout := flag.Duration("timeout", 2*time.Minute, "for the tests of one package")
	flag.Parse()
	match := regexp.MustCompile(*files)

	list, err := exec.Command("go", "list", "-f", `{{.Dir}}{{range .GoFiles}} {{.}}{{end}}`, *pkg).Output()
	if err != nil {
		log.Fatal("go list ", *pkg, ": ", err)
	}
	fields := strings.Fields(string(list))
	var all []mutant
	for _, name := range fields[1:] {
		if match.MatchString(name) {
			all = append(all, mutants(filepath.Join(fields[0], name))...)
		}
	}
	rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	r := &runner{packages: append([]string{*pkg}, strings.FieldsFunc(*tests, func(c rune) bool { return c == ',' })...), skip: *skip, timeout: *timeout}
	if r.temp, err = os.MkdirTemp("", "mutate"); err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(r.temp)
	if err := os.Chmod(r.temp, 0o755); err != nil { // tests use other users
		log.Fatal(err)
	}
	if how := r.run(nil); how != "survived" {
		log.Fatalf("the unchanged package: %s", how)
	}
	counts := make(map[string]int)
	for i := range all {
		m := &all[i]
		if *only >= 0 && i != *only || counts["killed"]+counts["timeout"]+counts["survived"] == *n {
			continue
		}
		how := r.run(m)
		counts[strings.Fields(how)[0]]++
		name, _ := filepath.Rel(fields[0], m.file)
		fmt.Printf("%4d %s:%d: %s: %s\n", i, name, m.line, m.what, how)
	}
	killed := counts["killed"] + counts["timeout"]
	fmt.Printf("%s, seed %d: %d of %d mutants killed (%d of them by a timeout), %d survived; %d did not compile; %d places in all\n",
		*pkg, *seed, killed, killed+counts["survived"], counts["timeout"], counts["survived"], counts["invalid"], len(all))
}

// mutants returns all mutants of a file.
func mutants(file string) (list []mutant) {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, text, 0)
	if err != nil {
		log.Fatal(err)
	}
	at := func(p token.Pos) int { return fset.Position(p).Offset }
	source := func(n ast.Node) string { return string(text[at(n.Pos()):at(n.End())]) }
	short := func(s string) string {
		s = strings.Join(strings.Fields(s), " ")
		if len(s) > 70 {
			s = s[:70] + "…"
		}
		return s
	}
	replace := func(n ast.Node, with, what string) {
		list = append(list, mutant{file, at(n.Pos()), at(n.End()), with, what, fset.Position(n.Pos()).Line})
	}
	negate := func(cond ast.Expr) {
		if cond != nil {
			replace(cond, "!("+source(cond)+")", "negated "+short(source(cond)))
		}
	}
	remove := func(n ast.Stmt) { replace(n, "{}", "removed "+short(source(n))) }
	constants := constantsOf(tree)
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok == token.VAR || n.Tok == token.CONST && n.Lparen == token.NoPos
		case *ast.IfStmt:
			negate(n.Cond)
		case *ast.ForStmt:
			negate(n.Cond)
		case *ast.SwitchStmt:
			if n.Tag == nil {
				for _, c := range n.Body.List {
					for _, e := range c.(*ast.CaseClause).List {
						negate(e)
					}
				}
			}
		case *ast.ReturnStmt:
			for _, e := range n.Results {
				if b, ok := e.(*ast.BinaryExpr); ok && (b.Op == token.LAND || b.Op == token.LOR) {
					negate(e)
				}
			}
		case *ast.BinaryExpr:
			for _, op := range operators[n.Op] {
				begin := at(n.OpPos)
				list = append(list, mutant{file, begin, begin + len(n.Op.String()), op.String(), fmt.Sprintf("%v instead of %v in %s", op, n.Op, short(source(n))), fset.Position(n.OpPos).Line})
			}
		case *ast.BasicLit:
			if v, err := strconv.ParseInt(n.Value, 0, 64); err == nil && n.Kind == token.INT {
				replace(n, strconv.FormatInt(v+1, 10), fmt.Sprintf("%d instead of %s", v+1, n.Value))
			}
		case *ast.Ident:
			switch other := constants[n.Name]; {
			case n.Name == "true":
				replace(n, "false", "false instead of true")
			case n.Name == "false":
				replace(n, "true", "true instead of false")
			case other != "":
				replace(n, other, other+" instead of "+n.Name)
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "CompareAndSwap" {
				replace(n, "("+source(n)+" || true)", "the result is ignored of "+short(source(n)))
			}
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt:
			remove(n.(ast.Stmt))
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				remove(n)
			}
		case *ast.BranchStmt:
			if n.Label == nil && n.Tok == token.BREAK {
				replace(n, "continue", "continue instead of break")
			} else if n.Label == nil && n.Tok == token.CONTINUE {
				replace(n, "break", "break instead of continue")
			}
		}
		return true
	})
	return list
}

var operators = map[token.Token][]token.Token{
	token.LSS: {token.LEQ}, token.LEQ: {token.LSS}, token.GTR: {token.GEQ}, token.GEQ: {token.GTR},
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.QUO},
	token.AND: {token.OR}, token.OR: {token.AND}, token.SHL: {token.SHR}, token.SHR: {token.SHL}, token.AND_NOT: {token.AND},
}

// constantsOf maps each constant of a group to the next one.
func constantsOf(tree *ast.File) map[string]string {
	next := make(map[string]string)
	for _, d := range tree.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		var names []string
		for _, s := range g.Specs {
			for _, id := range s.(*ast.ValueSpec).Names {
				names = append(names, id.Name)
			}
		}
		for i, name := range names {
			if len(names) > 1 && name != "_" {
				next[name] = names[(i+1)%len(names)]
			}
		}
	}
	return next
}

// runner builds and runs tests.
type runner struct {
	packages []string
	skip     string
	timeout  time.Duration
	temp     string
}

// run reports what the tests do with a mutant, or with the unchanged package if m is nil.
func (r *runner) run(m *mutant) string {
	overlay := filepath.Join(r.temp, "overlay.json")
	change := map[string]string{}
	if m != nil {
		text, err := os.ReadFile(m.file)
		if err != nil {
			log.Fatal(err)
		}
		changed := filepath.Join(r.temp, "changed.go")
		change[m.file] = changed
		if err := os.WriteFile(changed, slices.Concat(text[:m.from], []byte(m.with), text[m.to:]), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	b, _ := json.Marshal(map[string]any{"Replace": change})
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		log.Fatal(err)
	}
	for i, pkg := range r.packages {
		binary := filepath.Join(r.temp, "tests")
		if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, pkg).CombinedOutput(); err != nil {
			if m == nil || i > 0 {
				log.Fatalf("go test -c %s: %v\n%s", pkg, err, out)
			}
			return "invalid"
		}
		skip := r.skip
		for {
			how, by := r.test(binary, pkg, "", skip)
			if how == "" {
				break
			}
			if by == "" || m == nil {
				return how
			}
			// On a busy machine, some tests fail without a reason.
			if again, _ := r.test(binary, pkg, "^"+by+"$", ""); again != "" {
				return how
			}
			skip = strings.TrimPrefix(skip+"|^"+by+"$", "|")
		}
	}
	return "survived"
}

var failed = regexp.MustCompile(`^\s*(--- FAIL: (\S+)|panic:|fatal error:|FAIL$|unexpected fault)`)

// test runs tests of a package until one fails. It returns "" if all pass, and otherwise the name
// of the test that has failed, if known.
func (r *runner) test(binary, pkg, only, skip string) (how, by string) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		log.Fatal(err)
	}
	own, err := os.MkdirTemp(r.temp, "own")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Chmod(own, 0o755); err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(own)
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	// A mutant may allocate without end: the shell limits its address space.
	cmd := exec.CommandContext(ctx, "sh", "-c", `ulimit -v 16000000; exec "$@"`, "sh", binary, "-test.v", "-test.failfast")
	if only != "" {
		cmd.Args = append(cmd.Args, "-test.run", only)
	}
	if skip != "" {
		cmd.Args = append(cmd.Args, "-test.skip", skip)
	}
	cmd.Dir, cmd.Env = strings.TrimSpace(string(dir)), append(os.Environ(), "TMPDIR="+own)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // tests start processes
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, in, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	in.Close()
	first := make(chan string, 1)
	go func() {
		defer out.Close()
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if s := failed.FindStringSubmatch(lines.Text()); s != nil {
				select {
				case first <- strings.TrimSpace(lines.Text()):
				default:
				}
				cmd.Cancel()
			}
		}
		io.Copy(io.Discard, out)
	}()
	err = cmd.Wait()
	cmd.Cancel() // what it has started
	switch {
	case ctx.Err() != nil:
		return "timeout in " + pkg, ""
	case err == nil:
		return "", ""
	}
	select {
	case line := <-first:
		if s := failed.FindStringSubmatch(line); s[2] != "" {
			by, _, _ = strings.Cut(s[2], "/")
		}
		return "killed in " + pkg + " by " + line, by
	case <-time.After(time.Second):
		return "killed in " + pkg + ": " + err.Error(), ""
	}
}
