//go:build linux

package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"kiln"
)

// Stopped reports whether the process was stopped by a signal or a tracer: it is there and runs nothing. One read of a
// file the kernel makes up.
func (p *Process) Stopped() bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid) + "/stat")
	if err != nil {
		return false // its end is told by Wait
	}
	// The name before the state may hold anything, parentheses too; nothing behind it does.
	_, rest, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
	return ok && len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't')
}

// Fault says what is wrong with the cgroup from outside: "gone", "frozen", or nothing.
func (g *Group) Fault() string {
	dir := g.Path("freezer")
	if unix.Access(dir, unix.F_OK) != nil {
		return "gone"
	}
	name, mark := "freezer.state", []byte("FROZEN")
	if g.tree.v2 {
		name, mark = "cgroup.events", []byte("frozen 1")
	}
	if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Contains(b, mark) {
		return "frozen"
	}
	return ""
}

// Freeze stops what is in the cgroup and below: nothing of it runs until Thaw. A process in the middle of a system call, or
// one whose processor limit is used up, rests a moment later.
func (g *Group) Freeze() error {
	if err := g.freezer(freezing); err != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: freeze cgroup", "cannot freeze a cgroup", err)
	}
	return nil
}

// Thaw lets what is frozen in the cgroup run on. One that is not frozen is left as it is; one that is gone is an error.
func (g *Group) Thaw() error {
	if err := g.freezer(thawing); err != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: thaw cgroup", "cannot thaw a cgroup", err)
	}
	return nil
}

// freezerWord is what the freezer is told, on v1 and on v2.
type freezerWord struct{ v1, v2 string }

var (
	freezing = freezerWord{"FROZEN", "1"} // never written
	thawing  = freezerWord{"THAWED", "0"} // never written
)

// freezer writes a word to the cgroup's freezer. It is on a request's path: one open, one write.
func (g *Group) freezer(w freezerWord) error {
	path, word := filepath.Join(g.Path("freezer"), "freezer.state"), w.v1
	if g.tree.v2 {
		path, word = filepath.Join(g.Path(""), "cgroup.freeze"), w.v2
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(word)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// CanFreeze reports whether the machine's cgroups can be frozen.
func (t *Tree) CanFreeze() bool { return t.v2 || t.roots["freezer"] != "" }
