package manager

import (
	"fmt"
	"slices"
	"time"

	"kiln"
	"kiln/internal/placement"
	"kiln/internal/retention"
)

// reasonWaited is why a request got a container that was busy when it came.
const reasonWaited = "container that holds the version came free sooner than a start"

// container is one container, from the decision to prepare it until nothing of it is left.
type container struct {
	place    placement.Container
	in       *instance
	state    kiln.ContainerState
	fresh    bool
	group    *group // whose version it holds or will hold; nil while it is a spare
	start    *start // that waits for it
	amounts  kiln.Amounts
	pid      int
	began    time.Time   // of preparing, then of binding
	since    time.Time   // idle since
	running  []execution // its executions, the first begun first: at most the group's slots
	spent    bool        // lost with one of its executions: the others end in it, no further one begins
	pauses   uint64      // how often it was to be paused
	promised bool        // it is one of its group's promise
	until    time.Time   // idle, it is kept so long; zero before retention was asked
	review   time.Time   // retention is to be asked again; zero for no more
	why      retention.Reason
	resume   uint64 // the pause to take back before it can execute; 0 for none
	left     int    // how often its deletion failed
	exited   bool   // it ended by itself; its executions or its start are still to answer
	timer    timer
	busy     link[*container]
}

// execution is one under way in a container.
type execution struct {
	request kiln.RequestID
	since   time.Time
}

func (c *container) link() *link[*container] { return &c.busy }

// newContainer decides to prepare a container in an instance.
func (m *Manager) newContainer(now time.Time, in *instance, urgent bool) *container {
	c := m.makeContainer(now, in, "prepared for what comes", "")
	m.do(Action{Kind: Prepare, Container: c.place.ID, Instance: in.place.ID, Configuration: in.place.Configuration, Urgent: urgent})
	return c
}

func (m *Manager) makeContainer(now time.Time, in *instance, cause string, request kiln.RequestID) *container {
	c := &container{in: in, state: kiln.ContainerPreparing, began: now}
	c.place = placement.Container{ID: m.config.NewContainer(), Instance: &in.place, Holder: c}
	c.timer.fire = func(now time.Time) { m.aged(now, c) }
	in.containers = append(in.containers, c)
	c.count(1)
	m.containers[c.place.ID] = c
	m.tell(now, kiln.EventContainerCreate, cause, in, c, request)
	return c
}

// moveContainer takes a container to its next state. A move the table forbids is our own mistake.
func (m *Manager) moveContainer(c *container, to kiln.ContainerState) {
	if !c.state.CanMove(to) {
		panic(fmt.Sprintf("manager: container %s cannot go from %s to %s", c.place.ID, c.state, to))
	}
	c.count(-1)
	c.state = to
	c.count(1)
}

// prepared takes the end of preparing.
func (m *Manager) prepared(now time.Time, e Event) {
	c := m.containers[e.Container]
	if c == nil {
		return
	}
	if c.state == kiln.ContainerGone { // deleted while it was prepared
		m.do(Action{Kind: DeleteContainer, Container: c.place.ID})
		return
	}
	if e.Err == nil && c.exited {
		e.Err = kiln.Errorf(kiln.KindInternal, "manager: prepare container", "The container ended while it was prepared.")
	}
	if e.Err != nil {
		m.prepareFailed(now, c, e.Err)
		return
	}
	c.pid = e.PID
	m.costs.prepare(c.in.place.Configuration.Runtime).add(now.Sub(c.began))
	if !c.fresh {
		m.moveContainer(c, kiln.ContainerPrepared)
	}
	if s := c.start; s != nil {
		m.bind(now, s, c)
		return
	}
	if c.in.place.State == kiln.InstanceBooting {
		m.warm(now, c.in)
	}
}

// prepareFailed takes a container that never came up. It is deleted as any other: the driver may not have been able to
// clear what it had made.
func (m *Manager) prepareFailed(now time.Time, c *container, err error) {
	in, s := c.in, c.start
	c.start = nil
	m.buryContainer(now, c, kiln.EventContainerFail, cause(err))
	m.do(Action{Kind: DeleteContainer, Container: c.place.ID})
	m.instanceFailed(now, in)
	if s != nil {
		m.startFailed(now, s, err)
	}
}

// instanceFailed counts what failed in an instance: one that was never assigned is replaced, another drained when it
// goes on.
func (m *Manager) instanceFailed(now time.Time, in *instance) {
	in.failures++
	switch {
	case in.place.State == kiln.InstanceBooting || in.place.State == kiln.InstanceWarm:
		m.capacity.Demand(in.place.Configuration).Booted(now, false, 0)
		m.deleteInstance(now, in, kiln.EventInstanceFail, "its prepared container failed")
	case in.failures >= failuresMax:
		m.drain(now, in, "starts in it failed")
	}
}

// ended takes the end of an execution and gives its place in the container to whoever waits for it.
func (m *Manager) ended(now time.Time, e Event) {
	c := m.containers[e.Container]
	if c == nil || c.state != kiln.ContainerBusy {
		return // deleted meanwhile
	}
	i := slices.IndexFunc(c.running, func(r execution) bool { return r.request == e.RequestID })
	if i < 0 {
		return
	}
	g := c.group
	if !e.Unused {
		g.takes.add(now.Sub(c.running[i].since))
	}
	c.spent = c.spent || e.Lost || c.exited
	if len(c.running) > 1 {
		c.running = slices.Delete(c.running, i, i+1)
		g.executing--
		m.freed(now, c)
		return
	}
	if c.spent {
		m.deleteContainer(now, c, kiln.EventContainerFail, "lost with its execution")
		m.decide(now, g)
		return
	}
	c.running = c.running[:0]
	g.executing--
	c.place.Take()
	g.busy.remove(c)
	m.moveContainer(c, kiln.ContainerIdle)
	switch {
	case c.in.place.State == kiln.InstanceDraining:
		m.deleteContainer(now, c, kiln.EventContainerTerminate, "instance drains")
		m.decide(now, g)
	case g.forgotten && g.first == nil:
		m.deleteContainer(now, c, kiln.EventContainerTerminate, "version superseded or deleted")
	case g.first != nil:
		m.serveWaited(now, c)
		m.calmer(now, c.in)
		return
	default:
		m.idle(now, c)
	}
	m.calmer(now, c.in)
	if m.blocked > 0 {
		m.reconsider(now)
	}
}

// freed takes the end of one of a container's executions while others go on: its place is for whoever waits, or stays
// open, unless nothing more is to begin in the container.
func (m *Manager) freed(now time.Time, c *container) {
	g := c.group
	switch {
	case c.spent || c.in.place.State == kiln.InstanceDraining:
		c.place.Take()
		m.decide(now, g) // who waited for a place in it needs another
	case g.first != nil:
		m.serveWaited(now, c)
	default:
		g.offer(c)
	}
}

// serveWaited gives a place that came free to the first of the line.
func (m *Manager) serveWaited(now time.Time, c *container) {
	g := c.group
	r := g.first
	r.Path, r.Choice = kiln.PathContainer, kiln.Choice{Reason: reasonWaited}
	if r.blocked { // it waited for a start before there was a busy container to wait for
		r.Path, r.Choice = g.lastPath, g.lastChoice
	}
	m.serve(now, c, r)
}

// offer has a busy container among those with a place free, or not.
func (g *group) offer(c *container) {
	c.place.Take()
	if len(c.running) < g.slots && !c.spent && !c.exited && c.in.place.State == kiln.InstanceAssigned {
		g.open.Idle(&c.place)
	}
}

// serve gives a place in a container to a request.
func (m *Manager) serve(now time.Time, c *container, r *Request) {
	g := c.group
	if c.state != kiln.ContainerBusy {
		c.place.Take()
		if c.resume > 0 {
			m.unpause(c, r)
		}
		m.moveContainer(c, kiln.ContainerBusy)
		c.until = time.Time{}
		g.busy.push(c)
		g.peaks.Needed(g.function.active, g.busy.count)
		m.busier(c.in)
	} else {
		r.Resume = c.pauses // taken back already, but for one who may be about to
	}
	c.running = append(c.running, execution{r.ID, now})
	g.executing++
	if p := g.promise; p != nil {
		r.Provisioned = c.promised
		p.used(c.promised)
	}
	if g.slots > 1 {
		g.offer(c)
	}
	if r.group != nil {
		r.Choice.Waited = kiln.Millis(now.Sub(r.since))
		g.leave(m, r)
	}
	r.Container, r.Instance = c.place.ID, c.in.place.ID
	r.Configuration, r.Amounts = c.in.place.Configuration, c.amounts
	m.do(Action{Kind: Deliver, Request: r})
}

// idle keeps a container for the next request, for its retention.
func (m *Manager) idle(now time.Time, c *container) {
	c.since = now
	if c.promised {
		c.group.promise.idle.Idle(&c.place)
	} else {
		c.group.code.Idle(&c.place)
		m.watch(now, c.group.function)
	}
	m.age(c)
}

// resting says whether a container is idle, paused or not: nothing is asked of it.
func (c *container) resting() bool {
	return c.state == kiln.ContainerIdle || c.state == kiln.ContainerPaused
}

// age has an idle container looked at when it is to be paused.
func (m *Manager) age(c *container) {
	if !m.pausable(c) {
		return
	}
	if at := c.since.Add(m.settings.PauseAfter); c.timer.index == 0 || c.timer.at.After(at) {
		m.timers.set(&c.timer, at)
	}
}

// aged pauses a container that was idle for a while; one that could not be deleted is tried again.
func (m *Manager) aged(now time.Time, c *container) {
	if c.state == kiln.ContainerGone { // its deletion failed
		m.do(Action{Kind: DeleteContainer, Container: c.place.ID})
		return
	}
	if !m.pausable(c) {
		return // idle sets the timer again
	}
	if now.Before(c.since.Add(m.settings.PauseAfter)) {
		m.age(c)
		return
	}
	m.pause(c)
}

// deleteContainer ends a container. Its execution fails; the start that waited for it is dropped.
func (m *Manager) deleteContainer(now time.Time, c *container, kind kiln.EventKind, cause string) {
	preparing := c.state == kiln.ContainerPreparing
	m.buryContainer(now, c, kind, cause)
	if !preparing { // otherwise when its preparing has ended
		m.do(Action{Kind: DeleteContainer, Container: c.place.ID})
	}
}

// buryContainer makes a container gone to everyone but the shell that still deletes it. Its room stays taken until then.
func (m *Manager) buryContainer(now time.Time, c *container, kind kiln.EventKind, cause string) {
	busy := c.state == kiln.ContainerBusy
	c.place.Take()
	if c.promised {
		m.release(c)
	}
	m.timers.stop(&c.timer)
	m.moveContainer(c, kiln.ContainerGone)
	var request kiln.RequestID
	if busy {
		request = c.running[0].request
		c.group.executing -= len(c.running)
		c.running = nil
	}
	m.tell(now, kind, cause, c.in, c, request)
	if c.in.spare == c {
		c.in.spare = nil
	}
	if s := c.start; s != nil {
		c.start = nil
		m.dropStart(now, s)
	}
	if g := c.group; g != nil {
		g.busy.remove(c)
		g.code.Bound--
		c.in.bound--
		if c.in.bound == 0 {
			c.in.emptied = now
		}
		m.settle(g)
	}
	if busy {
		m.dropped = true
		m.calmer(now, c.in)
	}
	if c.in.bound == 0 && c.in.active == 0 && c.in.place.State == kiln.InstanceAssigned && c.in.timer.index == 0 {
		m.timers.set(&c.in.timer, m.releaseAt(c.in))
	}
}

// deleted takes the word that nothing is left of a container or an instance.
func (m *Manager) deleted(now time.Time, e Event) {
	if e.Container != "" {
		if c := m.containers[e.Container]; c != nil && c.state == kiln.ContainerGone {
			m.removeContainer(now, c)
		}
		return
	}
	if in := m.instances[e.Instance]; in != nil && in.place.State == kiln.InstanceGone {
		m.removeInstance(now, in)
	}
}

// detached takes the word that a package left an instance's code cache. A start on its way there brings it back.
func (m *Manager) detached(e Event) {
	in := m.instances[e.Instance]
	if in == nil {
		return
	}
	delete(in.packages, e.Package)
	coming := slices.ContainsFunc(in.claims, func(s *start) bool { return s.group.need.Package == e.Package }) ||
		slices.ContainsFunc(in.containers, func(c *container) bool {
			return c.state != kiln.ContainerGone && c.group != nil && c.group.need.Package == e.Package
		})
	if !coming {
		m.index.Drop(&in.place, e.Package)
	}
}

// removeContainer forgets a container of which nothing is left and gives its room back.
func (m *Manager) removeContainer(now time.Time, c *container) {
	in := c.in
	delete(m.containers, c.place.ID)
	in.containers = slices.DeleteFunc(in.containers, func(o *container) bool { return o == c })
	c.count(-1)
	in.give(-c.amounts.MemoryMiB)
	m.index.Update(&in.place)
	if m.blocked > 0 {
		m.reconsider(now)
	}
}

// lost takes a container or an instance that ended by itself, or that the operator wants deleted.
func (m *Manager) lost(now time.Time, e Event) {
	asked := e.Kind == Asked
	if e.Container == "" {
		if in := m.instances[e.Instance]; in != nil && in.place.State != kiln.InstanceGone {
			kind := kiln.EventInstanceFail
			if asked {
				kind = kiln.EventInstanceTerminate
			}
			m.deleteInstance(now, in, kind, e.Cause)
		}
		return
	}
	c := m.containers[e.Container]
	if c == nil || c.state == kiln.ContainerGone {
		return
	}
	kind, g := kiln.EventContainerFail, c.group
	if asked {
		kind = kiln.EventContainerTerminate
	} else if !c.resting() && c.state != kiln.ContainerPrepared {
		c.exited = true // its executions, its preparing or its binding say how
		c.place.Take()
		return
	}
	in, spare := c.in, c.in.spare == c
	m.deleteContainer(now, c, kind, e.Cause)
	if spare && (in.place.State == kiln.InstanceWarm || in.place.State == kiln.InstanceBooting) {
		m.instanceFailed(now, in) // a warm instance always holds a prepared container: another takes its place
	}
	if g != nil {
		m.decide(now, g)
	}
}
