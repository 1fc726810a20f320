//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mounts tries to change what is mounted, and to make or join namespaces in which it could.
func mounts() []probe {
	probes := []probe{
		{"mount a tmpfs", func() error { return unix.Mount("x", "/tmp", "tmpfs", 0, "") }},
		{"mount proc", func() error { return unix.Mount("x", "/tmp", "proc", 0, "") }},
		{"bind /usr over /tmp", func() error { return unix.Mount("/usr", "/tmp", "", unix.MS_BIND, "") }},
		{"make /usr writable", func() error { return unix.Mount("", "/usr", "", unix.MS_REMOUNT|unix.MS_BIND, "") }},
		{"make /var/task writable", func() error { return unix.Mount("", "/var/task", "", unix.MS_REMOUNT|unix.MS_BIND, "") }},
		{"make mounts shared", func() error { return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") }},
		{"unmount /proc/sys", func() error { return unix.Unmount("/proc/sys", unix.MNT_DETACH) }},
		{"unmount /var/task", func() error { return unix.Unmount("/var/task", unix.MNT_DETACH) }},
		{"pivot_root", func() error { return unix.PivotRoot("/tmp", "/tmp") }},
		{"chroot", func() error { return inChildPath(unix.SYS_CHROOT, "/tmp") }},
		{"fsopen", func() error { _, err := unix.Fsopen("tmpfs", 0); return err }},
		{"open_tree (clone a mount)", func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/usr", unix.OPEN_TREE_CLONE); return err }},
		{"move_mount", func() error { return unix.MoveMount(unix.AT_FDCWD, "/usr", unix.AT_FDCWD, "/tmp", 0) }},
		{"mount_setattr", func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/usr", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		}},
		{"clone3 into a new user namespace", func() error {
			arguments := [11]uint64{unix.CLONE_NEWUSER, 0, 0, 0, uint64(unix.SIGCHLD)}
			return forked(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&arguments)), 88, 0)
		}},
		{"clone into a new user and mount namespace", func() error {
			return forked(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_NEWNS|uintptr(unix.SIGCHLD), 0, 0)
		}},
	}
	for name, flag := range map[string]uintptr{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "process": unix.CLONE_NEWPID, "network": unix.CLONE_NEWNET,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME} {
		probes = append(probes, probe{"unshare a " + name + " namespace", func() error { return inChild(unix.SYS_UNSHARE, flag) }})
	}
	return append(probes, probe{"setns to a namespace of its own", func() error {
		return onOpen("/proc/self/ns/user", func(fd int) error { return inChild(unix.SYS_SETNS, uintptr(fd), 0) })
	}}, probe{"set-user-id programs (su, mount, sudo, …)", setUID})
}

func inChildPath(number uintptr, path string) error {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	return inChild(number, uintptr(unsafe.Pointer(p)))
}

// forked makes a system call that returns twice; the second one ends at once.
func forked(number, a, b, c uintptr) error {
	pid, _, errno := syscall.RawSyscall6(number, a, b, c, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return ended(int(pid))
}

// setUID starts every set-user-id program there is and looks whose it runs as.
func setUID() error {
	tried := 0
	for _, folder := range []string{"/usr/bin", "/usr/sbin", "/usr/lib/dbus-1.0", "/usr/lib/openssh"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || info.Mode()&(os.ModeSetuid|os.ModeSetgid) == 0 {
				continue
			}
			tried++
			if privileged(filepath.Join(folder, e.Name())) {
				return nil
			}
		}
	}
	if tried == 0 {
		return errors.New("there is none")
	}
	return errors.New("run as the caller")
}

// privileged starts a program that waits for its input, if it does, and looks at its user ids.
func privileged(path string) bool {
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return false
	}
	if err := cmd.Start(); err != nil {
		return false
	}
	status, err := os.ReadFile(filepath.Join("/proc", itoa(cmd.Process.Pid), "status"))
	_ = in.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			for id := range strings.FieldsSeq(rest) {
				if id != itoa(os.Getuid()) {
					return true
				}
			}
		}
	}
	return false
}
