package kilntest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the kernel shows of a server: looked at before it starts, before it ends and after. Other servers may run on the
// same machine, so what is new counts only where it bears a mark of this one: its data directory, an id of an instance
// or a container of its, or a process that came from it.

// footprint is what there was before a server.
type footprint struct {
	mounts, loops, cgroups map[string]bool
}

// traces is what tells a server's things from others', taken while it runs.
type traces struct {
	folder     string         // its own, which Stop removes
	data       string         // its data directory, which may be a test's
	marks      []string       // both, and the ids of instances and containers it had
	processes  map[int]string // pid → start time, of all that came from it
	namespaces []string       // mount namespaces of its own
	name       string         // of its cgroups, when the driver made any
	until      float64        // when it ended, in the kernel's ticks: what began later did not come from it
}

func takeFootprint() footprint {
	return footprint{mounts: set(mounts("self")), loops: set(loops()), cgroups: set(cgroups())}
}

// traces looks at the running server.
func (s *Server) traces() traces {
	t := traces{folder: s.folder, data: s.Data, marks: []string{s.folder, s.Data}, processes: map[int]string{}, name: s.mark()}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	for _, pid := range descendants(s.Pid()) {
		t.processes[pid] = startTime(pid)
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); err == nil && ns != own {
			t.namespaces = append(t.namespaces, ns)
		}
	}
	if s.keys.key == "" {
		return t
	}
	a := &Account{Server: s, ID: s.keys.account, Key: s.keys.key, Secret: s.keys.secret, Region: s.keys.region}
	events, err := list[Event](a, "events", nil)
	if err != nil {
		return t
	}
	ids := map[string]bool{}
	for _, e := range events {
		ids[e.Instance], ids[e.Container] = true, true
	}
	delete(ids, "")
	for id := range ids {
		t.marks = append(t.marks, id)
	}
	return t
}

// leftBehind is what there is after a server's end that came from it.
func leftBehind(before footprint, t traces) []error {
	var found []error
	t.until = uptime() * ticksPerSecond
	// What the kernel takes down by itself (a namespace's mounts, a loop device that is let go) may take a moment.
	for deadline := time.Now().Add(3 * time.Second); ; {
		found = lookAround(before, t)
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
		<-time.After(50 * time.Millisecond)
	}
}

func lookAround(before footprint, t traces) []error {
	var found []error
	report := func(kind string, names []string) {
		for i, name := range names {
			if i == 5 {
				found = append(found, fmt.Errorf("left behind: %d more of %s", len(names)-i, kind))
				return
			}
			found = append(found, fmt.Errorf("left behind: %s %s", kind, name))
		}
	}
	report("process", t.alive())
	report("mount", fresh(mounts("self"), before.mounts, t.marked))
	report("loop device", fresh(loops(), before.loops, t.marked))
	report("cgroup", fresh(cgroups(), before.cgroups, t.marked))
	for _, dir := range []string{"/run", "/dev/shm", os.TempDir(), "/var/run/netns"} {
		report("file", slices.DeleteFunc(names(dir), func(path string) bool {
			return strings.HasPrefix(path, t.folder) || strings.HasPrefix(t.data, path) || strings.HasPrefix(path, t.data) || !t.marked(path)
		}))
	}
	return found
}

// marked reports whether a name bears a mark of the server.
func (t traces) marked(name string) bool {
	return slices.ContainsFunc(t.marks, func(mark string) bool { return strings.Contains(name, mark) })
}

// alive lists processes that came from the server, live in a mount namespace of its, or name its data directory.
func (t traces) alive() []string {
	var found []string
	for _, pid := range pids() {
		if pid == os.Getpid() {
			continue
		}
		// The kernel gives a namespace's number again when it is gone, to a process that has nothing to do with it: one that
		// began later, or is in another server's cgroup.
		if began, err := strconv.ParseFloat(startTime(pid), 64); err != nil || t.until > 0 && began > t.until {
			continue
		}
		started, from := t.processes[pid]
		ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		line := strings.ReplaceAll(string(command), "\x00", " ")
		if from && started == startTime(pid) || slices.Contains(t.namespaces, ns) && !t.others(pid) || t.marked(line) {
			found = append(found, fmt.Sprintf("%d %s", pid, line))
		}
	}
	return found
}

// others reports whether a process is in another server's cgroup.
func (t traces) others(pid int) bool {
	groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return t.name != "" && strings.Contains(string(groups), "/kiln-") && !strings.Contains(string(groups), t.name)
}

// emptyFolder demands that a server's TMPDIR is as empty as it was.
func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		return fmt.Errorf("left behind: %d files in TMPDIR, %s among them", len(entries), filepath.Join(dir, e.Name()))
	}
	return nil
}

// fresh gives the names that were not there before and bear a mark.
func fresh(now []string, before map[string]bool, marked func(string) bool) []string {
	return slices.DeleteFunc(now, func(name string) bool { return before[name] || !marked(name) })
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// mounts gives the lines of a process's mountinfo without the numbers at their front.
func mounts(pid string) []string {
	b, _ := os.ReadFile("/proc/" + pid + "/mountinfo")
	var lines []string
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), " ", 4); len(f) == 4 {
			lines = append(lines, f[3])
		}
	}
	return lines
}

// loops gives the loop devices in use with their files.
func loops() []string {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	var all []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			all = append(all, filepath.Dir(filepath.Dir(f))+" "+strings.TrimSpace(string(b)))
		}
	}
	return all
}

// cgroups gives all cgroup folders.
func cgroups() []string {
	var all []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	return all
}

// names gives what is in a folder, two levels deep.
func names(dir string) []string {
	first, _ := filepath.Glob(filepath.Join(dir, "*"))
	second, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	return append(first, second...)
}

func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// descendants gives a process and all that came from it and still hang on it.
func descendants(root int) []int {
	children := map[int][]int{}
	for _, pid := range pids() {
		if f := statFields(pid); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// startTime is when a process was started, in the kernel's ticks; empty when there is no such process.
func startTime(pid int) string {
	if f := statFields(pid); len(f) > 19 {
		return f[19]
	}
	return ""
}

// statFields gives the fields of /proc/PID/stat from the state on (field 3), free of the name in brackets.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// Process is what this machine's kernel says of a process.
type Process struct {
	Exe       string
	StartedAt float64 // seconds since 1970
}

// Process looks at a process of this machine.
func (s *Server) Process(tb testing.TB, pid int) Process {
	tb.Helper()
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		tb.Fatalf("look at process %d: %v", pid, err)
	}
	ticks, err := strconv.ParseFloat(startTime(pid), 64)
	if err != nil {
		tb.Fatalf("look at process %d: %v", pid, err)
	}
	return Process{Exe: exe, StartedAt: Seconds(time.Now()) - uptime() + ticks/ticksPerSecond}
}

// ticksPerSecond is how the kernel counts the starts of processes on every machine Go runs on (USER_HZ).
const ticksPerSecond = 100

// uptime is how long the machine has run, in seconds.
func uptime() float64 {
	b, _ := os.ReadFile("/proc/uptime")
	text, _, _ := strings.Cut(string(b), " ")
	up, _ := strconv.ParseFloat(text, 64)
	return up
}

// removeTree removes a folder, also one that holds sealed packages: folders their owner must open first.
func removeTree(dir string) error {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
