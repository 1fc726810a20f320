//go:build linux

package gvisor

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"kiln/internal/driver/drivertest"
	"kiln/internal/node"
	"kiln/internal/sandbox"
)

// The driver keeps node's contract, which it does not import.
var (
	_ node.Driver   = (*Driver)(nil)
	_ node.Resizer  = (*Driver)(nil)
	_ node.Detacher = (*Driver)(nil)
	_ node.Pauser   = (*Driver)(nil)
)

// TestMain gives the tests a mount namespace of their own, as the server has.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		if _, err := sandbox.Enter(); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// programs gives the folder of runsc and kiln-agent, or skips: they are built by make runsc and make build.
func programs(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("KILN_BIN_DIR")
	if dir == "" {
		dir = "../../../bin"
	}
	for _, name := range []string{"runsc", "kiln-agent"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil || os.Geteuid() != 0 {
			if os.Getenv("KILN_REQUIRE_GVISOR") != "" {
				t.Fatalf("driver gvisor cannot be tested here: %v", err)
			}
			t.Skip("driver gvisor needs root, and bin/runsc by: make runsc")
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// newDriver makes a driver that ends with the test.
func newDriver(t testing.TB, c Config) *Driver {
	t.Helper()
	dir := programs(t)
	c.Dir, c.Runsc, c.Agent = t.TempDir(), filepath.Join(dir, "runsc"), filepath.Join(dir, "kiln-agent")
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Shows that the driver keeps the contract of node.Driver. R20 R30 R42 R44
func TestContract(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, h drivertest.Hooks) drivertest.Subject {
		d := newDriver(t, Config{Exited: h.Exited, Output: h.Output})
		return drivertest.Subject{Driver: d, Runtimes: drivertest.Runtimes(t), Left: func() []string { return left(t, d) }}
	})
}

// left names what is there of instances and containers, as the kernel shows it.
func left(t *testing.T, d *Driver) (found []string) {
	t.Helper()
	d.news.Wait() // a template under way is no container
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, d.stage.Dir+"/containers/") || strings.Contains(line, d.stage.Dir+"/instances/") {
			found = append(found, "mount "+line)
		}
	}
	for _, pattern := range []string{d.stage.Dir + "/containers/*", d.stage.Dir + "/instances/*", d.stage.OCI() + "/*_*"} {
		files, _ := filepath.Glob(pattern)
		found = append(found, files...)
	}
	for _, path := range []string{"/sys/fs/cgroup/memory/" + d.stage.Name, "/sys/fs/cgroup/" + d.stage.Name} {
		pids, _ := cgroups.GetAllPids(path)
		for _, pid := range pids {
			line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			found = append(found, "process "+string(line))
		}
	}
	return found
}
