package manager

import (
	"time"

	"kiln"
)

// A paused container is an idle one that is stopped, so that nothing of it runs between executions. It stays in line with
// the idle ones, behind those used since, and serves as they do: who gets it takes the pause back first, on its own path.
// The pause is carried out apart from the steps, so a request may come before it has begun; the container's pauses are
// numbered, so that the one taken back does not begin afterwards.

// pausable says whether a container is idle and no pause of it is under way.
func (m *Manager) pausable(c *container) bool {
	return m.settings.PauseAfter > 0 && c.state == kiln.ContainerIdle && c.resume == 0
}

// pause has an idle container paused. Until the word comes that it is, it is idle.
func (m *Manager) pause(c *container) {
	c.pauses++
	c.resume = c.pauses
	m.do(Action{Kind: Pause, Container: c.place.ID, Instance: c.in.place.ID, Pauses: c.pauses})
}

// paused takes the word that a container is paused. One that could not be runs on as it was, until it was used again: part
// of it may be stopped, so that this pause too is taken back.
func (m *Manager) paused(_ time.Time, e Event) {
	c := m.containers[e.Container]
	if c == nil || c.state != kiln.ContainerIdle || c.resume == 0 || c.resume != e.Pauses || e.Err != nil {
		return // used or deleted meanwhile
	}
	m.moveContainer(c, kiln.ContainerPaused)
}

// unpause tells a request which pause of its container it has to take back.
func (m *Manager) unpause(c *container, r *Request) {
	r.Resume, c.resume = c.resume, 0
	if c.state == kiln.ContainerPaused {
		m.moveContainer(c, kiln.ContainerIdle)
	}
}

// earlier gives the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
