package manager

import (
	"slices"
	"time"

	"kiln"
)

// makeRoom lets something go for a group that found neither room nor place at the limit of instances: idle containers of
// its own account, else an instance whose account asks for nothing now, else a warm one of another configuration. An
// instance let go is destroyed, never handed on. One at a time for each group that is stuck.
func (m *Manager) makeRoom(now time.Time, g *group) {
	if m.deleting > 0 && m.deleting >= m.blocked {
		return
	}
	if m.reclaim(now, g) {
		return
	}
	for in := range m.resting.all() {
		if in.place.State == kiln.InstanceAssigned && in.promised == 0 {
			m.deleteInstance(now, in, kiln.EventInstanceTerminate, "idle, and its room is needed")
			return
		}
	}
	for in := m.oldest; in != nil; in = in.younger {
		if in.place.State == kiln.InstanceWarm && in.place.Reserved == "" {
			m.deleteInstance(now, in, kiln.EventInstanceTerminate, "warm, and its room is needed for another configuration")
			return
		}
	}
}

// reclaim lets idle containers of the account go where that gives the group room. True when it did, or did before.
func (m *Manager) reclaim(now time.Time, g *group) bool {
	seen := 0
	for in := m.oldest; in != nil && seen < reclaimed; in = in.younger {
		c := in.place.Configuration
		if in.place.State != kiln.InstanceAssigned || in.place.Account != g.need.Account ||
			c.Driver != g.need.Driver || c.Runtime != g.need.Runtime {
			continue
		}
		seen++
		if free := m.reclaimable(in); in.place.FreeMiB+free < g.need.MemoryMiB {
			continue
		}
		m.clear(now, in, g.need.MemoryMiB)
		return true
	}
	return false
}

// reclaimable is the memory that idle containers hold, and those that are being deleted.
func (m *Manager) reclaimable(in *instance) int {
	free := 0
	for _, c := range in.containers {
		if c.resting() && !c.promised || c.state == kiln.ContainerGone {
			free += c.amounts.MemoryMiB
		}
	}
	return free
}

// clear deletes idle containers, the longest so first, until memoryMiB will be free.
func (m *Manager) clear(now time.Time, in *instance, memoryMiB int) {
	coming := in.place.FreeMiB
	var idle []*container
	for _, c := range in.containers {
		switch {
		case c.state == kiln.ContainerGone:
			coming += c.amounts.MemoryMiB
		case c.resting() && !c.promised:
			idle = append(idle, c)
		}
	}
	slices.SortStableFunc(idle, func(a, b *container) int { return a.since.Compare(b.since) })
	for _, c := range idle {
		if coming >= memoryMiB {
			return
		}
		coming += c.amounts.MemoryMiB
		m.deleteContainer(now, c, kiln.EventContainerTerminate, "idle, and its room is needed")
	}
}
