package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
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

// name is a test's: its package and its name, of a package as a whole an empty one.
type name struct{ pkg, test string }

// top is the name of the test that t is a part of.
func (t name) top() name {
	test, _, _ := strings.Cut(t.test, "/")
	return name{t.pkg, test}
}

func (t name) String() string { return t.pkg + " " + t.test }

// tally counts what came of tests.
type tally struct{ passed, failed, skipped int }

// summary counts tests and keeps the output of those still running.
type summary struct {
	out     io.Writer
	maySkip *regexp.Regexp

	output  map[name][]string
	parents map[name]bool // tests with subtests, which count by those
	tallies map[name]*tally

	failed    []name            // whole tests that failed, in order
	outputs   map[name][]string // what those wrote, their parts included
	beyond    map[string]string // by package: why its failure is more than its failed tests
	broken    []string          // packages that failed
	skips     []name
	forbidden int
	flaky     []name
}

func newSummary(out io.Writer, maySkip *regexp.Regexp) *summary {
	return &summary{out: out, maySkip: maySkip, output: map[name][]string{}, parents: map[name]bool{},
		tallies: map[name]*tally{}, outputs: map[name][]string{}, beyond: map[string]string{}}
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
	t := name{e.Package, e.Test}
	switch e.Action {
	case "output":
		s.output[t] = keep(s.output[t], e.Output)
		if why := beyondTests(e); why != "" && s.beyond[e.Package] == "" {
			s.beyond[e.Package] = why
		}
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "run":
		for i, c := range e.Test {
			if c == '/' {
				s.parents[name{e.Package, e.Test[:i]}] = true
			}
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e, t)
		}
		delete(s.output, t)
	}
}

// keep appends a line and leaves out the middle of too many.
func keep(lines []string, more ...string) []string {
	lines = append(lines, more...)
	if n := len(lines); n > maxOutputLines {
		lines = slices.Delete(lines, maxOutputLines/2, maxOutputLines/2+n-maxOutputLines)
	}
	return lines
}

func (s *summary) endTest(e event, t name) {
	if e.Action == "fail" {
		fmt.Fprintf(s.out, "--- FAIL: %s (%.1f s)\n%s", t, e.Elapsed, strings.Join(s.output[t], ""))
		s.outputs[t.top()] = keep(s.outputs[t.top()], s.output[t]...)
		if t == t.top() {
			s.failed = append(s.failed, t)
		}
	}
	if s.parents[t] && e.Action == "pass" {
		return
	}
	count := s.tallies[t.top()]
	if count == nil {
		count = &tally{}
		s.tallies[t.top()] = count
	}
	switch e.Action {
	case "pass":
		count.passed++
	case "fail":
		count.failed++
	case "skip":
		count.skipped++
		s.skips = append(s.skips, t)
		if !s.maySkip.MatchString(e.Package) {
			s.forbidden++
			fmt.Fprintf(s.out, "--- SKIP: %s (this lane is required)\n%s", t, strings.Join(s.output[t], ""))
		}
	}
}

func (s *summary) endPackage(e event) {
	if e.Action == "skip" {
		return // no tests there
	}
	fmt.Fprintf(s.out, "%-4s %-40s %6.1f s\n", map[string]string{"pass": "ok", "fail": "FAIL"}[e.Action], e.Package, e.Elapsed)
	if e.Action == "fail" {
		s.broken = append(s.broken, e.Package)
		fmt.Fprint(s.out, strings.Join(s.output[name{e.Package, ""}], ""))
	}
}

// total adds up all tests.
func (s *summary) total() (sum tally) {
	for _, t := range s.tallies {
		sum.passed += t.passed
		sum.failed += t.failed
		sum.skipped += t.skipped
	}
	return sum
}

// close prints the last line and reports whether all is well.
func (s *summary) close() bool {
	if s.forbidden > 0 {
		var names []string
		for _, t := range s.skips {
			names = append(names, t.String())
		}
		fmt.Fprintf(s.out, "skipped where nothing may be skipped: %s\n", strings.Join(names, ", "))
	}
	for _, t := range s.flaky {
		fmt.Fprintf(s.out, "flaky: %s failed, then passed alone. MEND IT. What it wrote when it failed:\n", t)
		for _, line := range s.outputs[t] {
			fmt.Fprint(s.out, "    | ", strings.TrimSuffix(line, "\n"), "\n")
		}
	}
	sum := s.total()
	if sum.failed == 0 {
		sum.failed = len(s.broken) // packages that could not be built, or ended outside a test
	}
	if len(s.flaky) > 0 {
		fmt.Fprintf(s.out, "flaky: %d of the tests that passed did so only the second time; they are listed above\n", len(s.flaky))
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped)
	return sum.failed == 0 && s.forbidden == 0 && sum.passed > 0
}
