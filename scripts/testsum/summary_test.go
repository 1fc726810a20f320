package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// TestSummary shows what makes a run fail: a failing test, a package that cannot be built, a forbidden skip, and no
// test at all; and that a test with subtests counts by those.
func TestSummary(t *testing.T) {
	const pass = `{"Action":"run","Package":"a","Test":"T"}` + "\n" + `{"Action":"run","Package":"a","Test":"T/x"}` + "\n" +
		`{"Action":"pass","Package":"a","Test":"T/x"}` + "\n" + `{"Action":"pass","Package":"a","Test":"T"}` + "\n" + `{"Action":"pass","Package":"a"}` + "\n"
	for name, row := range map[string]struct {
		in, want string
		fine     bool
	}{
		"passed":        {pass, "1 passed, 0 failed, 0 skipped\n", true},
		"failed":        {pass + `{"Action":"fail","Package":"a","Test":"U"}` + "\n" + `{"Action":"fail","Package":"a"}`, "1 passed, 1 failed, 0 skipped\n", false},
		"not built":     {pass + `{"Action":"fail","Package":"b"}`, "1 passed, 1 failed, 0 skipped\n", false},
		"skipped":       {pass + `{"Action":"skip","Package":"b","Test":"T"}`, "1 passed, 0 failed, 1 skipped\n", false},
		"may skip":      {pass + `{"Action":"skip","Package":"may","Test":"T"}`, "1 passed, 0 failed, 1 skipped\n", true},
		"nothing":       {`{"Action":"skip","Package":"b"}`, "0 passed, 0 failed, 0 skipped\n", false},
		"not go test's": {"hello\n" + pass, "1 passed, 0 failed, 0 skipped\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSummary(&out, regexp.MustCompile("^may$"))
			if err := s.read(strings.NewReader(row.in)); err != nil {
				t.Fatal(err)
			}
			if fine := s.close(); fine != row.fine || !strings.HasSuffix(out.String(), row.want) {
				t.Errorf("fine is %v, output:\n%s", fine, out.String())
			}
		})
	}
}
