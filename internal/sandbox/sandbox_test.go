//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

func TestMain(m *testing.M) {
	entered, err := Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch os.Getenv("KILN_TEST_ENTER") {
	case "status":
		if !entered.Entered || os.Getenv(enteredVariable) != "" || !Private() || Hybrid() {
			os.Exit(1)
		}
		os.Exit(42)
	case "wait":
		fmt.Println("up", os.Getpid(), strings.Join(os.Args[1:], " "))
		<-time.After(time.Minute) // to be ended meanwhile
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// needRoot skips loudly without root, or fails where the lane requires it.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const text = "SANDBOX IS NOT TESTED HERE: it needs root"
	if os.Getenv("KILN_REQUIRE_CONTAINER") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// Entering keeps the process id, the arguments, standard files, the exit status and signals of one process, and gives it
// a mount namespace without the unified cgroup mount.
func TestEnter(t *testing.T) {
	needRoot(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KILN_TEST_ENTER=status")
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 42 {
		t.Errorf("exit status: %v", err)
	}
	cmd = exec.Command(os.Args[0], "one", "two three")
	cmd.Env = append(os.Environ(), "KILN_TEST_ENTER=wait", enteredVariable+"=mnt:[1]") // a stale mark does not fool it
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var first, second string
	if _, err := fmt.Fscanf(out, "up %d %s %s", &pid, &first, &second); err != nil || pid != cmd.Process.Pid || first != "one" {
		t.Errorf("pid %d, want %d; arguments %s %s; %v", pid, cmd.Process.Pid, first, second, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended by %v", err)
	}
}

// Networks do not see each other: the same address listens in each, and only who is inside reaches it.
// R42
func TestNetworks(t *testing.T) {
	needRoot(t)
	pool := NewNetworks(2, slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer pool.Close()
	for range 5 {
		n, err := pool.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if c, err := net.DialTimeout("tcp", RuntimeAPIAddress, time.Second); err == nil {
			_ = c.Close()
			t.Error("the node's own loopback reaches a container's listener")
		}
		done := make(chan error, 1)
		go func() { done <- dialInside(n) }()
		c, err := n.Listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// dialInside connects to the address in a network namespace.
func dialInside(n *Network) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		c, err := net.Dial("tcp", RuntimeAPIAddress)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// A thread taken into other namespaces is never the process's first, which would show them to everyone.
func TestThread(t *testing.T) {
	for range 100 {
		var id int
		if err := onThread(func() error { id = unix.Gettid(); return nil }); err != nil || id == unix.Getpid() {
			t.Fatalf("thread %d of process %d: %v", id, unix.Getpid(), err)
		}
	}
}

// A cgroup holds its limits, kills what is in it, also what forks meanwhile, and goes without a trace.
// R44 R87 R102
func TestGroup(t *testing.T) {
	needRoot(t)
	tree, err := OpenTree(fmt.Sprintf("kiln-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := tree.Sweep(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	parent, err := tree.Group("i-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Create(Limits{MemoryBytes: 64 << 20, MilliCPUs: 500}); err != nil {
		t.Fatal(err)
	}
	group, err := tree.Group("i-1", "c-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := group.Create(Limits{MemoryBytes: 32 << 20, MilliCPUs: 100, Processes: 20}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "read x; while :; do sleep 1000 & done 2>/dev/null; sleep 1000")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := group.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	meter, err := group.Meter()
	if err != nil {
		t.Fatal(err)
	}
	defer meter.Close()
	for deadline := time.Now().Add(5 * time.Second); meter.Read().CPUNanos == 0 && time.Now().Before(deadline); {
	}
	if u := meter.Read(); u.CPUNanos == 0 || u.MemoryPeakBytes == 0 {
		t.Errorf("usage %+v", u)
	}
	if err := group.Set(Limits{MilliCPUs: -1}); err != nil {
		t.Error(err)
	}
	if err := group.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if err := group.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group.Path("memory")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// What a quiet group saves up follows its processor limit up and down, and the buffers of its sockets have a bound, where
// the kernel has either.
func TestBurstAndSockets(t *testing.T) {
	needRoot(t)
	tree, err := OpenTree(fmt.Sprintf("kiln-test-burst-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := tree.Sweep(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	g, err := tree.Group("g")
	if err != nil {
		t.Fatal(err)
	}
	quota, burst := "cpu.cfs_quota_us", "cpu.cfs_burst_us"
	if tree.V2() {
		quota, burst = "cpu.max", "cpu.max.burst"
	}
	read := func(controller, name string) int64 {
		b, err := os.ReadFile(filepath.Join(g.Path(controller), name))
		if errors.Is(err, os.ErrNotExist) {
			t.Skipf("this kernel has no %s", name)
		}
		if err != nil {
			t.Error(err)
		}
		return number(b)
	}
	if err := g.Create(Limits{MilliCPUs: 500}); err != nil {
		t.Fatal(err)
	}
	for _, milli := range []int64{500, 2000, 70, -1, 250, 1000} {
		if err := g.Set(Limits{MilliCPUs: int(milli)}); err != nil {
			t.Fatal(err)
		}
		if milli > 0 && (read("cpu", quota) != milli*100 || read("cpu", burst) != milli*100) {
			t.Errorf("%d thousandths: quota %d, burst %d µs", milli, read("cpu", quota), read("cpu", burst))
		}
	}
	if tree.V2() {
		return // sockets count to the memory limit
	}
	for _, c := range []struct{ memory, want int64 }{{128 << 20, 16 << 20}, {1 << 30, 128 << 20}} {
		if err := g.Set(Limits{MemoryBytes: c.memory}); err != nil {
			t.Fatal(err)
		}
		if got := read("memory", "memory.kmem.tcp.limit_in_bytes"); got != c.want {
			t.Errorf("of %d bytes sockets may take %d, want %d", c.memory, got, c.want)
		}
	}
}

// The bounds that all containers share are too high for one to reach.
func TestRaiseLimits(t *testing.T) {
	needRoot(t)
	if err := RaiseLimits(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil || number(b) < inotifyLimit {
		t.Errorf("%s %v", b, err)
	}
}

// The same limits in the words of the kernel's interface for both versions, and the paths of version 2.
func TestLimits(t *testing.T) {
	r := Limits{MemoryBytes: 128 << 20, MilliCPUs: 1500, Processes: 10}.resources(true, true)
	if r.Memory != 128<<20 || r.MemorySwap != 128<<20 || r.CpuQuota != 150000 || r.CpuPeriod != 100000 || *r.CpuBurst != 150000 || *r.PidsLimit != 10 {
		t.Errorf("%+v", r)
	}
	if r := (Limits{MilliCPUs: 1}).resources(false, false); r.CpuQuota != 1000 || r.Memory != 0 || r.MemorySwap != 0 || r.PidsLimit != nil || r.CpuBurst != nil {
		t.Errorf("the least the kernel takes is 1 ms: %+v", r)
	}
	if r := (Limits{MilliCPUs: -1}).resources(false, true); r.CpuQuota != -1 || r.CpuBurst != nil {
		t.Errorf("no limit: %+v", r)
	}
	two := &Tree{name: "kiln-x", v2: true, roots: map[string]string{"": "/sys/fs/cgroup"}, all: []string{"/sys/fs/cgroup"}}
	g := &Group{tree: two, inner: "kiln-x/i-1/c-1", paths: map[string]string{"": "/sys/fs/cgroup/kiln-x/i-1/c-1"}}
	if p := g.Path("memory"); p != "/sys/fs/cgroup/kiln-x/i-1/c-1" {
		t.Error(p)
	}
	if own := g.Own(); len(own) != 1 || own["/sys/fs/cgroup"] != "/sys/fs/cgroup/kiln-x/i-1/c-1" {
		t.Error(own)
	}
	one := &Group{tree: &Tree{name: "kiln-x"}, inner: "kiln-x/i", paths: map[string]string{"memory": "/m/kiln-x/i", "freezer": "/f/kiln-x/i"}}
	if own := one.Own(); len(own) != 1 || own["/sys/fs/cgroup/memory"] != "/m/kiln-x/i" || one.Name() != "/kiln-x/i" {
		t.Error(own)
	}
}

// The counters of both versions are read as they are written by the kernel.
func TestMeterFormats(t *testing.T) {
	file := func(text string) *os.File {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	two := &Meter{v2: true, memory: file("1048576\n"), stat: file("usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 3\nnr_throttled 1\nthrottled_usec 70\n")}
	defer two.Close()
	if u := two.Read(); u != (kiln.Usage{MemoryPeakBytes: 1 << 20, CPUNanos: 1500000, ThrottledNanos: 70000}) {
		t.Errorf("v2: %+v", u)
	}
	one := &Meter{memory: file("2097152\n"), cpu: file("123456\n"), stat: file("nr_periods 3\nnr_throttled 1\nthrottled_time 99\n")}
	defer one.Close()
	if u := one.Read(); u != (kiln.Usage{MemoryPeakBytes: 2 << 20, CPUNanos: 123456, ThrottledNanos: 99}) {
		t.Errorf("v1: %+v", u)
	}
}

// No counter file makes the reader fail or give a negative number from digits.
func FuzzField(f *testing.F) {
	f.Add([]byte("usage_usec 12\nthrottled_usec 7\n"), "throttled_usec")
	f.Add([]byte("max\n"), "max")
	f.Add([]byte("a\na 1"), "a")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		field(b, name)
		number(b)
	})
}

// A mount point is read from any line without failing, with its escapes undone.
func FuzzMountPoint(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /run/a\040b rw,noatime master:1 - ext3 /dev/root rw`)
	f.Add("1 2 3")
	f.Fuzz(func(t *testing.T, line string) {
		if point, ok := mountPoint(line); ok && !strings.Contains(line, `\`) && !strings.Contains(line, point) {
			t.Errorf("%q from %q", point, line)
		}
	})
}

// Ranges do not overlap, two servers on one machine have segments of their own, and a range given back rests.
// R42
func TestRanges(t *testing.T) {
	a, err := ClaimRanges("same")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := ClaimRanges("same")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	seen := map[uint32]bool{}
	for _, r := range []*Ranges{a, b} {
		for range rangesPerSegment {
			first, err := r.Take()
			if err != nil || seen[first] || first%RangeSize != 0 || first < firstUID || first > 0x7ffdffff-RangeSize {
				t.Fatalf("range %x: %v", first, err)
			}
			seen[first] = true
		}
		if _, err := r.Take(); kiln.KindOf(err) != kiln.KindUnavailable {
			t.Errorf("one too many: %v", err)
		}
	}
	a.Return(a.first + 5*RangeSize)
	if first, err := a.Take(); err != nil || first != a.first+5*RangeSize {
		t.Errorf("%x %v", first, err)
	}
}

// A disk is empty, as large as asked, writable for everyone, and gone when it is let go.
// R102
func TestDisks(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	disks, err := OpenDisks(dir)
	if err != nil {
		t.Skip(err)
	}
	for range 3 {
		disk, err := disks.Make(t.Context(), 64)
		if err != nil {
			t.Fatal(err)
		}
		var fs unix.Statfs_t
		var st unix.Stat_t
		if err := errors.Join(unix.Fstatfs(int(disk.file.Fd()), &fs), unix.Fstat(int(disk.file.Fd()), &st)); err != nil {
			t.Fatal(err)
		}
		if size := int64(fs.Blocks) * fs.Bsize >> 20; size < 50 || size > 64 || st.Mode&0o7777 != 0o1777 {
			t.Errorf("%d MiB, mode %o", size, st.Mode)
		}
		disk.Close()
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "template-64mib" {
		t.Errorf("left: %v %v", entries, err)
	}
	memory, err := MakeMemoryDisk(16)
	if err != nil {
		t.Fatal(err)
	}
	memory.Close()
}

// A process that os/exec did not start is watched and reaped; what os/exec started keeps its status.
func TestProcess(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "exit 3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := OpenProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if status := p.Wait(); status != "exit status 3" {
		t.Error(status)
	}
	_ = cmd.Wait() // reaped already
	sleeper := exec.Command("/bin/sleep", "1000.125")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	// The kernel tells Go of the start a moment before it shows the new command line.
	n := 0
	for deadline := time.Now().Add(10 * time.Second); n == 0 && time.Now().Before(deadline); {
		n = KillStrays("1000.125")
	}
	if n != 1 {
		t.Errorf("%d strays", n)
		_ = sleeper.Process.Kill()
	}
	_ = sleeper.Wait() // reaped already
}
