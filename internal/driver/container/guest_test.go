//go:build linux

package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/sandbox"
)

// What a container sees of itself: its id as host name, the instance's boot id, its own limits by their usual names,
// read-only code, a read-only root, a private /tmp on a disk of the size asked for, no capability, no network but loopback.
// R30 R42
func TestWhatTheGuestSees(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	b := binding(packageDir(t))
	id := h.running(t, i.ID, b)
	memory, cpu, pids := "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/pids/pids.max"
	wantCPU := "25000"
	if h.tree.V2() {
		memory, cpu, pids, wantCPU = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max", "25000 100000"
	}
	files := do[map[string]string](t, h, id, "read", "/proc/sys/kernel/hostname", "/etc/machine-id", memory, cpu, pids)
	want := map[string]string{"/proc/sys/kernel/hostname": string(id), "/etc/machine-id": i.BootID, memory: "268435456", cpu: wantCPU, pids: "1024"}
	for f, w := range want {
		if files[f] != w {
			t.Errorf("%s is %q, want %q", f, files[f], w)
		}
	}
	for command, want := range map[string]string{
		"id -u; id -g; id -un": "993\n990\nsbx_user1051",
		"pwd":                  "/var/task",
		"ls -A /opt /sys/fs":   "/opt:\n\n/sys/fs:\ncgroup",
		"touch /var/task/x /usr/x /etc/x /x 2>&1 | wc -l":                                   "4",
		"touch /tmp/x && stat -c %U:%a /tmp/x":                                              "sbx_user1051:644",
		"grep CapBnd /proc/self/status":                                                     "CapBnd:\t0000000000000000",
		"grep NoNewPrivs /proc/self/status":                                                 "NoNewPrivs:\t1",
		"grep Seccomp: /proc/self/status":                                                   "Seccomp:\t2",
		"grep -E 'Max core' /proc/self/limits | tr -s ' '":                                  "Max core file size 1 1 bytes",
		"cat /proc/self/oom_score_adj":                                                      "500",
		"ulimit -n; ulimit -c":                                                              "1024\n0",
		"ls /sys/class/net 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '": "lo",
		"cat /proc/1/comm":                                                                  "bootstrap",
		"stat -f -c %T /tmp":                                                                "ext2/ext3",
		"test $(stat -f -c '%b * %S / 1048576' /tmp | xargs expr 2>/dev/null || stat -f -c %b /tmp) -gt 0 && echo ok": "ok",
		"(echo 1 > " + memory + ") 2>/dev/null || echo refused":                                                       "refused",
		"ls /dev | grep -v core | tr '\\n' ' '":                                                                       "fd full null ptmx random shm stderr stdin stdout tty urandom zero ",
		"dd if=/dev/kmsg 2>&1 | grep -c 'No such'":                                                                    "1",
		"unshare -U true 2>/dev/null || echo refused":                                                                 "refused",
	} {
		got := do[string](t, h, id, "sh", command)
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	environment := do[[]string](t, h, id, "env")
	wantEnv := []string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "GREETING=" + b.Environment["GREETING"], "_HANDLER=bootstrap"}
	slices.Sort(environment)
	environment = slices.DeleteFunc(environment, func(s string) bool { return strings.HasPrefix(s, "PWD=") || strings.HasPrefix(s, "OLDPWD=") })
	if !slices.Equal(environment, wantEnv) {
		t.Errorf("environment %q, want %q", environment, wantEnv)
	}
}

// A guest cannot make itself as dear as the node, where the node has the right to forbid it.
// R44
func TestExpendable(t *testing.T) {
	h := newHarness(t, t.TempDir())
	own := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var mine [2]unix.CapUserData
	if err := unix.Capget(&own, &mine[0]); err != nil {
		t.Fatal(err)
	}
	i := h.newInstance(t)
	id := h.running(t, i.ID, binding(packageDir(t)))
	want := "refused"
	if mine[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		want = "" // the kernel takes the bound from those only who may pass it
		t.Log("this process has no CAP_SYS_RESOURCE: what it sets a guest may lower to 0")
	}
	if got := do[string](t, h, id, "sh", "(echo 0 > /proc/self/oom_score_adj) 2>/dev/null || echo refused"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A guest makes the sockets that functions need and no others.
// R42
func TestSockets(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	id := h.running(t, i.ID, binding(packageDir(t)))
	got := do[map[string]string](t, h, id, "sockets", "1 1 0", "2 1 0", "2 1 6", "2 2 17", "10 1 0", "10 2 17", "2 1 262", "16 3 0",
		"16 3 9", "16 2 15", "16 3 12", "16 3 16", "17 3 768", "38 5 0", "40 1 0", "30 4 0", "2 3 1", "2 1 132", "31 3 1")
	for what, errno := range got {
		allowed := slices.Contains([]string{"1 1 0", "2 1 0", "2 1 6", "2 2 17", "10 1 0", "10 2 17", "2 1 262", "16 3 0"}, what)
		if what == "2 1 262" && errno == "protocol not available" {
			continue // a kernel without MPTCP
		}
		if want := map[bool]string{true: "", false: "operation not permitted"}[allowed]; errno != want {
			t.Errorf("socket %s: %q, want %q", what, errno, want)
		}
	}
}

// Two containers have host user ids, files and processes of their own, and neither sees the other's /tmp.
// R42
func TestApart(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	a, b := h.running(t, i.ID, binding(packageDir(t))), h.running(t, i.ID, binding(packageDir(t)))
	uid := func(id kiln.ContainerID) string {
		info, err := os.ReadFile("/proc/" + itoa(h.container(id).process.Pid) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(info), "Uid:\t")
		return strings.Fields(rest)[0]
	}
	if uid(a) == uid(b) || len(uid(a)) < 8 {
		t.Errorf("host user ids %s and %s", uid(a), uid(b))
	}
	do[string](t, h, a, "sh", "echo secret > /tmp/secret")
	if got := do[string](t, h, b, "sh", "ls -A /tmp"); got != "" {
		t.Errorf("the other's /tmp shows %q", got)
	}
	if got := do[string](t, h, b, "sh", "set -- /proc/[0-9]*; echo $#"); got != "2" { // itself and the shell
		t.Errorf("%s processes seen", got)
	}
}

// A full /tmp is an error for the one who fills it and for nobody else; a larger one can be asked for.
// R87
func TestDiskFull(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	small := binding(packageDir(t))
	small.Amounts.DiskMiB = 16
	id, other := h.running(t, i.ID, small), h.running(t, i.ID, binding(packageDir(t)))
	answer := h.execute(t, id, `{"do":"write","n":32}`)
	if !strings.Contains(string(answer.Payload), "no space left on device") {
		t.Errorf("32 MiB into 16: %s", answer.Payload)
	}
	if answer := h.execute(t, other, `{"do":"write","n":32}`); string(answer.Payload) != `"written"` {
		t.Errorf("32 MiB into 512: %s", answer.Payload)
	}
	if got := do[int](t, h, id, "count"); got != 2 {
		t.Errorf("afterwards count %d, want 2", got)
	}
}

// A function that forks without end meets its own limit, and the next container starts all the same.
// R44
func TestForkBomb(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	b := binding(packageDir(t))
	b.Amounts.Processes = 64
	id := h.running(t, i.ID, b)
	answer := h.execute(t, id, `{"do":"sh","args":["bomb() { bomb | bomb & }; bomb; sleep 0.3; exit 0"]}`)
	t.Logf("the bomb answered %.200s (%v)", answer.Payload, answer.Failure)
	other := h.running(t, i.ID, binding(packageDir(t)))
	if got := do[int](t, h, other, "count"); got != 1 {
		t.Errorf("the neighbour counts %d", got)
	}
	if err := h.DeleteContainer(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// Too much memory ends the execution and is told apart from any other death; the neighbour is not hurt.
// R44 R87
func TestOutOfMemory(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	id, other := h.running(t, i.ID, binding(packageDir(t))), h.running(t, i.ID, binding(packageDir(t)))
	answer := h.execute(t, id, `{"do":"memory","n":400}`)
	if answer.Failure == nil || answer.Failure.Outcome != kiln.OutcomeMemory || !answer.Lost || answer.Usage.OutOfMemory == 0 {
		t.Errorf("answer %+v, failure %+v", answer, answer.Failure)
	}
	if exit := <-h.exits; !exit.Memory || exit.Container != id || exit.Instance != i.ID {
		t.Errorf("exit %+v", exit)
	}
	if answer := h.execute(t, other, `{"do":"memory","n":100}`); answer.Failure != nil || answer.Usage.MemoryPeakBytes < 100<<20 || answer.Usage.CPUNanos == 0 {
		t.Errorf("neighbour %+v, failure %+v", answer.Usage, answer.Failure)
	}
	if answer = h.execute(t, other, `{"do":"exit","n":7}`); answer.Failure == nil || answer.Failure.Outcome != kiln.OutcomeCrash || !strings.Contains(string(answer.Failure.Payload), "exit status 7") {
		t.Errorf("crash %+v", answer.Failure)
	}
	if exit := <-h.exits; exit.Memory || exit.Status != "exit status 7" {
		t.Errorf("exit %+v", exit)
	}
}

// An initialisation that fails, hangs or has nothing to start is a result with AWS's words.
func TestInitFails(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	good := packageDir(t)
	missing, denied, foreign := t.TempDir(), t.TempDir(), t.TempDir()
	write := func(dir, text string, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "bootstrap"), []byte(text), mode), os.Chmod(filepath.Join(dir, "bootstrap"), mode), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	write(denied, "#!/bin/sh\n", 0o644)
	write(foreign, "this is no program", 0o755)
	for _, c := range []struct{ name, dir, at, want string }{
		{"missing", missing, "", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"},
		{"denied", denied, "", "fork/exec /var/task/bootstrap: permission denied"},
		{"foreign", foreign, "", "fork/exec /var/task/bootstrap: exec format error"},
		{"exit", good, "exit", "exit status 3"},
		{"hang", good, "hang", "Sandbox.Timedout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := newContainer(i.ID)
			if _, err := h.CreateContainer(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			b := binding(c.dir)
			b.Version.Package, b.InitLimit = kiln.Digest("d-"+c.name), time.Second
			b.Environment["AT_START"] = c.at
			result, err := h.BindContainer(t.Context(), spec.ID, b)
			if err != nil || result.Failure == nil || !strings.Contains(string(result.Failure.Payload), c.want) {
				t.Errorf("result %s %v, want %q", result.Failure.Payload, err, c.want)
			}
			if c.at == "exit" && h.said(spec.ID) != "leaving\n" {
				t.Errorf("output %q", h.said(spec.ID))
			}
			if err := h.DeleteContainer(t.Context(), spec.ID); err != nil {
				t.Error(err)
			}
		})
	}
}

// A spinning execution ends at its deadline, and deleting a container or its instance ends what is under way.
// R16
func TestEndUnderWay(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	id := h.running(t, i.ID, binding(packageDir(t)))
	answer := h.Execute(t.Context(), id, &kiln.Delivery{RequestID: "r1", Payload: []byte(`{"do":"spin"}`), Deadline: time.Now().Add(300 * time.Millisecond)})
	if answer.Failure == nil || answer.Failure.Outcome != kiln.OutcomeTimeout || !answer.Lost {
		t.Errorf("answer %+v", answer.Failure)
	}
	other := h.running(t, i.ID, binding(packageDir(t)))
	var group sync.WaitGroup
	group.Go(func() {
		if a := h.execute(t, other, `{"do":"spin"}`); !a.Lost {
			t.Error("an execution outlived its container")
		}
	})
	for range 4 { // starts under way while the instance goes
		group.Go(func() {
			spec := newContainer(i.ID)
			if _, err := h.CreateContainer(t.Context(), spec); err == nil {
				return // it was quicker
			} else if k := kiln.KindOf(err); k == kiln.KindInternal {
				t.Error(err)
			}
		})
	}
	waitFor(t, "a start", func() bool {
		h.Driver.mu.Lock()
		defer h.Driver.mu.Unlock()
		return len(h.containers) > 3
	})
	if err := h.DeleteInstance(t.Context(), i.ID); err != nil {
		t.Error(err)
	}
	group.Wait()
	h.Driver.mu.Lock()
	defer h.Driver.mu.Unlock()
	if len(h.containers) != 0 || len(h.instances) != 0 {
		t.Errorf("%d containers and %d instances are left", len(h.containers), len(h.instances))
	}
}

// A container's amounts change while it runs, in the same process, but not below what it uses.
// R86
func TestResize(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	id := h.running(t, i.ID, binding(packageDir(t)))
	h.execute(t, id, `{"do":"memory","n":150}`)
	grown := kiln.Shape{MemoryMiB: 2048, CPUs: 2}.Share(1024, 512)
	if err := h.Resize(t.Context(), id, grown); err != nil {
		t.Fatal(err)
	}
	got := do[map[string]string](t, h, id, "read", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
	if !h.tree.V2() && got["/sys/fs/cgroup/memory/memory.limit_in_bytes"] != "1073741824" {
		t.Errorf("limit %v", got)
	}
	if n := do[int](t, h, id, "count"); n != 3 {
		t.Errorf("count %d, want 3", n)
	}
	if err := h.container(id).group.Set(sandbox.Limits{MemoryBytes: 1 << 20}); kiln.KindOf(err) != kiln.KindConflict {
		t.Errorf("shrinking below use: %v", err)
	}
}

// Variables that act when a process starts are there from the beginning for a fresh container.
func TestUnknownIDs(t *testing.T) {
	h := newHarness(t, t.TempDir())
	ctx := context.WithoutCancel(t.Context())
	if err := errors.Join(h.DeleteContainer(ctx, "c-none"), h.DeleteInstance(ctx, "i-none")); err != nil {
		t.Error(err)
	}
	if _, err := h.CreateContainer(ctx, newContainer("i-none")); kiln.KindOf(err) != kiln.KindNotFound {
		t.Error(err)
	}
	if _, err := h.BindContainer(ctx, "c-none", kiln.Binding{}); kiln.KindOf(err) != kiln.KindNotFound {
		t.Error(err)
	}
	if a := h.Execute(ctx, "c-none", &kiln.Delivery{}); !a.Lost || !a.Undelivered {
		t.Errorf("%+v", a)
	}
	if err := h.AttachPackage(ctx, "i-none", "d", "/"); kiln.KindOf(err) != kiln.KindNotFound {
		t.Error(err)
	}
}
