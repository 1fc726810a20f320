//go:build linux

package container

import (
	"context"

	"kiln"
	"kiln/internal/sandbox"
)

// Execute hands the event to a container and blocks until its answer. What the container wrote before its answer has
// been handed to Config.Output when it returns.
func (d *Driver) Execute(ctx context.Context, id kiln.ContainerID, delivery *kiln.Delivery) kiln.Answer {
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.Answer{Lost: true, Undelivered: true, Failure: &kiln.Failure{Outcome: kiln.OutcomeFailed, Type: "Sandbox.Failure",
			Payload: []byte(`{"errorType":"Sandbox.Failure","errorMessage":"The container is gone"}`)}}
	}
	var answer kiln.Answer
	if c.shares != nil {
		before := c.shares.Begin(c.read())
		answer = c.session.Execute(ctx, delivery)
		c.output.Drain()
		answer.Before, answer.Usage = before, c.shares.End(c.read())
	} else {
		answer = c.session.Execute(ctx, delivery)
		c.output.Drain()
		answer.Before, c.used = c.used, c.meter.Read()
		answer.Usage = c.used
	}
	if answer.Failure != nil {
		answer.Usage.OutOfMemory = c.group.OutOfMemory()
		answer.Lost = answer.Lost || c.exhausted()
	}
	return answer
}

// read gives what the container has used, from any of several goroutines: the kernel's counters, which do not wait.
func (c *container) read() kiln.Usage {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.meter.Read()
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
