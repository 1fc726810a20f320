package manager

import (
	"time"

	"kiln"
)

// What could not be deleted is tried again after a pause, doubled each time from the first to the last.
const (
	deleteAgainFirst = time.Minute
	deleteAgainLast  = 30 * time.Minute
)

// notDeleted takes the word that something may be left of a container or an instance: processes that go on, memory that is
// in use. Its room stays taken, and no new work comes to an instance that cannot be cleared.
func (m *Manager) notDeleted(now time.Time, e Event) {
	if e.Container != "" {
		c := m.containers[e.Container]
		if c == nil || c.state != kiln.ContainerGone {
			return
		}
		m.tell(now, kiln.EventContainerFail, "could not be deleted, its memory stays taken: "+cause(e.Err), c.in, c, "")
		if c.in.place.State == kiln.InstanceGone {
			return // the instance's own deletion has it
		}
		m.timers.set(&c.timer, now.Add(deleteAgain(c.left)))
		c.left++
		m.drain(now, c.in, "a container in it could not be deleted")
		return
	}
	in := m.instances[e.Instance]
	if in == nil || in.place.State != kiln.InstanceGone {
		return
	}
	m.tell(now, kiln.EventInstanceFail, "could not be deleted, its memory stays taken: "+cause(e.Err), in, nil, "")
	m.timers.set(&in.timer, now.Add(deleteAgain(in.left)))
	if in.left == 0 { // nobody is to wait for its room
		m.deleting--
		m.stuck++
		m.dropped = true
	}
	in.left++
}

// deleteAgain is the pause after a deletion that failed, and had failed so often before.
func deleteAgain(before int) time.Duration {
	return min(deleteAgainFirst<<min(before, 20), deleteAgainLast)
}
