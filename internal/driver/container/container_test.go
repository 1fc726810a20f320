//go:build linux

package container

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"kiln"
	"kiln/internal/node"
	"kiln/internal/sandbox"
)

// The driver keeps node's contract, which it does not import.
var (
	_ node.Driver  = (*Driver)(nil)
	_ node.Resizer = (*Driver)(nil)
)

func TestMain(m *testing.M) {
	if _, err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// harness is a driver in a folder of its own with what it told.
type harness struct {
	*Driver
	dir   string
	exits chan kiln.Exit

	mu     sync.Mutex
	output map[kiln.ContainerID]string // guarded by mu
}

// needContainers skips loudly where the machine cannot do it, or fails where the lane requires it.
func needContainers(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		if _, err := findLauncher(""); err == nil {
			return
		}
	}
	const text = "THE CONTAINER DRIVER IS NOT TESTED HERE: it needs root and crun or runc"
	if os.Getenv("KILN_REQUIRE_CONTAINER") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

func newHarness(t testing.TB, dir string) *harness {
	t.Helper()
	needContainers(t)
	h := &harness{dir: dir, exits: make(chan kiln.Exit, 100), output: map[kiln.ContainerID]string{}}
	d, err := New(t.Context(), Config{Dir: dir, Launcher: os.Getenv("KILN_TEST_LAUNCHER"), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Exited: func(e kiln.Exit) { h.exits <- e },
		Output: func(id kiln.ContainerID, b []byte) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.output[id] += string(b)
		}})
	if err != nil {
		t.Fatal(err)
	}
	h.Driver = d
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *harness) said(id kiln.ContainerID) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.output[id]
}

func testRuntime() kiln.Runtime {
	return kiln.Runtime{Name: "provided", Kind: kiln.RuntimeProvided, Command: []string{"/bin/sh"}, Environment: map[string]string{"STUB": "1"}}
}

// rawloop builds the test's function once and gives a package folder with it.
var rawloop = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kiln-rawloop-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), "./testdata/rawloop")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, os.Chmod(dir, 0o755)
})

func packageDir(t testing.TB) string {
	t.Helper()
	dir, err := rawloop()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (h *harness) newInstance(t testing.TB) kiln.InstanceSpec {
	t.Helper()
	spec := kiln.InstanceSpec{ID: kiln.InstanceID("i-" + uuid.NewString()[:8]), BootID: strings.ReplaceAll(uuid.NewString(), "-", ""), AllowanceMiB: 256,
		Configuration: kiln.Configuration{Driver: "container", Runtime: "provided", Shape: kiln.Shape{MemoryMiB: 2048, CPUs: 2}}}
	if err := h.CreateInstance(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func newContainer(i kiln.InstanceID) kiln.ContainerSpec {
	return kiln.ContainerSpec{ID: kiln.ContainerID("c-" + uuid.NewString()[:8]), Instance: i, Runtime: testRuntime()}
}

func binding(dir string) kiln.Binding {
	v := &kiln.Version{Account: kiln.DefaultAccount, Function: "f", Number: kiln.Latest, Revision: "1", Package: "d1", Handler: "bootstrap", MemoryMiB: 256, TimeoutMillis: 3000, DiskMiB: 512}
	return kiln.Binding{Version: v, Amounts: kiln.Shape{MemoryMiB: 2048, CPUs: 2}.Share(256, 512), CodeDir: dir, InitLimit: 10 * time.Second,
		Environment: map[string]string{"GREETING": "it's $HOME `x` \"y\"\nline", "_HANDLER": "bootstrap"}}
}

// running gives a bound container.
func (h *harness) running(t testing.TB, i kiln.InstanceID, b kiln.Binding) kiln.ContainerID {
	t.Helper()
	spec := newContainer(i)
	if _, err := h.CreateContainer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	result, err := h.BindContainer(t.Context(), spec.ID, b)
	if err != nil {
		t.Fatal(err)
	}
	if result.Failure != nil {
		t.Fatalf("init failed: %s; output %q", result.Failure.Payload, h.said(spec.ID))
	}
	return spec.ID
}

// execute runs one event, with a limit of a few seconds.
func (h *harness) execute(t testing.TB, id kiln.ContainerID, event string) kiln.Answer {
	t.Helper()
	return h.Execute(t.Context(), id, &kiln.Delivery{RequestID: kiln.RequestID(uuid.NewString()), Payload: []byte(event), Deadline: time.Now().Add(20 * time.Second), ARN: "arn"})
}

// do runs one event that must succeed and reads its answer.
func do[T any](t testing.TB, h *harness, id kiln.ContainerID, what string, args ...string) T {
	t.Helper()
	event, err := json.Marshal(map[string]any{"do": what, "args": args})
	if err != nil {
		t.Fatal(err)
	}
	answer := h.execute(t, id, string(event))
	if answer.Failure != nil {
		t.Fatalf("%s: %+v %s; output %q", what, answer.Failure, answer.Failure.Payload, h.said(id))
	}
	var v T
	if err := json.Unmarshal(answer.Payload, &v); err != nil {
		t.Fatalf("%s: %v in %s", what, err, answer.Payload)
	}
	return v
}

// The life of a container: prepared, bound, executing twice in the same process with its output in order, deleted.
// R23 R34
func TestLife(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	id := h.running(t, i.ID, binding(packageDir(t)))
	for n := 1; n <= 2; n++ {
		if got := do[int](t, h, id, "count"); got != n {
			t.Errorf("count %d, want %d", got, n)
		}
	}
	for n := range 50 {
		do[string](t, h, id, "print", fmt.Sprintf("line %d", n))
		if said := h.said(id); !strings.HasSuffix(said, fmt.Sprintf("line %d\n", n)) {
			t.Fatalf("after execution %d the output ends %q", n, said[max(0, len(said)-40):])
		}
	}
	if err := h.DeleteContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
}
