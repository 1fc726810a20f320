//go:build linux

package gvisor

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/driver/drivertest"
)

// Shows that a driver ends what one that is gone left frozen, before it is ready. // R102
func TestSweepsWhatIsFrozen(t *testing.T) {
	bin := programs(t)
	c := Config{Dir: t.TempDir(), Runsc: filepath.Join(bin, "runsc"), Agent: filepath.Join(bin, "kiln-agent")}
	gone, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var provided kiln.Runtime
	for _, r := range drivertest.Runtimes(t) {
		if strings.HasPrefix(r.Name, "provided") {
			provided = r
		}
	}
	spec := kiln.InstanceSpec{ID: "i-1", BootID: strings.Repeat("1", 32), AllowanceMiB: 512,
		Configuration: kiln.Configuration{Driver: "gvisor", Runtime: "provided", Shape: kiln.Shape{MemoryMiB: 512, CPUs: 1}}}
	if err := gone.CreateInstance(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.CreateContainer(t.Context(), kiln.ContainerSpec{ID: "c-1", Instance: "i-1", Runtime: provided}); err != nil {
		t.Fatal(err)
	}
	if err := gone.Pause(t.Context(), "c-1"); err != nil {
		t.Fatal(err)
	}
	gone.stage.Close() // as its end by a kill lets the folder go, and nothing else
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	next, err := New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if found := left(t, next); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
	if err := next.Close(t.Context()); err != nil {
		t.Error(err)
	}
	gone.container("c-1").cancel(errEnded)
	_ = gone.Close(t.Context()) // its goroutines; all it had is gone already
}
