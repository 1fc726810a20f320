package manager

import (
	"fmt"
	"slices"
	"time"

	"kiln"
	"kiln/internal/placement"
)

// failuresMax is how many starts may fail in a row in an instance before it is drained.
const failuresMax = 3

// instance is one instance, from the decision to boot it until nothing of it is left.
type instance struct {
	place      placement.Instance
	count      *Count      // where it is counted; nil when gone
	dedication *dedication // the sub-pool it counts to
	older      *instance
	younger    *instance
	containers []*container
	spare      *container // prepared, or being prepared, for nobody yet
	claims     []*start   // starts that wait for the boot
	active     int        // executions and starts
	bound      int        // containers that hold a version and are not gone
	promised   int        // of them, those of a promise: the instance is not ended to save room
	packages   map[kiln.Digest]bool
	failures   int
	left       int  // how often its deletion failed
	up         bool // booted; its first container may still be being prepared
	hastened   bool // booted for a request
	began      time.Time
	bootID     string
	bootedAt   time.Time
	emptied    time.Time // when the last of its containers that held a version went
	rested     time.Time // when its last execution or start ended
	timer      timer     // retention
	rest       link[*instance]
}

func (in *instance) link() *link[*instance] { return &in.rest }

// newInstance decides to boot an instance; account is empty for the warming pool, reserved for the common one.
func (m *Manager) newInstance(now time.Time, c kiln.Configuration, account kiln.AccountID, cause string, request kiln.RequestID, reserved kiln.AccountID) *instance {
	m.sequence++
	in := &instance{began: now, hastened: account != "", packages: make(map[kiln.Digest]bool)}
	in.place = placement.Instance{
		ID: m.config.NewInstance(), Configuration: c, Account: account,
		Reserved: reserved, FreeMiB: c.Shape.MemoryMiB, Sequence: m.sequence, Holder: in,
	}
	in.timer.fire = func(now time.Time) { m.rested(now, in) }
	in.older = m.newest
	if m.newest != nil {
		m.newest.younger = in
	} else {
		m.oldest = in
	}
	m.newest = in
	m.instances[in.place.ID] = in
	m.belong(in)
	m.settleIn(in, kiln.InstanceBooting)
	m.index.Update(&in.place)
	m.tell(now, kiln.EventInstanceCreate, cause, in, nil, request)
	m.do(Action{Kind: Boot, Instance: in.place.ID, Configuration: c, AllowanceMiB: m.settings.AllowanceMiB, Urgent: account != ""})
	return in
}

// moveInstance takes an instance to its next state. A move the table forbids is our own mistake.
func (m *Manager) moveInstance(in *instance, to kiln.InstanceState) {
	if !in.place.State.CanMove(to) {
		panic(fmt.Sprintf("manager: instance %s cannot go from %s to %s", in.place.ID, in.place.State, to))
	}
	m.settleIn(in, to)
	m.index.Update(&in.place)
}

// booted takes the end of a boot.
func (m *Manager) booted(now time.Time, e Event) {
	in := m.instances[e.Instance]
	if in == nil || in.up {
		return
	}
	gone := in.place.State == kiln.InstanceGone
	if e.Err != nil {
		if !gone {
			m.buryInstance(now, in, kiln.EventInstanceFail, cause(e.Err))
			m.bootFailed(now, in, e.Err)
		}
		m.do(Action{Kind: DeleteInstance, Instance: in.place.ID}) // if the driver could not clear what it had made
		return
	}
	in.up, in.bootID, in.bootedAt = true, e.BootID, now
	m.costs.boot.add(now.Sub(in.began))
	if gone { // deleted while it booted
		m.do(Action{Kind: DeleteInstance, Instance: in.place.ID})
		return
	}
	if in.place.Account != "" {
		m.assign(now, in)
		return
	}
	in.spare = m.newContainer(now, in, false)
}

// bootFailed lets the starts that waited for an instance fail, and the policy know.
func (m *Manager) bootFailed(now time.Time, in *instance, err error) {
	if in.place.Account == "" {
		m.capacity.Demand(in.place.Configuration).Booted(now, false, 0)
	}
	claims := in.claims
	in.claims = nil
	for _, s := range claims {
		m.startFailed(now, s, err)
	}
	m.refill(now)
}

// warm makes an unclaimed instance with a prepared container available.
func (m *Manager) warm(now time.Time, in *instance) {
	m.moveInstance(in, kiln.InstanceWarm)
	m.tell(now, kiln.EventInstanceWarm, "booted and prepared", in, nil, "")
	m.capacity.Demand(in.place.Configuration).Booted(now, true, now.Sub(in.began))
	m.reconsider(now)
	m.refill(now) // after failures one is booted at a time
}

// assign gives a booted instance to the account that claimed it, for good, and goes on with the starts that waited.
func (m *Manager) assign(now time.Time, in *instance) {
	if in.place.State == kiln.InstanceBooting {
		m.moveInstance(in, kiln.InstanceWarm)
		m.tell(now, kiln.EventInstanceWarm, "booted for a request", in, nil, "")
	}
	m.moveInstance(in, kiln.InstanceAssigned)
	var request kiln.RequestID
	purpose := forRequest
	if len(in.claims) > 0 {
		request, purpose = in.claims[0].request, in.claims[0].purpose
	}
	m.tell(now, kiln.EventInstanceAssign, causesAssign[purpose], in, nil, request)
	claims := in.claims
	in.claims = nil
	for _, s := range claims {
		m.proceed(now, s)
	}
	m.rest(now, in)
}

// busier and rest keep the list of instances that execute nothing.
func (m *Manager) busier(in *instance) {
	in.active++
	m.resting.remove(in)
}

func (m *Manager) calmer(now time.Time, in *instance) {
	in.active--
	if in.active < 0 {
		panic("manager: instance less than idle: " + string(in.place.ID))
	}
	m.rest(now, in)
}

func (m *Manager) rest(now time.Time, in *instance) {
	if in.active > 0 {
		return
	}
	in.rested = now
	switch in.place.State {
	case kiln.InstanceDraining:
		m.deleteInstance(now, in, kiln.EventInstanceTerminate, "drained")
	case kiln.InstanceAssigned:
		m.resting.push(in)
		if in.timer.index == 0 {
			m.timers.set(&in.timer, now.Add(m.retention.Spare()))
		}
	}
}

// rested lets go of the spare container, then of the instance, of an account that asked for nothing for long enough; an
// instance that could not be deleted is tried again.
func (m *Manager) rested(now time.Time, in *instance) {
	if in.place.State == kiln.InstanceGone { // its deletion failed
		m.do(Action{Kind: DeleteInstance, Instance: in.place.ID})
		return
	}
	if in.place.State != kiln.InstanceAssigned || in.active > 0 {
		return // rest sets the timer again
	}
	if spare := in.rested.Add(m.retention.Spare()); now.Before(spare) {
		m.timers.set(&in.timer, spare)
		return
	}
	if in.spare != nil && in.spare.state == kiln.ContainerPrepared {
		m.deleteContainer(now, in.spare, kiln.EventContainerTerminate, "account idle for longer than retention.container")
	}
	if release := m.releaseAt(in); now.Before(release) {
		m.timers.set(&in.timer, release)
		return
	}
	if in.bound == 0 {
		m.deleteInstance(now, in, kiln.EventInstanceTerminate, "idle for longer than retention.instance")
	}
}

// releaseAt is when an instance that executes nothing is let go: so long after its last execution, and so long after its
// last container, whose code it holds.
func (m *Manager) releaseAt(in *instance) time.Time {
	at := in.rested.Add(m.retention.Instance())
	if cached := in.emptied.Add(m.cached); !in.emptied.IsZero() && cached.After(at) {
		return cached
	}
	return at
}

// drain takes no new work to an assigned instance and ends it when its executions are over; one that was never assigned
// ends at once.
func (m *Manager) drain(now time.Time, in *instance, cause string) {
	switch in.place.State {
	case kiln.InstanceBooting, kiln.InstanceWarm:
		m.deleteInstance(now, in, kiln.EventInstanceTerminate, cause)
	case kiln.InstanceAssigned:
		m.moveInstance(in, kiln.InstanceDraining)
		m.resting.remove(in)
		m.tell(now, kiln.EventInstanceDrain, cause, in, nil, "")
		for _, c := range slices.Clone(in.containers) {
			c.place.Take()
			if c.resting() || c.state == kiln.ContainerPrepared {
				m.deleteContainer(now, c, kiln.EventContainerTerminate, "instance drains")
			}
		}
		m.rest(now, in)
	}
}

// deleteInstance ends an instance with all it holds, at once. What executed there fails; what waited for a start there
// waits for another.
func (m *Manager) deleteInstance(now time.Time, in *instance, kind kiln.EventKind, cause string) {
	if in.place.State == kiln.InstanceGone {
		return
	}
	m.buryInstance(now, in, kind, cause)
	claims := in.claims
	in.claims = nil
	for _, s := range claims {
		m.dropStart(now, s)
	}
	if in.up { // otherwise when the boot has ended
		m.do(Action{Kind: DeleteInstance, Instance: in.place.ID})
	}
	m.refill(now)
}

// buryInstance makes an instance and its containers gone to everyone but the shell that still deletes it.
func (m *Manager) buryInstance(now time.Time, in *instance, kind kiln.EventKind, cause string) {
	m.moveInstance(in, kiln.InstanceGone)
	in.leaveDedication()
	m.resting.remove(in)
	m.timers.stop(&in.timer)
	m.deleting++
	for _, c := range slices.Clone(in.containers) {
		m.timers.stop(&c.timer)
		if c.state != kiln.ContainerGone {
			m.buryContainer(now, c, kiln.EventContainerTerminate, "instance ended")
		}
	}
	m.tell(now, kind, cause, in, nil, "")
}

// removeInstance forgets an instance of which nothing is left; others may take its room.
func (m *Manager) removeInstance(now time.Time, in *instance) {
	for _, c := range in.containers {
		delete(m.containers, c.place.ID)
	}
	delete(m.instances, in.place.ID)
	if in.older != nil {
		in.older.younger = in.younger
	} else {
		m.oldest = in.younger
	}
	if in.younger != nil {
		in.younger.older = in.older
	} else {
		m.newest = in.older
	}
	if in.left > 0 {
		m.stuck--
	} else {
		m.deleting--
	}
	m.reconsider(now)
	m.fulfilAll(now)
	m.refill(now)
}

// cause shows an error in an event.
func cause(err error) string { return err.Error() }
