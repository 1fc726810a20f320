package node

import (
	"context"
	"sync"

	"kiln"
)

// pauses orders the pauses of one container. They are carried out apart from the requests that end them, and may come late:
// a pause that was taken back already is not begun.
type pauses struct {
	mu      sync.Mutex
	resumed uint64 // the last one taken back
}

// PauseContainer stops an idle container: the manager's nth pause of it. It does nothing when that was taken back already.
// Kinds: KindNotFound, KindInternal, KindInvalid where the driver cannot.
func (n *Node) PauseContainer(ctx context.Context, id kiln.ContainerID, nth uint64) error {
	d, ok := n.config.Driver.(Pauser)
	if !ok {
		return kiln.Errorf(kiln.KindInvalid, "node: pause container", "The driver %s cannot pause containers.", n.Capabilities().Name)
	}
	p := n.pausesOf(id)
	if p == nil {
		return kiln.Errorf(kiln.KindNotFound, "node: pause container", "No container %s.", id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if nth <= p.resumed {
		return nil
	}
	return d.Pause(ctx, id)
}

// ResumeContainer takes the nth pause of a container back, and those before it, whether they have begun or not; who has
// done so already costs nothing. It is on the path of the request the container is for, and takes microseconds. Kinds: KindNotFound, KindInternal: it is of no use.
func (n *Node) ResumeContainer(ctx context.Context, id kiln.ContainerID, nth uint64) error {
	d, ok := n.config.Driver.(Pauser)
	if !ok {
		return nil // nothing was ever stopped
	}
	p := n.pausesOf(id)
	if p == nil {
		return kiln.Errorf(kiln.KindNotFound, "node: resume container", "No container %s.", id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if nth <= p.resumed {
		return nil
	}
	p.resumed = nth
	return d.Resume(ctx, id)
}

// pausesOf gives a container's pauses, nil when there is no such container.
func (n *Node) pausesOf(id kiln.ContainerID) *pauses {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pauses[id]
	if _, there := n.places[id]; p == nil && there {
		p = &pauses{}
		n.pauses[id] = p
	}
	return p
}
