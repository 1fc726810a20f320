//go:build linux

package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// devices tries to make and open devices.
func devices() []probe {
	var probes []probe
	for name, device := range map[string]uint64{"mem": unix.Mkdev(1, 1), "kmsg": unix.Mkdev(1, 11), "fuse": unix.Mkdev(10, 229), "kvm": unix.Mkdev(10, 232), "loop-control": unix.Mkdev(10, 237)} {
		probes = append(probes, probe{"mknod " + name, func() error { return unix.Mknod("/tmp/device-"+name, unix.S_IFCHR|0o666, int(device)) }})
	}
	probes = append(probes, probe{"mknod a loop device", func() error { return unix.Mknod("/tmp/device-loop", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))) }},
		probe{"mknod in /dev/shm", func() error { return unix.Mknod("/dev/shm/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		probe{"credit the kernel's randomness (RNDADDTOENTCNT)", func() error {
			f, err := os.OpenFile("/dev/urandom", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.IoctlSetPointerInt(int(f.Fd()), 0x40045201, 8)
		}})
	for _, path := range []string{"/dev/mem", "/dev/kmsg", "/dev/port", "/dev/kvm", "/dev/fuse", "/dev/loop-control", "/dev/loop0", "/dev/vda", "/dev/sda", "/dev/nvme0", "/dev/mapper/control",
		"/dev/vsock", "/dev/vhost-net", "/dev/uinput", "/dev/snapshot", "/dev/ptmx", "/dev/tty"} {
		probes = append(probes, probe{"open " + path, func() error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_ = f.Close() // only opened
			}
			return err
		}})
	}
	return probes
}

// privileges tries to become more than it is.
func privileges() []probe {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0)}, {Effective: ^uint32(0), Permitted: ^uint32(0)}}
	fifo := struct{ priority int32 }{1}
	groups := [1]uint32{0}
	return []probe{
		{"setuid 0", func() error { return inChild(unix.SYS_SETUID, 0) }},
		{"setresuid to the host's first user", func() error { return inChild(unix.SYS_SETRESUID, 1000, 1000, 1000) }},
		{"setgid 0", func() error { return inChild(unix.SYS_SETGID, 0) }},
		{"setgroups", func() error { return inChild(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups))) }},
		{"setfsuid 0", func() error {
			if _, _, errno := syscall.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0); errno != 0 {
				return errno
			}
			if now, _, _ := syscall.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); now != 0 {
				return unix.EPERM // the call tells no error, only who one is
			}
			return nil
		}},
		{"capset: every capability", func() error { return unix.Capset(&header, &all[0]) }},
		{"raise an ambient capability", func() error {
			return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
		}},
		{"take no_new_privs back", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) }},
		{"have any capability at all", func() error {
			b, err := os.ReadFile("/proc/self/status")
			for line := range strings.Lines(string(b)) {
				if rest, ok := strings.CutPrefix(line, "Cap"); ok && strings.Trim(strings.TrimSpace(rest[strings.IndexByte(rest, ':')+1:]), "0") != "" {
					return nil
				}
			}
			if err == nil {
				err = errNothing
			}
			return err
		}},
		{"nice -20", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) }},
		{"real-time scheduling", func() error { return call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&fifo))) }},
		{"real-time disk priority", func() error { return call(unix.SYS_IOPRIO_SET, 1, 0, 1<<13) }},
		{"more open files than the limit", func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}) }},
		{"core dumps without limit", func() error {
			return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
		}},
		{"lock 1 GiB in memory", func() error {
			b, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err == nil {
				err = unix.Mlock(b)
				_ = unix.Munmap(b) // only tried
			}
			return err
		}},
	}
}
