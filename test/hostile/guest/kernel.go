//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelFiles tries to change or read the kernel by its files.
func kernelFiles() []probe {
	var probes []probe
	for _, path := range []string{"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe",
		"/proc/sys/kernel/panic", "/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/file-max",
		"/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/ns_last_pid", "/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/self/uid_map",
		"/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/kernel/profiling", "/sys/power/state", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu/cgroup.procs", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/release_agent", "/dev/kmsg"} {
		probes = append(probes, probe{"write " + path, func() error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("0")
			return err
		}})
	}
	for _, path := range []string{"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/slabinfo", "/proc/vmallocinfo",
		"/proc/kpagecount", "/proc/acpi/wakeup", "/proc/scsi/scsi", "/proc/1/pagemap", "/sys/kernel/debug", "/sys/kernel/security", "/sys/firmware", "/sys/class/net",
		"/sys/block", "/sys/kernel/notes"} {
		probes = append(probes, probe{"read " + path, func() error { return content(path) }})
	}
	return append(probes,
		probe{"read the kernel's addresses in /proc/kallsyms", func() error {
			b, err := os.ReadFile("/proc/kallsyms")
			if err == nil && strings.HasPrefix(string(b), "0000000000000000 ") {
				err = errors.New("zeros")
			}
			return err
		}},
		probe{"be spared when memory runs out (oom_score_adj)", func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }},
		probe{"be as dear as the node when memory runs out (oom_score_adj 0)", func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0) }},
		probe{"read the machine's memory, load and processors in /proc", func() error { return content("/proc/meminfo") }},
		probe{"read the kernel's command line", func() error { return content("/proc/cmdline") }},
	)
}

// content reads a file or a folder that must hold something.
func content(path string) error {
	if entries, err := os.ReadDir(path); err == nil {
		if len(entries) == 0 {
			return errNothing
		}
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 64)
	n, err := f.Read(b)
	if n == 0 || len(strings.Trim(string(b[:n]), "\x00")) == 0 {
		if err == nil {
			err = errNothing
		}
		return err
	}
	return nil
}

// kernelCalls tries the system calls that reach the machine as a whole.
func kernelCalls() []probe {
	name := [8]byte{'h', 'o', 's', 't', 'i', 'l', 'e'}
	text := uintptr(unsafe.Pointer(&name))
	space := make([]byte, 4096)
	zeros := uintptr(unsafe.Pointer(&space[0]))
	attributes := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	now := unix.Timespec{Sec: 1}
	tick := unix.Timex{Modes: 0x8000 | 1}
	return []probe{
		{"bpf", func() error { return call(unix.SYS_BPF, unix.BPF_MAP_CREATE, zeros, 64) }},
		{"perf_event_open", func() error {
			return call(unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attributes)), 0, ^uintptr(0), ^uintptr(0), 0)
		}},
		{"userfaultfd", func() error { return call(unix.SYS_USERFAULTFD, 1) }},
		{"io_uring_setup", func() error { return call(unix.SYS_IO_URING_SETUP, 8, zeros) }},
		{"kexec_load", func() error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }},
		{"kexec_file_load", func() error { return call(unix.SYS_KEXEC_FILE_LOAD, 0, 0, 0, text, 0) }},
		{"init_module", func() error { return call(unix.SYS_INIT_MODULE, zeros, 64, text) }},
		{"finit_module", func() error { return call(unix.SYS_FINIT_MODULE, 0, text, 0) }},
		{"delete_module", func() error { return call(unix.SYS_DELETE_MODULE, text, 0) }},
		{"reboot", func() error {
			return call(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF, 0)
		}},
		{"swapon", func() error { return call(unix.SYS_SWAPON, text, 0) }},
		{"swapoff", func() error { return call(unix.SYS_SWAPOFF, text) }},
		{"settimeofday", func() error { return call(unix.SYS_SETTIMEOFDAY, zeros, 0) }},
		{"clock_settime", func() error { return call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now))) }},
		{"adjtimex", func() error { _, err := unix.Adjtimex(&tick); return err }},
		{"sethostname", func() error { return unix.Sethostname([]byte("hostile")) }},
		{"setdomainname", func() error { return unix.Setdomainname([]byte("hostile")) }},
		{"syslog (read the kernel's log)", func() error { return call(unix.SYS_SYSLOG, 3, zeros, 4096) }},
		{"acct", func() error { return call(unix.SYS_ACCT, 0) }},
		{"quotactl", func() error { return call(unix.SYS_QUOTACTL, 0x800001<<8, text, 0, 0) }},
		{"iopl", func() error { return call(unix.SYS_IOPL, 3) }},
		{"ioperm", func() error { return call(unix.SYS_IOPERM, 0, 16, 1) }},
		{"keyctl (join the session keyring)", func() error { return call(unix.SYS_KEYCTL, 1, 0) }},
		{"keyctl (read the user's keyring)", func() error { return call(unix.SYS_KEYCTL, 11, ^uintptr(3), zeros, 4096) }},
		{"add_key", func() error { return call(unix.SYS_ADD_KEY, text, text, zeros, 8, ^uintptr(3)) }},
		{"request_key", func() error { return call(unix.SYS_REQUEST_KEY, text, text, 0, ^uintptr(3)) }},
		{"personality (no address randomisation)", func() error { return inChild(unix.SYS_PERSONALITY, 0x0040000) }},
		{"vhangup", func() error { return call(unix.SYS_VHANGUP) }},
		{"lookup_dcookie", func() error { return call(unix.SYS_LOOKUP_DCOOKIE, 1, zeros, 4096) }},
		{"fanotify_init", func() error { return call(unix.SYS_FANOTIFY_INIT, 0, 0) }},
		{"a call by another architecture's number (x32 getpid)", otherNumbers},
		{"execute a file that is only in memory (memfd)", memoryProgram},
	}
}

// otherNumbers makes a system call with the number it has for x32 programs, which a filter by numbers must not let slip.
func otherNumbers() error {
	if runtime.GOARCH != "amd64" {
		return errors.New("no such thing here")
	}
	return inChild(0x40000000 | unix.SYS_GETPID)
}

// memoryProgram runs a program from a memory file. That is allowed: it can do what any program here can.
func memoryProgram() error {
	fd, err := unix.MemfdCreate("hostile", 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "/proc/self/fd/hostile")
	defer f.Close()
	program, err := os.ReadFile("/bin/true")
	if err == nil {
		_, err = f.Write(program)
	}
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	return cmd.Run()
}
