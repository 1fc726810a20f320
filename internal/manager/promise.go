package manager

import (
	"slices"
	"time"

	"kiln"
	"kiln/internal/placement"
)

// A promise that cannot be kept is tried again after a pause: while there is no room, and after starts that failed, doubled
// each time.
const (
	promiseRoom  = 250 * time.Millisecond
	promiseFirst = time.Second
	promiseLast  = time.Minute
)

// promise is provisioned concurrency: so many containers of one version at one amount, initialised before any request asks
// for them, which retention never lets go and which are replaced whatever ends them. Requests of the version use them
// first; beyond them the ladder is as ever.
type promise struct {
	group *group
	count int            // promised
	given int            // containers for it that are not gone, and starts that have none yet
	ready int            // of them, those that can execute or do
	idle  placement.Code // of them, those that wait for a request
	uses  [2]uint64      // requests served by them, and beside them
	fails int            // of starts, in a row
	cause error          // why the last start failed, or was not made; nil once one succeeded
	after time.Time      // no start before
	again timer          // to try again
}

// promised takes a promise of so many containers, or changes it; 0 takes it back. One that no shape is large enough for is
// not taken.
func (m *Manager) promised(now time.Time, r *Request, count int) {
	key := keyOf(r)
	g := m.groups[key]
	if g == nil {
		shape, ok := m.index.Fit(r.MemoryMiB)
		if count == 0 || !ok { // who promised looks whether it was taken
			return
		}
		g = m.newGroup(key, r, shape)
	}
	p := g.promise
	if p == nil {
		if count == 0 {
			return
		}
		p = &promise{group: g}
		p.again.fire = func(now time.Time) { m.fulfil(now, p) }
		g.promise = p
		m.promises = append(m.promises, p)
		if g.count == 0 { // otherwise its link is in the line of those that wait
			m.dormant.remove(g)
		}
	}
	g.forgotten = g.forgotten && count == 0
	p.count, p.fails, p.cause, p.after = count, 0, nil, time.Time{}
	m.fulfil(now, p)
}

// fulfil starts what a promise lacks, and lets go what it has too much.
func (m *Manager) fulfil(now time.Time, p *promise) {
	g := p.group
	for p.given > p.count {
		m.excess(now, p)
	}
	if p.count == 0 {
		g.promise = nil
		m.promises = slices.DeleteFunc(m.promises, func(o *promise) bool { return o == p })
		m.timers.stop(&p.again)
		m.settle(g)
		return
	}
	for p.given < p.count && !m.refusing && !m.halted {
		if now.Before(p.after) {
			m.timers.set(&p.again, p.after)
			return
		}
		choice, ok := m.index.Place(g.need)
		if !ok {
			m.delay(now, p, kiln.Errorf(kiln.KindInvalid, "manager: provision", "No shape of an instance has %d MiB of memory.", g.need.MemoryMiB))
			continue
		}
		if choice.Instance == nil && m.full(g, choice.Configuration) {
			p.cause = throttled("the account has as many instances as its own sub-pool may, which does not spill over")
			m.makeOwnRoom(now, g, choice.Configuration)
			m.timers.set(&p.again, now.Add(promiseRoom))
			return
		}
		if choice.Instance == nil && len(m.instances) >= m.settings.InstancesMax {
			p.cause = throttled("the fleet has as many instances as it may (instances.max)")
			m.makeRoom(now, g)
			m.timers.set(&p.again, now.Add(promiseRoom))
			return
		}
		m.begin(now, &start{group: g, purpose: forPromise, expected: m.expected(now, g, choice)}, choice)
		m.dropped = true
	}
}

// delay lets a promise rest after a start that failed.
func (m *Manager) delay(now time.Time, p *promise, err error) {
	p.cause = err
	p.after = now.Add(min(promiseFirst<<min(p.fails, 20), promiseLast))
	p.fails++
}

// excess makes one of a promise's containers an ordinary one: an idle one if there is, else one that executes or starts.
func (m *Manager) excess(now time.Time, p *promise) {
	if last := p.idle.Last(); last != nil {
		c := last.Holder.(*container)
		c.place.Take()
		m.release(c)
		m.idle(now, c)
		return
	}
	for c := range p.group.busy.all() {
		if c.promised {
			m.release(c)
			return
		}
	}
	for _, s := range p.group.starts {
		switch {
		case s.container != nil && s.container.promised:
			m.release(s.container)
		case s.container == nil && s.purpose == forPromise:
			p.given--
		default:
			continue
		}
		s.purpose = forLoad
		return
	}
	panic("manager: a promise has containers nobody finds: " + string(p.group.version.ID()))
}

// keep counts a container to its group's promise.
func (c *container) keep() {
	c.promised = true
	c.in.promised++
}

// release counts a container to its group's promise no more.
func (m *Manager) release(c *container) {
	p := c.group.promise
	c.promised = false
	c.in.promised--
	p.given--
	if c.resting() || c.state == kiln.ContainerBusy {
		p.ready--
	}
	m.owing = true
}

// used counts a request to those the promise served, or to those beside it.
func (p *promise) used(promised bool) {
	if promised {
		p.uses[0]++
	} else {
		p.uses[1]++
	}
}

// fulfilAll replaces what promises lost in this step.
func (m *Manager) fulfilAll(now time.Time) {
	for _, p := range slices.Clone(m.promises) {
		m.fulfil(now, p)
	}
}

// PromiseView is a promise as it is kept now.
type PromiseView struct {
	Version   *kiln.Version
	MemoryMiB int
	Requested int // containers promised
	Allocated int // started for it, not gone
	Available int // of them, initialised
	Idle      int // of them, executing nothing
	Served    uint64
	Spilled   uint64 // requests of the version that found none of them idle
	Err       error  // why it is not kept, when a start failed or there is no room
}

// Promises lists the promises, in the order they were made.
func (m *Manager) Promises() []PromiseView {
	list := make([]PromiseView, 0, len(m.promises))
	for _, p := range m.promises {
		list = append(list, p.view())
	}
	return list
}

// Promise finds the promise of a version; false when there is none.
func (m *Manager) Promise(id kiln.VersionID) (PromiseView, bool) {
	for _, g := range m.versions[parse(id)] {
		if g.promise != nil {
			return g.promise.view(), true
		}
	}
	return PromiseView{}, false
}

func (p *promise) view() PromiseView {
	v := PromiseView{
		Version: p.group.version, MemoryMiB: p.group.key.memoryMiB, Requested: p.count, Allocated: p.given,
		Available: p.ready, Idle: p.idle.Len(), Served: p.uses[0], Spilled: p.uses[1],
	}
	if p.given < p.count || p.fails > 0 {
		v.Err = p.cause
	}
	return v
}
