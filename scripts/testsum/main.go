// Command testsum reads what go test -json writes, shows what failed and what was skipped, and ends with one line:
// "N passed, N failed, N skipped". It exits 1 when something failed, or when a test was skipped in a package that must
// not skip.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// event is one line of go test -json; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// maxOutputLines bounds what is kept of one test's output; the middle of a longer one is left out.
const maxOutputLines = 400

func main() {
	maySkip := flag.String("may-skip", "^$", "packages (a regular expression) where a skipped test is no failure")
	flag.Parse()
	s := &summary{out: os.Stdout, maySkip: regexp.MustCompile(*maySkip), output: map[string][]string{}, parents: map[string]bool{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	if !s.close() {
		os.Exit(1)
	}
}

// summary counts tests and keeps the output of those still running.
type summary struct {
	out     io.Writer
	maySkip *regexp.Regexp

	output  map[string][]string // by package and test
	parents map[string]bool     // tests with subtests, which count by those

	passed, failed, skipped, forbidden, broken, packages int
	skips                                                []string
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(s.out, lines.Text()) // not of go test: shown as it is
			continue
		}
		s.step(e)
	}
	return lines.Err()
}

func (s *summary) step(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
		if n := len(s.output[key]); n > maxOutputLines {
			s.output[key] = slices.Delete(s.output[key], maxOutputLines/2, maxOutputLines/2+1)
		}
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "run":
		for i, c := range e.Test {
			if c == '/' {
				s.parents[e.Package+" "+e.Test[:i]] = true
			}
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e, key)
		}
		delete(s.output, key)
	}
}

func (s *summary) endTest(e event, key string) {
	if e.Action == "fail" {
		fmt.Fprintf(s.out, "--- FAIL: %s %s (%.1f s)\n%s", e.Package, e.Test, e.Elapsed, strings.Join(s.output[key], ""))
	}
	if s.parents[key] && e.Action == "pass" {
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
	case "skip":
		s.skipped++
		s.skips = append(s.skips, e.Package+" "+e.Test)
		if !s.maySkip.MatchString(e.Package) {
			s.forbidden++
			fmt.Fprintf(s.out, "--- SKIP: %s %s (this lane is required)\n%s", e.Package, e.Test, strings.Join(s.output[key], ""))
		}
	}
}

func (s *summary) endPackage(e event) {
	s.packages++
	if e.Action == "skip" {
		return // no tests there
	}
	fmt.Fprintf(s.out, "%-4s %-40s %6.1f s\n", map[string]string{"pass": "ok", "fail": "FAIL"}[e.Action], e.Package, e.Elapsed)
	if e.Action == "fail" {
		s.broken++
		fmt.Fprint(s.out, strings.Join(s.output[e.Package+" "], ""))
	}
}

// close prints the last line and reports whether all is well.
func (s *summary) close() bool {
	if s.forbidden > 0 {
		fmt.Fprintf(s.out, "skipped where nothing may be skipped: %s\n", strings.Join(s.skips, ", "))
	}
	failed := s.failed
	if failed == 0 && s.broken > 0 {
		failed = s.broken // packages that could not be built, or ended outside a test
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, failed, s.skipped)
	return failed == 0 && s.forbidden == 0 && s.passed > 0
}
