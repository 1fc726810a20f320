package process

import (
	"os"
	"strings"
	"testing"

	"kiln/internal/driver/drivertest"
)

// The driver keeps node.Driver's contract as every other does, and leaves neither files nor processes. R16 R43 R44
func TestContract(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, h drivertest.Hooks) drivertest.Subject {
		dir := t.TempDir() + "/process"
		d, err := New(Config{Dir: dir, Exited: h.Exited, Output: h.Output})
		if err != nil {
			t.Fatal(err)
		}
		return drivertest.Subject{Driver: d, Runtimes: drivertest.Runtimes(t), Left: func() []string { return left(t, dir) }}
	})
}

// left names the files under dir and the processes that were started with a folder in it.
func left(t *testing.T, dir string) (found []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		env, err := os.ReadFile("/proc/" + p.Name() + "/environ")
		if err == nil && strings.Contains(string(env), dir) && p.Name() != "self" {
			name, _ := os.ReadFile("/proc/" + p.Name() + "/cmdline")
			found = append(found, p.Name()+" "+string(name))
		}
	}
	return found
}
