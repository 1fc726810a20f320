//go:build linux

package container

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/images"
)

// managed gives a runtime of this machine whose name begins with prefix, or skips.
func managed(t testing.TB, prefix string) kiln.Runtime {
	t.Helper()
	needContainers(t)
	found, err := images.Find(t.Context(), images.Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found.List() {
		if strings.HasPrefix(r.Name, prefix) {
			return r
		}
	}
	t.Skipf("no interpreter %s* under /usr", prefix)
	return kiln.Runtime{}
}

// source writes a package of one file.
func source(t testing.TB, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A prepared interpreter is bound to code it did not know, keeps its state between executions, and sees its environment.
// R6 R23
func TestManaged(t *testing.T) {
	for _, c := range []struct{ prefix, file, text string }{
		{"python3", "app.py", "import os\nn = 0\ndef handler(event, context):\n    global n\n    n += 1\n    print('said', n, flush=True)\n    return [n, os.environ['GREETING'], os.getcwd()]\n"},
		{"nodejs", "app.js", "let n = 0\nexports.handler = async () => { console.log('said', ++n); return [n, process.env.GREETING, process.cwd()] }\n"},
	} {
		t.Run(c.prefix, func(t *testing.T) {
			h := newHarness(t, t.TempDir())
			i := h.newInstance(t)
			spec := newContainer(i.ID)
			spec.Runtime = managed(t, c.prefix)
			begin := time.Now()
			if _, err := h.CreateContainer(t.Context(), spec); err != nil {
				t.Fatalf("%v; output %q", err, h.said(spec.ID))
			}
			prepared := time.Since(begin)
			b := binding(source(t, c.file, c.text))
			b.Version.Handler, b.Environment = "app.handler", map[string]string{"GREETING": "hello", "_HANDLER": "app.handler"}
			begin = time.Now()
			result, err := h.BindContainer(t.Context(), spec.ID, b)
			if err != nil || result.Failure != nil {
				t.Fatalf("%v %+v; output %q", err, result.Failure, h.said(spec.ID))
			}
			t.Logf("prepared in %v, bound in %v", prepared, time.Since(begin))
			for n := range 2 {
				answer := h.execute(t, spec.ID, "{}")
				want := `[` + itoa(n+1) + `,"hello","/var/task"]`
				if got := strings.ReplaceAll(string(answer.Payload), " ", ""); got != want {
					t.Errorf("answer %s, want %s; output %q", got, want, h.said(spec.ID))
				}
				if !strings.Contains(h.said(spec.ID), "said "+itoa(n+1)) {
					t.Errorf("output %q", h.said(spec.ID))
				}
			}
		})
	}
}

// A fresh container has the variables that act when a process starts from its beginning, and its code already.
func TestFresh(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	spec := newContainer(i.ID)
	spec.Runtime = managed(t, "python3")
	dir := source(t, "app.py", "import sys\ndef handler(event, context):\n    return [sys.flags.optimize, 'extra' in sys.modules or __import__('extra').here]\n")
	if err := os.Mkdir(filepath.Join(dir, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lib", "extra.py"), []byte("here = True\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := binding(dir)
	b.Version.Handler = "app.handler"
	b.Environment = map[string]string{"PYTHONOPTIMIZE": "1", "PYTHONPATH": "/var/task/lib", "_HANDLER": "app.handler"}
	spec.Fresh = &b
	if _, err := h.CreateContainer(t.Context(), spec); err != nil {
		t.Fatalf("%v; output %q", err, h.said(spec.ID))
	}
	result, err := h.BindContainer(t.Context(), spec.ID, b)
	if err != nil || result.Failure != nil {
		t.Fatalf("%v %+v; output %q", err, result.Failure, h.said(spec.ID))
	}
	if answer := h.execute(t, spec.ID, "{}"); strings.ReplaceAll(string(answer.Payload), " ", "") != "[1,true]" {
		t.Errorf("answer %s %+v; output %q", answer.Payload, answer.Failure, h.said(spec.ID))
	}
}
