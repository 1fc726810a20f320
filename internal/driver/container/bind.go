//go:build linux

package container

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

// scriptLimit bounds the wait for the stub to read its script.
const scriptLimit = 5 * time.Second

// BindContainer mounts the code, sets the limits and lets the function initialise. Until that is over only the
// instance's processor limit holds.
func (d *Driver) BindContainer(ctx context.Context, id kiln.ContainerID, binding kiln.Binding) (kiln.InitResult, error) {
	const op = "container: bind"
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
	environment[addressVariable] = sandbox.RuntimeAPIAddress
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
		disk, err := d.makeDisk(ctx, a.DiskMiB)
		if err != nil {
			return err
		}
		defer disk.Close()
		if err := sandbox.Put(disk, c.process, "/tmp"); err != nil {
			return err
		}
	}
	return c.group.Set(sandbox.Limits{MemoryBytes: int64(a.MemoryMiB) << 20, Processes: a.Processes})
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
		return kiln.Errorf(kiln.KindInvalid, "container: mount code", "the binding names no package")
	}
	folder, err := c.instance.code.Attach(digest, binding.CodeDir)
	if err != nil {
		return err
	}
	mount, err := sandbox.CloneReadOnly(folder)
	if err != nil {
		return err
	}
	defer mount.Close()
	if err := sandbox.Put(mount, c.process, stage.CodeDir); err != nil {
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
	begin := time.Now()
	drop := slices.Sorted(maps.Keys(c.spec.Runtime.Environment))
	_ = c.stdin.SetWriteDeadline(begin.Add(scriptLimit))
	_, err := io.WriteString(c.stdin, stage.Script(environment, append(drop, "PATH", "HOME")))
	if err = errors.Join(err, c.stdin.Close()); err != nil {
		return kiln.InitResult{Duration: time.Since(begin), Failure: stage.InitFailure("Runtime.ExitError", "Runtime exited before its initialisation")}
	}
	return c.session.Started(ctx, binding.InitLimit)
}
