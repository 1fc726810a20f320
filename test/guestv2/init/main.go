//go:build linux

// Command init is the first process of the virtual machine in test/guestv2, on its initial RAM disk: it loads what the
// kernel needs to see the machine's disk, makes the disk the root, mounts the one hierarchy of cgroup v2 and nothing else
// of cgroups, runs the test programs one after another, says on the console how each ended, and switches the machine off.
//
// The kernel's command line says what to run: kiln.run=PROGRAM,ARGUMENT,…;PROGRAM,… with a program's mode before it:
// "plain:" at the machine's own cgroup root, "boxed:" in a cgroup namespace, where the root holds processes and is not
// the machine's own.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	err := errors.Join(disk(), root(), all())
	fmt.Println("guestv2: done:", err)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// disk loads the kernel's modules in the order of their names, and mounts the disk.
func disk() error {
	names, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close() // only read from
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return errors.Join(mount("devtmpfs", "/dev", "devtmpfs"), mount("/dev/vda", "/root", "ext4"))
}

// root makes the disk the root and mounts what a system has.
func root() error {
	err := errors.Join(unix.Mount("/dev", "/root/dev", "", unix.MS_MOVE, ""), os.Chdir("/root"), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/"))
	return errors.Join(err, mount("proc", "/proc", "proc"), mount("sysfs", "/sys", "sysfs"), mount("tmpfs", "/run", "tmpfs"), mount("tmpfs", "/dev/shm", "tmpfs"),
		mount("cgroup2", "/sys/fs/cgroup", "cgroup2"), os.Setenv("PATH", "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"), os.Setenv("HOME", "/root"),
		os.Setenv("KILN_REQUIRE_CONTAINER", "1"), os.Setenv("KILN_BIN", "/tests/kiln"), loopback())
}

// loopback brings up the link to the machine itself.
func loopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	link, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	link.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, link)
}

func mount(from, to, kind string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, to, err)
	}
	return nil
}

// all runs what the command line names.
func all() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	_, wanted, ok := strings.Cut(string(line), "kiln.run=")
	if !ok {
		return errors.New("the command line names nothing to run")
	}
	for number, one := range strings.Split(strings.Fields(wanted)[0], ";") {
		mode, command, _ := strings.Cut(one, ":")
		fmt.Printf("guestv2: run %s\n", one)
		fmt.Printf("guestv2: ended %s: %v\n", one, run(number, mode, strings.Split(command, ",")))
	}
	return nil
}

func run(number int, mode string, command []string) error {
	if mode == "boxed" {
		// A cgroup with this very program in it becomes the root of the namespace.
		box := fmt.Sprintf("/sys/fs/cgroup/box-%d", number)
		if err := errors.Join(os.MkdirAll(box, 0o755), os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory +cpu +pids"), 0)); err != nil {
			return err
		}
		command = append([]string{"/bin/sh", "-c", "echo $$ >" + box + `/cgroup.procs && exec unshare -C -m /bin/sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' sh "$@"`, "sh"}, command...)
	}
	p, err := os.StartProcess(command[0], command, &os.ProcAttr{Dir: "/tmp", Files: []*os.File{nil, os.Stdout, os.Stdout}})
	if err != nil {
		return err
	}
	// As the first process it is also the parent of what others leave, and waits for all.
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case pid == p.Pid && (status.Signaled() || status.ExitStatus() != 0):
			return fmt.Errorf("exit status %d, signal %d", status.ExitStatus(), status.Signal())
		case pid == p.Pid:
			return nil
		}
	}
}
