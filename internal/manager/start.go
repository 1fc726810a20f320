package manager

import (
	"slices"
	"time"

	"kiln"
	"kiln/internal/placement"
)

// Starts that fail are tried again after a pause, doubled each time.
const (
	// attemptsMax is how many starts of one version may fail in a row before those that wait for it are refused.
	attemptsMax  = 3
	backoffFirst = 50 * time.Millisecond
	backoffMax   = 5 * time.Second
)

// start is one container on its way for a group: placed, its room taken.
type start struct {
	group     *group
	in        *instance
	container *container // once there is one
	amounts   kiln.Amounts
	path      kiln.Path
	choice    kiln.Choice
	purpose   purpose
	request   kiln.RequestID // it was made for; empty when for none
	expected  time.Duration  // by its costs
	began     time.Time
}

// purpose is what a start is made for.
type purpose uint8

const (
	forRequest purpose = iota
	forLoad            // a request is due
	forPromise         // provisioned concurrency
)

// What is told of an instance made, an instance assigned and a container made, for each purpose.
var (
	causesInstance  = [...]string{"a request found no place", "code that is due found no place", "provisioned concurrency found no place"}            // never written
	causesAssign    = [...]string{"taken for the account's request", "taken for the account's code that is due", "taken for provisioned concurrency"} // never written
	causesContainer = [...]string{"a request needs it", "loaded before its next request is due", "provisioned concurrency"}                           // never written
)

// begin starts a container at the place chosen; s says for whom and why.
func (m *Manager) begin(now time.Time, s *start, choice placement.Choice) {
	g := s.group
	s.path, s.choice, s.began = choice.Path, kiln.Choice{Reason: choice.Reason, Passed: choice.Passed}, now
	s.choice.Passed[0] = int32(g.code.Bound)
	if s.purpose == forPromise {
		g.promise.given++
	}
	if choice.Instance == nil {
		s.in = m.newInstance(now, choice.Configuration, g.need.Account, causesInstance[s.purpose], s.request, "")
	} else {
		s.in = choice.Instance.Holder.(*instance)
	}
	in := s.in
	s.amounts = in.place.Configuration.Shape.Share(g.need.MemoryMiB, g.version.DiskMiB)
	in.give(s.amounts.MemoryMiB)
	m.index.Hold(&in.place, g.need.Package)
	taken := in.place.Account == ""
	if taken || choice.Instance == nil {
		m.capacity.Demand(in.place.Configuration).Asked(now)
	}
	in.place.Account = g.need.Account
	m.belong(in)
	m.busier(in)
	g.starts = append(g.starts, s)
	g.lastPath, g.lastChoice = s.path, s.choice
	switch {
	case in.place.State == kiln.InstanceAssigned:
		m.index.Update(&in.place)
		m.proceed(now, s)
	case in.up:
		in.claims = append(in.claims, s)
		m.assign(now, in)
	default:
		m.index.Update(&in.place)
		in.claims = append(in.claims, s)
		if !in.hastened {
			in.hastened = true
			m.do(Action{Kind: Hasten, Instance: in.place.ID})
		}
	}
	if taken {
		m.took(now, in)
	}
}

// proceed goes on with a start whose instance is assigned: with the spare container, or a new one.
func (m *Manager) proceed(now time.Time, s *start) {
	g, in := s.group, s.in
	c := in.spare
	if g.fresh || c == nil {
		c = m.makeContainer(now, in, causesContainer[s.purpose], s.request)
		c.fresh = g.fresh
		m.adopt(s, c)
		a := Action{
			Kind: Prepare, Urgent: true, Container: c.place.ID, Instance: in.place.ID,
			Configuration: in.place.Configuration, RequestID: s.request,
		}
		if c.fresh {
			a.Fresh, a.Version, a.Amounts, a.Provisioned = true, g.version, c.amounts, c.promised
		}
		m.do(a)
		return
	}
	in.spare = nil
	m.adopt(s, c)
	if c.state == kiln.ContainerPrepared {
		m.bind(now, s, c)
		return
	}
	m.do(Action{Kind: Hasten, Container: c.place.ID})
}

// adopt makes c the container of a start: it will hold the group's version.
func (m *Manager) adopt(s *start, c *container) {
	s.container, c.start, c.group, c.amounts = c, s, s.group, s.amounts
	s.group.code.Bound++
	s.in.bound++
	if s.purpose == forPromise {
		c.keep()
	}
}

// bind tells a prepared container its version.
func (m *Manager) bind(now time.Time, s *start, c *container) {
	m.moveContainer(c, kiln.ContainerBinding)
	c.began = now
	m.do(Action{
		Kind: Bind, Container: c.place.ID, Instance: c.in.place.ID, Configuration: c.in.place.Configuration,
		Version: s.group.version, Amounts: c.amounts, RequestID: s.request, Cause: s.choice.Reason,
		Provisioned: c.promised,
	})
}

// bound takes the end of binding. The container goes to the head of the line, whoever the start was made for.
func (m *Manager) bound(now time.Time, e Event) {
	c := m.containers[e.Container]
	if c == nil || c.state != kiln.ContainerBinding {
		return // deleted meanwhile
	}
	s, g, in := c.start, c.group, c.in
	if e.Err == nil && e.Init.Failure == nil && c.exited {
		e.Err = kiln.Errorf(kiln.KindInternal, "manager: bind container", "The container ended while it was bound.")
	}
	if e.Err != nil {
		if !in.packages[g.need.Package] {
			m.index.Drop(&in.place, g.need.Package)
		}
		c.start = nil
		m.deleteContainer(now, c, kiln.EventContainerFail, cause(e.Err))
		m.startFailed(now, s, e.Err)
		return
	}
	c.start = nil
	in.packages[g.need.Package] = true
	m.index.Hold(&in.place, g.need.Package)
	in.failures, g.failures, g.notBefore = 0, 0, time.Time{}
	m.costs.bind.add(now.Sub(c.began) - e.Init.Duration)
	g.init.add(e.Init.Duration)
	g.starts = slices.DeleteFunc(g.starts, func(o *start) bool { return o == s })
	if e.Init.Failure != nil {
		m.initFailed(now, c, s, e.Init)
		return
	}
	m.moveContainer(c, kiln.ContainerIdle)
	if c.promised {
		g.promise.ready++
		g.promise.fails, g.promise.cause = 0, nil
	}
	if g.first != nil {
		m.serveBound(now, c, s, e.Init)
	} else if g.forgotten || in.place.State == kiln.InstanceDraining {
		m.deleteContainer(now, c, kiln.EventContainerTerminate, "no longer wanted")
	} else {
		m.idle(now, c)
	}
	m.calmer(now, in)
	m.keepSpare(now, in)
}

// serveBound gives a container that has just been bound to as many of the line as it has places. The first has waited for
// the initialisation, of which there was one.
func (m *Manager) serveBound(now time.Time, c *container, s *start, init kiln.InitResult) {
	g := s.group
	for i := 0; i < g.slots && g.first != nil; i++ {
		r := g.first
		r.Path, r.Choice, r.Init = s.path, s.choice, init
		init = kiln.InitResult{}
		m.serve(now, c, r)
	}
}

// initFailed deletes a container whose function could not initialise, and answers one request with that.
func (m *Manager) initFailed(now time.Time, c *container, s *start, init kiln.InitResult) {
	g := s.group
	if r := g.first; r != nil {
		r.Path, r.Choice, r.Init = s.path, s.choice, init
		r.Choice.Waited = kiln.Millis(now.Sub(r.since))
		r.Container, r.Instance = c.place.ID, c.in.place.ID
		r.Configuration, r.Amounts = c.in.place.Configuration, c.amounts
		g.leave(m, r)
		m.do(Action{Kind: Deliver, Request: r})
	}
	if c.promised {
		m.delay(now, g.promise, kiln.Errorf(kiln.KindInvalid, "manager: provision", "The function's initialisation failed: %s", init.Failure.Type))
	}
	m.deleteContainer(now, c, kiln.EventContainerFail, "the function's initialisation failed")
	m.calmer(now, c.in)
	m.decide(now, g)
}

// keepSpare has a container prepared in an instance whose account is busy and that has room for one more.
func (m *Manager) keepSpare(now time.Time, in *instance) {
	if in.place.State == kiln.InstanceAssigned && in.spare == nil && in.place.FreeMiB >= kiln.MinMemoryMiB && !m.stopped {
		in.spare = m.newContainer(now, in, false)
	}
}

// startFailed lets a start fail: another is made after a pause, and after attemptsMax in a row those that wait are
// refused with the error.
func (m *Manager) startFailed(now time.Time, s *start, err error) {
	m.dropStart(now, s)
	g := s.group
	if s.purpose == forPromise && g.promise != nil {
		m.delay(now, g.promise, err)
	}
	g.notBefore = now.Add(min(backoffFirst<<min(g.failures, 20), backoffMax))
	g.failures++
	kind := kiln.KindOf(err)
	if g.failures >= attemptsMax || kind == kiln.KindCorrupt || kind == kiln.KindNotFound {
		for g.first != nil {
			m.refuse(g.first, err)
		}
	}
	m.decide(now, g)
}

// dropStart takes a start back: its room, and its count. Whoever waits is decided again at the end of the step.
func (m *Manager) dropStart(now time.Time, s *start) {
	s.group.starts = slices.DeleteFunc(s.group.starts, func(o *start) bool { return o == s })
	if s.container == nil { // otherwise the container gives its room back when it is gone
		if s.purpose == forPromise {
			s.group.promise.given--
			m.owing = true
		}
		s.in.give(-s.amounts.MemoryMiB)
		m.index.Update(&s.in.place)
	}
	m.dropped = true
	m.calmer(now, s.in)
	m.settle(s.group)
}
