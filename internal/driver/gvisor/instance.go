//go:build linux

package gvisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

// instance is a cgroup with a shape and a code cache.
type instance struct {
	spec  kiln.InstanceSpec
	dir   string // on the stage
	group *sandbox.Group
	code  *stage.Cache

	mu         sync.Mutex
	gone       bool                            // guarded by mu; nothing more is let in
	containers map[kiln.ContainerID]*container // guarded by mu

	turn  chan struct{} // one word for the one who dismantles it
	ended bool          // guarded by turn: nothing of it is left
}

// machineID is the file that says which instance a container is in.
func (i *instance) machineID() string { return filepath.Join(i.dir, "machine-id") }

// CreateInstance makes the instance's cgroup and its place on the stage.
func (d *Driver) CreateInstance(ctx context.Context, spec kiln.InstanceSpec) error {
	const op = "gvisor: create instance"
	group, err := d.tree.Group(string(spec.ID))
	if err != nil {
		return err
	}
	dir := d.stage.Instance(spec.ID)
	i := &instance{spec: spec, dir: dir, group: group, code: stage.NewCache(filepath.Join(dir, "code")),
		containers: map[kiln.ContainerID]*container{}, turn: make(chan struct{}, 1)}
	d.mu.Lock()
	taken, closed := d.instances[spec.ID] != nil, d.closed
	if !taken && !closed {
		d.instances[spec.ID] = i
	}
	d.mu.Unlock()
	switch {
	case closed:
		return kiln.Errorf(kiln.KindUnavailable, op, "the driver is closed")
	case taken:
		return kiln.Errorf(kiln.KindConflict, op, "instance %s exists", spec.ID)
	}
	if err := i.make(); err != nil {
		return errors.Join(err, d.DeleteInstance(context.WithoutCancel(ctx), spec.ID))
	}
	return nil
}

func (i *instance) make() error {
	const op = "gvisor: create instance"
	if err := os.MkdirAll(filepath.Join(i.dir, "code"), 0o755); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot make the instance's folder", err)
	}
	if err := os.WriteFile(i.machineID(), []byte(i.spec.BootID+"\n"), 0o444); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot write the instance's boot id", err)
	}
	shape := i.spec.Configuration.Shape
	return i.group.Create(sandbox.Limits{MilliCPUs: int(shape.CPUs * 1000),
		MemoryBytes: int64(shape.MemoryMiB+i.spec.AllowanceMiB+overheadMiB(shape)) << 20})
}

// overheadMiB is what the sandboxes of an instance may take beyond its shape: as many as the shape can hold of the smallest
// functions.
func overheadMiB(shape kiln.Shape) int { return (shape.MemoryMiB/kiln.MinMemoryMiB + 1) * sandboxMiB }

// instance finds a live instance.
func (d *Driver) instance(id kiln.InstanceID) *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.instances[id]
}

// AttachPackage mounts an unpacked package into the instance's code cache.
func (d *Driver) AttachPackage(_ context.Context, id kiln.InstanceID, digest kiln.Digest, dir string) error {
	i := d.instance(id)
	if i == nil {
		return kiln.Errorf(kiln.KindNotFound, "gvisor: attach package", "there is no instance %s", id)
	}
	_, err := i.code.Attach(digest, dir)
	return err
}

// DetachPackage unmounts a package from the instance's code cache.
func (d *Driver) DetachPackage(_ context.Context, id kiln.InstanceID, digest kiln.Digest) error {
	i := d.instance(id)
	if i == nil {
		return nil
	}
	return i.code.Detach(digest)
}

// DeleteInstance ends the instance's containers and takes its cgroup, its mounts and its folder away. After an error it is
// still known, with all that is left of it, and another attempt goes on.
func (d *Driver) DeleteInstance(ctx context.Context, id kiln.InstanceID) error {
	i := d.instance(id)
	if i == nil {
		return nil
	}
	i.mu.Lock()
	i.gone = true
	i.mu.Unlock()
	i.turn <- struct{}{}
	defer func() { <-i.turn }()
	if i.ended {
		return nil
	}
	if err := d.endInstance(context.WithoutCancel(ctx), i); err != nil {
		return err
	}
	i.ended = true
	d.mu.Lock()
	delete(d.instances, id)
	d.mu.Unlock()
	return nil
}

// endInstance dismantles an instance into which nothing more is let. Each step may be repeated.
func (d *Driver) endInstance(ctx context.Context, i *instance) error {
	i.code.Close()
	i.mu.Lock()
	var containers []*container
	for _, c := range i.containers {
		containers = append(containers, c)
	}
	i.mu.Unlock()
	_ = i.group.Thaw() // what is frozen does not end
	errs := make([]error, len(containers))
	var ending sync.WaitGroup
	for n, c := range containers {
		ending.Go(func() { errs[n] = d.endContainer(ctx, c) })
	}
	ending.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := i.group.Kill(ctx); err != nil {
		return err
	}
	if err := errors.Join(i.group.Remove(), sandbox.UnmountBelow(i.dir)); err != nil {
		return err
	}
	if err := os.RemoveAll(i.dir); err != nil {
		return kiln.Wrap(kiln.KindInternal, "gvisor: delete instance", "cannot remove the instance's folder", err)
	}
	return nil
}
