// Command testsum reads what go test -json writes, shows what failed and what was skipped, and ends with one line:
// "N passed, N failed, N skipped". It exits 1 when something failed, or when a test was skipped in a package that must
// not skip.
//
// With a command behind its flags it runs tests that failed once more, each alone, as "COMMAND -run ^Name$ PACKAGE". What
// passes then counts as passed and is listed under "flaky:", to be mended; again.go says what is never tried again.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
)

func main() {
	maySkip := flag.String("may-skip", "^$", "packages (a regular expression) where a skipped test is no failure")
	flag.Parse()
	s := newSummary(os.Stdout, regexp.MustCompile(*maySkip))
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	if command := flag.Args(); len(command) > 0 {
		s.again(func(pkg, test string) (*summary, error) { return runAlone(command, pkg, test, s.maySkip) })
	}
	if !s.close() {
		os.Exit(1)
	}
}
