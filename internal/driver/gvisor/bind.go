//go:build linux

package gvisor

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

// scriptLimit bounds the wait for the stub to read its script.
const scriptLimit = 10 * time.Second

// BindContainer mounts the code, sets the limits and lets the function initialise. Until that is over only the
// instance's processor limit holds.
func (d *Driver) BindContainer(ctx context.Context, id kiln.ContainerID, binding kiln.Binding) (kiln.InitResult, error) {
	const op = "gvisor: bind"
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.InitResult{}, kiln.Errorf(kiln.KindNotFound, op, "there is no container %s", id)
	}
	if err := d.equip(ctx, c, binding); err != nil {
		return kiln.InitResult{}, err
	}
	slots := 1
	if v := binding.Version; v != nil && v.Slots() > 1 {
		slots = v.Slots()
		c.session.SetSlots(slots)
	}
	environment := maps.Clone(binding.Environment)
	if environment == nil {
		environment = map[string]string{}
	}
	environment[addressVariable] = runtimeAPIAddress
	var result kiln.InitResult
	if c.spec.Runtime.Kind == kiln.RuntimeManaged {
		handler := ""
		if binding.Version != nil {
			handler = binding.Version.Handler
		}
		result = c.session.Bind(ctx, environment, handler, binding.InitLimit)
	} else {
		result = c.become(ctx, environment, binding)
	}
	c.output.Drain()
	if result.Failure != nil {
		return result, nil
	}
	if err := c.group.Set(sandbox.Limits{MilliCPUs: binding.Amounts.MilliCPUs}); err != nil {
		return result, err
	}
	c.turns.Begin(slots)
	return result, nil
}

// equip puts the code, the disk and the limits in.
func (d *Driver) equip(ctx context.Context, c *container, binding kiln.Binding) error {
	if err := c.putCode(binding); err != nil {
		return err
	}
	a := binding.Amounts
	if a.DiskMiB > 0 && a.DiskMiB != defaultDiskMiB {
		if err := d.putDisk(ctx, c, a.DiskMiB); err != nil {
			return err
		}
	}
	return d.limit(c, kiln.Amounts{MemoryMiB: a.MemoryMiB, Processes: a.Processes}, a)
}

// limit sets limits of the cgroup and shows the function all of its own.
func (d *Driver) limit(c *container, set, shown kiln.Amounts) error {
	l := sandbox.Limits{MilliCPUs: set.MilliCPUs}
	if set.MemoryMiB > 0 {
		l.MemoryBytes = int64(set.MemoryMiB+sandboxMiB) << 20
	}
	if set.Processes > 0 {
		l.Processes = set.Processes + sandboxThreads
	}
	if err := c.group.Set(l); err != nil {
		return err
	}
	return writeLimits(c.home.limits(), d.tree.V2(), shown)
}

// putCode mounts the package from the instance's code cache, once.
func (c *container) putCode(binding kiln.Binding) error {
	if c.code || binding.CodeDir == "" {
		return nil
	}
	var digest kiln.Digest
	if binding.Version != nil {
		digest = binding.Version.Package
	}
	if digest == "" {
		return kiln.Errorf(kiln.KindInvalid, "gvisor: mount code", "the binding names no package")
	}
	folder, err := c.instance.code.Attach(digest, binding.CodeDir)
	if err != nil {
		return err
	}
	if err := sandbox.BindReadOnly(folder, filepath.Join(c.home.variable(), "task")); err != nil {
		return err
	}
	c.code = true
	return nil
}

// become makes the stub of a provided runtime become the package's bootstrap.
func (c *container) become(ctx context.Context, environment map[string]string, binding kiln.Binding) kiln.InitResult {
	if failure := stage.CheckEntrypoint(binding.CodeDir); failure != nil {
		return kiln.InitResult{Failure: failure}
	}
	if _, ok := environment["GOMAXPROCS"]; !ok && binding.Amounts.MilliCPUs > 0 {
		// What Go would set itself if the processor limit were there before the start.
		environment["GOMAXPROCS"] = strconv.Itoa((binding.Amounts.MilliCPUs + 999) / 1000)
	}
	begin := time.Now()
	drop := slices.Sorted(maps.Keys(c.spec.Runtime.Environment))
	_ = c.stdin.SetWriteDeadline(begin.Add(scriptLimit))
	_, err := io.WriteString(c.stdin, stage.Script(environment, append(drop, "PATH", "HOME")))
	if err = errors.Join(err, c.stdin.Close()); err != nil {
		return kiln.InitResult{Duration: time.Since(begin), Failure: stage.InitFailure("Runtime.ExitError", "Runtime exited before its initialisation")}
	}
	return c.session.Started(ctx, binding.InitLimit)
}

// Execute hands the event to a container and blocks until its answer. What the container wrote before its answer has
// been handed to Config.Output when it returns.
func (d *Driver) Execute(ctx context.Context, id kiln.ContainerID, delivery *kiln.Delivery) kiln.Answer {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return stage.Gone()
	}
	answer := c.turns.Execute(ctx, delivery)
	if answer.Failure != nil {
		answer.Usage.OutOfMemory = c.group.OutOfMemory()
		answer.Lost = answer.Lost || c.exhausted()
	}
	return answer
}

// Resize changes the limits of a bound container.
func (d *Driver) Resize(_ context.Context, id kiln.ContainerID, a kiln.Amounts) error {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Errorf(kiln.KindNotFound, "gvisor: resize", "there is no container %s", id)
	}
	return d.limit(c, a, a)
}

// Pause freezes a sandbox's cgroup: gVisor's kernel and all that it runs.
func (d *Driver) Pause(_ context.Context, id kiln.ContainerID) error {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Errorf(kiln.KindNotFound, "gvisor: pause", "there is no container %s", id)
	}
	return c.group.Freeze()
}

// Resume thaws a sandbox's cgroup. It costs one write to the kernel, on the caller's path.
func (d *Driver) Resume(_ context.Context, id kiln.ContainerID) error {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Errorf(kiln.KindNotFound, "gvisor: resume", "there is no container %s", id)
	}
	return c.group.Thaw()
}

// writeLimits writes what a function reads of its limits at /sys/fs/cgroup, in the kernel's form of the version the machine
// has. The sandbox's own cgroup has more, for gVisor's kernel itself, and is not shown.
func writeLimits(dir string, v2 bool, a kiln.Amounts) error {
	memory, quota := "max", "max"
	if a.MemoryMiB > 0 {
		memory = strconv.Itoa(a.MemoryMiB << 20)
	}
	period := strconv.FormatInt(sandbox.CPUPeriod.Microseconds(), 10)
	if a.MilliCPUs > 0 {
		quota = strconv.FormatInt(int64(a.MilliCPUs)*sandbox.CPUPeriod.Microseconds()/1000, 10)
	}
	files := map[string]string{"memory.max": memory, "cpu.max": quota + " " + period}
	if !v2 {
		if a.MemoryMiB == 0 {
			memory, quota = "9223372036854771712", "-1" // as the kernel says that there is none
		}
		files = map[string]string{"memory/memory.limit_in_bytes": memory, "cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return kiln.Wrap(kiln.KindInternal, "gvisor: show limits", "cannot make a folder on the stage", err)
		}
		if err := os.WriteFile(path, []byte(files[name]+"\n"), 0o444); err != nil {
			return kiln.Wrap(kiln.KindInternal, "gvisor: show limits", "cannot write the limits the function reads", err)
		}
	}
	return nil
}
