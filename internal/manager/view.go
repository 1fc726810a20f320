package manager

import (
	"slices"
	"time"

	"kiln"
)

// InstanceView is an instance as it is now.
type InstanceView struct {
	ID            kiln.InstanceID
	State         kiln.InstanceState
	Account       kiln.AccountID
	Configuration kiln.Configuration
	FreeMiB       int
	BootID        string
	BootedAt      time.Time
	CodeCache     []kiln.Digest // sorted
}

// ContainerView is a container as it is now.
type ContainerView struct {
	ID       kiln.ContainerID
	Instance kiln.InstanceID
	State    kiln.ContainerState
	Account  kiln.AccountID
	Version  *kiln.Version // nil until it has one
	PID      int
	Amounts  kiln.Amounts
}

// Instances calls yield with each instance that is not gone, oldest first.
func (m *Manager) Instances(yield func(InstanceView) bool) {
	for in := m.oldest; in != nil; in = in.younger {
		if in.place.State == kiln.InstanceGone {
			continue
		}
		v := InstanceView{
			ID: in.place.ID, State: in.place.State, Account: in.place.Account, Configuration: in.place.Configuration,
			FreeMiB: in.place.FreeMiB, BootID: in.bootID, BootedAt: in.bootedAt, CodeCache: []kiln.Digest{},
		}
		for digest := range in.packages {
			v.CodeCache = append(v.CodeCache, digest)
		}
		slices.Sort(v.CodeCache)
		if !yield(v) {
			return
		}
	}
}

// Containers calls yield with each container that is not gone, by instance, oldest first.
func (m *Manager) Containers(yield func(ContainerView) bool) {
	for in := m.oldest; in != nil; in = in.younger {
		for _, c := range in.containers {
			if c.state == kiln.ContainerGone {
				continue
			}
			v := ContainerView{
				ID: c.place.ID, Instance: in.place.ID, State: c.state, Account: in.place.Account, PID: c.pid, Amounts: c.amounts,
			}
			if c.group != nil {
				v.Version = c.group.version
			}
			if !yield(v) {
				return
			}
		}
	}
}

// HasInstance says whether there is an instance that is not gone.
func (m *Manager) HasInstance(id kiln.InstanceID) bool {
	in := m.instances[id]
	return in != nil && in.place.State != kiln.InstanceGone
}

// HasContainer says whether there is a container that is not gone.
func (m *Manager) HasContainer(id kiln.ContainerID) bool {
	c := m.containers[id]
	return c != nil && c.state != kiln.ContainerGone
}

// Target is how many instances of a configuration are to be warm.
func (m *Manager) Target(c kiln.Configuration) int { return m.capacity.Target(c) }

// Configurations lists the configurations that ever had a warming target.
func (m *Manager) Configurations() []kiln.Configuration { return m.capacity.Configurations() }

// Met says whether every warming target is met, or nothing more can be booted under the limit of instances.
func (m *Manager) Met() bool {
	full := len(m.instances) >= m.settings.InstancesMax
	for _, c := range m.capacity.Configurations() {
		if m.index.Booting(c) > 0 || m.index.Warm(c) < m.capacity.Target(c) && !full {
			return false
		}
	}
	return true
}

// Empty says whether nothing is left, not even what is being deleted.
func (m *Manager) Empty() bool { return len(m.instances) == 0 }

// Waiting counts the requests that wait.
func (m *Manager) Waiting() int { return m.lined }
