// Package readme holds what is written to what there is: the commands and links of README and docs, the names in its table
// of numbers, and the tests that docs/requirements.md names.
package readme

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kiln/test/kilntest"
)

// read gives a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(kilntest.Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages gives the names of all pages, decisions aside: those are what was true when they were written.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(kilntest.Root(), "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatal(docs, err)
	}
	names := []string{"README.md", "ARCHITECTURE.md"}
	for _, path := range docs {
		names = append(names, "docs/"+filepath.Base(path))
	}
	return names
}

// code gives a page's lines of code and what stands between backticks.
func code(page string) []string {
	var found []string
	fenced := false
	span := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(strings.ReplaceAll(page, "\\\n", " ")) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			plain, _, _ := strings.Cut(line, " #")
			found = append(found, strings.TrimSpace(plain))
		default:
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				found = append(found, m[1])
			}
		}
	}
	return found
}

// Every kiln command and flag, and every make target, that a page shows is there.
func TestCommandsExist(t *testing.T) {
	binary, err := kilntest.Binary()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := exec.Command(binary, args...).CombinedOutput()
		if err != nil {
			t.Errorf("kiln %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	root, keys := run("--help"), run("config")
	command := regexp.MustCompile(`(?:^|[\s(/])kiln((?: +[^\s&|;)]+)+)`)
	target := regexp.MustCompile(`^make +([a-z-]+)`)
	known, targets := 0, map[string]bool{}
	for _, name := range pages(t) {
		for _, text := range code(read(t, name)) {
			if m := target.FindStringSubmatch(text); m != nil {
				targets[m[1]] = true
			}
			for _, m := range command.FindAllStringSubmatch(text, -1) {
				words := strings.Fields(m[1])
				if !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(words[0]) + ` `).MatchString(root) {
					if regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
						t.Errorf("%s: there is no command %q in %q", name, words[0], text)
					}
					continue
				}
				known++
				help := run(words[0], "--help")
				if strings.Contains(help, "Available Commands:") && len(words) > 1 {
					help = run(words[0], words[1], "--help")
				}
				for _, w := range words[1:] {
					flag, _, _ := strings.Cut(w, "=")
					if !strings.HasPrefix(flag, "-") || flag == "-" {
						continue
					}
					hidden := words[0] == "serve" && regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(strings.TrimLeft(flag, "-"))+` `).MatchString(keys)
					if !hidden && !regexp.MustCompile(`(?m)^ +.*`+regexp.QuoteMeta(flag)+`[ ,]`).MatchString(help) {
						t.Errorf("%s: kiln %s has no flag %s: %q", name, words[0], flag, text)
					}
				}
			}
		}
	}
	if known < 12 || !targets["demo"] || !targets["test"] {
		t.Errorf("only %d commands and the targets %v were found: this test reads the pages wrongly", known, targets)
	}
	for name := range targets {
		cmd := exec.Command("make", "-n", name)
		cmd.Dir = kilntest.Root()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("make %s: %v\n%s", name, err, out)
		}
	}
}

// Every relative link of every page leads to a file.
func TestLinksResolve(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	decisions, err := filepath.Glob(filepath.Join(kilntest.Root(), "docs", "decisions", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := pages(t)
	for _, path := range decisions {
		names = append(names, "docs/decisions/"+filepath.Base(path))
	}
	found := 0
	for _, name := range names {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(kilntest.Root(), filepath.Dir(name), to)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d links were found", found)
	}
}

// The numbers that README shows are numbers that make bench measures, by their names.
func TestNumbersAreMeasured(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "README.md"), "<!-- numbers -->")
	if !ok {
		t.Fatal("README.md has lost its marker <!-- numbers -->")
	}
	table, _, _ = strings.Cut(table, "<!-- numbers -->")
	table, _, _ = strings.Cut(table, "\n## ")
	measured := measurements(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|-") || strings.HasPrefix(line, "|:") || strings.HasPrefix(line, "| -") {
			continue
		}
		if rows++; rows == 1 { // the head
			continue
		}
		names := quoted.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			names = [][]string{{"", strings.TrimSpace(cells[1])}}
		}
		if !slices.ContainsFunc(names, func(n []string) bool {
			return slices.ContainsFunc(measured, func(m *regexp.Regexp) bool { return m.MatchString(n[1]) })
		}) {
			t.Errorf("no name in the row %q is one of test/bench's", strings.TrimSpace(line))
		}
	}
}

// measurements gives the names that test/bench gives its results, as patterns: what is put together while it runs may be
// anything.
func measurements(t *testing.T) []*regexp.Regexp {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(kilntest.Root(), "test", "bench", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var found []*regexp.Regexp
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if kind, ok := lit.Type.(*ast.Ident); !ok || kind.Name != "Result" {
				return true
			}
			for _, e := range lit.Elts {
				if field, ok := e.(*ast.KeyValueExpr); ok && field.Key.(*ast.Ident).Name == "Name" {
					if p := pattern(field.Value); strings.ReplaceAll(p, anything, "") != "" {
						found = append(found, regexp.MustCompile("^"+p+"$"))
					}
				}
			}
			return true
		})
	}
	if len(found) < 20 {
		t.Errorf("only %d measurements were found in test/bench", len(found))
	}
	return found
}

const anything = `[a-z0-9.-]+`

// pattern gives an expression of a text as a pattern.
func pattern(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err == nil {
			return regexp.MustCompile(`%[a-z]`).ReplaceAllLiteralString(regexp.QuoteMeta(text), anything)
		}
	case *ast.BinaryExpr:
		return pattern(e.X) + pattern(e.Y)
	case *ast.CallExpr: // fmt.Sprintf
		if len(e.Args) > 0 {
			return pattern(e.Args[0])
		}
	}
	return anything
}

// Every test that docs/requirements.md names is where it says, a row with a test is not missing, and a row that a test
// under test/ names has that test's package beside it.
func TestRequirementsAreShown(t *testing.T) {
	tests, rowsOf := map[string]bool{}, map[string][]string{} // "folder TestName"; row → folders
	declared := regexp.MustCompile(`(?m)^((?://.*\n)*)func (Test\w+)\(`)
	row := regexp.MustCompile(`\bR\d+\b`)
	err := filepath.WalkDir(kilntest.Root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != kilntest.Root() {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(kilntest.Root(), filepath.Dir(path))
		for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
			tests[folder+" "+m[2]] = true
			for _, r := range row.FindAllString(m[1], -1) {
				rowsOf[r] = append(rowsOf[r], folder)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(read(t, "docs/requirements.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || !row.MatchString(cells[1]) {
			continue
		}
		seen++
		name, built, shown := strings.TrimSpace(cells[1]), cells[3], strings.TrimSpace(cells[4])
		for part := range strings.SplitSeq(shown, ";") {
			folder, list, _ := strings.Cut(strings.TrimSpace(part), "` ")
			folder = strings.Trim(folder, "`")
			for one := range strings.SplitSeq(list, ",") {
				if one = strings.TrimSpace(one); one != "" && !tests[folder+" "+one] {
					t.Errorf("%s: there is no %s in %s", name, one, folder)
				}
			}
		}
		missing := strings.Contains(built, "**missing**")
		if missing != (shown == "") && !strings.Contains(built, "**partly**") {
			t.Errorf("%s is missing (%v) and shown by %q", name, missing, shown)
		}
		for _, folder := range rowsOf[name] {
			if missing || strings.HasPrefix(folder, "test/rows") && !strings.Contains(shown, "`test/rows`") {
				t.Errorf("%s: a test in %s shows it, and the page does not tell", name, folder)
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d rows were read", seen)
	}
}
