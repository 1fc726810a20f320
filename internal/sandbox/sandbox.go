//go:build linux

// Package sandbox speaks to the Linux kernel about the parts a boundary is made of: cgroups, mount and network
// namespaces, disk images on loop devices, host uid ranges, processes that are watched without being stolen from
// os/exec. It knows nothing of functions, instances or OCI runtimes, decides nothing and keeps nothing but what it is
// told to hold open.
//
// It is called by the drivers that run guests directly on the node (driver/container) and, for Enter, by the server's
// first line of main. Everything is safe to call from many goroutines at once, for different cgroups, networks and
// processes; Networks and Ranges have a lock each, which is a leaf: nothing is called while it is held.
//
// Nothing it makes outlives the node's process for long: namespaces are held by file descriptors, images are unlinked as
// soon as their loop device has them open, loop devices clear themselves, mounts live in the node's own mount namespace.
// What does outlive it, cgroups and the processes in them, is found again by name (Tree.Sweep, KillStrays).
package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"kiln"
)

// enteredVariable tells the re-executed process which mount namespace was made for it. It is removed again by Enter, so
// that neither the server's configuration nor its children see it.
const enteredVariable = "KILN_MOUNT_NAMESPACE"

// hybridMount is where hybrid hosts mount cgroup v2 beside v1's controllers. crun 1.8.1 refuses to work where it is.
const hybridMount = "/sys/fs/cgroup/unified"

// Sandbox tells what Enter made of this process.
type Sandbox struct {
	// Entered is true when the process has a mount namespace of its own.
	Entered bool
}

// Enter gives this process a mount namespace of its own in which hybrid hosts' unified cgroup mount is gone, by executing
// the program once more in place: the process id, arguments, environment, standard files, signals' disposition and exit
// status are those of one process. main calls it first, before it starts goroutines or opens files; it returns in the
// process that has entered, or, without root, at once with Entered false.
//
// Mounts of the host keep arriving (the namespace is a slave of it), and none made here reaches the host. When the last
// process in the namespace ends, all mounts made in it end with it.
func Enter() (Sandbox, error) {
	const op = "sandbox: enter mount namespace"
	current, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return Sandbox{}, kiln.Wrap(kiln.KindUnavailable, op, "cannot tell this process's mount namespace; is /proc mounted?", err)
	}
	if os.Getenv(enteredVariable) == current {
		return Sandbox{Entered: true}, os.Unsetenv(enteredVariable)
	}
	if os.Geteuid() != 0 {
		return Sandbox{}, nil
	}
	// The thread keeps its new namespace and becomes the whole process by exec; on an error it is not unlocked, so that
	// no other goroutine ever runs on it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return Sandbox{}, kiln.Wrap(kiln.KindUnavailable, op, "cannot make a mount namespace; the process needs CAP_SYS_ADMIN", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return Sandbox{}, kiln.Wrap(kiln.KindUnavailable, op, "cannot part the mounts from the host's", err)
	}
	if Hybrid() {
		if err := unix.Unmount(hybridMount, unix.MNT_DETACH); err != nil {
			return Sandbox{}, kiln.Wrap(kiln.KindUnavailable, op, "cannot hide the unified cgroup mount", err)
		}
	}
	made, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return Sandbox{}, kiln.Wrap(kiln.KindInternal, op, "cannot read the new namespace", err)
	}
	program, err := os.Executable()
	if err != nil {
		return Sandbox{}, kiln.Wrap(kiln.KindInternal, op, "cannot find the program's own file", err)
	}
	if err := os.Setenv(enteredVariable, made); err != nil { // in place of a stale one, or there would be no end
		return Sandbox{}, kiln.Wrap(kiln.KindInternal, op, "cannot mark the namespace as entered", err)
	}
	err = syscall.Exec(program, os.Args, os.Environ())
	return Sandbox{}, kiln.Wrap(kiln.KindInternal, op, "cannot execute the program again", err)
}

// Hybrid reports whether a cgroup v2 mount lies beside v1's controllers, as seen from here.
func Hybrid() bool {
	var fs unix.Statfs_t
	return unix.Statfs(hybridMount, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// Private reports whether the calling process has a mount namespace other than its parent's, so that its mounts end
// with it.
func Private() bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false
	}
	parent, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	return err == nil && own != parent
}

// MountsBelow lists this process's mount points at or below dir, the deepest and latest first: the order in which they
// can be taken away.
func MountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if point, ok := mountPoint(lines.Text()); ok && (point == dir || strings.HasPrefix(point, dir+"/")) {
			found = append([]string{point}, found...)
		}
	}
	return found, lines.Err()
}

// mountPoint reads the mount point from a line of mountinfo (proc(5)): the fifth field, with space, tab, newline and
// backslash as three octal digits.
func mountPoint(line string) (string, bool) {
	fields := strings.SplitN(line, " ", 6)
	if len(fields) < 6 {
		return "", false
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4]), true
}

// UnmountBelow takes away every mount of this process at or below dir. What is in use goes when its last user does.
func UnmountBelow(dir string) error {
	points, err := MountsBelow(dir)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: unmount below", "cannot list mounts", err)
	}
	var failed error
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			failed = errors.Join(failed, &os.PathError{Op: "unmount", Path: point, Err: err})
		}
	}
	if failed != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: unmount below", "mounts are left over", failed)
	}
	return nil
}
