package manager

import (
	"slices"
	"time"

	"kiln"
	"kiln/internal/retention"
)

// How long what is idle is kept, and when what was let go is loaded again, package retention plans, function by function:
// it is asked when a container has been idle for a moment, and then whenever its plan says. There are four layers, each let
// go at its own time: the container with the code in it, which is paused meanwhile; the code in the instance's cache, with
// a prepared runtime beside it; the instance.
const (
	// keptAtLeast is how long a container stays after an execution whatever its function's requests were like: what is
	// called once is often called again at once.
	keptAtLeast = 10 * time.Second
	// loadLead is how long before the minute in which a request is due its container is loaded.
	loadLead = 5 * time.Second
	// loadAgain is when a function is looked at again that could not be loaded.
	loadAgain = time.Minute
	// spareMax is how long an instance keeps a prepared runtime after its account's last execution, at most.
	spareMax = 10 * time.Minute
)

// Planner decides how long a function's idle container is kept. It neither blocks nor keeps what it is given.
type Planner interface {
	// Plan gives what is to be done if no request comes first, weighing what the function's requests were like against the
	// cost of keeping.
	Plan(h *retention.History, now time.Time, c retention.Cost) retention.Plan
}

// retains takes over the settings of retention.
func (m *Manager) retains(s Settings) {
	container := s.RetentionContainer
	m.learns = s.Learned || m.config.Policy != nil
	if m.learns {
		m.policy = m.config.Policy
		if m.policy == nil {
			m.policy = retention.NewLearned(retention.Settings{Table: m.config.Table, Worth: s.Worth, Behind: s.Behind, Lead: loadLead})
		}
		m.retention, m.firstLook = retention.NewFixed(spareMax, s.RetentionInstance), keptAtLeast
		if container > 0 {
			m.retention, m.firstLook = retention.NewFixed(min(container, spareMax), s.RetentionInstance), min(keptAtLeast, container)
		}
		m.cached = s.RetentionInstance / 2
		return
	}
	fixed := retention.NewFixed(container, s.RetentionInstance)
	m.policy, m.retention = fixed, fixed
	m.firstLook = container
	m.cached = max(s.RetentionInstance-container, 0)
}

// watch has retention look at a function one of whose containers became idle just now.
func (m *Manager) watch(now time.Time, f *function) {
	f.load, f.review = time.Time{}, time.Time{}
	if at := now.Add(m.firstLook); f.timer.index == 0 || f.timer.at.After(at) {
		m.timers.set(&f.timer, at)
	}
}

// reviewed lets go what of a function is not kept any longer, and loads it when it is due.
func (m *Manager) reviewed(now time.Time, f *function) {
	if m.learns && f.last != nil {
		m.judge(now, f)
	}
	var next time.Time
	loaded := false
	for _, g := range slices.Clone(f.groups) {
		next = earlier(next, m.retain(now, g))
		loaded = loaded || g.code.Bound > 0 || len(g.starts) > 0
	}
	if !loaded {
		next = earlier(next, m.ahead(now, f))
	}
	if !next.IsZero() {
		m.timers.set(&f.timer, next)
	}
}

// retain lets go those of a group's idle containers that are not worth their memory any more, the longest idle first, and
// gives when to look again; zero when nothing of it is idle.
func (m *Manager) retain(now time.Time, g *group) (next time.Time) {
	for c := longest(g); c != nil; {
		if at := c.since.Add(m.firstLook); now.Before(at) {
			return earlier(next, at) // those used since are not idle for longer
		}
		if c.until.IsZero() || !c.review.IsZero() && !now.Before(c.review) {
			m.consult(now, c)
		}
		if !now.Before(c.until) {
			m.deleteContainer(now, c, kiln.EventContainerTerminate, g.function.volume(now)+"; "+c.why.String())
			c = longest(g)
			continue
		}
		next = earlier(next, earlier(c.until, c.review))
		if c.review.IsZero() || c.until.After(c.review) {
			break // and so are those used since
		}
		c = newer(c)
	}
	return next
}

// longest gives the group's container that is idle for the longest; nil for none.
func longest(g *group) *container {
	if last := g.code.Last(); last != nil {
		return last.Holder.(*container)
	}
	return nil
}

// newer gives the one used next after it.
func newer(c *container) *container {
	if p := c.place.Newer(); p != nil {
		return p.Holder.(*container)
	}
	return nil
}

// consult asks the policy about an idle container. The longer idle one of several is needed by fewer requests.
func (m *Manager) consult(now time.Time, c *container) {
	g := c.group
	rank := 1
	for o := newer(c); o != nil; o = newer(o) {
		rank++
	}
	rank += g.busy.count
	var plan retention.Plan
	if m.learns && rank == 1 && g == g.function.last {
		plan = m.judge(now, g.function)
	} else {
		plan = m.policy.Plan(&g.function.history, now, m.cost(g, rank, c.since))
	}
	c.until, c.review, c.why = plan.Until, plan.Review, plan.Reason
	if most := m.settings.RetentionContainer; most > 0 && c.until.After(c.since.Add(most)) {
		c.until, c.review = c.since.Add(most), time.Time{}
	}
}

// judge asks the policy about the one container that a function needs first, once a minute, and has the history remember
// what it said, so that it learns how good that was. It is so for a function that is called all the time, too.
func (m *Manager) judge(now time.Time, f *function) retention.Plan {
	if minute := now.Unix() / 60; f.judged != minute {
		f.plan, f.judged = m.policy.Plan(&f.history, now, m.cost(f.last, 1, now)), minute
		f.history.Follow(f.plan)
	}
	return f.plan
}

// cost is what is weighed for a group's container of this rank. A cold start is thought to be as bad as one is on average
// elsewhere, or worse where the function's own initialisation takes long: that a container starts within milliseconds here
// does not make functions worth less.
func (m *Manager) cost(g *group, rank int, since time.Time) retention.Cost {
	start := max(retention.TypicalStart, m.costs.bind.value+m.costs.prepare(g.need.Runtime).value+g.init.value)
	return retention.Cost{
		MemoryMiB: g.key.memoryMiB, Start: max(time.Duration(float64(start)*g.share(rank)), time.Millisecond), Since: since, Further: rank > 1,
	}
}

// ahead plans when to load a function of which nothing is loaded, and does so when it is due. It gives when to look again;
// zero for only after its next request.
func (m *Manager) ahead(now time.Time, f *function) time.Time {
	if !m.learns || f.last == nil || !f.left.IsZero() || m.refusing || m.halted {
		return time.Time{}
	}
	if !f.load.IsZero() && !now.Before(f.load) {
		f.load, f.review = time.Time{}, time.Time{}
		m.loadNow(now, f)
		return now.Add(loadAgain)
	}
	if f.review.IsZero() || !now.Before(f.review) {
		plan := m.judge(now, f)
		f.load, f.review = plan.Load, plan.Review
		if !f.load.IsZero() && !now.Before(f.load) { // due within the lead
			f.load = now
			return now
		}
	}
	return earlier(f.load, f.review)
}

// loadNow starts a container of what was asked for last, before it is asked for again, where there is room for it.
func (m *Manager) loadNow(now time.Time, f *function) {
	g := m.groups[f.last.key]
	if g == nil {
		shape, ok := m.index.Fit(f.last.key.memoryMiB)
		if !ok {
			return
		}
		last := f.last
		g = m.newGroup(last.key, &Request{Version: last.version, MemoryMiB: last.key.memoryMiB, Driver: last.need.Driver,
			Runtime: last.need.Runtime, Fresh: last.fresh}, shape)
		f.last = g
	}
	choice, ok := m.index.Place(g.need)
	if !ok || g.count > 0 || now.Before(g.notBefore) || // who waits for it already starts it
		choice.Instance == nil && (len(m.instances) >= m.settings.InstancesMax || m.full(g, choice.Configuration)) {
		m.settle(g)
		return
	}
	m.dormant.remove(g)
	m.begin(now, &start{group: g, purpose: forLoad, expected: m.expected(now, g, choice)}, choice)
}
