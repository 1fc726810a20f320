//go:build linux

package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"kiln"
	"kiln/internal/sandbox"
)

// instance is a cgroup with a shape and a code cache.
type instance struct {
	spec  kiln.InstanceSpec
	dir   string // on the stage
	group *sandbox.Group

	mu         sync.Mutex
	gone       bool                                   // guarded by mu; nothing more is let in
	code       map[kiln.Digest]func() (string, error) // guarded by mu; attaches once, gives the folder
	containers map[kiln.ContainerID]*container        // guarded by mu

	ending sync.Once
	end    error // valid after ending
}

// machineID is the file that says which instance a container is in.
func (i *instance) machineID() string { return filepath.Join(i.dir, "machine-id") }

// CreateInstance makes the instance's cgroup and its place on the stage.
func (d *Driver) CreateInstance(ctx context.Context, spec kiln.InstanceSpec) error {
	const op = "container: create instance"
	group, err := d.tree.Group(string(spec.ID))
	if err != nil {
		return err
	}
	i := &instance{spec: spec, dir: filepath.Join(d.stage, "instances", string(spec.ID)), group: group,
		code: map[kiln.Digest]func() (string, error){}, containers: map[kiln.ContainerID]*container{}}
	d.mu.Lock()
	taken := d.instances[spec.ID] != nil
	if !taken && !d.closed {
		d.instances[spec.ID] = i
	}
	closed := d.closed
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
	const op = "container: create instance"
	if err := os.MkdirAll(filepath.Join(i.dir, "code"), 0o755); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot make the instance's folder", err)
	}
	if err := os.WriteFile(i.machineID(), []byte(i.spec.BootID+"\n"), 0o444); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot write the instance's boot id", err)
	}
	shape := i.spec.Configuration.Shape
	return i.group.Create(sandbox.Limits{MemoryBytes: int64(shape.MemoryMiB+i.spec.AllowanceMiB) << 20, MilliCPUs: int(shape.CPUs * 1000)})
}

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
		return kiln.Errorf(kiln.KindNotFound, "container: attach package", "there is no instance %s", id)
	}
	_, err := i.attach(digest, dir)
	return err
}

// attach gives the folder of a package in the instance's code cache, mounting it on first use.
func (i *instance) attach(digest kiln.Digest, dir string) (string, error) {
	const op = "container: attach package"
	if !filepath.IsLocal(string(digest)) || filepath.Base(string(digest)) != string(digest) {
		return "", kiln.Errorf(kiln.KindInvalid, op, "%q is no digest", digest)
	}
	i.mu.Lock()
	once := i.code[digest]
	if once == nil {
		target := filepath.Join(i.dir, "code", string(digest))
		once = sync.OnceValues(func() (string, error) {
			if err := os.Mkdir(target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return "", kiln.Wrap(kiln.KindInternal, op, "cannot make a folder in the code cache", err)
			}
			return target, sandbox.BindReadOnly(dir, target)
		})
		i.code[digest] = once
	}
	gone := i.gone
	i.mu.Unlock()
	if gone {
		return "", kiln.Errorf(kiln.KindNotFound, op, "instance %s is gone", i.spec.ID)
	}
	folder, err := once()
	if err != nil { // another attempt may do better
		i.mu.Lock()
		delete(i.code, digest)
		i.mu.Unlock()
	}
	return folder, err
}

// DeleteInstance ends the instance's containers and takes its cgroup, its mounts and its folder away.
func (d *Driver) DeleteInstance(ctx context.Context, id kiln.InstanceID) error {
	i := d.instance(id)
	if i == nil {
		return nil
	}
	i.ending.Do(func() { i.end = d.endInstance(ctx, i) })
	d.mu.Lock()
	delete(d.instances, id)
	d.mu.Unlock()
	return i.end
}

func (d *Driver) endInstance(ctx context.Context, i *instance) error {
	i.mu.Lock()
	i.gone = true
	var containers []*container
	for _, c := range i.containers {
		containers = append(containers, c)
	}
	i.mu.Unlock()
	i.group.Thaw() // what is frozen does not end
	errs := make([]error, len(containers))
	var ending sync.WaitGroup
	for n, c := range containers {
		ending.Go(func() { errs[n] = d.endContainer(ctx, c) })
	}
	ending.Wait()
	failed := errors.Join(errs...)
	failed = errors.Join(failed, i.group.Kill(ctx), i.group.Remove(), sandbox.UnmountBelow(i.dir))
	if err := os.RemoveAll(i.dir); err != nil {
		failed = errors.Join(failed, kiln.Wrap(kiln.KindInternal, "container: delete instance", "cannot remove the instance's folder", err))
	}
	return failed
}
