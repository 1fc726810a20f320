// Package houserules holds the house to its rules: the floors packages stand on, their comments and sizes, and what none
// of them may do. It reads source files only, so it is quick and needs nothing built.
//
// It is not a linter for taste, and it does not judge what a person must read. Its own test calls it over the whole
// repository; nothing else does. It also draws the house, for ARCHITECTURE.md. Check and Draw are pure over the file
// system they are given and safe for concurrent use. When a rule hurts the reader, change the rule here, in its own commit.
package houserules

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The sizes the house allows. Generated files (zz_…_gen.go) count to none of them.
const (
	maxFunctionLines = 70   // tests, whose tables are data, are exempt
	maxFileLines     = 800  // tests too
	maxPackageLines  = 4000 // without tests
	minCommentBytes  = 150  // of a package comment
)

// Violation is one place where a rule is broken.
type Violation struct {
	File    string
	Line    int // 0 when it is about the whole file or package
	Rule    string
	Message string // what is wrong and what to do
}

// String shows a violation as file:line: [rule] message.
func (v Violation) String() string {
	if v.Line == 0 {
		return fmt.Sprintf("%s: [%s] %s", v.File, v.Rule, v.Message)
	}
	return fmt.Sprintf("%s:%d: [%s] %s", v.File, v.Line, v.Rule, v.Message)
}

// Check reads every file under the root of the repository and gives the places where a rule is broken, by file and
// line. An error means that a file could not be read or parsed.
func Check(repository fs.FS) ([]Violation, error) {
	packages, texts, err := read(repository)
	if err != nil {
		return nil, err
	}
	var found []Violation
	for _, p := range packages {
		found = append(found, p.check()...)
	}
	for _, t := range texts {
		found = append(found, checkText(t.name, t.content)...)
	}
	slices.SortStableFunc(found, func(a, b Violation) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return found, nil
}

// pkg is one folder with Go files.
type pkg struct {
	dir   string // "." for the root
	name  string
	files []*file
}

// file is one Go file.
type file struct {
	name      string // from the repository's root
	content   []byte
	syntax    *ast.File
	positions *token.FileSet
	test      bool
	generated bool
}

type text struct {
	name    string
	content []byte
}

// maxTextBytes bounds the files that are read for their words; larger ones are data.
const maxTextBytes = 1 << 20

// read walks the repository. Folders of tools, of output and of test data are not part of the house.
func read(repository fs.FS) ([]*pkg, []text, error) {
	byDir := map[string]*pkg{}
	var texts []text
	err := fs.WalkDir(repository, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			hidden := strings.HasPrefix(base, ".") && base != "." && base != ".ci"
			if hidden || base == "bin" || base == "testdata" || base == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		if base == ".git" { // a worktree's: git's own note of where the repository is
			return nil
		}
		info, err := d.Info()
		// In a worktree of git .git is a file that names a folder of this machine.
		if err != nil || name == ".git" || !info.Mode().IsRegular() || info.Size() > maxTextBytes && path.Ext(name) != ".go" {
			return err
		}
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			return err
		}
		if bytes.IndexByte(content[:min(len(content), 8000)], 0) < 0 {
			texts = append(texts, text{name, content})
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return addFile(byDir, name, content)
	})
	var packages []*pkg
	for _, p := range byDir {
		packages = append(packages, p)
	}
	slices.SortFunc(packages, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return packages, texts, err
}

func addFile(byDir map[string]*pkg, name string, content []byte) error {
	f := &file{name: name, content: content, positions: token.NewFileSet(), test: strings.HasSuffix(name, "_test.go")}
	base := path.Base(name)
	f.generated = strings.HasPrefix(base, "zz_") && strings.HasSuffix(base, "_gen.go")
	var err error
	if f.syntax, err = parser.ParseFile(f.positions, name, content, parser.ParseComments); err != nil {
		return err
	}
	dir := path.Dir(name)
	p := byDir[dir]
	if p == nil {
		p = &pkg{dir: dir}
		byDir[dir] = p
	}
	if !f.test {
		p.name = f.syntax.Name.Name
	}
	p.files = append(p.files, f)
	return nil
}

func (f *file) line(pos token.Pos) int { return f.positions.Position(pos).Line }

func (f *file) lines() int { return bytes.Count(f.content, []byte("\n")) }

// check holds one package to every rule.
func (p *pkg) check() []Violation {
	found := p.checkFloor()
	found = append(found, p.checkName()...)
	found = append(found, p.checkComment()...)
	found = append(found, p.checkSize()...)
	found = append(found, p.checkState()...)
	for _, f := range p.files {
		if !f.generated {
			found = append(found, f.checkForm()...)
		}
		if f.test {
			found = append(found, f.checkSleep()...)
			continue
		}
		if !f.generated {
			found = append(found, f.checkFunctions()...)
		}
		found = append(found, p.checkCalls(f)...)
	}
	return found
}

func (p *pkg) checkName() []Violation {
	bad := []string{"util", "utils", "common", "helper", "helpers", "model", "models", "types", "misc", "base"}
	if p.name == "" || !slices.Contains(bad, p.name) {
		return nil
	}
	return []Violation{{p.dir, 0, "names", fmt.Sprintf("package %s is named for nothing it holds; name it for the thing in it (design.md has the words)", p.name)}}
}

// checkComment wants the package comment in the file named after the package (main.go for a command), and enough of it.
func (p *pkg) checkComment() []Violation {
	if p.name == "" {
		return nil // tests only
	}
	want := path.Join(p.dir, p.name+".go")
	allowed := []string{want}
	if p.name == "main" {
		allowed = append(allowed, path.Join(p.dir, path.Base(p.dir)+".go"))
	}
	on := floorOf(p.dir)
	short := 0
	if on != nil && on.number != beside {
		short = minCommentBytes
	}
	const tell = "say what it is for, what not, who calls it, what is safe concurrently, and the lock order"
	for _, f := range p.files {
		if !slices.Contains(allowed, f.name) || f.syntax.Doc == nil {
			continue
		}
		if n := len(f.syntax.Doc.Text()); n < short {
			return []Violation{{f.name, f.line(f.syntax.Package), "package comment", fmt.Sprintf("the package comment has %d bytes; %s", n, tell)}}
		}
		return nil
	}
	return []Violation{{want, 0, "package comment", "there is no package comment in the file named after the package; " + tell}}
}

func (p *pkg) checkSize() []Violation {
	var found []Violation
	total := 0
	for _, f := range p.files {
		if f.generated {
			continue
		}
		if n := f.lines(); n > maxFileLines {
			found = append(found, Violation{f.name, 0, "size", fmt.Sprintf("the file has %d lines, %d are allowed; give a part of it a file of its own", n, maxFileLines)})
		}
		if !f.test {
			total += f.lines()
		}
	}
	if total > maxPackageLines {
		found = append(found, Violation{p.dir, 0, "size", fmt.Sprintf("the package has %d lines, %d are allowed; move a thing of its own out, a floor down", total, maxPackageLines)})
	}
	return found
}

// checkFunctions holds functions to their size and finds init.
func (f *file) checkFunctions() []Violation {
	var found []Violation
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			found = append(found, Violation{f.name, f.line(fn.Pos()), "init", "init runs unseen at import; call a function from where it is needed"})
		}
		if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFunctionLines {
			found = append(found, Violation{f.name, f.line(fn.Pos()), "size", fmt.Sprintf("%s has %d lines, %d are allowed; keep the branches here and move straight parts out", fn.Name.Name, n, maxFunctionLines)})
		}
	}
	return found
}

func (f *file) checkForm() []Violation {
	formatted, err := format.Source(f.content)
	if err != nil || bytes.Equal(formatted, f.content) {
		return nil // what cannot be parsed was refused before
	}
	return []Violation{{f.name, 0, "gofmt", "the file is not as gofmt writes it; run gofmt -w " + f.name}}
}

// checkText looks for what no file may say.
func checkText(name string, content []byte) []Violation {
	// Written in parts, so that this file passes.
	unowned := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b(?:[^(A-Za-z]|$)`)
	place := regexp.MustCompile(`(?:^|[\s"'` + "`" + `=:(])/(?:wo` + `rk/|ro` + `ot/(?:go|src|work|\.)|Us` + `ers/\w|ho` + `me/\w+/(?:src|go|work|git|kiln)\b)`)
	var found []Violation
	line := 0
	for l := range bytes.Lines(content) {
		line++
		if unowned.Match(l) {
			found = append(found, Violation{name, line, "owner", "work left to do has nobody who does it; write TO" + "DO(name), or an issue instead"})
		}
		if place.Match(l) {
			found = append(found, Violation{name, line, "place", "this is a path of one person's machine; make it relative to the repository or a parameter"})
		}
	}
	return found
}
