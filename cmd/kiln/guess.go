package main

import (
	"context"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// askInterpreter bounds how long an interpreter may take to tell its version.
const askInterpreter = 2 * time.Second

// The runtime taken for a language when nothing says which: what Kiln has nearest to it runs.
const (
	defaultPython   = "python3.12"
	defaultNode     = "nodejs22.x"
	defaultProvided = "provided.al2023"
)

// family gives the language of a source file by its ending: "python", "nodejs" or nothing.
func family(name string) string {
	switch path.Ext(name) {
	case ".py":
		return "python"
	case ".js", ".mjs", ".cjs":
		return "nodejs"
	}
	return ""
}

// familyOf gives the language of a runtime: "python3.12" is python.
func familyOf(runtime string) string {
	for _, f := range []string{"python", "nodejs", "provided"} {
		if strings.HasPrefix(runtime, f) {
			return f
		}
	}
	return runtime
}

// guess finds runtime and handler in what a package holds, unless they are given. It is a mistake when nothing there
// tells.
func guess(p *packed, runtime, handler string) (string, string, error) {
	want := ""
	if runtime != "" {
		want = familyOf(runtime)
	}
	if handler != "" && runtime != "" {
		return runtime, handler, nil
	}
	file := handlerFile(p.files, want, handler)
	if file == "" {
		file = entryFile(p.files, want)
	}
	if file == "" {
		return "", "", mistake("cannot tell how to run this: there is no bootstrap, lambda_function.py, index.mjs, index.js or single source file at its top; give --runtime and --handler")
	}
	found, foundHandler := defaultProvided, "bootstrap"
	switch family(file) {
	case "python":
		found, foundHandler = defaultPython, stem(file)+"."+pythonHandler(string(p.source(file)))
	case "nodejs":
		found, foundHandler = defaultNode, stem(file)+"."+nodeHandler(string(p.source(file)))
	}
	if runtime == "" {
		runtime = found
	}
	if handler == "" {
		handler = foundHandler
	}
	return runtime, handler, nil
}

// handlerFile gives the file of a package in which a runtime of a language, or of any when it is empty, looks for a
// handler; nothing when it is not there.
func handlerFile(files []string, want, handler string) string {
	var names []string
	if want == "provided" {
		names = append(names, "bootstrap")
	}
	dot := strings.LastIndexByte(handler, '.')
	module := path.Clean(handler[:max(dot, 0)])
	if want == "" || want == "nodejs" { // functions inside of objects are named with dots too: index.api.get
		dir, base := path.Split(module)
		base, _, _ = strings.Cut(base, ".")
		names = append(names, dir+base+".js", dir+base+".mjs", dir+base+".cjs")
	}
	if want == "" || want == "python" {
		module = strings.ReplaceAll(module, ".", "/")
		names = append(names, module+".py", module+"/__init__.py")
	}
	for _, name := range names {
		if slices.Contains(files, name) {
			return name
		}
	}
	return ""
}

func stem(file string) string { return strings.TrimSuffix(file, path.Ext(file)) }

// entryFile picks the file with the handler: by AWS's names, then by usual ones, then the only source file there is.
func entryFile(files []string, want string) string {
	names := []string{"bootstrap", "lambda_function.py", "index.mjs", "index.js", "index.cjs"}
	for _, s := range []string{"handler", "main", "app", "function", "index"} {
		names = append(names, s+".py", s+".mjs", s+".js", s+".cjs")
	}
	fits := func(name string) bool {
		if name == "bootstrap" {
			return want == "" || want == "provided"
		}
		return family(name) != "" && (want == "" || want == family(name))
	}
	for _, name := range names {
		if fits(name) && slices.Contains(files, name) {
			return name
		}
	}
	only := ""
	for _, name := range files {
		if strings.Contains(name, "/") || !fits(name) {
			continue
		}
		if only != "" {
			return ""
		}
		only = name
	}
	return only
}

// pythonHandler finds the function to call: lambda_handler, handler, or the first that takes an event and a context.
func pythonHandler(source string) string {
	for _, name := range []string{"lambda_handler", "handler"} {
		if regexp.MustCompile(`(?m)^(?:async\s+)?def\s+` + name + `\s*\(|^` + name + `\s*=`).MatchString(source) {
			return name
		}
	}
	if m := regexp.MustCompile(`(?m)^(?:async\s+)?def\s+(\w+)\s*\(\s*\w+[^,()]*,\s*\w+[^,()]*\)`).FindStringSubmatch(source); m != nil {
		return m[1]
	}
	return "lambda_handler"
}

// nodeHandler finds the exported function to call: handler, or the only one that is exported.
func nodeHandler(source string) string {
	exported := regexp.MustCompile(`(?m)\bexports\.(\w+)\s*=|^export\s+(?:async\s+)?(?:const|let|var|function\*?)\s+(\w+)`)
	var names []string
	for _, m := range exported.FindAllStringSubmatch(source, -1) {
		names = append(names, m[1]+m[2])
	}
	if len(names) == 1 {
		return names[0]
	}
	return "handler"
}

// identifier gives AWS's identifier for a runtime as Kiln names it ("nodejs22" is nodejs22.x); nothing when AWS has none.
func identifier(runtime string) string {
	for _, name := range []string{runtime, runtime + ".x"} {
		if slices.Contains(types.Runtime("").Values(), types.Runtime(name)) {
			return name
		}
	}
	return ""
}

// installed gives AWS's identifier for the interpreter of a language in this machine's /usr/bin, where the server finds
// its own; nothing when there is none, or none that AWS knows.
func installed(ctx context.Context, language string) string {
	program := map[string]string{"python": "/usr/bin/python3", "nodejs": "/usr/bin/node"}[language]
	if program == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askInterpreter)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "" // not there
	}
	return told(language, string(out))
}

// told reads AWS's identifier out of what an interpreter says of its version: "Python 3.11.2", "v22.1.0".
func told(language, version string) string {
	m := regexp.MustCompile(`(\d+)\.(\d+)`).FindStringSubmatch(version)
	switch {
	case m == nil:
		return ""
	case language == "python":
		return identifier("python" + m[1] + "." + m[2])
	}
	return identifier(language + m[1])
}
