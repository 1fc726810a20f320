package manager

import (
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
	// CodeCache is in no order: whoever shows it sorts it, after the lock it was copied under.
	CodeCache []kiln.Digest
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
	// Executions of Slots are under way in it; Slots is 0 until it has a version.
	Executions, Slots int
}

// Mark is how far a listing has come; the zero value is its beginning. Between two pages anything may happen.
type Mark struct {
	last  *instance // the last one looked at
	begun bool
}

// pageRows is how many rows a page has, about: how long a listing keeps the manager from the next step.
const pageRows = 512

// InstancePage appends the next instances that are not gone, oldest first, and moves the mark. False after the last. What
// is there from the first page to the last is listed once.
func (m *Manager) InstancePage(mark *Mark, list []InstanceView) ([]InstanceView, bool) {
	in := m.from(mark)
	for seen := 0; in != nil && seen < pageRows; in, seen = in.younger, seen+1 {
		mark.last = in
		if in.place.State != kiln.InstanceGone {
			list = append(list, in.view())
		}
	}
	return list, in != nil
}

// ContainerPage is InstancePage for the containers that are not gone, by instance.
func (m *Manager) ContainerPage(mark *Mark, list []ContainerView) ([]ContainerView, bool) {
	in := m.from(mark)
	for seen := 0; in != nil && seen < pageRows; in, seen = in.younger, seen+1+len(in.containers) {
		mark.last = in
		for _, c := range in.containers {
			if c.state != kiln.ContainerGone {
				list = append(list, c.view())
			}
		}
	}
	return list, in != nil
}

// from gives the instance a listing goes on with. The one it ended with may have been removed, and those after it too: what
// is removed still points to what was younger.
func (m *Manager) from(mark *Mark) *instance {
	if !mark.begun {
		mark.begun = true
		return m.oldest
	}
	if mark.last == nil {
		return nil
	}
	in := mark.last.younger
	for in != nil && m.instances[in.place.ID] != in {
		in = in.younger
	}
	return in
}

func (in *instance) view() InstanceView {
	v := InstanceView{
		ID: in.place.ID, State: in.place.State, Account: in.place.Account, Configuration: in.place.Configuration,
		FreeMiB: in.place.FreeMiB, BootID: in.bootID, BootedAt: in.bootedAt, CodeCache: make([]kiln.Digest, 0, len(in.packages)),
	}
	for digest := range in.packages {
		v.CodeCache = append(v.CodeCache, digest)
	}
	return v
}

func (c *container) view() ContainerView {
	v := ContainerView{
		ID: c.place.ID, Instance: c.in.place.ID, State: c.state, Account: c.in.place.Account, PID: c.pid, Amounts: c.amounts,
		Executions: len(c.running),
	}
	if c.group != nil {
		v.Version, v.Slots = c.group.version, c.group.slots
	}
	return v
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

// Met says whether every warming target is met, or nothing more can be booted under the limit of instances.
func (m *Manager) Met() bool {
	full := len(m.instances) >= m.settings.InstancesMax
	for _, d := range m.capacity.Demands() {
		if c := d.Configuration; m.index.Booting(c, "") > 0 || m.index.Warm(c, "") < d.Target() && !full {
			return false
		}
	}
	return true
}

// Left counts what is not deleted yet, and of it those whose deletion failed and will be tried again later.
func (m *Manager) Left() (instances, stuck int) { return len(m.instances), m.stuck }

// Waiting counts the requests that wait.
func (m *Manager) Waiting() int { return m.lined }

// Settings gives the settings as they are now.
func (m *Manager) Settings() Settings { return m.settings }

// Halted reports whether the manager takes no requests until Resumed.
func (m *Manager) Halted() bool { return m.halted }
