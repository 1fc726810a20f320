package kilntest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Kernel is what this machine's kernel shows of one server at one moment: everything that a server which dies without a
// word could leave behind. Each thing is named so that no later thing of the same kind has its name.
type Kernel struct {
	Processes []string // in its cgroups, or naming its stage: "pid start-time command"
	Members   []string // of their namespaces and the server's, whoever they are: "namespace pid start-time"
	Cgroups   []string // below its own
	Loops     []string // loop devices on images in its data directory, "device image"
	Mounts    []string // in the server's mount namespace, of its stage or its data directory
	Links     []string // network interfaces of the machine
	Files     []string // not finished or for the moment: in its TMPDIR, its data directory and its stage
	// Descriptors is how many files the server's process has open.
	Descriptors int
}

// Counts gives how many there are of each kind.
func (k Kernel) Counts() map[string]int {
	return map[string]int{"processes": len(k.Processes), "members of namespaces": len(k.Members), "cgroups": len(k.Cgroups), "loop devices": len(k.Loops),
		"mounts": len(k.Mounts), "links": len(k.Links), "files": len(k.Files), "descriptors": k.Descriptors}
}

// Still gives what of an earlier look is there in a later one, of another process of the server: what it left behind.
// Mounts end with the last member of their namespace.
func (k Kernel) Still(now Kernel) []string {
	var found []string
	for kind, both := range map[string][2][]string{"process": {k.Processes, now.Processes}, "member of namespace": {k.Members, now.Members},
		"cgroup": {k.Cgroups, now.Cgroups}, "loop device": {k.Loops, now.Loops}, "file": {k.Files, now.Files}} {
		for _, name := range both[0] {
			if slices.Contains(both[1], name) {
				found = append(found, kind+" "+name)
			}
		}
	}
	for _, name := range now.Links {
		if !slices.Contains(k.Links, name) {
			found = append(found, "link "+name)
		}
	}
	slices.Sort(found)
	return found
}

// mark is the name that driver container gives to its cgroups and its stage, empty before there is one.
func (s *Server) mark() string {
	b, err := os.ReadFile(filepath.Join(s.Data, "containers", "name"))
	if err != nil {
		return ""
	}
	return string(b)
}

// Kernel looks at the server, which may be dead.
func (s *Server) Kernel(tb testing.TB) Kernel {
	tb.Helper()
	mark := s.mark()
	if mark == "" {
		tb.Fatal("the driver has no name yet; this looks at driver container only")
	}
	own := map[string]bool{} // namespaces; their numbers are used again
	k := Kernel{Loops: having(loops(), s.Data), Files: s.unfinished()}
	for _, pid := range pids() {
		if pid != s.Pid() && s.belongs(pid, mark) {
			k.Processes = append(k.Processes, fmt.Sprintf("%d %s %s", pid, startTime(pid), commandLine(pid)))
			maps.Copy(own, set(namespaces(pid)))
		}
	}
	maps.Copy(own, set(namespaces(s.Pid())))
	for _, pid := range pids() {
		for _, name := range namespaces(pid) {
			if own[name] && pid != s.Pid() {
				k.Members = append(k.Members, fmt.Sprintf("%s %d %s", name, pid, startTime(pid)))
			}
		}
	}
	for _, path := range having(cgroups(), mark) {
		if filepath.Base(path) != mark {
			k.Cgroups = append(k.Cgroups, path)
		}
	}
	for _, line := range mounts(strconv.Itoa(s.Pid())) {
		if strings.Contains(line, mark) || strings.Contains(line, s.Data) {
			k.Mounts = append(k.Mounts, line)
		}
	}
	k.Links, _ = filepath.Glob("/sys/class/net/*")
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
	k.Descriptors = len(open)
	return k
}

// Bearing lists everything on this machine that bears an id of a container or an instance of the server: processes in its
// cgroup, cgroups, mounts and files of the stage. Nothing does when it is gone.
func (s *Server) Bearing(id string) []string {
	var found []string
	for _, pid := range pids() {
		if s.belongs(pid, id) {
			found = append(found, fmt.Sprintf("process %d %s", pid, commandLine(pid)))
		}
	}
	for _, path := range having(cgroups(), id) {
		found = append(found, "cgroup "+path)
	}
	for _, line := range having(mounts(strconv.Itoa(s.Pid())), id) {
		found = append(found, "mount "+line)
	}
	// The stage is in the server's own mount namespace.
	stage := fmt.Sprintf("/proc/%d/root/run/%s", s.Pid(), s.mark())
	for _, path := range having(names(stage), id) {
		found = append(found, "file "+path)
	}
	return found
}

// LoopImage gives the image behind a loop device, a name that no other device ever has; empty when it is free.
func LoopImage(device string) string {
	b, _ := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
	return strings.TrimSpace(string(b))
}

// LoopInUse reports whether an image is behind any loop device.
func LoopInUse(image string) bool { return len(having(loops(), image)) > 0 }

// belongs reports whether a process is in a cgroup that bears a mark, or names the mark on its command line.
func (s *Server) belongs(pid int, mark string) bool {
	group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return strings.Contains(string(group), mark) || strings.Contains(commandLine(pid), mark)
}

// unfinished lists files of the server that only a running step has.
func (s *Server) unfinished() []string {
	found := names(s.Temp)
	_ = filepath.WalkDir(s.Data, func(path string, e fs.DirEntry, err error) error {
		name := filepath.Base(path)
		inDriver := strings.Contains(path, "/containers/disks/") && !strings.HasPrefix(name, "template-")
		if err == nil && path != s.Data && (strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".new") || strings.HasSuffix(name, ".tmp") || inDriver) {
			found = append(found, path)
		}
		if err == nil && e.IsDir() && strings.Contains(path, "/cache/packages/") {
			return fs.SkipDir // guests' own files
		}
		return nil
	})
	// As the machine sees it, outside of every server's namespace, the stage is an empty folder.
	return append(found, names(filepath.Join("/run", s.mark()))...)
}

// namespaces names the namespaces of a process that this one is not in.
func namespaces(pid int) []string {
	var found []string
	for _, kind := range []string{"mnt", "net", "pid", "ipc", "uts", "user"} {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		own, _ := os.Readlink("/proc/self/ns/" + kind)
		if err == nil && name != own {
			found = append(found, name)
		}
	}
	return found
}

func commandLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

// having picks the names that contain a mark.
func having(all []string, mark string) []string {
	return slices.DeleteFunc(all, func(name string) bool { return !strings.Contains(name, mark) })
}

// Kill ends the server as nothing warns it: it is stopped where it stands, looked at, and killed. Gives what there was at
// that moment. Blocks until the process is gone; what it had is still there until Restart.
func (s *Server) Kill(tb testing.TB) Kernel {
	tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		tb.Fatalf("STOP: %v", err)
	}
	before := s.Kernel(tb)
	if err := s.cmd.Process.Kill(); err != nil {
		tb.Fatalf("KILL: %v", err)
	}
	<-s.exited
	s.killed = true
	return before
}

// Restart starts a killed server again, at the same address and on the same data directory, and waits until it is ready.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if err := s.restart(); err != nil {
		tb.Fatalf("restart: %v\n%s", err, s.Log())
	}
}

func (s *Server) restart() error {
	s.options.Listen = strings.TrimPrefix(s.URL, "http://")
	s.http.CloseIdleConnections()
	return s.run(s.options)
}

// StartAndKill starts a killed server and kills it as soon as when returns, which may be before it is ready.
func (s *Server) StartAndKill(tb testing.TB, when func()) {
	tb.Helper()
	s.options.Listen = strings.TrimPrefix(s.URL, "http://")
	if _, err := s.start(s.options); err != nil {
		tb.Fatalf("start: %v", err)
	}
	when()
	if err := s.cmd.Process.Kill(); err != nil {
		tb.Fatalf("KILL: %v", err)
	}
	<-s.exited
	s.killed = true
}
