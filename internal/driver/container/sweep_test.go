//go:build linux

package container

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
)

func itoa(n int) string { return strconv.Itoa(n) }

// waitFor waits until something holds, at most a few seconds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// traces counts what a driver with a name and a folder has on this machine, as the kernel shows it.
func traces(t testing.TB, name, dir string) map[string]int {
	t.Helper()
	found := map[string]int{}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.Contains(path, name) {
			found["cgroups"]++
		}
		return nil
	})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	found["mounts"] = strings.Count(string(mounts), name)
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), dir) {
			found["loops"]++
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		// One that has ended and waits to be reaped has no command line; on cgroup v2 it keeps its cgroup's name.
		line, err := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
		if b, err2 := os.ReadFile(p); err == nil && err2 == nil && len(line) > 0 && strings.Contains(string(b), name) {
			found["processes"]++
		}
	}
	if _, err := os.Stat("/run/" + name); err == nil {
		found["stages"]++
	}
	images, err := filepath.Glob(filepath.Join(dir, "disks", "disk-*"))
	if err != nil {
		t.Fatal(err)
	}
	found["images"] = len(images)
	return found
}

func none(found map[string]int) bool {
	for _, n := range found {
		if n != 0 {
			return false
		}
	}
	return true
}

// openFilesNow counts this process's open files.
func openFilesNow(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Nothing is left of thirty containers: no process, cgroup, mount, loop device, image or open file, and when the driver
// is closed, nothing of it either.
// R102
func TestNothingLeft(t *testing.T) {
	h := newHarness(t, t.TempDir())
	dir := packageDir(t)
	waitFor(t, "the networks made ahead", func() bool { return h.networks.Ready() == 8 })
	files := openFilesNow(t)
	for range 3 {
		i := h.newInstance(t)
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				id := h.running(t, i.ID, binding(dir))
				if do[int](t, h, id, "count") != 1 {
					t.Error("a container is not fresh")
				}
			})
		}
		group.Wait()
		if err := h.DeleteInstance(t.Context(), i.ID); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the networks made ahead", func() bool { return h.networks.Ready() == 8 })
	if now := openFilesNow(t); now > files+2 { // the next network may be under way
		out, _ := exec.Command("ls", "-l", fmt.Sprintf("/proc/%d/fd", os.Getpid())).Output()
		t.Errorf("%d open files, %d before: %s", now, files, out)
	}
	waitFor(t, "the loop devices to clear", func() bool { return traces(t, h.stage.Name, h.dir)["loops"] == 0 })
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := traces(t, h.stage.Name, h.dir); !none(found) {
		t.Errorf("left over: %v", found)
	}
}

// TestServer is not a test: it is the server that TestKill kills, run as a child of it alone.
func TestServer(t *testing.T) {
	dir := os.Getenv("KILN_TEST_SERVER")
	if dir == "" {
		return
	}
	h := newHarness(t, dir)
	i := h.newInstance(t)
	for n := range 3 { // what they execute keeps them alive without their server
		id := h.running(t, i.ID, binding(os.Getenv("KILN_TEST_PACKAGE")))
		go h.Execute(t.Context(), id, &kiln.Delivery{RequestID: "r", Payload: []byte(`{"do":"hang"}`), Deadline: time.Now().Add(time.Hour)})
		waitFor(t, "the execution", func() bool { return !h.container(id).session.Idle() })
		if n == 1 { // a frozen process takes no signal
			if err := h.Pause(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	fmt.Println("up", h.stage.Name)
	for { // launches go on until it is killed in the middle of one
		spec := newContainer(i.ID)
		if _, err := h.CreateContainer(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if err := h.DeleteContainer(t.Context(), spec.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// serverAt starts TestServer in a folder and waits until it has containers.
func serverAt(t *testing.T, dir string) (cmd *exec.Cmd, name string) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^TestServer$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "KILN_TEST_SERVER="+dir, "KILN_TEST_PACKAGE="+packageDir(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "up "); ok {
			return cmd, n
		}
	}
	t.Fatalf("the server did not come up: %v", cmd.Wait())
	return nil, ""
}

// A server killed in the middle of its work leaves nothing that the next one on its folder does not remove, also when
// that one is killed while it does; a server on another folder keeps its containers.
// R101 R102
func TestKill(t *testing.T) {
	needContainers(t)
	neighbour := newHarness(t, t.TempDir())
	i := neighbour.newInstance(t)
	id := neighbour.running(t, i.ID, binding(packageDir(t)))
	dir := t.TempDir()
	for round := range 3 {
		server, name := serverAt(t, dir)
		if err := server.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait() // killed
		if found := traces(t, name, dir); found["processes"] < 3 {
			t.Fatalf("the dead server left too little to be a test: %v", found)
		}
		if round == 1 {
			continue // the next server comes upon the leavings of two
		}
		ctx := context.WithoutCancel(t.Context())
		d, err := New(ctx, Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Exited: func(kiln.Exit) {}, Output: func(kiln.ContainerID, []byte) {}})
		if err != nil {
			t.Fatal(err)
		}
		if d.stage.Name != name {
			t.Errorf("the folder's name changed from %s to %s", name, d.stage.Name)
		}
		waitFor(t, "the sweep to take effect", func() bool {
			f := traces(t, name, dir)
			return f["cgroups"] == 0 && f["processes"] == 0 && f["loops"] == 0 && f["images"] == 0
		})
		if err := d.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if found := traces(t, name, dir); !none(found) {
			t.Errorf("left over after the close: %v", found)
		}
	}
	if got := do[int](t, neighbour, id, "count"); got != 1 {
		t.Errorf("the neighbour's container counts %d", got)
	}
	if len(neighbour.exits) != 0 {
		t.Errorf("the neighbour lost %+v", <-neighbour.exits)
	}
}

// A second driver on the same folder is refused.
func TestSameFolder(t *testing.T) {
	h := newHarness(t, t.TempDir())
	if _, err := New(t.Context(), h.c); kiln.KindOf(err) != kiln.KindConflict {
		t.Errorf("second driver: %v", err)
	}
}

// Fifty containers are made, bound and used at once.
// R37
func TestFifty(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	dir := packageDir(t)
	begin := time.Now()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			id := h.running(t, i.ID, binding(dir))
			if got := do[map[string]string](t, h, id, "read", "/proc/sys/kernel/hostname"); got["/proc/sys/kernel/hostname"] != string(id) {
				t.Errorf("container %s says it is %v", id, got)
			}
		})
	}
	group.Wait()
	t.Logf("50 containers in %v", time.Since(begin))
}

// A probe says what works here and leaves nothing.
func TestProbe(t *testing.T) {
	needContainers(t)
	capabilities, err := Probe(t.Context())
	if err != nil || !capabilities.Isolated || !capabilities.Limits || !capabilities.Resize || !capabilities.Pause {
		t.Fatalf("%+v %v", capabilities, err)
	}
	for _, n := range capabilities.Notes {
		t.Log(n)
	}
}
