package manager

import (
	"fmt"

	"kiln"
)

// Invariants checks what must hold between any two steps, and gives the first thing that does not. It looks at
// everything: tests and the simulator call it, the live system does not.
func (m *Manager) Invariants() error {
	if err := m.countInvariants(); err != nil {
		return err
	}
	if err := m.reserveInvariants(); err != nil {
		return err
	}
	deleting, stuck := 0, 0
	for in := m.oldest; in != nil; in = in.younger {
		if m.instances[in.place.ID] != in {
			return fmt.Errorf("instance %s is listed and not found", in.place.ID)
		}
		if in.place.State == kiln.InstanceGone && in.left > 0 {
			stuck++
		} else if in.place.State == kiln.InstanceGone {
			deleting++
		}
		if err := m.instanceInvariants(in); err != nil {
			return fmt.Errorf("instance %s (%s): %w", in.place.ID, in.place.State, err)
		}
	}
	if deleting != m.deleting || stuck != m.stuck {
		return fmt.Errorf("%d instances are being deleted and %d cannot be, %d and %d counted", deleting, stuck, m.deleting, m.stuck)
	}
	lined := 0
	for key, g := range m.groups {
		lined += g.count
		if err := m.groupInvariants(g); err != nil {
			return fmt.Errorf("version %v: %w", key, err)
		}
	}
	if lined != m.lined {
		return fmt.Errorf("%d requests wait, %d counted", lined, m.lined)
	}
	return nil
}

func (m *Manager) instanceInvariants(in *instance) error {
	given, active, bound, promised := 0, 0, 0, 0
	for _, c := range in.containers {
		given += c.amounts.MemoryMiB
		if m.containers[c.place.ID] != c {
			return fmt.Errorf("container %s is not found", c.place.ID)
		}
		if c.state == kiln.ContainerGone {
			continue
		}
		if c.promised {
			promised++
		}
		if c.group != nil {
			bound++
			if c.group.key.account != in.place.Account {
				return fmt.Errorf("container %s of account %s in an instance of %q", c.place.ID, c.group.key.account, in.place.Account)
			}
		}
		if n := len(c.running); (c.state == kiln.ContainerBusy) != (n > 0) || n > 0 && n > c.group.slots {
			return fmt.Errorf("container %s is %s with %d executions", c.place.ID, c.state, n)
		}
		if c.resting() && in.place.State != kiln.InstanceAssigned {
			return fmt.Errorf("container %s is idle there and could be given work", c.place.ID)
		}
		if c.state == kiln.ContainerBusy || c.start != nil {
			active++
		}
	}
	for _, s := range in.claims {
		given += s.amounts.MemoryMiB
		active++
	}
	size := in.place.Configuration.Shape.MemoryMiB
	switch {
	case in.place.FreeMiB < 0 || given > size:
		return fmt.Errorf("overcommitted: %d of %d MiB given", given, size)
	case given+in.place.FreeMiB != size:
		return fmt.Errorf("%d MiB given and %d free of %d", given, in.place.FreeMiB, size)
	case in.place.State == kiln.InstanceGone:
		return nil
	case active != in.active:
		return fmt.Errorf("%d executions and starts, %d counted", active, in.active)
	case promised != in.promised:
		return fmt.Errorf("%d containers promised, %d counted", promised, in.promised)
	case bound != in.bound:
		return fmt.Errorf("%d containers bound, %d counted", bound, in.bound)
	case in.place.State == kiln.InstanceWarm && (in.place.Account != "" || bound > 0):
		return fmt.Errorf("in the warming pool, of account %q with %d containers bound", in.place.Account, bound)
	case in.place.State.Pool() == kiln.PoolActive && in.place.Account == "":
		return fmt.Errorf("in the active pool, of no account")
	case in.place.State == kiln.InstanceDraining && active == 0:
		return fmt.Errorf("drained and still there")
	}
	return nil
}

func (m *Manager) groupInvariants(g *group) error {
	bound, idle, busy, executing, open := 0, 0, 0, 0, 0
	for _, c := range m.containers {
		if c.group != g || c.state == kiln.ContainerGone {
			continue
		}
		bound++
		switch {
		case c.state == kiln.ContainerPaused && c.resume == 0:
			return fmt.Errorf("container %s is paused, and nothing takes that back", c.place.ID)
		case c.resting():
			idle++
		case c.state == kiln.ContainerBusy:
			busy++
			executing += len(c.running)
			if len(c.running) < g.slots && !c.spent && !c.exited && c.in.place.State == kiln.InstanceAssigned {
				open++
			}
		}
	}
	count := 0
	for r := g.first; r != nil; r = r.next {
		count++
	}
	switch {
	case bound != g.code.Bound:
		return fmt.Errorf("%d containers, %d counted", bound, g.code.Bound)
	case g.promise == nil && idle != g.code.Len(), g.promise != nil && idle != g.code.Len()+g.promise.idle.Len():
		return fmt.Errorf("%d idle containers, %d listed, promise %+v", idle, g.code.Len(), g.promise)
	case busy != g.busy.count:
		return fmt.Errorf("%d busy containers, %d listed", busy, g.busy.count)
	case executing != g.executing:
		return fmt.Errorf("%d executions, %d counted", executing, g.executing)
	case open != g.open.Len():
		return fmt.Errorf("%d busy containers with a place free, %d listed", open, g.open.Len())
	case count != g.count:
		return fmt.Errorf("%d requests wait, %d counted", count, g.count)
	case count > 0 && idle+open > 0:
		return fmt.Errorf("%d requests wait beside %d containers with a place free", count, idle+open)
	case count > 0 && g.again.index == 0:
		return fmt.Errorf("%d requests wait for nothing", count)
	}
	if err := m.promiseInvariants(g); err != nil {
		return err
	}
	return m.starving(g)
}

// promiseInvariants says that a promise is miscounted, or not kept though nothing is to come that would.
func (m *Manager) promiseInvariants(g *group) error {
	given, ready, idle := 0, 0, 0
	for _, c := range m.containers {
		if c.group != g || !c.promised {
			continue
		}
		given++
		if c.resting() || c.state == kiln.ContainerBusy {
			ready++
		}
		if c.resting() {
			idle++
		}
	}
	for _, s := range g.starts {
		if s.container == nil && s.purpose == forPromise {
			given++
		}
	}
	p := g.promise
	if p == nil {
		p = &promise{}
	}
	switch {
	case given != p.given || ready != p.ready || idle != p.idle.Len():
		return fmt.Errorf("promise has %d, %d ready, %d idle; %d, %d, %d counted", given, ready, idle, p.given, p.ready, p.idle.Len())
	case given > p.count:
		return fmt.Errorf("promise of %d has %d", p.count, given)
	case given < p.count && p.again.index == 0 && !m.refusing && !m.halted:
		return fmt.Errorf("promise of %d has %d and waits for nothing", p.count, given)
	}
	return nil
}

// starving says that a request waits although nothing is on its way for it and there is room.
func (m *Manager) starving(g *group) error {
	if g.count == 0 || g.busy.count > 0 || len(g.starts) > 0 || g.failures > 0 {
		return nil
	}
	choice, ok := m.index.Place(g.need)
	if ok && (choice.Instance != nil || len(m.instances) < m.settings.InstancesMax && !m.full(g, choice.Configuration)) {
		return fmt.Errorf("%d requests wait while there is room: %s", g.count, choice.Reason)
	}
	return nil
}

// countInvariants compares what is counted of the pools with what is there.
func (m *Manager) countInvariants() error {
	for key, counted := range m.counts {
		there := Count{Pool: key.pool, Configuration: key.configuration, Account: key.account}
		for in := m.oldest; in != nil; in = in.younger {
			if in.count == counted {
				there.add(in, 1)
			}
			if (in.count == nil) != (in.place.State == kiln.InstanceGone) {
				return fmt.Errorf("instance %s (%s) is counted where it is not", in.place.ID, in.place.State)
			}
		}
		if there != *counted {
			return fmt.Errorf("pool %s of %s: counted %+v, there are %+v", key.pool, key.configuration, *counted, there)
		}
	}
	return nil
}

// reserveInvariants says that the warming pool is below its target although an instance could be booted for it, and that
// the owners' lists are not what is assigned.
func (m *Manager) reserveInvariants() error {
	for _, d := range m.capacity.Demands() {
		have := m.index.Warm(d.Configuration, "") + m.index.Booting(d.Configuration, "")
		idle := m.refusing || m.halted || m.looking.index == 0 || d.Failing()
		if have < d.Target() && !idle && len(m.instances) < m.settings.InstancesMax {
			return fmt.Errorf("%d of %d warm or booting of %s, and nothing is booted", have, d.Target(), d.Configuration)
		}
	}
	for _, d := range m.dedicated {
		count := 0
		for in := m.oldest; in != nil; in = in.younger {
			p := &in.place
			if p.State != kiln.InstanceGone && p.Configuration == d.Configuration && (p.Account == d.Account || p.Account == "" && p.Reserved == d.Account) {
				count++
			}
			if p.Reserved != "" && p.Account != "" && p.Account != p.Reserved {
				return fmt.Errorf("instance %s is kept for %s and has %s's code", p.ID, p.Reserved, p.Account)
			}
		}
		if count != d.count {
			return fmt.Errorf("%d instances of %s's sub-pool, %d counted", count, d.Account, d.count)
		}
	}
	owned := 0
	for key, o := range m.owners {
		owned += len(o.instances)
		for _, in := range o.instances {
			if in.owner() != key || in.place.State != kiln.InstanceAssigned {
				return fmt.Errorf("instance %s (%s) is listed as one of %s", in.place.ID, in.place.State, key.account)
			}
		}
		if (len(o.instances) > 1) != o.several.in {
			return fmt.Errorf("%d instances of %s, listed for consolidation: %v", len(o.instances), key.account, o.several.in)
		}
	}
	for in := m.oldest; in != nil; in = in.younger {
		if in.place.State == kiln.InstanceAssigned {
			owned--
		}
	}
	if owned != 0 {
		return fmt.Errorf("%d more instances are listed by owner than assigned", owned)
	}
	return nil
}
