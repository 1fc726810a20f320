//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lowestForeign is the least process id that cannot be one of the container's own.
const lowestForeign = 1000

// processes tries to see, read, change and end the processes outside, by the numbers the host has for them.
func processes(pids []int) []probe {
	var foreign []int
	for _, p := range pids {
		if p >= lowestForeign {
			foreign = append(foreign, p)
		}
	}
	var probes []probe
	for _, a := range onProcess() {
		// It succeeded as soon as it works for one of them.
		probes = append(probes, probe{a.name, func() error {
			err := errors.New("no process to try it on")
			for _, pid := range foreign {
				if err = a.try(pid); err == nil {
					return nil
				}
			}
			return err
		}})
	}
	return append(probes,
		// Who may not be named cannot be reached by naming all: -1 is every process the caller may signal but itself.
		probe{"signal everyone there is", func() error { return notOurs(unix.Kill(-1, unix.SIGWINCH)) }},
		probe{"see a process that is not its own in /proc", strangers})
}

// attempt is a probe on a process.
type attempt struct {
	name string
	try  func(pid int) error
}

func onProcess() []attempt {
	var buffer [64]byte
	here := unix.Iovec{Base: &buffer[0], Len: 64}
	there := unix.RemoteIovec{Base: 0x400000, Len: 64}
	var list [16]uintptr
	return []attempt{
		{"see it in /proc", func(pid int) error { _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); return err }},
		{"kill it", func(pid int) error { return unix.Kill(pid, unix.SIGTERM) }},
		{"kill its thread", func(pid int) error { return unix.Tgkill(pid, pid, unix.SIGTERM) }},
		{"queue a signal to it", func(pid int) error {
			return call(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(unix.SIGTERM), uintptr(unsafe.Pointer(&[16]uint64{uint64(unix.SIGTERM), 0xffffffff})))
		}},
		{"stop its process group", func(pid int) error { return unix.Kill(-pid, unix.SIGSTOP) }},
		{"trace it", unix.PtraceAttach},
		{"seize it", unix.PtraceSeize},
		{"read its memory", func(pid int) error {
			_, err := unix.ProcessVMReadv(pid, []unix.Iovec{here}, []unix.RemoteIovec{there}, 0)
			return err
		}},
		{"write its memory", func(pid int) error {
			_, err := unix.ProcessVMWritev(pid, []unix.Iovec{here}, []unix.RemoteIovec{there}, 0)
			return err
		}},
		{"open its /proc/PID/mem", func(pid int) error {
			f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/mem", os.O_RDWR, 0)
			if err == nil {
				_ = f.Close() // only opened
			}
			return err
		}},
		{"name it by pidfd_open", func(pid int) error { _, err := unix.PidfdOpen(pid, 0); return err }},
		{"change its limits", func(pid int) error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil) }},
		{"change its priority", func(pid int) error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 19) }},
		{"bind it to a processor", func(pid int) error {
			var set unix.CPUSet
			set.Set(0)
			return unix.SchedSetaffinity(pid, &set)
		}},
		{"read its robust futex list", func(pid int) error {
			return call(unix.SYS_GET_ROBUST_LIST, uintptr(pid), uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&list[1])))
		}},
		{"move its pages", func(pid int) error {
			return call(unix.SYS_MIGRATE_PAGES, uintptr(pid), 64, uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&list[0])))
		}},
		{"compare it with itself (kcmp)", func(pid int) error { return call(unix.SYS_KCMP, uintptr(pid), uintptr(os.Getpid()), 0, 0, 0) }},
		{"join its namespaces", func(pid int) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err == nil {
				err = unix.Setns(fd, unix.CLONE_NEWNS|unix.CLONE_NEWPID)
			}
			return err
		}},
	}
}

// notOurs tells a signal that reached its own children alone from one that left the container: the neighbour's canary
// would know of it, so that here both count as harmless.
func notOurs(err error) error {
	if err == nil {
		return errors.New("reaches its own alone")
	}
	return err
}

// strangers looks for a process that neither is this one nor was made by it.
func strangers() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		for up := pid; up != os.Getpid(); up = parent(up) {
			if up <= 0 {
				return nil
			}
		}
	}
	return errors.New("only its own")
}

// parent is the parent of a process, 0 when it has gone or has none.
func parent(pid int) int {
	var name string
	var state rune
	var up int
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return os.Getpid() // it has ended: it was its own
	}
	if _, err := fmt.Sscanf(string(b), "%d %s %c %d", &pid, &name, &state, &up); err != nil {
		return 0
	}
	return up
}

// inChild runs one system call in a child that does nothing else, and gives its errno. What would change or end the
// caller can be tried so; a child that was killed for it says by which signal.
func inChild(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		_, _, e := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(e), 0, 0)
	}
	return ended(int(pid))
}

// ended waits for a child and gives its exit status as an errno.
func ended(pid int) error {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	switch {
	case status.Signaled():
		return errors.New("killed by " + unix.SignalName(status.Signal()))
	case status.ExitStatus() != 0:
		return syscall.Errno(status.ExitStatus())
	}
	return nil
}
