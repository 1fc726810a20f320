//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var errNothing = errors.New("nothing found")

// files tries to reach files that are not the container's own, and to change those it may only read.
func files(e event) []probe {
	probes := []probe{
		{"find the secret in any file, also by /proc/*/root, /proc/*/fd, /proc/*/environ", func() error { return seek(e.Secret) }},
		{"find the secret in shared memory by its key", func() error { return sharedMemory(e.Secret) }},
		{"climb out by /proc/1/root/../..", func() error { return elsewhere("/proc/1/root/../../../..") }},
		{"climb out by a descriptor of / and ..", climb},
		{"hard link to /usr/bin/env", func() error { return os.Link("/usr/bin/env", "/tmp/link") }},
		{"hard link to /etc/passwd", func() error { return os.Link("/etc/passwd", "/tmp/link2") }},
		{"write through a symbolic link to /usr", throughLink},
		{"open /usr/bin/env for writing by /proc/self/fd", byDescriptor},
		{"open a file by handle", func() error {
			_, err := unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(1, make([]byte, 8)), unix.O_RDONLY)
			return err
		}},
		{"give a file to root", func() error { return onFile(func(name string) error { return os.Chown(name, 0, 0) }) }},
		{"give a file the capability to do anything", func() error {
			return onFile(func(name string) error {
				return unix.Setxattr(name, "security.capability", []byte("\x01\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 0)
			})
		}},
		{"take a lease on /usr/bin/env", func() error { return onOpen("/usr/bin/env", lease) }},
		{"lock /usr/bin/env, a file all containers share", func() error {
			return onOpen("/usr/bin/env", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		}},
		{"watch /usr/bin, a folder all containers share", func() error {
			fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if err == nil {
				_, err = unix.InotifyAddWatch(fd, "/usr/bin", unix.IN_OPEN)
				_ = unix.Close(fd)
			}
			return err
		}},
		{"leave a core dump", coreDump},
		{"own a descriptor of the node's", strangeDescriptor},
	}
	for _, path := range []string{"/var/task", "/usr", "/etc", "/opt", "/var/runtime", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/proc", "/dev", "/run", "/home"} {
		probes = append(probes, probe{"make a file in " + path, func() error { return os.WriteFile(path+"/hostile", nil, 0o600) }})
	}
	for _, path := range append([]string{"/etc/shadow", "/root", "/home", "/var/lib/dpkg", "/run/systemd", "/boot"}, e.Paths...) {
		probes = append(probes, probe{"read " + shorten(path, e.Paths), func() error {
			found, err := os.ReadDir(path)
			if err != nil {
				var f *os.File
				if f, err = os.Open(path); err == nil {
					_ = f.Close() // only opened
				}
				return err
			}
			if len(found) == 0 {
				return errNothing
			}
			return nil
		}})
	}
	return probes
}

// shorten names a place of the host without what differs from run to run.
func shorten(path string, given []string) string {
	for i, p := range given {
		if p == path {
			return []string{"the node's data directory", "the node's stage in /run", "the node's program"}[min(i, 2)]
		}
	}
	return path
}

// seek looks for the secret in the name and the content of every small file it can reach.
func seek(secret string) error {
	for _, top := range []string{"/tmp", "/var", "/dev", "/run", "/mnt", "/opt", "/home", "/root", "/srv", "/etc", "/sys"} {
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err == nil && (strings.Contains(e.Name(), secret) || e.Type().IsRegular() && holds(path, secret)) {
				return fs.ErrExist
			}
			return nil
		})
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, p := range processes {
		if p == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue // who looks for it knows it
		}
		for _, name := range []string{"environ", "cmdline", "root" + canaryFile, "root/dev/shm/canary", "cwd/canary"} {
			if holds(filepath.Join(p, name), secret) {
				return nil
			}
		}
		if links, err := filepath.Glob(p + "/fd/*"); err == nil {
			for _, l := range links {
				if to, err := os.Readlink(l); err == nil && strings.Contains(to, "canary") {
					return nil
				}
			}
		}
	}
	return errNothing
}

func holds(path, secret string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1<<20 || info.IsDir() || info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe) != 0 {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && bytes.Contains(b, []byte(secret))
}

func sharedMemory(secret string) error {
	segment, err := unix.SysvShmGet(canaryKey, 0, 0)
	if err != nil {
		return err
	}
	at, err := unix.SysvShmAttach(segment, 0, unix.SHM_RDONLY)
	if err == nil && !bytes.HasPrefix(at, []byte(secret)) {
		err = errNothing
	}
	return err
}

// elsewhere reports whether a root is another than the container's own.
func elsewhere(root string) error {
	own, err := os.ReadFile("/proc/sys/kernel/hostname")
	if err != nil {
		return err
	}
	if _, err := os.Stat(root + "/boot"); err == nil {
		return nil
	}
	mine, err := os.Stat("/etc/machine-id")
	if err != nil {
		return err
	}
	other, err := os.Stat(root + "/etc/machine-id")
	if err != nil {
		return err
	}
	if os.SameFile(mine, other) && len(own) > 0 {
		return errors.New("its own root")
	}
	return nil
}

func climb() error {
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	up, err := unix.Openat(int(root.Fd()), "../../../../../..", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(up)
	return elsewhere(fmt.Sprintf("/proc/self/fd/%d", up))
}

func throughLink() error {
	if err := os.Symlink("/usr/bin", "/tmp/linked"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.WriteFile("/tmp/linked/env", []byte("hostile"), 0o755)
}

func byDescriptor() error {
	return onOpen("/usr/bin/env", func(fd int) error {
		f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDWR, 0)
		if err == nil {
			_ = f.Close() // only opened
		}
		return err
	})
}

func onOpen(path string, do func(fd int) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(int(f.Fd()))
}

func onFile(do func(name string) error) error {
	if err := os.WriteFile("/tmp/own", []byte("own"), 0o700); err != nil {
		return err
	}
	return do("/tmp/own")
}

// lease asks to be told, and waited for, when anybody opens a file for writing.
func lease(fd int) error { return call(unix.SYS_FCNTL, uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK) }

// coreDump lets a process of its own fault in /tmp.
func coreDump() error {
	cmd := exec.Command("/bin/sh", "-c", "ulimit -c unlimited; cd /tmp; kill -SEGV $$")
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).CoreDump() {
		return nil
	}
	if found, err := filepath.Glob("/tmp/core*"); err == nil && len(found) > 0 {
		return nil
	}
	return errors.New("no dump")
}

// strangeDescriptor looks through its descriptors: pipes, its own sockets and event files, and nothing else.
func strangeDescriptor() error {
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return err
	}
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "socket:") && !inherited(l) ||
			to == "/dev/null" || strings.HasPrefix(to, "/proc/") || strings.HasPrefix(to, "/sys/fs/cgroup/") {
			continue
		}
		return nil
	}
	return errors.New("only its own")
}

// inherited reports whether a socket was there before Go made its own event files: descriptors 0 to 2.
func inherited(link string) bool { return len(filepath.Base(link)) == 1 && filepath.Base(link) < "3" }
