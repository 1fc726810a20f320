package manager

import (
	"time"

	"kiln"
)

// Functions go from one fleet to another as they are asked for more or less often.
const (
	// letGoAfter is how long the idle containers of a function are kept that another fleet serves from now on.
	letGoAfter = time.Minute
	// underWay is how long requests may still come that were sent here before.
	underWay = 10 * time.Second
)

// moved takes the word that another fleet serves a function from now on: its idle containers go, its executions end, and
// nothing is loaded for it. What is provisioned stays: its requests still come here.
func (m *Manager) moved(now time.Time, account kiln.AccountID, name string) {
	f := m.functions[functionKey{account, name}]
	if f == nil {
		return
	}
	f.left = now
	f.load, f.review = time.Time{}, time.Time{}
	if f.departing.fire == nil {
		f.departing.fire = func(now time.Time) { m.depart(now, f) }
	}
	m.timers.set(&f.departing, now.Add(letGoAfter))
}

// returned takes a request of a function that had left, unless it was sent here before.
func (f *function) returned(now time.Time) {
	if !f.left.IsZero() && now.Sub(f.left) > underWay {
		f.left = time.Time{}
	}
}

// depart lets go of a function's idle containers unless it was asked for again; those that execute follow.
func (m *Manager) depart(now time.Time, f *function) {
	if f.left.IsZero() {
		return
	}
	more := false
	for _, g := range f.groups {
		for c := g.code.First(); c != nil; c = g.code.First() {
			m.deleteContainer(now, c.Holder.(*container), kiln.EventContainerTerminate, "another fleet serves the function")
		}
		more = more || g.code.Bound > 0 || len(g.starts) > 0
	}
	if more {
		m.timers.set(&f.departing, now.Add(letGoAfter))
	}
}

// await has an instance warm for requests that are about to come: functions whose usage brings them here.
func (m *Manager) await(now time.Time, e Event) {
	shape, ok := m.index.Fit(e.Request.MemoryMiB)
	if !ok {
		return
	}
	c := kiln.Configuration{Driver: e.Request.Driver, Runtime: e.Request.Runtime, Shape: shape}
	if d := m.capacity.Demand(c); d.Configuration == c {
		d.Expect(e.At)
		m.refill(now)
	}
}
