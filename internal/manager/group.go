package manager

import (
	"slices"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/placement"
	"kiln/internal/retention"
)

// Whether a request waits for a busy container or a container is started for it.
const (
	// takesPrior is what an execution is thought to take before the first of its version has ended.
	takesPrior = 5 * time.Millisecond
	// unknownStarts bounds the starts under way for a version of which no execution has ended yet: so many, or as many
	// as execute, so that they double while requests go on waiting.
	unknownStarts = 4
	// againFirst and againMax bound the pause until a waiting line is looked at again; it doubles from one to the other.
	againFirst = 4 * time.Millisecond
	againMax   = 250 * time.Millisecond
	// looked is how many of a version's busy containers are looked at to tell when one will be free.
	looked = 64
	// reconsidered is how many waiting lines are looked at when room may have come free; the others have their timers.
	reconsidered = 64
	// reclaimed is how many of an account's instances are looked at for idle containers to let go, at the limit.
	reclaimed = 256
)

// group is one version at one amount: its containers, those who wait for one, and what its executions take.
type group struct {
	key     code
	version *kiln.Version
	need    placement.Need
	fresh   bool
	demand  *capacity.Demand // of the configuration its requests ask for
	rate    capacity.Meter   // of its requests
	at      int              // in Manager.codes
	code    placement.Code   // the idle containers, and how many are bound
	open    placement.Code   // the busy ones with a place free, where a container has more than one
	slots   int              // executions at once in one container

	function *function
	peaks    retention.Peaks

	promise *promise // provisioned concurrency; nil for none

	busy        list[*container] // executing, the longest so first
	executing   int              // executions in them
	starts      []*start         // under way, oldest first
	first, last *Request         // waiting, the first come first
	count       int              // waiting

	takes      mean // of an execution
	init       mean // of the function's own initialisation
	failures   int  // of starts, in a row
	notBefore  time.Time
	forgotten  bool
	stuck      bool  // found no room; counted in Manager.blocked
	again      timer // to decide again, or to let the first of the line go
	pause      time.Duration
	decideAt   time.Time // when to decide again; zero when every request has its start
	lastPath   kiln.Path // of the last start
	lastChoice kiln.Choice
	links      link[*group] // in waiting or in dormant
}

func (g *group) link() *link[*group] { return &g.links }

// requested takes a new request: an idle container at once, or a place in the line.
func (m *Manager) requested(now time.Time, r *Request) {
	key := keyOf(r)
	g := m.groups[key]
	if m.refusing || m.halted {
		m.refuse(r, kiln.Errorf(kiln.KindUnavailable, "manager: acquire", "%s", m.refusal))
		return
	}
	if g != nil {
		g.function.returned(now)
		m.came(now, g)
		if c := g.open.First(); c != nil { // before an idle one, which may so be let go
			r.Path, r.Choice = kiln.PathContainer, kiln.Choice{Reason: placement.ReasonOpen}
			m.serve(now, c.Holder.(*container), r)
			return
		}
		if c := g.next(); c != nil {
			r.Path, r.Choice = kiln.PathContainer, kiln.Choice{Reason: placement.ReasonIdle}
			m.serve(now, c.Holder.(*container), r)
			return
		}
	} else {
		shape, ok := m.index.Fit(r.MemoryMiB)
		if !ok {
			m.refuse(r, kiln.Errorf(kiln.KindInvalid, "manager: acquire",
				"%d MiB of memory are more than any configured shape of an instance has.", r.MemoryMiB))
			return
		}
		g = m.newGroup(key, r, shape)
		m.came(now, g)
	}
	if m.lined >= m.settings.WaitingMax {
		m.refuse(r, throttled("as many requests wait as may (wait.requests)"))
		m.settle(g)
		return
	}
	r.blocked = g.busy.count == 0
	m.enqueue(now, g, r)
	m.decide(now, g)
}

// keyOf is what a request asks for.
func keyOf(r *Request) code {
	v := r.Version
	return code{version{v.Account, v.Function, v.Number, v.Revision}, r.MemoryMiB}
}

// next gives the idle container for the next request: one that was promised, or the most recently used; nil for none.
func (g *group) next() *placement.Container {
	if p := g.promise; p != nil {
		if c := p.idle.First(); c != nil {
			return c
		}
	}
	return g.code.First()
}

// cancelled takes back a request whose caller no longer waits. Its start goes on: the next one profits.
func (m *Manager) cancelled(now time.Time, r *Request) {
	if g := r.group; g != nil {
		g.leave(m, r)
		m.plan(now, g)
	}
}

// came counts a request.
func (m *Manager) came(now time.Time, g *group) {
	m.arrived(now, g)
	g.rate.Add(now)
	g.demand.Requested(now)
}

func (m *Manager) newGroup(key code, r *Request, shape kiln.Shape) *group {
	g := &group{key: key, version: r.Version, fresh: r.Fresh, slots: r.Version.Slots(), rate: capacity.NewCodeMeter(), at: len(m.codes)}
	g.need = placement.Need{
		Account: key.account, Driver: r.Driver, Runtime: r.Runtime, Package: r.Version.Package, MemoryMiB: r.MemoryMiB,
	}
	g.demand = m.capacity.Demand(kiln.Configuration{Driver: r.Driver, Runtime: r.Runtime, Shape: shape})
	g.need.Home = m.index.Home(g.need)
	m.codes = append(m.codes, g)
	g.again.fire = func(now time.Time) { m.decide(now, g) }
	g.function = m.functionOf(functionKey{key.account, key.function})
	g.function.groups = append(g.function.groups, g)
	m.groups[key] = g
	m.versions[key.version] = append(m.versions[key.version], g)
	return g
}

// settle puts a group that neither runs nor waits among the dormant, and forgets the longest so, or a forgotten one.
func (m *Manager) settle(g *group) {
	if g.code.Bound > 0 || g.count > 0 || g.promise != nil || len(g.starts) > 0 || m.groups[g.key] != g {
		return
	}
	m.dormant.push(g)
	for g.forgotten || m.dormant.count > groupsMax {
		old := m.dormant.first
		if g.forgotten {
			old = g
		}
		m.dormant.remove(old)
		m.index.Leave(old.need)
		old.function.drop(old)
		delete(m.groups, old.key)
		m.uncode(old)
		rest := slices.DeleteFunc(m.versions[old.key.version], func(o *group) bool { return o == old })
		m.versions[old.key.version] = rest
		if len(rest) == 0 {
			delete(m.versions, old.key.version)
		}
		if old == g {
			return
		}
	}
}

// uncode takes a group out of the list of all.
func (m *Manager) uncode(g *group) {
	last := m.codes[len(m.codes)-1]
	m.codes[g.at], last.at = last, g.at
	m.codes[len(m.codes)-1] = nil
	m.codes = m.codes[:len(m.codes)-1]
}

func (m *Manager) enqueue(now time.Time, g *group, r *Request) {
	r.group, r.since, r.deadline = g, now, now.Add(m.settings.WaitMax)
	r.previous, r.next = g.last, nil
	if g.last != nil {
		g.last.next = r
	} else {
		g.first = r
		g.pause = againFirst
		m.dormant.remove(g)
		m.waiting.push(g)
	}
	g.last = r
	g.count++
	m.lined++
}

// leave takes a request out of the line.
func (g *group) leave(m *Manager, r *Request) {
	if r.previous != nil {
		r.previous.next = r.next
	} else {
		g.first = r.next
	}
	if r.next != nil {
		r.next.previous = r.previous
	} else {
		g.last = r.previous
	}
	r.group, r.previous, r.next = nil, nil, nil
	g.count--
	m.lined--
	if g.count == 0 {
		m.waiting.remove(g)
		m.timers.stop(&g.again)
		m.unstick(g)
		m.settle(g)
	}
}

// refuse ends a request without a container.
func (m *Manager) refuse(r *Request, err error) {
	if r.group != nil {
		r.Choice.Waited = 0
		r.group.leave(m, r)
	}
	r.Err = err
	m.do(Action{Kind: Refuse, Request: r})
}

// throttled is the refusal for want of capacity; AWS has one reason for it.
func throttled(why string) error {
	return &kiln.Error{
		Kind: kiln.KindThrottled, Op: "manager: acquire", Reason: "ConcurrentInvocationLimitExceeded",
		Message: "Rate Exceeded.", Cause: kiln.Errorf(kiln.KindThrottled, "manager: acquire", "%s", why),
	}
}

// decide starts the containers that are worth it for those who wait, and plans when to look again.
func (m *Manager) decide(now time.Time, g *group) {
	for r := g.overdue(now); r != nil; r = g.overdue(now) {
		m.refuse(r, throttled("no capacity within wait.max"))
	}
	g.decideAt = time.Time{}
	stuck := false
	for g.count > len(g.starts)*g.slots && !m.stopped {
		if now.Before(g.notBefore) {
			g.decideAt = g.notBefore
			break
		}
		choice, ok := m.index.Place(g.need)
		if !ok { // the shapes were changed meanwhile
			m.refuse(g.first, kiln.Errorf(kiln.KindInvalid, "manager: acquire", "No shape of an instance has %d MiB of memory.", g.need.MemoryMiB))
			continue
		}
		expected := m.expected(now, g, choice)
		if !m.worth(now, g, expected) {
			g.decideAt = now.Add(g.pause)
			break
		}
		if choice.Instance == nil && m.full(g, choice.Configuration) {
			m.makeOwnRoom(now, g, choice.Configuration)
			stuck = true
			g.decideAt = now.Add(g.pause)
			break
		}
		if choice.Instance == nil && len(m.instances) >= m.settings.InstancesMax {
			m.makeRoom(now, g)
			stuck = true
			g.decideAt = now.Add(g.pause)
			break
		}
		m.begin(now, &start{group: g, request: g.first.ID, expected: expected}, choice)
	}
	if !stuck {
		m.unstick(g)
	} else if !g.stuck {
		g.stuck = true
		m.blocked++
	}
	m.plan(now, g)
}

// overdue gives the first of the line who waited too long for capacity. Those at the head for whom the function already
// initialises have got it: what they wait for is the function's own doing, and has a limit of its own.
func (g *group) overdue(now time.Time) *Request {
	r := g.first
	if r == nil || r.deadline.After(now) {
		return nil
	}
	for _, s := range g.starts {
		if s.container != nil && s.container.state == kiln.ContainerBinding {
			for i := 0; r != nil && i < g.slots; i++ {
				r = r.next
			}
		}
	}
	if r == nil || r.deadline.After(now) {
		return nil
	}
	return r
}

func (m *Manager) unstick(g *group) {
	if g.stuck {
		g.stuck = false
		m.blocked--
	}
}

// plan sets the group's timer: to decide again, or to let the first of the line go.
func (m *Manager) plan(now time.Time, g *group) {
	if g.first == nil {
		return
	}
	at := g.first.deadline
	if !at.After(now) { // it has a container already, which initialises
		at = now.Add(againMax)
	}
	if !g.decideAt.IsZero() && g.decideAt.Before(at) {
		at = g.decideAt
		if g.again.index == 0 { // fired, or new: look less often the longer it takes
			g.pause = min(2*g.pause, againMax)
		}
	}
	m.timers.set(&g.again, at)
}

// reconsider decides again for those who wait, because room may have come free or a start was dropped.
func (m *Manager) reconsider(now time.Time) {
	m.line = m.line[:0]
	for g := range m.waiting.all() {
		if len(m.line) == reconsidered {
			break
		}
		m.line = append(m.line, g)
	}
	for _, g := range m.line {
		m.decide(now, g)
	}
}

// expected is what a start at the place chosen will take.
func (m *Manager) expected(now time.Time, g *group, choice placement.Choice) time.Duration {
	d := m.costs.bind.value + g.init.value
	if choice.Instance == nil {
		return d + m.costs.boot.value + m.costs.prepare(g.need.Runtime).value
	}
	in := choice.Instance.Holder.(*instance)
	if in.spare == nil || g.fresh {
		d += m.costs.prepare(g.need.Runtime).value
	}
	if !in.up {
		d += left(m.costs.boot.value, now.Sub(in.began))
	}
	return d
}

// worth says whether another start is: the last in the line would otherwise wait longer than the start takes, and
// having it shortens that wait by a quarter of the start at least.
func (m *Manager) worth(now time.Time, g *group, expected time.Duration) bool {
	if g.busy.count+len(g.starts) == 0 {
		return true
	}
	if !g.takes.known && len(g.starts) >= max(unknownStarts, g.busy.count) {
		return false
	}
	free := m.free[:0]
	usual := takesPrior
	if g.takes.known {
		usual = g.takes.value
	}
	takes := usual
	for c := range g.busy.all() {
		if c.spent {
			continue
		}
		for _, r := range c.running {
			if len(free) == looked {
				break
			}
			age := now.Sub(r.since)
			rest := usual - age
			if rest <= 0 { // overdue: as long again as it has taken so far
				rest = age
			}
			if !g.takes.known {
				takes = max(takes, age)
			}
			free = append(free, rest)
		}
		if len(free) == looked {
			break
		}
	}
	for _, s := range g.starts {
		for i := 0; i < g.slots && len(free) < 2*looked; i++ {
			free = append(free, left(s.expected, now.Sub(s.began)))
		}
	}
	m.free = free
	line := g.count
	if all := g.executing + len(g.starts)*g.slots; all > len(free) {
		line = (line*len(free) + all - 1) / all
	}
	without := wait(free, line, takes)
	if len(free) > 0 && without <= expected {
		return false
	}
	for range g.slots {
		free = append(free, expected)
	}
	m.free = free
	return len(free) == g.slots || without-wait(m.free, line, takes) > expected/4
}

// wait is when the last of a line will be served by containers that come free at the given times and then take so long
// for each: by the first k of them, the best k.
func wait(free []time.Duration, line int, takes time.Duration) time.Duration {
	slices.Sort(free)
	var best, sum time.Duration
	for k := 1; k <= len(free) && k <= line; k++ {
		sum += free[k-1]
		n := time.Duration(k)
		t := max(free[k-1], sum/n+takes*time.Duration(line-k)/n)
		if k == 1 || t < best {
			best = t
		}
	}
	return best
}

// left is what remains of something that takes so long and has gone on for age; never less than a quarter, so that
// what is late is not thought to be done.
func left(takes, age time.Duration) time.Duration { return max(takes-age, takes/4) }
