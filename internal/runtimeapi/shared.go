package runtimeapi

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"kiln"
)

// A container whose version declares several executions at once: its runtime client has a GET /next waiting on a connection
// for each (aws-lambda-go a goroutine, our Python bootstrap a process, our Node.js bootstrap a turn of its one loop), and
// answers on whichever connection it has at hand. So here a connection is read by its own goroutine alone, and answers
// find their execution by its request id.
//
// One that outlives its deadline cannot be stopped without the others: the session takes no further executions, those under
// way end by themselves, each at its own deadline at the latest, and whoever drives the session then ends the container.
// Until that the runtime client is not disturbed: what it still answers to an execution given up is taken and thrown away,
// and its next GET waits.

// several is what a Session has of a container with more than one slot. Guarded by Session.mu. A nil one has nothing.
type several struct {
	slots   int
	running map[kiln.RequestID]*execution // at most slots
	waiting []*conn                       // their GET /next wait, the last come last; bounded by MaxConnections
	hungry  []*execution                  // wait for a connection, the first come first
	given   map[*execution]*conn          // handed to an execution that has not taken it yet
	late    []kiln.RequestID              // given up: at most slots, because none begins after the first
}

// SetSlots says how many executions at once the container is to run. Called once, before Bind or Started.
func (s *Session) SetSlots(n int) {
	if n <= 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.several = &several{slots: n, running: map[kiln.RequestID]*execution{}, given: map[*execution]*conn{}}
}

// connections is how many connections more such a container may hold: one that waits and one that answers for each.
func (m *several) connections() int {
	if m == nil {
		return 0
	}
	return 2 * m.slots
}

// release sends all waiting connections back to their goroutines, to end.
func (m *several) release() {
	if m == nil {
		return
	}
	for _, c := range m.waiting {
		c.resume <- false
	}
	m.waiting = nil
}

// signal wakes all executions, to look again.
func (m *several) signal() {
	if m == nil {
		return
	}
	for _, x := range m.running {
		token(x.reply.wake)
	}
}

// nextBeside parks a connection that asks for an event, or hands it to the execution that waits for one. mu is held.
func (s *Session) nextBeside(c *conn) after {
	m := s.several
	if len(m.waiting) >= m.slots { // more than can be of use: those given up by their peers go
		m.waiting = slices.DeleteFunc(m.waiting, func(o *conn) bool {
			if o.alive() {
				return false
			}
			o.resume <- false
			return true
		})
	}
	s.state = stateReady
	s.hand(c)
	token(s.wake) // the one who waits for the initialisation
	return waits
}

// hand gives a connection that asks for an event to who waits for one, else keeps it. mu is held.
func (s *Session) hand(c *conn) {
	m := s.several
	if s.closed || s.exit != nil {
		c.resume <- false
		return
	}
	if len(m.hungry) == 0 {
		m.waiting = append(m.waiting, c)
		return
	}
	x := m.hungry[0]
	m.hungry = slices.Delete(m.hungry, 0, 1)
	m.given[x] = c
	token(x.reply.wake)
}

// executeBeside is Execute in a container of several.
func (s *Session) executeBeside(ctx context.Context, d *kiln.Delivery) kiln.Answer {
	x := &execution{s: s, ctx: ctx, d: d, begin: time.Now(), reply: &reply{state: stateReady, wake: make(chan struct{}, 1)}}
	s.mu.Lock()
	m := s.several
	if lost := s.lost || s.state < stateReady; lost || len(m.running) >= m.slots || m.running[d.RequestID] != nil {
		s.mu.Unlock()
		f := ended(d.RequestID, "The container is busy")
		if lost {
			f = ended(d.RequestID, "The container has ended or was never ready")
		}
		return kiln.Answer{Payload: f.Payload, Failure: f, Lost: lost, Undelivered: true}
	}
	m.running[d.RequestID] = x
	s.mu.Unlock()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { token(x.reply.wake) })()
	}
	for !x.delivered {
		c := x.claimBeside()
		if c == nil {
			break
		}
		x.deliverBeside(c)
	}
	return x.await()
}

// claimBeside waits for a connection that waits for an event. nil when the execution is over before there is one.
func (x *execution) claimBeside() *conn {
	s := x.s
	m := s.several
	for {
		s.mu.Lock()
		_, over := x.verdict(time.Now())
		c := m.given[x]
		delete(m.given, x)
		switch {
		case over && c != nil:
			s.hand(c)
			c = nil
		case !over && c == nil && len(m.waiting) > 0:
			last := len(m.waiting) - 1
			c, m.waiting = m.waiting[last], m.waiting[:last]
		case !over && c == nil && !slices.Contains(m.hungry, x):
			m.hungry = append(m.hungry, x)
		}
		if c != nil { // it may be written to from here on: what ends the wait for an answer is known from the state
			x.reply.state = stateRunning
		}
		s.mu.Unlock()
		switch {
		case over:
			return nil
		case c == nil:
			x.sleep()
		case c.alive():
			return c
		default:
			c.resume <- false
			s.mu.Lock()
			x.reply.state = stateReady
			s.mu.Unlock()
		}
	}
}

// deliverBeside writes the event and gives the connection back to its own goroutine, which reads what comes next. The event
// counts as delivered unless certainly none of it was sent.
func (x *execution) deliverBeside(c *conn) {
	c.out = appendEvent(c.out[:0], x.d)
	body := x.d.Payload
	if len(body) <= inlineEvent {
		c.out, body = append(c.out, body...), nil
	}
	_ = c.SetWriteDeadline(x.d.Deadline)
	x.start = time.Now()
	n, err := c.send(0, c.out, body)
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	x.delivered = err == nil || n > 0 || errors.Is(err, os.ErrDeadlineExceeded)
	if !x.delivered {
		x.s.mu.Lock()
		x.reply.state = stateReady
		x.s.mu.Unlock()
	}
	c.resume <- err == nil
}

// leave ends an execution's stay. mu is held.
func (m *several) leave(x *execution, lost bool) {
	delete(m.running, x.d.RequestID)
	m.hungry = slices.DeleteFunc(m.hungry, func(o *execution) bool { return o == x })
	if c := m.given[x]; c != nil {
		delete(m.given, x)
		x.s.hand(c)
	}
	if lost {
		m.late = append(m.late, x.d.RequestID)
		m.signal() // who waits for a connection is better off in another container
	}
	x.reply.state = stateAnswered
}

// isLate reports whether an execution was given up. mu is held.
func (m *several) isLate(id []byte) bool {
	return m != nil && slices.Contains(m.late, kiln.RequestID(id))
}

// takeLate reads what the runtime answers to an execution that was given up, keeps nothing of it, and is content: a client
// that is refused may end its whole process, and with it the executions beside.
func (s *Session) takeLate(c *conn, r *request) after {
	c.ending = r.closes
	if r.expects && !s.write(c, proceed) {
		return ends
	}
	if !s.discard(c, r) {
		return ends
	}
	return s.respond(c, accepted)
}
