package runtimeapi

import (
	"errors"
	"os"
	"time"
)

// readOnAfter is how long a connection stays unread after an answer. Then its own goroutine reads it again, so that what a
// runtime asks for while nothing is executed, and its end, is noticed.
const readOnAfter = 20 * time.Millisecond

// leave sends the 202 that is owed and leaves the connection unread: a runtime asks for its next event there, and the next
// execution, which reads that itself, comes mostly before anybody need care. So a warm execution wakes no other goroutine:
// handing the connection back and forth costs more than all else it does here. False when its own goroutine must go on.
func (x *execution) leave(c *conn) bool {
	s := x.s
	if c.ending || c.buffered() || c.pause > 0 || c.owed && !c.sendNow(accepted) {
		return false
	}
	c.owed = false
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost || s.parked != nil { // or the runtime asked elsewhere meanwhile
		return false
	}
	s.direct, s.unread, s.unreadAt = nil, c, time.Now()
	switch {
	case s.watched:
	case s.reader == nil:
		s.watched, s.reader = true, time.AfterFunc(readOnAfter, s.readOn)
	default:
		s.watched = true
		s.reader.Reset(readOnAfter)
	}
	return true
}

// readOn gives an unread connection back to its own goroutine when it has been unread for long enough.
func (s *Session) readOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = false
	if s.unread == nil {
		return // an execution has it
	}
	if left := readOnAfter - time.Since(s.unreadAt); left > 0 {
		s.watched = true
		s.reader.Reset(left)
		return
	}
	s.handBack()
}

// handBack gives an unread connection, if there is one, back to its own goroutine. mu is held.
func (s *Session) handBack() {
	if s.unread != nil {
		s.unread.resume <- true // never blocks: a waiting connection has an empty channel
		s.unread = nil
	}
}

// hear reads from a connection that was left unread until its peer asks for an event there, which parks it. False when
// somebody else has the connection by then.
func (x *execution) hear(c *conn) bool {
	s := x.s
	var r request
	for {
		if err := c.readHead(&r); err != nil {
			again := errors.Is(err, os.ErrDeadlineExceeded)
			if !again {
				s.refuseForm(c, err)
			}
			x.letGo(c, again)
			return false
		}
		switch s.handle(c, &r, true) {
		case waits:
			return true
		case ends:
			x.letGo(c, false)
			return false
		default:
			if r.closes || c.pause > 0 { // the end, or something else than the next event: its own goroutine pays for that
				x.letGo(c, !r.closes)
				return false
			}
		}
	}
}
