// Package crashpoints finds every place where a program may die so that others notice: around each
// call that changes memory or files that processes share. It generates instrumented sources with a
// point before and after each of them, for the -overlay flag of "go build". The sources themselves
// contain no hooks, and whatever is written later has its points by construction.
//
// Its tests run histories with a kill at each point in turn, and with a stop at each. They are in
// this package, since they use backends as other programs do.
package crashpoints

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/gotheus/gotheus/"

// Packages are those whose crashes the tests explore.
var Packages = []string{module + "internal/backend/shm", module + "internal/backend", module + "internal/sparse"}

// Place is where the sources have a point before and one after a call or an assignment.
type Place struct {
	File string // without its directory
	Line int
	What string // "atomic.CompareAndSwap", "os.Rename", "copy" and so on
}

func (p Place) String() string { return fmt.Sprintf("%s:%d %s", p.File, p.Line, p.What) }

// listed is the output of "go list".
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// Points says where packages get points.
type Points struct {
	// Runtime is the import path of the package that points call.
	Runtime string
	// Schedule asks for points around everything that goroutines of a process share, loads and
	// waiting for locks included, and nothing else. Otherwise they are around what other
	// processes notice.
	Schedule bool
}

// Crashes are the points where a program may die so that others notice.
var Crashes = Points{Runtime: module + "internal/crashpoints/point"}

// Overlay writes versions of the packages with these points to dir, with a file overlay.json for
// the flag -overlay, whose name it returns. The command "go" lists the packages, so GOARCH and so
// on in its environment select the files.
func (c Points) Overlay(dir string, packages ...string) (name string, places []Place, err error) {
	all, err := list(packages)
	if err != nil {
		return "", nil, err
	}
	exports := make(map[string]string)
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	replaced := make(map[string]string)
	for _, p := range all {
		if !slices.Contains(packages, p.ImportPath) {
			continue
		}
		files, found, err := c.instrument(&p, exports)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		places = append(places, found...)
		for original, text := range files {
			file := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replaced), filepath.Base(original)))
			if err := os.WriteFile(file, text, 0o600); err != nil {
				return "", nil, err
			}
			replaced[original] = file
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", nil, err
	}
	name = filepath.Join(dir, "overlay.json")
	return name, places, os.WriteFile(name, text, 0o600)
}

// list returns the packages and all that they import, with files of their exported types.
func list(packages []string) (all []listed, err error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles"}, packages...)...)
	cmd.Stderr = new(bytes.Buffer)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %s", cmd, err, cmd.Stderr)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
}

// instrument returns the new texts of the package's files that have points.
func (c Points) instrument(p *listed, exports map[string]string) (texts map[string][]byte, places []Place, err error) {
	set := token.NewFileSet()
	files, sources := make([]*ast.File, len(p.GoFiles)), make([][]byte, len(p.GoFiles))
	for i, name := range p.GoFiles {
		name = filepath.Join(p.Dir, name)
		if sources[i], err = os.ReadFile(name); err != nil {
			return nil, nil, err
		}
		if files[i], err = parser.ParseFile(set, name, sources[i], parser.SkipObjectResolution); err != nil {
			return nil, nil, err
		}
	}
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	if _, err := config.Check(p.ImportPath, set, files, info); err != nil {
		return nil, nil, err
	}
	texts = make(map[string][]byte)
	for i, f := range files {
		e := &editor{Points: c, set: set, info: info, file: f, source: sources[i]}
		e.edit()
		if e.err != nil {
			return nil, nil, e.err
		}
		if len(e.places) == 0 {
			continue
		}
		e.insert(f.Name.End(), fmt.Sprintf("; import %s %q", alias, c.Runtime))
		texts[filepath.Join(p.Dir, p.GoFiles[i])] = e.apply()
		places = append(places, e.places...)
	}
	return texts, places, nil
}

const alias = "crashpoint_" // what instrumented files call package point

// editor inserts points into a file. Insertions contain no line breaks, so lines keep their
// numbers.
type editor struct {
	Points
	source []byte
	set    *token.FileSet
	info   *types.Info
	file   *ast.File
	places []Place
	edits  []edit
	err    error
}

type edit struct {
	at   int
	text string
}

// insert inserts text. Of insertions at the same position, the first one is first in the result.
func (e *editor) insert(at token.Pos, text string) {
	e.edits = append(e.edits, edit{e.set.Position(at).Offset, text})
}

func (e *editor) apply() []byte {
	slices.SortStableFunc(e.edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	var out []byte
	from := 0
	for _, x := range e.edits {
		out = append(append(out, e.source[from:x.at]...), x.text...)
		from = x.at
	}
	return append(out, e.source[from:]...)
}

// place notes a point, and returns it as a Go string.
func (e *editor) place(at token.Pos, what string) string {
	pos := e.set.Position(at)
	p := Place{filepath.Base(pos.Filename), pos.Line, what}
	e.places = append(e.places, p)
	return fmt.Sprintf("%q", p)
}

// edit visits outer nodes first. What belongs behind a node is inserted after its inner nodes have
// been visited.
func (e *editor) edit() {
	type open struct {
		node ast.Node
		at   token.Pos
		text string
	}
	var stack []open
	deferred := make(map[*ast.CallExpr]bool) // or run by a go statement
	ast.Inspect(e.file, func(n ast.Node) bool {
		if n == nil {
			if last := stack[len(stack)-1]; last.text != "" {
				e.insert(last.at, last.text)
			}
			stack = stack[:len(stack)-1]
			return true
		}
		o := open{node: n, at: n.End()}
		switch n := n.(type) {
		case *ast.DeferStmt:
			deferred[n.Call] = true
		case *ast.GoStmt:
			deferred[n.Call] = true
		case *ast.CallExpr:
			if what := e.call(n); what != "" {
				o.text = e.around(n, what, deferred[n])
			}
		case *ast.ExprStmt:
			if call, ok := n.X.(*ast.CallExpr); ok && e.Schedule {
				e.wait(call)
			}
		case *ast.SendStmt:
			if e.Schedule && len(stack) > 0 && isStatement(stack[len(stack)-1].node, n) {
				e.insert(n.Pos(), fmt.Sprintf("%s.Wait(%s, func() bool { return len(%s) < cap(%[3]s) }, func() {}); ", alias, e.place(n.Pos(), "send"), e.text(n.Chan)))
			}
		case *ast.AssignStmt, *ast.IncDecStmt:
			if !e.Schedule && e.writesBytes(n) && len(stack) > 0 && isList(stack[len(stack)-1].node) {
				place := e.place(n.Pos(), "assignment")
				e.insert(n.Pos(), alias+".At("+place+"); ")
				o.text = "; " + alias + ".At(" + place + ")"
			}
		}
		stack = append(stack, o)
		return true
	})
}

// isStatement reports whether n is one of the statements of a list, and not a case of a select
// statement.
func isStatement(list, n ast.Node) bool {
	c, ok := list.(*ast.CommClause)
	return isList(list) && (!ok || c.Comm != n)
}

// text returns the source of an expression.
func (e *editor) text(x ast.Expr) []byte {
	return e.source[e.set.Position(x.Pos()).Offset:e.set.Position(x.End()).Offset]
}

func isList(n ast.Node) bool {
	switch n.(type) {
	case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause:
		return true
	}
	return false
}

// around inserts what belongs before a call, and returns what belongs behind it.
func (e *editor) around(n *ast.CallExpr, what string, deferred bool) (after string) {
	place := e.place(n.Pos(), what)
	if deferred {
		e.insert(n.Pos(), "func() { ")
		after = " }()"
	}
	results := 0
	switch t := e.info.Types[n].Type.(type) {
	case nil:
	case *types.Tuple:
		results = t.Len()
	default:
		if !e.info.Types[n].IsVoid() {
			results = 1
		}
	}
	switch results {
	case 0:
		e.insert(n.Pos(), alias+".Around("+place+", func() { ")
		return " })" + after
	case 1:
		e.insert(n.Pos(), alias+".Result("+alias+".At("+place+"), "+place+", ")
		return ")" + after
	case 2, 3, 4:
		e.insert(n.Pos(), fmt.Sprintf("%s.After%d(%[1]s.Before(%[3]s, ", alias, results, place))
		e.insert(n.Fun.End(), ")")
		return ")" + after
	}
	e.err = fmt.Errorf("%v: a call with %d results", e.set.Position(n.Pos()), results)
	return ""
}

// harmless are functions and methods that change nothing, and of which there are too many.
var harmless = map[string][]string{
	"os": {"Environ", "Getegid", "Getenv", "Geteuid", "Getgid", "Getgroups", "Getpid", "Getppid", "Getuid", "Hostname", "IsExist", "IsNotExist", "LookupEnv",
		"Lstat", "NewFile", "Open", "ReadDir", "ReadFile", "Readlink", "SameFile", "Stat", "TempDir",
		// methods of files
		"Fd", "Name", "Read", "ReadAt", "Seek"},
	"syscall": {"Fstat", "Fstatfs", "Getpid", "Getrlimit", "Gettid", "Lstat", "Stat", "Statfs"},
}

// call returns a name of what n calls if it may change what processes share, and "" otherwise.
func (e *editor) call(n *ast.CallExpr) string {
	var name *ast.Ident
	switch f := ast.Unparen(n.Fun).(type) {
	case *ast.Ident:
		name = f
	case *ast.SelectorExpr:
		name = f.Sel
	default:
		return ""
	}
	switch f := e.info.Uses[name].(type) {
	case *types.Builtin:
		if !e.Schedule && (f.Name() == "copy" || f.Name() == "clear") && isBytes(e.info.Types[n.Args[0]].Type) {
			return f.Name()
		}
	case *types.Func:
		if f.Pkg() == nil {
			return ""
		}
		receiver := ""
		if r := f.Signature().Recv(); r != nil {
			receiver = types.TypeString(r.Type(), func(*types.Package) string { return "" })
		}
		path, changes := f.Pkg().Path(), false
		if path == "sync/atomic" {
			changes = e.Schedule || !strings.HasPrefix(f.Name(), "Load")
		} else {
			changes = !e.Schedule && changesFiles(f, receiver)
		}
		if changes {
			return f.Pkg().Name() + "." + f.Name()
		}
	}
	return ""
}

// changesFiles reports whether a function changes what processes share.
func changesFiles(f *types.Func, receiver string) bool {
	switch f.Pkg().Path() {
	case "encoding/binary":
		return strings.HasPrefix(f.Name(), "Put")
	case "syscall", "golang.org/x/sys/unix":
		return receiver == "" && !slices.Contains(harmless["syscall"], f.Name())
	case "os":
		return (receiver == "" || receiver == "*File") && !slices.Contains(harmless["os"], f.Name())
	}
	return false
}

// wait inserts a call that waits for a lock before one that takes it, which then does not have to
// wait.
func (e *editor) wait(n *ast.CallExpr) {
	method, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
	if !ok {
		return
	}
	f, ok := e.info.Uses[method.Sel].(*types.Func)
	if !ok || f.Pkg() == nil || f.Pkg().Path() != "sync" {
		return
	}
	undo := map[string]string{"Lock": "Unlock", "RLock": "RUnlock"}[f.Name()]
	if undo == "" || types.IsInterface(e.info.Types[method.X].Type) {
		return
	}
	e.insert(n.Pos(), fmt.Sprintf("%s.Wait(%s, %s.Try%s, %[3]s.%[5]s); ", alias, e.place(n.Pos(), "sync."+f.Name()), e.text(method.X), f.Name(), undo))
}

// writesBytes reports whether a statement assigns to an element of a slice of bytes, such as the
// memory of a mapped file.
func (e *editor) writesBytes(n ast.Node) bool {
	var left []ast.Expr
	switch n := n.(type) {
	case *ast.AssignStmt:
		left = n.Lhs
	case *ast.IncDecStmt:
		left = []ast.Expr{n.X}
	}
	return slices.ContainsFunc(left, func(x ast.Expr) bool {
		i, ok := ast.Unparen(x).(*ast.IndexExpr)
		return ok && isBytes(e.info.Types[i.X].Type)
	})
}

func isBytes(t types.Type) bool {
	if t == nil {
		return false
	}
	s, ok := t.Underlying().(*types.Slice)
	if !ok {
		return false
	}
	b, ok := s.Elem().Underlying().(*types.Basic)
	return ok && b.Kind() == types.Byte
}
