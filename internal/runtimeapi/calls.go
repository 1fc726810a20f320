package runtimeapi

import (
	"errors"
	"os"
	"time"

	"kiln"
)

// after says what becomes of a connection once a request on it is served.
type after uint8

const (
	goOn     after = iota // read the next request
	waits                 // it is parked: nobody's until somebody resumes it
	ends                  // close it
	answered              // Execute has its answer; the 202 may be owed
)

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// serve is a connection's own goroutine.
func (s *Session) serve(c *conn) {
	defer s.remove(c)
	defer s.rest(c) // it counts as held until it has paid
	var r request
	for {
		c.until = time.Time{} // the deadlines below are other ones
		if c.owed {
			c.owed = false
			if !s.write(c, accepted) || c.ending {
				return
			}
		}
		if !s.rest(c) || c.SetReadDeadline(time.Time{}) != nil {
			return
		}
		if !c.buffered() && c.fill() != nil { // an idle connection may be silent as long as it likes
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(s.c.RequestLimit))
		if err := c.readHead(&r); err != nil {
			s.refuseForm(c, err)
			return
		}
		switch s.handle(c, &r, false) {
		case ends:
			return
		case waits:
			if !<-c.resume || c.ending && !c.owed {
				return
			}
		default:
			if r.closes {
				return
			}
		}
	}
}

// handle serves one request on a connection the caller owns. direct is true for Execute's own.
func (s *Session) handle(c *conn, r *request, direct bool) after {
	if r.call == callUnknown {
		return s.refuse(c, r, refusePath)
	}
	if string(r.method) != r.call.allow() {
		return s.refuse(c, r, refuseMethod(r.call.allow()))
	}
	switch r.call {
	case callResponse, callError:
		return s.takeAnswer(c, r, direct)
	case callInitError:
		return s.takeInitError(c, r)
	}
	if r.length != 0 && !s.discard(c, r) {
		return ends
	}
	c.ending = r.closes
	switch r.call {
	case callNext:
		return s.next(c, r)
	case callBinding:
		return s.ask(c, r)
	}
	s.charge(c, 0)
	return s.respond(c, pong)
}

// next parks a connection that asks for an event. A runtime that asks again gets the same event again.
func (s *Session) next(c *conn, r *request) after {
	s.mu.Lock()
	if s.several != nil && s.state != stateInitError {
		defer s.mu.Unlock()
		return s.nextBeside(c)
	}
	switch s.state {
	case stateStarted, stateReady, stateAnswered:
		defer s.mu.Unlock()
		if s.lost {
			return ends
		}
		s.park(c)
		s.signal()
		return waits
	case stateRunning:
		d := s.current
		s.again = true
		s.mu.Unlock()
		s.charge(c, int64(len(d.Payload)))
		c.out = appendEvent(c.out[:0], d)
		if _, err := c.send(s.c.RequestLimit, c.out, d.Payload); err != nil {
			return ends
		}
		return goOn
	}
	from := s.stateName()
	s.mu.Unlock()
	return s.refuse(c, r, refuseState(from, "Ready"))
}

// park makes c the connection that waits for an event. The one before it, if any, was given up by its peer. mu is held.
func (s *Session) park(c *conn) {
	if s.parked != nil {
		s.parked.resume <- false
	}
	switch s.direct {
	case c:
		s.direct = nil
	case nil:
		s.handBack()
	default: // an execution listens elsewhere for what has come here
		s.nudgeLocked()
	}
	s.parked, s.state = c, stateReady
}

// ask parks a connection that asks for the binding: once in a session's life.
func (s *Session) ask(c *conn, r *request) after {
	s.mu.Lock()
	if s.asked || s.lost || s.state != stateStarted {
		from := s.stateName()
		s.mu.Unlock()
		return s.refuse(c, r, refuseState(from, "Binding"))
	}
	defer s.mu.Unlock()
	s.asked, s.binder = true, c
	close(s.prepared)
	s.signal()
	return waits
}

// takeAnswer reads the answer to an execution. The first call that names its id while it runs has it; every other is
// refused unread.
func (s *Session) takeAnswer(c *conn, r *request, direct bool) after {
	desired := "InvocationResponse"
	if r.call == callError {
		desired = "InvocationErrorResponse"
	}
	s.mu.Lock()
	to, deadline, known := s.awaits(r.id)
	switch {
	case !known:
		late := s.several.isLate(r.id)
		s.mu.Unlock()
		if late {
			return s.takeLate(c, r)
		}
		return s.refuse(c, r, refuseID)
	case *s.stateOf(to) != stateRunning:
		from := nameOf(*s.stateOf(to), to)
		s.mu.Unlock()
		return s.refuse(c, r, refuseState(from, desired))
	case len(r.mode) > 0 && string(r.mode) != "streaming":
		s.mu.Unlock()
		return s.refuse(c, r, refuseMode)
	}
	*s.stateOf(to), to.answering = stateAnswering, desired
	s.mu.Unlock()

	if !direct {
		_ = c.SetReadDeadline(deadline)
	}
	c.ending = r.closes
	if r.expects && !s.write(c, proceed) {
		s.brokeOff(to)
		return ends
	}
	body, err := c.readBody(r, s.c.MaxBodyBytes)
	a := kiln.Answer{Payload: body}
	switch {
	case errors.Is(err, errBodyTooLarge):
		a.Failure = tooLarge(s.c.MaxBodyBytes)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ends // Execute knows why its time is up
	case err != nil:
		s.brokeOff(to)
		s.send(c, refuseTruncated)
		return ends
	case r.call == callError:
		a.Failure = reported(kiln.OutcomeError, r.errorType, body)
	case c.trailerType != "":
		a.Failure = streamed(c.trailerType, c.trailerBody)
	}
	s.settle(to, a, direct)
	if err != nil {
		if !s.send(c, refuseTooLarge(s.c.MaxBodyBytes)) || c.ending {
			return ends
		}
		if direct {
			return answered
		}
		return goOn
	}
	if direct {
		c.owed = true
		return answered
	}
	return s.respond(c, accepted)
}

// settle keeps the answer for Execute and wakes it, unless it is Execute itself that calls.
func (s *Session) settle(to *reply, a kiln.Answer, direct bool) {
	a.End = time.Now()
	if a.Failure != nil {
		a.Payload = a.Failure.Payload
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if to == &s.reply && s.current == nil || *s.stateOf(to) != stateAnswering {
		return // Execute has gone meanwhile
	}
	to.answer, to.hasAnswer = a, true
	*s.stateOf(to) = stateAnswered
	if !direct {
		s.nudgeReply(to)
	}
}

// brokeOff notes that the answer under way will never be whole.
func (s *Session) brokeOff(to *reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.brokenAt = time.Now()
	s.nudgeReply(to)
}

// nudgeReply wakes the Execute that waits for a reply. mu is held.
func (s *Session) nudgeReply(to *reply) {
	if to != &s.reply {
		token(to.wake)
		return
	}
	s.nudgeLocked()
}

// awaits finds the execution that an answer names, and its deadline. mu is held.
func (s *Session) awaits(id []byte) (to *reply, deadline time.Time, known bool) {
	if s.several != nil {
		x := s.several.running[kiln.RequestID(id)]
		if x == nil {
			return nil, time.Time{}, false
		}
		return x.reply, x.d.Deadline, true
	}
	if d := s.current; d != nil && (s.state == stateRunning || s.state == stateAnswering || string(s.last) != string(id)) {
		return &s.reply, d.Deadline, string(d.RequestID) == string(id)
	}
	return &s.reply, time.Time{}, s.last != "" && string(s.last) == string(id)
}

// stateOf is where the runtime's state with an execution is kept. mu is held.
func (s *Session) stateOf(r *reply) *state {
	if r == &s.reply {
		return &s.state
	}
	return &r.state
}

// nudge wakes Execute or whoever waits, to look again.
func (s *Session) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nudgeLocked()
}

func (s *Session) nudgeLocked() {
	if s.direct != nil {
		s.direct.until = time.Time{}
		_ = s.direct.SetReadDeadline(past)
	}
	s.signal()
}

// takeInitError reads what the runtime says went wrong before it asked for its first event.
func (s *Session) takeInitError(c *conn, r *request) after {
	s.mu.Lock()
	if s.state != stateStarted {
		from := s.stateName()
		s.mu.Unlock()
		return s.refuse(c, r, refuseState(from, "InitError"))
	}
	s.state = stateInitError
	s.mu.Unlock()
	if r.expects && !s.write(c, proceed) {
		return ends
	}
	body, err := c.readBody(r, s.c.MaxBodyBytes)
	f := reported(kiln.OutcomeInit, r.errorType, body)
	switch {
	case errors.Is(err, errBodyTooLarge):
		f = tooLarge(s.c.MaxBodyBytes)
		f.Outcome = kiln.OutcomeInit
	case err != nil:
		f = reported(kiln.OutcomeInit, r.errorType, errorBody("", errorType(r.errorType), "The report of the failed initialisation was truncated", true))
	}
	s.mu.Lock()
	s.initErr = f
	s.signal()
	s.mu.Unlock()
	if err != nil {
		s.send(c, refuseTruncated)
		return ends
	}
	return s.respond(c, accepted)
}

// stateName gives AWS's word for the state. mu is held.
func (s *Session) stateName() string { return nameOf(s.state, &s.reply) }

func nameOf(at state, r *reply) string {
	if at == stateAnswering {
		return r.answering
	}
	return stateNames[at]
}

// respond sends a whole response and goes on.
func (s *Session) respond(c *conn, response string) after {
	if !s.write(c, response) {
		return ends
	}
	return goOn
}

func (s *Session) write(c *conn, response string) bool {
	c.out = append(c.out[:0], response...)
	_, err := c.send(s.c.RequestLimit, c.out, nil)
	return err == nil
}

// send sends a refusal.
func (s *Session) send(c *conn, f refusal) bool {
	c.out = f.append(c.out[:0])
	_, err := c.send(s.c.RequestLimit, c.out, nil)
	return err == nil
}

// refuse answers a request that is not served. Its body is read and thrown away first, so that the peer hears the answer;
// a peer that waits for leave to send it is not given it, and the connection ends.
func (s *Session) refuse(c *conn, r *request, f refusal) after {
	switch {
	case r.length != 0 && r.expects:
		f.ends = true
	case r.length != 0:
		if !s.discard(c, r) {
			return ends
		}
	}
	s.charge(c, 0)
	if !s.send(c, f) || f.ends {
		return ends
	}
	return goOn
}

// discard reads a request's body and throws it away. False when the connection can say no more.
func (s *Session) discard(c *conn, r *request) bool {
	before := c.received
	_, err := c.readBody(r, -1)
	s.charge(c, c.received-before)
	return err == nil
}

// refuseForm answers a request that could not be read, where that is of use.
func (s *Session) refuseForm(c *conn, err error) {
	s.charge(c, 0)
	switch {
	case errors.Is(err, errMalformed):
		s.send(c, refuseMalformed)
	case errors.Is(err, errHeadTooLong):
		s.send(c, refuseHead)
	case errors.Is(err, errVersion):
		s.send(c, refuseVersion)
	case errors.Is(err, errEncoding):
		s.send(c, refuseEncoding)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.send(c, refuseSlow)
	}
}
