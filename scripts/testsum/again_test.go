package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// lines gives events as go test -json writes them, of words such as "fail p T/x" and "output p T the text".
func lines(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		f := strings.SplitN(w, " ", 4)
		b.WriteString(`{"Action":"` + f[0] + `","Package":"` + f[1] + `"`)
		if len(f) > 2 && f[2] != "" {
			b.WriteString(`,"Test":"` + f[2] + `"`)
		}
		if len(f) > 3 {
			b.WriteString(`,"Output":"` + f[3] + `\n"`)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// A few failed tests are run again alone: what passes then is counted as passed and listed with what it first wrote. More
// than five, data races, panics, packages that fail outside a test, builds and skips are never tried again.
func TestAgain(t *testing.T) {
	six := []string{}
	for _, n := range []string{"A", "B", "C", "D", "E", "F"} {
		six = append(six, "fail p "+n)
	}
	parts := []string{"run p T", "run p T/x", "run p T/y", "pass p T/x", "output p T/y too late", "fail p T/y", "fail p T", "pass p U", "fail p"}
	for name, row := range map[string]struct {
		in, second []string // second: what running alone writes; nil when it must not be asked
		want       string   // the last line
		says       string
	}{
		"passes alone":      {parts, []string{"run p T", "run p T/x", "run p T/y", "pass p T/x", "pass p T/y", "pass p T", "pass p"}, "3 passed, 0 failed, 0 skipped", "flaky: p T failed, then passed alone. MEND IT. What it wrote when it failed:\n    | too late\n"},
		"fails again":       {parts, []string{"fail p T", "fail p"}, "2 passed, 2 failed, 0 skipped", "it failed again"},
		"nothing ran":       {parts, []string{"skip p"}, "2 passed, 2 failed, 0 skipped", "it failed again: 0 passed, 0 failed, 0 skipped"},
		"skips then":        {parts, []string{"pass p X", "skip p T", "pass p"}, "2 passed, 2 failed, 0 skipped", "it failed again: 1 passed, 0 failed, 1 skipped"},
		"a race then":       {parts, []string{"output p T WARNING: DATA RACE", "pass p T", "pass p"}, "2 passed, 2 failed, 0 skipped", "it failed again"},
		"six":               {append(six, "fail p"), nil, "0 passed, 6 failed, 0 skipped", "not run again: 6 tests failed"},
		"a race":            {append([]string{"output p T WARNING: DATA RACE"}, parts...), nil, "2 passed, 2 failed, 0 skipped", "because of a data race"},
		"a panic":           {[]string{"output p T panic: no more", "fail p T", "fail p"}, nil, "0 passed, 1 failed, 0 skipped", "because of panic: no more"},
		"too long":          {[]string{"output p T panic: test timed out after 28m0s", "fail p T", "fail p"}, nil, "0 passed, 1 failed, 0 skipped", "timed out"},
		"left behind":       {append([]string{"output p  FAIL: the shared server: a mount is left"}, parts...), nil, "2 passed, 2 failed, 0 skipped", "said after the tests"},
		"package only":      {[]string{"pass p T", "fail p"}, nil, "1 passed, 1 failed, 0 skipped", "FAIL p"},
		"a skip":            {[]string{"pass p T", "skip p U", "pass p"}, nil, "1 passed, 0 failed, 1 skipped", "skipped where nothing may be skipped"},
		"and another broke": {append([]string{"fail q"}, parts...), []string{"pass p T", "pass p"}, "2 passed, 1 failed, 0 skipped", "flaky: p T"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSummary(&out, regexp.MustCompile("^$"))
			if err := s.read(strings.NewReader(lines(row.in...))); err != nil {
				t.Fatal(err)
			}
			s.again(func(pkg, test string) (*summary, error) {
				if row.second == nil || pkg != "p" || test != "T" {
					t.Errorf("asked to run %s %s again", pkg, test)
					return nil, errors.New("no")
				}
				return judge(lines(row.second...), pkg, s.maySkip, &out)
			})
			fine := s.close()
			wrote := out.String()
			if want := strings.Contains(row.want, " 0 failed, 0 skipped"); fine != want || !strings.HasSuffix(wrote, row.want+"\n") || !strings.Contains(wrote, row.says) {
				t.Errorf("fine is %v, output:\n%s", fine, wrote)
			}
		})
	}
}

// The whole command with a real go test: a test that fails only the first time passes, one that always fails does not.
func TestRunAlone(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module flaky\n",
		"a_test.go": `package flaky
import ("os"; "testing")
func TestOnce(t *testing.T) {
	if _, err := os.Stat("been"); err != nil {
		if err := os.WriteFile("been", nil, 0o600); err != nil { t.Fatal(err) }
		t.Fatal("not yet")
	}
}
func TestNever(t *testing.T) { if os.Getenv("NEVER") != "" { t.Fatal("never") } }
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "testsum")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(never string) (string, error) {
		if err := os.Remove(filepath.Join(dir, "been")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", "go test -json -count 1 . | ./testsum go test -json -count 1")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "NEVER="+never, "GOWORK=off")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(""); err != nil || !strings.HasSuffix(out, "\n2 passed, 0 failed, 0 skipped\n") || !strings.Contains(out, "flaky: flaky TestOnce") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("yes"); err == nil || !strings.HasSuffix(out, "\n1 passed, 1 failed, 0 skipped\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
