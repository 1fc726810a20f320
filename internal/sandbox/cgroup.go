//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"

	"kiln"
)

// CPUPeriod is the period of the processor limit.
const CPUPeriod = 100 * time.Millisecond

// killWait bounds the wait for killed processes to be gone; the kernel needs milliseconds, unless one hangs in I/O.
const killWait = 10 * time.Second

// usedV1 tells the controllers a Group uses on cgroup v1. Each costs an attach, which waits for the kernel's RCU, so those
// without a limit or a counter of ours are left out.
func usedV1(controller string) bool {
	switch controller {
	case "memory", "cpu", "cpuacct", "pids", "freezer":
		return true
	}
	return false
}

// Tree is where one node keeps its cgroups: a cgroup of its own name at the top of each hierarchy. On v1 there is a
// hierarchy for each controller, on v2 one. The tests run real processes on the version the machine has; test/guestv2 runs
// them in a virtual machine that has the other.
type Tree struct {
	name string
	v2   bool
	// roots are the mount points by controller; on v2 the one key is "".
	roots map[string]string
	// all are the mount points of every hierarchy, also of those no Group uses: an OCI runtime that insists on making
	// cgroups itself makes them everywhere.
	all []string
}

// OpenTree finds the machine's cgroup hierarchies. The name must be the node's alone: what carries it is the node's to
// remove. Kinds: KindUnavailable when a controller is missing; the message says which.
func OpenTree(name string) (*Tree, error) {
	const op = "sandbox: open cgroup tree"
	t := &Tree{name: name, v2: cgroups.IsCgroup2UnifiedMode()}
	if t.v2 {
		t.roots, t.all = map[string]string{"": unifiedRoot}, []string{unifiedRoot}
		if err := checkUnified(); err != nil {
			return nil, err
		}
		return t, leaveRoot()
	}
	mounts, err := cgroups.GetCgroupMounts(true)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "no cgroups are mounted; mount them at /sys/fs/cgroup", err)
	}
	t.roots = map[string]string{}
	for _, m := range mounts {
		t.all = append(t.all, m.Mountpoint)
		for _, c := range m.Subsystems {
			if _, ok := t.roots[c]; !ok && usedV1(c) {
				t.roots[c] = m.Mountpoint
			}
		}
	}
	for _, c := range []string{"memory", "cpu", "pids"} {
		if t.roots[c] == "" {
			return nil, kiln.Errorf(kiln.KindUnavailable, op, "the cgroup controller %q is not mounted; mount it below /sys/fs/cgroup", c)
		}
	}
	return t, nil
}

// unifiedRoot is where the one hierarchy of v2 is mounted.
const unifiedRoot = "/sys/fs/cgroup"

// checkUnified demands the controllers that limits need.
func checkUnified() error {
	const op = "sandbox: open cgroup tree"
	have, err := os.ReadFile(filepath.Join(unifiedRoot, "cgroup.controllers"))
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read /sys/fs/cgroup/cgroup.controllers", err)
	}
	for _, c := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(strings.Fields(string(have)), c) {
			return kiln.Errorf(kiln.KindUnavailable, op, "the cgroup controller %q is not available at /sys/fs/cgroup; enable or delegate it", c)
		}
	}
	return nil
}

// leaveRoot makes room below a root of v2 that is not the machine's own, as a container or a delegated scope sees it: a
// cgroup with processes in it hands no controllers down, so they move into a leaf. The machine's own root may keep its
// processes, and has no type.
func leaveRoot() error {
	const op = "sandbox: leave the cgroup root"
	if _, err := os.Stat(filepath.Join(unifiedRoot, "cgroup.type")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	leaf := filepath.Join(unifiedRoot, "init")
	for range leaveTries {
		pids, err := cgroups.GetPids(unifiedRoot)
		if err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot list the processes at /sys/fs/cgroup", err)
		}
		if len(pids) == 0 {
			return nil
		}
		if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot make /sys/fs/cgroup/init; delegate the cgroup to this server", err)
		}
		for _, pid := range pids {
			if err := cgroups.WriteCgroupProc(leaf, pid); err != nil {
				return kiln.Wrap(kiln.KindUnavailable, op, "cannot move the processes at /sys/fs/cgroup into a leaf", err)
			}
		}
	}
	return kiln.Errorf(kiln.KindUnavailable, op, "processes keep appearing at /sys/fs/cgroup; delegate a cgroup of its own to this server")
}

// leaveTries bounds the rounds of moving processes that fork meanwhile.
const leaveTries = 16

// V2 reports whether the machine has the one hierarchy of cgroup v2.
func (t *Tree) V2() bool { return t.v2 }

// Limits are what a Group is held to. Zero leaves a limit as it is.
type Limits struct {
	// MemoryBytes is the memory limit; no swap beyond it.
	MemoryBytes int64
	// MilliCPUs is the processor limit in thousandths of a CPU; negative takes it away.
	MilliCPUs int
	// Processes bounds processes and threads.
	Processes int
}

// resources puts the limits into the library's words.
func (l Limits) resources(swap, burst bool) *cgroups.Resources {
	r := &cgroups.Resources{SkipDevices: true, Memory: l.MemoryBytes}
	if swap {
		r.MemorySwap = l.MemoryBytes
	}
	period := CPUPeriod.Microseconds()
	switch {
	case l.MilliCPUs < 0:
		r.CpuQuota, r.CpuPeriod = -1, uint64(period)
	case l.MilliCPUs > 0:
		r.CpuQuota, r.CpuPeriod = max(int64(l.MilliCPUs)*period/1000, 1000), uint64(period)
		if burst {
			// What was left unused in quiet periods may be used at once, up to one period's share: a small function that has
			// little to do now and then is not stopped for the rest of a period. Over time it gets no more than its limit.
			r.CpuBurst = new(uint64(r.CpuQuota))
		}
	}
	if l.Processes > 0 {
		r.PidsLimit = new(int64(l.Processes))
	}
	return r
}

// Group is one cgroup of the tree (on v1: of the same name in each hierarchy).
type Group struct {
	tree    *Tree
	inner   string // relative to each hierarchy's mount point
	paths   map[string]string
	manager cgroups.Manager
	swap    bool // the kernel counts swap
	burst   bool // the kernel lets unused processor time be saved up
}

// Group gives the cgroup at the path of names below the tree's own, without making it.
func (t *Tree) Group(names ...string) (*Group, error) {
	const op = "sandbox: open cgroup"
	g := &Group{tree: t, inner: filepath.Join(append([]string{t.name}, names...)...), paths: map[string]string{}}
	for c, root := range t.roots {
		g.paths[c] = filepath.Join(root, g.inner)
	}
	paths := maps.Clone(g.paths) // the manager changes the map it is given
	m, err := manager.NewWithPaths(&cgroups.Cgroup{Path: "/" + g.inner, Resources: &cgroups.Resources{SkipDevices: true}}, paths)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "cannot manage the cgroup", err)
	}
	g.manager = m
	return g, nil
}

// Create makes the cgroup and sets its limits. A cgroup that exists is taken as it is.
func (g *Group) Create(l Limits) error {
	if err := g.manager.Apply(-1); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "sandbox: make cgroup", "cannot make a cgroup", err)
	}
	swapFile, burstFile := "memory.memsw.limit_in_bytes", "cpu.cfs_burst_us"
	if g.tree.v2 {
		swapFile, burstFile = "memory.swap.max", "cpu.max.burst"
	}
	_, err := os.Stat(filepath.Join(g.memoryPath(), swapFile))
	g.swap = err == nil
	_, err = os.Stat(filepath.Join(g.Path("cpu"), burstFile))
	g.burst = err == nil
	return g.Set(l)
}

// Set changes limits of the cgroup. Kinds: KindConflict when the memory limit would be below what is used now, which the
// kernel refuses on v1 and answers with a kill on v2.
func (g *Group) Set(l Limits) error {
	const op = "sandbox: set cgroup limits"
	if used := g.memoryUsed(); l.MemoryBytes > 0 && used > l.MemoryBytes {
		return kiln.Errorf(kiln.KindConflict, op, "the memory in use, %d bytes, is more than the limit asked for, %d bytes", used, l.MemoryBytes)
	}
	if err := g.manager.Set(l.resources(g.swap, g.burst)); err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "cannot set the limits of a cgroup", err)
	}
	if err := g.limitSockets(l.MemoryBytes); err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "cannot limit the memory of sockets", err)
	}
	return nil
}

// What the buffers of TCP sockets may take on v1, beside the memory limit: a share of it, but what two answers of the
// largest size need.
const (
	socketShare    = 8
	minSocketBytes = 16 << 20
)

// limitSockets bounds the memory in TCP buffers. v2 counts it to the memory limit; v1 counts it apart, and without a limit
// not at all, so that a guest with a thousand connections to itself takes what TCP may have on the whole machine.
func (g *Group) limitSockets(memoryBytes int64) error {
	if g.tree.v2 || memoryBytes <= 0 {
		return nil
	}
	limit := strconv.FormatInt(max(memoryBytes/socketShare, minSocketBytes), 10)
	err := os.WriteFile(filepath.Join(g.memoryPath(), "memory.kmem.tcp.limit_in_bytes"), []byte(limit), 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil // a kernel without it does not let the file be made
	}
	return err
}

// Add puts a process into the cgroup.
func (g *Group) Add(pid int) error {
	if err := g.manager.AddPid("", pid); err != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: add to cgroup", "cannot put a process into its cgroup", err)
	}
	return nil
}

// Path is the cgroup's directory for a controller; on v2 it is the same for all.
func (g *Group) Path(controller string) string {
	if g.tree.v2 {
		return g.paths[""]
	}
	return g.paths[controller]
}

// Procs lists the files a process writes its id to in order to enter the cgroup by itself, so that all it starts is born
// there: one for each hierarchy.
func (g *Group) Procs() []string {
	var files []string
	for _, controller := range slices.Sorted(maps.Keys(g.paths)) {
		if file := filepath.Join(g.paths[controller], "cgroup.procs"); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// Name is the cgroup's path below each hierarchy's mount point, with a leading slash.
func (g *Group) Name() string { return "/" + g.inner }

// OutOfMemory is the kernel's own count of processes it ended in this cgroup for want of memory.
func (g *Group) OutOfMemory() int64 {
	n, err := g.manager.OOMKillCount()
	if err != nil {
		return 0
	}
	return int64(n)
}

// ProcessesRefused is the kernel's own count of processes that were not made because of the cgroup's limit; 0 where the
// kernel does not count them.
func (g *Group) ProcessesRefused() int64 {
	b, err := os.ReadFile(filepath.Join(g.Path("pids"), "pids.events"))
	if err != nil {
		return 0
	}
	return field(b, "max")
}

func (g *Group) memoryPath() string { return g.Path("memory") }

func (g *Group) memoryUsed() int64 {
	name := "memory.usage_in_bytes"
	if g.tree.v2 {
		name = "memory.current"
	}
	b, err := os.ReadFile(filepath.Join(g.memoryPath(), name))
	if err != nil {
		return 0
	}
	return number(b)
}

// Kill ends every process in the cgroup and below and waits until they are gone, so that the cgroup can be removed.
func (g *Group) Kill(ctx context.Context) error { return g.tree.kill(ctx, g.inner) }

// Remove takes the cgroup away in every hierarchy, with those below it. There must be no process in it.
func (g *Group) Remove() error { return g.tree.remove(g.inner) }

// Sweep kills and removes everything that carries the tree's name. Used at start, when nothing of it can be alive by
// right, and at the end.
func (t *Tree) Sweep(ctx context.Context) (processes int, err error) {
	for _, root := range t.all {
		pids, _ := cgroups.GetAllPids(filepath.Join(root, t.name))
		processes = max(processes, len(pids))
	}
	if err := t.kill(ctx, t.name); err != nil {
		return processes, err
	}
	return processes, t.remove(t.name)
}

// kill ends what is in a cgroup. A process that forks while it is killed is met by repeating; the container's process
// limit and, on v2, cgroup.kill bound that.
func (t *Tree) kill(ctx context.Context, inner string) error {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		left := 0
		for _, root := range t.all {
			left += killBelow(filepath.Join(root, inner))
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return kiln.Errorf(kiln.KindInternal, "sandbox: kill cgroup", "%d processes of cgroup %s do not end", left, inner)
		case <-time.After(pause):
		}
	}
}

// killBelow sends SIGKILL to all in a cgroup directory and below and says how many there were.
func killBelow(dir string) int {
	pids, err := cgroups.GetAllPids(dir)
	if err != nil || len(pids) == 0 {
		return 0
	}
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return len(pids) // v2 since Linux 5.14: atomic, also for forks under way
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL) // gone already is as good
	}
	thawBelow(dir)
	return len(pids)
}

// thawBelow lets what is frozen in a cgroup directory of v1 and below run on: a frozen process takes no signal until then.
func thawBelow(dir string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error { // what goes away meanwhile needs no thaw
		if err == nil && e.IsDir() {
			_ = os.WriteFile(filepath.Join(path, "freezer.state"), []byte("THAWED"), 0)
		}
		return nil
	})
}

// remove takes a cgroup directory away in every hierarchy.
func (t *Tree) remove(inner string) error {
	var failed error
	for _, root := range t.all {
		if err := cgroups.RemovePath(filepath.Join(root, inner)); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return kiln.Wrap(kiln.KindInternal, "sandbox: remove cgroup", "a cgroup is left over", failed)
	}
	return nil
}

// Meter reads what a cgroup has used, from files it holds open: it is on every execution's path. Not safe concurrently.
type Meter struct {
	v2                bool
	memory, cpu, stat *os.File // stat is nil where cpu tells all
	buffer            [512]byte
}

// Meter opens the cgroup's counters. The caller closes it.
func (g *Group) Meter() (*Meter, error) {
	m := &Meter{v2: g.tree.v2}
	open := func(controller, name string) *os.File {
		f, err := os.Open(filepath.Join(g.Path(controller), name))
		if err != nil {
			return nil // a kernel without the counter: it reads zero
		}
		return f
	}
	if m.v2 {
		m.memory, m.stat = open("", "memory.peak"), open("", "cpu.stat")
	} else {
		m.memory, m.cpu, m.stat = open("memory", "memory.max_usage_in_bytes"), open("cpuacct", "cpuacct.usage"), open("cpu", "cpu.stat")
	}
	if m.memory == nil && m.stat == nil {
		return nil, kiln.Errorf(kiln.KindInternal, "sandbox: open cgroup counters", "cannot read the counters of cgroup %s", g.inner)
	}
	return m, nil
}

// Read gives what was used since the cgroup was made. OutOfMemory is left to Group.OutOfMemory.
func (m *Meter) Read() kiln.Usage {
	u := kiln.Usage{MemoryPeakBytes: number(m.read(m.memory))}
	stat := m.read(m.stat)
	if m.v2 {
		u.CPUNanos = field(stat, "usage_usec") * 1000
		u.ThrottledNanos = field(stat, "throttled_usec") * 1000
		return u
	}
	u.ThrottledNanos = field(stat, "throttled_time")
	u.CPUNanos = number(m.read(m.cpu))
	return u
}

// Close lets the counters go.
func (m *Meter) Close() {
	for _, f := range []*os.File{m.memory, m.cpu, m.stat} {
		if f != nil {
			_ = f.Close() // only read from
		}
	}
}

func (m *Meter) read(f *os.File) []byte {
	if f == nil {
		return nil
	}
	n, _ := f.ReadAt(m.buffer[:], 0) // io.EOF is the rule; a removed cgroup reads nothing
	return m.buffer[:n]
}

// number reads a counter file's one decimal number; "max" and anything else is 0.
func number(b []byte) int64 {
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// field reads the number after name in a file of "name number" lines, 0 when it is not there.
func field(b []byte, name string) int64 {
	for len(b) > 0 {
		line := b
		if i := slices.Index(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) > len(name) && string(line[:len(name)]) == name && line[len(name)] == ' ' {
			return number(line[len(name)+1:])
		}
	}
	return 0
}

// Own lists the binds that show a container its own cgroup under the usual names: the node's directory by the path in
// the container.
func (g *Group) Own() map[string]string {
	if g.tree.v2 {
		return map[string]string{"/sys/fs/cgroup": g.paths[""]}
	}
	own := map[string]string{}
	for c, p := range g.paths {
		if c != "freezer" {
			own["/sys/fs/cgroup/"+c] = p
		}
	}
	return own
}

// String names the cgroup for logs.
func (g *Group) String() string {
	return fmt.Sprintf("%s (v%s)", g.inner, strconv.Itoa(1+map[bool]int{true: 1}[g.tree.v2]))
}
