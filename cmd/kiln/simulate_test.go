package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kiln simulate reads a trace, runs the policies asked for in both modes and prints an object for each; it draws them; and what it
// cannot run it says (R67).
func TestSimulate(t *testing.T) {
	dir := t.TempDir()
	file, picture := filepath.Join(dir, "trace.csv"), filepath.Join(dir, "frontier.svg")
	head := strings.Split("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39", ",")
	content := "HashOwner,HashApp,HashFunction,Trigger," + strings.Join(head, ",") + "\n" +
		"o,a,f,timer" + strings.Repeat(",1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0", 2) + "\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"paper", "system"} {
		out, told, status := simulate(t, "simulate", file, "--mode", mode, "--policy", "kiln,fixed-10m,fixed-20m", "--seed", "1", "--json", "--svg", picture)
		var results []struct {
			Policy string
			Cold   int
		}
		if err := json.Unmarshal([]byte(out), &results); err != nil || status != exitFine || len(results) != 3 {
			t.Fatalf("%s: %d %v %s%s", mode, status, err, out, told)
		}
		if results[0].Policy != "kiln" || results[1].Cold != 2 {
			t.Errorf("%s: %+v", mode, results)
		}
	}
	if b, err := os.ReadFile(picture); err != nil || !strings.Contains(string(b), "<svg") {
		t.Errorf("the picture: %v", err)
	}
	for _, bad := range [][]string{
		{"simulate", file, "--policy", "best"}, {"simulate", file, "--mode", "fast"}, {"simulate", filepath.Join(dir, "none")},
		{"simulate", picture}, {"simulate", file, "--mode", "system", "--faults", "boot=2"},
	} {
		if _, told, status := simulate(t, bad...); status != exitMistake || told == "" {
			t.Errorf("%v: status %d, %q", bad, status, told)
		}
	}
}

func simulate(t *testing.T, args ...string) (out, told string, status int) {
	t.Helper()
	var stdout, stderr strings.Builder
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	status = a.run(t.Context(), args)
	return stdout.String(), stderr.String(), status
}
