//go:build linux

package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
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

// Thaw lets what is frozen in the cgroup run on, so that it can end. One that is not frozen, or gone, is left as it is.
func (g *Group) Thaw() {
	dir := g.Path("freezer")
	if g.tree.v2 {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
		return
	}
	_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
}
