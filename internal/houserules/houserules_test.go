package houserules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHouse shows that the whole repository keeps the house rules, and names each place that does not.
func TestHouse(t *testing.T) {
	root := repository(t)
	found, err := Check(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// TestEachRuleBites shows for every rule that breaking it alone is found, at its line, and says what to do.
func TestEachRuleBites(t *testing.T) {
	const doc = "// Package pool is for the test of the house rules. It is a long comment, because each package says what it is for,\n" +
		"// what it is not for, who calls it, what is safe concurrently and in which order locks are taken.\n"
	long := strings.Repeat("\t_ = 1\n", maxFunctionLines)
	for name, row := range map[string]struct {
		file, content string
		want          string // empty: nothing may be found
	}{
		"clean":                 {"internal/pool/pool.go", doc + "package pool\n\nimport \"kiln/internal/node\"\n\nvar _ = node.X\n", ""},
		"upwards":               {"internal/pool/pool.go", doc + "package pool\n\nimport _ \"kiln/internal/invoke\"\n", "pool.go:5: [floors] internal/pool (floor 8: pools"},
		"neighbour":             {"internal/code/code.go", pkgDoc("code") + "package code\n\nimport _ \"kiln/internal/ledger\"\n", "imports its neighbour kiln/internal/ledger"},
		"driver neighbour":      {"internal/driver/fake/fake.go", pkgDoc("fake") + "package fake\n\nimport _ \"kiln/internal/driver/process\"\n", "imports its neighbour"},
		"beside":                {"internal/pool/pool.go", doc + "package pool\n\nimport _ \"kiln/internal/driver/drivertest\"\n", "stands beside the house"},
		"no floor":              {"internal/new/new.go", pkgDoc("new") + "package new\n", "stands on no floor"},
		"import of no floor":    {"internal/pool/pool.go", doc + "package pool\n\nimport _ \"kiln/internal/new\"\n", "which stands on no floor"},
		"words stand alone":     {"kiln.go", pkgDoc("kiln") + "package kiln\n\nimport _ \"golang.org/x/sys/unix\"\n", "the standard library only"},
		"test may import":       {"internal/pool/pool_test.go", "package pool\n\nimport _ \"kiln/internal/server\"\n", ""},
		"example is a guest":    {"examples/x/main.go", "// Command x.\npackage main\n\nimport _ \"kiln\"\n", "an example is a stranger's code"},
		"core with I/O":         {"internal/placement/placement.go", pkgDoc("placement") + "package placement\n\nimport _ \"os\"\n", "imports os; its floor (1)"},
		"core with clock":       {"internal/manager/manager.go", pkgDoc("manager") + "package manager\n\nimport \"time\"\n\nfunc f() { _ = time.Now() }\n", "a core is handed now"},
		"core with goroutine":   {"internal/manager/manager.go", pkgDoc("manager") + "package manager\n\nfunc f() { go f() }\n", "starts no goroutine"},
		"wire may do I/O":       {"internal/lambdaapi/lambdaapi.go", pkgDoc("lambdaapi") + "package lambdaapi\n\nimport _ \"net/http\"\n", ""},
		"no comment":            {"internal/pool/pool.go", "package pool\n", "there is no package comment"},
		"comment elsewhere":     {"internal/pool/doc.go", doc + "package pool\n", "there is no package comment in the file named after"},
		"short comment":         {"internal/pool/pool.go", "// Package pool pools.\npackage pool\n", "say what it is for"},
		"long function":         {"internal/pool/pool.go", doc + "package pool\n\nfunc f() {\n" + long + "}\n", "[size] f has 72 lines"},
		"long test is fine":     {"internal/pool/pool_test.go", "package pool\n\nfunc f() {\n" + long + "}\n", ""},
		"long file":             {"internal/pool/pool.go", doc + "package pool\n" + strings.Repeat("\n// x\n", maxFileLines), "the file has"},
		"generated is exempt":   {"internal/pool/zz_x_gen.go", "package pool\n\nfunc f() {\n" + long + "}\n", "there is no package comment"},
		"init":                  {"internal/pool/pool.go", doc + "package pool\n\nfunc init() {}\n", "[init]"},
		"state without value":   {"internal/pool/pool.go", doc + "package pool\n\nvar count int\n", "count has no value of its own"},
		"state of a lock":       {"internal/pool/pool.go", doc + "package pool\n\nimport \"sync\"\n\nvar mu = sync.Mutex{}\n", "exists to change"},
		"state by call":         {"internal/pool/pool.go", doc + "package pool\n\nvar x = load()\n", "does not know for a constant one"},
		"state by pointer":      {"internal/pool/pool.go", doc + "package pool\n\nvar x = &struct{ n int }{}\n", "everyone can write through"},
		"plain value":           {"internal/pool/pool.go", doc + "package pool\n\nvar x = 3\n", "make it a const"},
		"table":                 {"internal/pool/pool.go", doc + "package pool\n\nvar x = map[string]int{\"a\": 1}\n", ""},
		"table written":         {"internal/pool/pool.go", doc + "package pool\n\nvar x = map[string]int{}\n\nfunc f() { x[\"a\"] = 1 }\n", "assigns to the package-level variable x"},
		"table deleted from":    {"internal/pool/pool.go", doc + "package pool\n\nvar x = map[string]int{}\n\nfunc f() { delete(x, \"a\") }\n", "deletes in the package-level"},
		"shadow is no table":    {"internal/pool/pool.go", doc + "package pool\n\nvar x = map[string]int{}\n\nfunc f() {\n\tvar x = map[string]int{}\n\tx[\"a\"] = 1\n}\n", ""},
		"pattern":               {"internal/pool/pool.go", doc + "package pool\n\nimport \"regexp\"\n\nvar x = regexp.MustCompile(`a`)\n", ""},
		"name":                  {"internal/util/util.go", pkgDoc("util") + "package util\n", "named for nothing it holds"},
		"sleep":                 {"internal/pool/pool_test.go", "package pool\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "[sleep]"},
		"sleep beside a bubble": {"internal/pool/pool_test.go", "package pool\n\nimport (\n\t\"testing\"\n\t_ \"testing/synctest\"\n\t\"time\"\n)\n\nfunc pause() { time.Sleep(1) }\n\nfunc TestX(t *testing.T) { pause() }\n", ""},
		"sleep in the test":     {"internal/pool/pool_test.go", "package pool\n\nimport (\n\t\"testing\"\n\t_ \"testing/synctest\"\n\t\"time\"\n)\n\nfunc TestX(t *testing.T) { time.Sleep(1) }\n", "[sleep]"},
		"sleep in a bubble":     {"internal/pool/pool_test.go", "package pool\n\nimport (\n\t\"testing\"\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc f(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }\n", ""},
		"gofmt":                 {"internal/pool/pool.go", doc + "package  pool\n", "[gofmt]"},
		"everyone's logger":     {"internal/pool/pool.go", doc + "package pool\n\nimport \"log/slog\"\n\nfunc f() { slog.Info(\"x\") }\n", "use the one handed in"},
		"message made":          {"internal/pool/pool.go", doc + "package pool\n\nimport \"log/slog\"\n\nfunc f(log *slog.Logger, what string) { log.Info(what) }\n", "a log message is a constant"},
		"message upper":         {"internal/pool/pool.go", doc + "package pool\n\nimport \"log/slog\"\n\nfunc f(log *slog.Logger, what string) { log.Warn(\"Went wrong\") }\n", "a log message is a constant"},
		"key made":              {"internal/pool/pool.go", doc + "package pool\n\nimport \"log/slog\"\n\nfunc f(log *slog.Logger, what string) { log.Error(\"went wrong\", what, 1) }\n", "a key of a log line"},
		"log line":              {"internal/pool/pool.go", doc + "package pool\n\nimport \"log/slog\"\n\nfunc f(log *slog.Logger, what string) { log.Debug(\"went wrong\", \"error\", what) }\n", ""},
		"exit":                  {"internal/pool/pool.go", doc + "package pool\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", "only a command ends"},
		"no owner":              {"docs/a.md", "TO" + "DO: this\n", "docs/a.md:1: [owner]"},
		"owner":                 {"docs/a.md", "TO" + "DO(ada): this\n", ""},
		"place":                 {"scripts/a.sh", "cd /wo" + "rk/main\n", "[place]"},
		"a path that is a URL":  {"docs/a.md", "https://x.org/wo" + "rk/a\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Check(fstest.MapFS{row.file: {Data: []byte(row.content)}})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, v := range found {
				all = append(all, v.String())
			}
			shown := strings.Join(all, "\n")
			switch {
			case row.want == "" && shown != "":
				t.Errorf("found where nothing is wrong:\n%s", shown)
			case !strings.Contains(shown, row.want):
				t.Errorf("found:\n%s\nwant %q", shown, row.want)
			}
		})
	}
}

func pkgDoc(name string) string {
	return "// Package " + name + " is for the test of the house rules. It is a long comment, because each package says what it is for,\n" +
		"// what it is not for, who calls it, what is safe concurrently and in which order locks are taken.\n"
}

// repository finds the folder with go.mod, upwards from here.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("there is no go.mod above this package")
		}
		dir = up
	}
}
