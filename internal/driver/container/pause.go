//go:build linux

package container

import (
	"context"

	"kiln"
)

// Pause freezes a container's cgroup.
func (d *Driver) Pause(_ context.Context, id kiln.ContainerID) error {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Errorf(kiln.KindNotFound, "container: pause", "there is no container %s", id)
	}
	if c.pauses.Load()%2 == 0 {
		c.pauses.Add(1) // before it is frozen: whoever looks at it finds no fault
	}
	return c.group.Freeze()
}

// Resume thaws a container's cgroup. It costs one write to the kernel, on the caller's path.
func (d *Driver) Resume(_ context.Context, id kiln.ContainerID) error {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Errorf(kiln.KindNotFound, "container: resume", "there is no container %s", id)
	}
	if err := c.group.Thaw(); err != nil {
		return err
	}
	if c.pauses.Load()%2 == 1 {
		c.pauses.Add(1)
	}
	return nil
}
