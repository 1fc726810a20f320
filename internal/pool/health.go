package pool

import (
	"context"
	"time"

	"kiln"
)

// DefaultHealthInterval is the time between two looks at every instance. A look costs some ten microseconds a container.
const DefaultHealthInterval = 2 * time.Second

// watch looks at every instance again and again until ctx ends. What is found to be of no use leaves its pool as what has
// ended by itself does, and is replaced.
func (p *Pool) watch(ctx context.Context) {
	ticker := time.NewTicker(p.config.HealthInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, id := range p.settled() {
			for _, sick := range p.config.Node.Check(ctx, id) {
				p.config.Logger.Warn("unhealthy", "instance", sick.Instance, "container", sick.Container, "fault", sick.Status)
				p.lost(sick, "unhealthy: "+sick.Status)
			}
		}
	}
}

// settled lists the instances that are neither booting nor gone.
func (p *Pool) settled() []kiln.InstanceID {
	var ids []kiln.InstanceID
	for _, f := range p.all() {
		for _, v := range f.instances() {
			if v.State != kiln.InstanceBooting {
				ids = append(ids, v.ID)
			}
		}
	}
	return ids
}
