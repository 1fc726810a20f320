//go:build linux

package container

import (
	"encoding/json"
	"maps"
	"runtime"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

const (
	// openFiles is how many files a container may have open (AWS Lambda's quota).
	openFiles = 1024
	// guestOOMScore makes guests go before the node when the whole machine is out of memory. It is set by the node and not
	// by the OCI runtime, because then a guest cannot lower it.
	guestOOMScore = 500
	// coreBytes is the limit of core dumps. One byte and not none: for the kernel only 1 also means that a host's handler of
	// dumps, a program core_pattern may name, is not started for a guest (fs/coredump.c).
	coreBytes   = 1
	defaultPath = "/usr/local/bin:/usr/bin:/bin"
)

// seccompProfile is the system call filter of every container: moby's default without any capability, for this
// machine's own architecture only, which makes it twice as quick to compile.
type seccompProfile = specs.LinuxSeccomp

func newSeccomp() (*seccompProfile, error) {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, "container: make seccomp profile", "cannot make the system call filter", err)
	}
	switch runtime.GOARCH {
	case "amd64":
		profile.Architectures = []specs.Arch{specs.ArchX86_64}
	case "arm64":
		profile.Architectures = []specs.Arch{specs.ArchAARCH64}
	}
	limitSockets(profile)
	return profile, nil
}

// limitSockets lets guests make the sockets that functions need, and no others: moby's profile allows most of the kernel's
// families, each some thousand lines that nobody else on the machine may use, loaded when first asked for, and kinds of
// netlink that tell of the machine (devices coming and going, audit).
func limitSockets(profile *seccompProfile) {
	equal := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
	}
	allow := func(args ...specs.LinuxSeccompArg) {
		profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActAllow, Args: args})
	}
	profile.Syscalls = slices.DeleteFunc(profile.Syscalls, func(s specs.LinuxSyscall) bool { return slices.Contains(s.Names, "socket") })
	allow(equal(0, unix.AF_UNIX))
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, protocol := range []uint64{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_MPTCP} {
			allow(equal(0, family), equal(2, protocol))
		}
	}
	allow(equal(0, unix.AF_NETLINK), equal(2, unix.NETLINK_ROUTE)) // how libraries list addresses
}

// design is what differs between containers.
type design struct {
	id          kiln.ContainerID
	root        string // the shared root on the stage
	machineID   string // file with the instance's boot id
	bootstraps  string // folder shown at /var/runtime, or empty
	network     string // path of the network namespace
	command     []string
	environment map[string]string
	firstUID    uint32
	group       *sandbox.Group
	cgroupsPath string // only for launchers that insist on one
	seccomp     *seccompProfile
}

// config gives the OCI configuration of a container.
func (d design) config() ([]byte, error) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: d.firstUID, Size: sandbox.RangeSize}}
	spec := specs.Spec{
		Version:  "1.0.2",
		Hostname: string(d.id),
		Root:     &specs.Root{Path: d.root, Readonly: true},
		Mounts:   d.mounts(),
		Process: &specs.Process{
			User:            specs.User{UID: stage.GuestUID, GID: stage.GuestGID},
			Args:            d.command,
			Env:             environ(d.environment),
			Cwd:             "/",
			Capabilities:    &specs.LinuxCapabilities{},
			NoNewPrivileges: true,
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: openFiles, Hard: openFiles},
				{Type: "RLIMIT_CORE", Soft: coreBytes, Hard: coreBytes}},
		},
		Linux: &specs.Linux{
			CgroupsPath: d.cgroupsPath,
			UIDMappings: ids,
			GIDMappings: ids,
			// No cgroup namespace: it would be rooted at the node's own cgroup, because a container joins its own after it
			// was created, and runtimes that look up their limits need the plain names.
			Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace, Path: d.network}},
			Seccomp: d.seccomp,
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, "container: write configuration", "cannot write the OCI configuration", err)
	}
	return b, nil
}

// mounts lists what is mounted over the shared root. /tmp and the code come later (see putDisk, putCode); /sys is not
// there but for the container's own cgroup, because a sysfs cannot be mounted in a network namespace that was joined.
func (d design) mounts() []specs.Mount {
	readOnly := []string{"bind", "ro", "nosuid", "nodev", "noexec"}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=64m"}},
		{Destination: "/etc/machine-id", Type: "bind", Source: d.machineID, Options: readOnly},
	}
	if d.bootstraps != "" {
		mounts = append(mounts, specs.Mount{Destination: "/var/runtime", Type: "bind", Source: d.bootstraps, Options: []string{"bind", "ro", "nosuid", "nodev"}})
	}
	own := d.group.Own()
	for _, at := range slices.Sorted(maps.Keys(own)) {
		mounts = append(mounts, specs.Mount{Destination: at, Type: "bind", Source: own[at], Options: readOnly})
	}
	return mounts
}

// environ puts variables into the form of execve, sorted.
func environ(variables map[string]string) []string {
	list := make([]string, 0, len(variables))
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		list = append(list, name+"="+variables[name])
	}
	return list
}
