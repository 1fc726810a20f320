//go:build linux

package container

import (
	"context"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

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

// exhausted reports whether a function used up what its container has of processes or of disk, so that the next execution
// is better off in another one. Asked after failures only.
func (c *container) exhausted() bool {
	return c.group.ProcessesRefused() > 0 || sandbox.Full(c.process, "/tmp")
}

// Resize changes the limits of a bound container.
func (d *Driver) Resize(_ context.Context, id kiln.ContainerID, a kiln.Amounts) error {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Errorf(kiln.KindNotFound, "container: resize", "there is no container %s", id)
	}
	return c.group.Set(sandbox.Limits{MemoryBytes: int64(a.MemoryMiB) << 20, MilliCPUs: a.MilliCPUs, Processes: a.Processes})
}
