package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// maxAgain is how many failed tests are run again. When more fail, it is not the machine.
const maxAgain = 5

// beyondTests says why a line of output shows that its package's failure is more than that of a test, or "". A data race
// is a fault whenever it is seen. After a panic, a fatal error or a time limit the tests that had not run yet are not known;
// go test names the one that happened to run. What a package says after its tests (what its server left behind, say) is a
// failure of the package.
func beyondTests(e event) string {
	line := strings.TrimSuffix(e.Output, "\n")
	switch {
	case strings.Contains(line, "WARNING: DATA RACE"), strings.Contains(line, "race detected during execution of test"):
		return "a data race"
	case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "), strings.HasPrefix(line, "SIGQUIT: "),
		strings.HasPrefix(line, "signal: "):
		return line
	case strings.HasPrefix(line, "FAIL: "):
		return "what its package said after the tests"
	}
	return ""
}

// again runs the failed tests once more, each alone, when they are few and nothing else failed that a second run would hide.
// Those that pass count as they did the second time.
func (s *summary) again(alone func(pkg, test string) (*summary, error)) {
	if len(s.failed) == 0 {
		return
	}
	if n := len(s.failed); n > maxAgain {
		fmt.Fprintf(s.out, "not run again: %d tests failed, more than %d\n", n, maxAgain)
		return
	}
	for _, t := range s.failed {
		if why := s.beyond[t.pkg]; why != "" {
			fmt.Fprintf(s.out, "not run again: %s, because of %s\n", t, why)
			continue
		}
		fmt.Fprintf(s.out, "again, alone: %s\n", t)
		second, err := alone(t.pkg, t.test)
		if err != nil {
			fmt.Fprintf(s.out, "it failed again: %v\n", err)
			continue
		}
		*s.tallies[t] = second.total()
		s.flaky = append(s.flaky, t)
	}
	s.broken = slices.DeleteFunc(s.broken, func(pkg string) bool {
		of := func(t name) bool { return t.pkg == pkg }
		failed := slices.ContainsFunc(s.failed, func(t name) bool { return of(t) && !slices.Contains(s.flaky, t) })
		return slices.ContainsFunc(s.failed, of) && !failed
	})
}

// runAlone runs one test by the command and says what judge does of it.
func runAlone(command []string, pkg, test string, maySkip *regexp.Regexp) (*summary, error) {
	args := append(slices.Clone(command[1:]), "-run", "^"+test+"$", pkg)
	cmd := exec.Command(command[0], args...)
	cmd.Stderr = os.Stdout
	wrote, err := cmd.Output()
	s, failed := judge(string(wrote), pkg, maySkip, os.Stdout)
	return s, errors.Join(err, failed)
}

// judge reads what running one test alone wrote. The error is nil only when it ran, passed and skipped nothing.
func judge(wrote, pkg string, maySkip *regexp.Regexp, out io.Writer) (*summary, error) {
	s := newSummary(out, maySkip)
	if err := s.read(strings.NewReader(wrote)); err != nil {
		return nil, err
	}
	if sum := s.total(); sum.failed > 0 || len(s.broken) > 0 || sum.passed == 0 || s.forbidden > 0 || s.beyond[pkg] != "" {
		return nil, fmt.Errorf("%d passed, %d failed, %d skipped %s", sum.passed, sum.failed, sum.skipped, s.beyond[pkg])
	}
	return s, nil
}
