package houserules

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// checkFloor holds a package's imports to the floors. Test files may import what they like.
func (p *pkg) checkFloor() []Violation {
	if p.name == "" {
		return nil
	}
	on := floorOf(p.dir)
	if on == nil {
		return []Violation{{p.dir, 0, "floors", "this package stands on no floor; write it into floors.go, on the lowest floor its imports allow"}}
	}
	var found []Violation
	for _, f := range p.files {
		if f.test {
			continue
		}
		for _, spec := range f.syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue
			}
			if why := p.mayNotImport(on, imported); why != "" {
				found = append(found, Violation{f.name, f.line(spec.Pos()), "floors", why})
			}
		}
	}
	return found
}

// mayNotImport says why a package on a floor may not import another; nothing when it may.
func (p *pkg) mayNotImport(on *floor, imported string) string {
	dir, ours := strings.CutPrefix(imported+"/", module+"/")
	dir = path.Clean(dir) // "." for the root
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case !ours && on.number == 0 && strings.Contains(first, "."):
		return fmt.Sprintf("%s imports %s; %s", p.shown(), imported, on.why)
	case !ours && p.pure(on) && impure(imported):
		return fmt.Sprintf("%s imports %s; its floor (%d) is %s. Hand in time, chance and values, and act in the shell above", p.shown(), imported, on.number, on.why)
	case !ours:
		return ""
	}
	if strings.HasPrefix(p.dir, "examples/") {
		return fmt.Sprintf("%s imports %s; an example is a stranger's code and uses AWS's libraries only", p.shown(), imported)
	}
	there := floorOf(dir)
	switch {
	case on.number == beside:
		return ""
	case there == nil:
		return fmt.Sprintf("%s imports %s, which stands on no floor; write it into floors.go", p.shown(), imported)
	case there.number == beside && on.number == binaries:
		return ""
	case there.number == beside:
		return fmt.Sprintf("%s imports %s, which stands beside the house; only tests and the binaries import it", p.shown(), imported)
	case there.number == on.number:
		return fmt.Sprintf("%s (floor %d) imports its neighbour %s; hand in a function or an interface from above, or move what both need down", p.shown(), on.number, imported)
	case there.number > on.number:
		return fmt.Sprintf("%s (floor %d: %s) imports %s (floor %d: %s); a package imports lower floors only", p.shown(), on.number, on.why, imported, there.number, there.why)
	}
	return ""
}

func (p *pkg) shown() string {
	if p.dir == "." {
		return module
	}
	return p.dir
}

// pure reports whether the package decides and does nothing else.
func (p *pkg) pure(on *floor) bool {
	return on.number >= lowestPure && on.number <= highestPure && !slices.Contains(notPure, p.dir)
}

// impure reports whether a package outside the house brings I/O, clocks, logs, locks or chance.
func impure(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".") || slices.Contains([]string{"os", "net", "log", "io", "syscall", "context", "sync",
		"math/rand", "crypto/rand", "database"}, imported) || slices.Contains([]string{"os", "net", "log", "database", "sync"}, first)
}

// checkCalls finds calls that no package, or no pure one, may make.
func (p *pkg) checkCalls(f *file) []Violation {
	on := floorOf(p.dir)
	if on == nil || on.number == beside {
		return nil
	}
	var found []Violation
	add := func(n ast.Node, rule, message string) {
		found = append(found, Violation{f.name, f.line(n.Pos()), rule, message})
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if why := logged(n); why != "" {
				add(n, "logs", why)
			}
		case *ast.GoStmt:
			if p.pure(on) {
				add(n, "pure", "a core starts no goroutine; give an action back and let the shell do it")
			}
		case *ast.SelectorExpr:
			name, ok := qualified(n)
			if !ok {
				return true
			}
			if p.pure(on) && slices.Contains([]string{"time.Now", "time.Since", "time.Until", "time.After", "time.Sleep", "time.NewTimer", "time.NewTicker", "time.AfterFunc"}, name) {
				add(n, "pure", name+" reads the clock; a core is handed now")
			}
			switch name {
			case "slog.Default", "slog.SetDefault", "slog.Info", "slog.Warn", "slog.Error", "slog.Debug",
				"log.Print", "log.Printf", "log.Println", "log.Fatal", "log.Fatalf":
				add(n, "logs", name+" is everyone's logger; use the one handed in")
			case "os.Exit":
				if p.name != "main" {
					add(n, "exit", "only a command ends the process; give an error back")
				}
			}
		}
		return true
	})
	return found
}

// logged says what is wrong with a call that writes to a log: messages are constant and begin in lower case, keys are
// constant words, so that a log can be searched and nothing of a request gets into it by the message. Nothing for any
// other call.
func logged(call *ast.CallExpr) string {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, method.Sel.Name) {
		return ""
	}
	receiver := ""
	switch x := method.X.(type) {
	case *ast.Ident:
		receiver = x.Name
	case *ast.SelectorExpr:
		receiver = x.Sel.Name
	}
	if word := strings.ToLower(receiver); word != "log" && word != "logger" {
		return ""
	}
	if text, ok := constantText(call.Args[0]); !ok || text == "" || strings.ToLower(text[:1]) != text[:1] {
		return "a log message is a constant in lower case; put what varies under a key"
	}
	for i := 1; i < len(call.Args); i += 2 {
		if _, ok := constantText(call.Args[i]); !ok {
			return "a key of a log line is a constant word"
		}
	}
	return ""
}

// constantText gives the text of a string written out.
func constantText(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// qualified gives "package.Name" of a selector whose left side is a plain word that is not declared in the file.
func qualified(n *ast.SelectorExpr) (string, bool) {
	x, ok := n.X.(*ast.Ident)
	if !ok || x.Obj != nil {
		return "", false
	}
	return x.Name + "." + n.Sel.Name, true
}

// checkSleep finds waiting by the clock in tests, outside a bubble. In a file with bubbles the functions that are no test
// themselves may sleep: they are what is called within, or they make the bubble for what they are given.
func (f *file) checkSleep() []Violation {
	type span struct{ from, to token.Pos }
	var bubbles []span
	makers := f.bubbleMakers()
	if slices.ContainsFunc(f.syntax.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"testing/synctest"` }) {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && !isTest(fn) {
				bubbles = append(bubbles, span{fn.Pos(), fn.End()})
			}
		}
	}
	var found []Violation
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if called, ok := call.Fun.(*ast.Ident); ok && makers[called.Name] {
			bubbles = append(bubbles, span{call.Pos(), call.End()})
		}
		s, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch name, _ := qualified(s); name {
		case "synctest.Test", "synctest.Run":
			bubbles = append(bubbles, span{call.Pos(), call.End()})
		case "time.Sleep":
			inside := slices.ContainsFunc(bubbles, func(b span) bool { return b.from <= call.Pos() && call.Pos() < b.to })
			if !inside {
				found = append(found, Violation{f.name, f.line(call.Pos()), "sleep", "a test that sleeps is slow or wrong; wait on a channel, poll with a deadline, or use a synctest bubble"})
			}
		}
		return true
	})
	return found
}

// bubbleMakers names the file's functions that run what they are given in a bubble.
func (f *file) bubbleMakers() map[string]bool {
	makers := map[string]bool{}
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || isTest(fn) {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if name, _ := qualified(s); name == "synctest.Test" {
					makers[fn.Name.Name] = true
				}
			}
			return true
		})
	}
	return makers
}

// isTest reports whether go test calls the function by itself.
func isTest(fn *ast.FuncDecl) bool {
	for _, prefix := range []string{"Test", "Benchmark", "Fuzz", "Example"} {
		if fn.Recv == nil && strings.HasPrefix(fn.Name.Name, prefix) {
			return true
		}
	}
	return false
}
