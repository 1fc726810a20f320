//go:build linux

package container

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/driver/drivertest"
)

// The driver keeps node.Driver's contract as every other does, and leaves no process, cgroup, device or image of what was
// deleted. R16 R30 R42 R43 R44
func TestContract(t *testing.T) {
	needContainers(t)
	drivertest.Run(t, func(t *testing.T, h drivertest.Hooks) drivertest.Subject {
		dir := t.TempDir() + "/containers"
		d, err := New(t.Context(), Config{Dir: dir, Launcher: os.Getenv("KILN_TEST_LAUNCHER"), Exited: h.Exited, Output: h.Output,
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
		return drivertest.Subject{Driver: d, Runtimes: drivertest.Runtimes(t), Left: func() []string { return left(t, d.stage.Name, dir) }}
	})
}

// left names what is there of instances and containers, as the kernel shows it; the driver's own cgroup and stage stay
// until it is closed.
func left(t *testing.T, name, dir string) (found []string) {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.Contains(path, name+"/") {
			found = append(found, path)
		}
		return nil
	})
	for kind, n := range traces(t, name, dir) {
		if n > 0 && (kind == "processes" || kind == "loops" || kind == "images") {
			found = append(found, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return found
}
