//go:build linux

package container

import (
	"context"

	"kiln"
)

// Check looks at an instance and its resting containers from outside, by what the kernel shows of their cgroups and first
// processes: no guest is woken. What has ended is told by Exited as it happens; here are those that are there and run
// nothing, apart from those that were paused. An instance of no use is given alone. Does not block for more than reading a
// few files of the kernel.
func (d *Driver) Check(_ context.Context, id kiln.InstanceID) []kiln.Exit {
	d.mu.Lock()
	in := d.instances[id]
	d.mu.Unlock()
	if in == nil {
		return nil
	}
	if fault := in.group.Fault(); fault != "" {
		return []kiln.Exit{{Instance: id, Status: "its cgroup is " + fault}}
	}
	in.mu.Lock()
	var resting []*container
	for _, c := range in.containers {
		if c.live.Load() && !c.ending.Load() && c.session.Resting() {
			resting = append(resting, c)
		}
	}
	in.mu.Unlock()
	var sick []kiln.Exit
	for _, c := range resting {
		pauses := c.pauses.Load()
		fault := ""
		if f := c.group.Fault(); f != "" {
			fault = "its cgroup is " + f
		} else if c.process.Stopped() {
			fault = "its first process is stopped"
		}
		paused := pauses%2 == 1 || c.pauses.Load() != pauses // by us, or was while this looked
		if fault != "" && !paused {
			sick = append(sick, kiln.Exit{Instance: id, Container: c.spec.ID, Status: fault})
		}
	}
	return sick
}
