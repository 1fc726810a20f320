package houserules

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// constant reports whether a call makes a value that nobody changes afterwards.
func constant(call string) bool {
	return slices.Contains([]string{"regexp.MustCompile", "errors.New", "fmt.Errorf", "kiln.Errorf", "strings.NewReplacer",
		"template.Must", "time.Date", "time.Unix", "time.UnixMilli", "netip.MustParseAddr", "netip.MustParsePrefix", "crc32.MakeTable", "reflect.TypeFor",
		"reflect.TypeOf", "kiln.Wrap", "Errorf", "math.Inf", "math.NaN", "sync.OnceValue", "sync.OnceValues"}, call) ||
		strings.HasPrefix(call, "base64.") || strings.HasPrefix(call, "base32.") || strings.HasPrefix(call, "big.New") || strings.HasPrefix(call, "unsafe.")
}

// checkState finds package-level variables that can change. A variable may stand when its value is made by something in
// constant, or is a table (a composite literal), and nothing in the package assigns to it, takes its address or deletes
// from it. Generated tables and files //go:embed fills may stand too. It is a heuristic: it reads names, not types.
func (p *pkg) checkState() []Violation {
	var found []Violation
	vars := map[string]bool{}
	for _, f := range p.files {
		if f.test || f.generated {
			continue
		}
		for _, d := range f.syntax.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					if name.Name == "_" || embedded(decl, spec) {
						continue
					}
					vars[name.Name] = true
					if why := mayChange(spec, i); why != "" {
						found = append(found, Violation{f.name, f.line(name.Pos()), "state", fmt.Sprintf("the package-level variable %s %s", name.Name, why)})
					}
				}
			}
		}
	}
	for _, f := range p.files {
		if !f.test && !f.generated {
			found = append(found, f.changes(vars)...)
		}
	}
	return found
}

func embedded(decl *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{decl.Doc, spec.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// mayChange says why the i-th variable of a declaration looks like state; nothing when it looks like a table.
func mayChange(spec *ast.ValueSpec, i int) string {
	const instead = "; put it into the struct that uses it and hand that down"
	if i >= len(spec.Values) {
		return "has no value of its own, so something must set it" + instead
	}
	switch v := spec.Values[i].(type) {
	case *ast.BasicLit:
		return "is a plain value; make it a const"
	case *ast.CompositeLit:
		if s, ok := v.Type.(*ast.SelectorExpr); ok {
			if name, _ := qualified(s); strings.HasPrefix(name, "sync.") || strings.HasPrefix(name, "atomic.") {
				return "is " + name + ", which exists to change" + instead
			}
		}
		return ""
	case *ast.UnaryExpr:
		if _, literal := v.X.(*ast.CompositeLit); literal && v.Op == token.AND {
			return "is a pointer that everyone can write through; make it a value, or a function that makes one"
		}
		return ""
	case *ast.CallExpr:
		fun := v.Fun
		if index, generic := fun.(*ast.IndexExpr); generic {
			fun = index.X
		}
		if called := callee(fun); called != "" && constant(called) {
			return ""
		}
		return "is made by a call that houserules does not know for a constant one" + instead + " (or, if nothing can change it, add the call to constant in state.go)"
	}
	return ""
}

func callee(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		if inner, ok := f.X.(*ast.SelectorExpr); ok { // base64.StdEncoding.Strict()
			return callee(inner) + "." + f.Sel.Name
		}
	}
	return ""
}

// changes finds the places where a file assigns to one of vars, deletes from it or takes its address. A local variable
// of the same name is told apart as far as one file's syntax tells it.
func (f *file) changes(vars map[string]bool) []Violation {
	var found []Violation
	top := f.topSpecs()
	see := func(target ast.Expr, what string) {
		name := root(target)
		if name == nil || !vars[name.Name] || shadowed(name, top) {
			return
		}
		found = append(found, Violation{f.name, f.line(target.Pos()), "state", fmt.Sprintf("%s the package-level variable %s; nothing global changes: put it into a struct", what, name.Name)})
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, target := range n.Lhs {
					see(target, "this assigns to")
				}
			}
		case *ast.IncDecStmt:
			see(n.X, "this changes")
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				if _, plain := n.X.(*ast.Ident); plain {
					see(n.X, "this takes the address of")
				}
			}
		case *ast.CallExpr:
			if fn, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (fn.Name == "delete" || fn.Name == "clear" || fn.Name == "copy") {
				see(n.Args[0], "this "+fn.Name+"s in")
			}
		}
		return true
	})
	return found
}

// root gives the variable an expression such as a.b[c] begins with.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// shadowed reports whether a name means something declared inside a function: a parameter, a := or a local var. A name
// without an object is declared in another file of the package.
func shadowed(name *ast.Ident, top []*ast.ValueSpec) bool {
	if name.Obj == nil {
		return false
	}
	spec, ok := name.Obj.Decl.(*ast.ValueSpec)
	return !ok || !slices.Contains(top, spec)
}

// topSpecs gives the declarations of a file's own scope.
func (f *file) topSpecs() []*ast.ValueSpec {
	var top []*ast.ValueSpec
	for _, d := range f.syntax.Decls {
		if decl, ok := d.(*ast.GenDecl); ok && decl.Tok == token.VAR {
			for _, s := range decl.Specs {
				top = append(top, s.(*ast.ValueSpec))
			}
		}
	}
	return top
}
