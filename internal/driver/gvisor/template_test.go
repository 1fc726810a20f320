//go:build linux

package gvisor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/driver/drivertest"
)

const drawing = `import os, random, time, uuid
def handler(event, context):
    return {"random": random.random(), "urandom": os.urandom(8).hex(), "uuid": str(uuid.uuid4()), "now": time.time()}
`

// Shows that later containers of a runtime are continued from one saved when it was prepared, and that two of them draw other
// random numbers and know the time.
func TestContinued(t *testing.T) {
	d := newDriver(t, Config{})
	var python kiln.Runtime
	for _, r := range drivertest.Runtimes(t) {
		if strings.HasPrefix(r.Name, "python") {
			python = r
		}
	}
	if python.Name == "" {
		t.Fatal("no Python here")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(drawing), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	spec := kiln.InstanceSpec{ID: "i-1", BootID: strings.Repeat("1", 32), AllowanceMiB: 512,
		Configuration: kiln.Configuration{Driver: "gvisor", Runtime: python.Name, Shape: kiln.Shape{MemoryMiB: 2048, CPUs: 2}}}
	if err := d.CreateInstance(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := d.AttachPackage(t.Context(), "i-1", "digest", dir); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for n, id := range []kiln.ContainerID{"c-1", "c-2", "c-3"} {
		if _, err := d.CreateContainer(t.Context(), kiln.ContainerSpec{ID: id, Instance: "i-1", Runtime: python}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			d.news.Wait() // the saving that the first one asked for
		} else if boot := d.container(id).guest.Greeting().Boot; boot < 2 {
			t.Errorf("%s was not continued: its agent's link is number %d", id, boot)
		}
		result, err := d.BindContainer(t.Context(), id, kiln.Binding{CodeDir: dir, InitLimit: time.Minute, Environment: map[string]string{"LAMBDA_TASK_ROOT": "/var/task"},
			Version: &kiln.Version{Package: "digest", Handler: "app.handler"}, Amounts: kiln.Amounts{MemoryMiB: 128, MilliCPUs: 1000, Processes: 64}})
		if err != nil || result.Failure != nil {
			t.Fatalf("%v %+v", err, result.Failure)
		}
		a := d.Execute(t.Context(), id, &kiln.Delivery{RequestID: "r-1", Payload: []byte("{}"), Deadline: time.Now().Add(time.Minute)})
		var drawn struct {
			Random        float64
			Urandom, UUID string
			Now           float64
		}
		if err := json.Unmarshal(a.Payload, &drawn); err != nil {
			t.Fatalf("%v: %s", err, a.Payload)
		}
		if age := time.Since(time.UnixMilli(int64(drawn.Now * 1000))).Abs(); age > time.Minute {
			t.Errorf("%s is %s off", id, age)
		}
		for _, number := range []any{drawn.Random, drawn.Urandom, drawn.UUID} {
			text, _ := json.Marshal(number)
			if seen[string(text)] {
				t.Errorf("%s drew %s again", id, text)
			}
			seen[string(text)] = true
		}
	}
}
