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
	return s.reply(c, pong)
}

// next parks a connection that asks for an event. A runtime that asks again gets the same event again.
func (s *Session) next(c *conn, r *request) after {
	s.mu.Lock()
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
	if s.direct == c {
		s.direct = nil
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

// takeAnswer reads the answer to the current execution. The first call that names its id while it runs has it; every
// other is refused unread.
func (s *Session) takeAnswer(c *conn, r *request, direct bool) after {
	desired := "InvocationResponse"
	if r.call == callError {
		desired = "InvocationErrorResponse"
	}
	s.mu.Lock()
	d := s.current
	known := d != nil && string(d.RequestID) == string(r.id) || d == nil && s.last != "" && string(s.last) == string(r.id)
	switch {
	case !known:
		s.mu.Unlock()
		return s.refuse(c, r, refuseID)
	case s.state != stateRunning:
		from := s.stateName()
		s.mu.Unlock()
		return s.refuse(c, r, refuseState(from, desired))
	case len(r.mode) > 0 && string(r.mode) != "streaming":
		s.mu.Unlock()
		return s.refuse(c, r, refuseMode)
	}
	s.state, s.answering = stateAnswering, desired
	s.mu.Unlock()

	if !direct {
		_ = c.SetReadDeadline(d.Deadline)
	}
	c.ending = r.closes
	if r.expects && !s.write(c, proceed) {
		s.brokeOff()
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
		s.brokeOff()
		s.send(c, refuseTruncated)
		return ends
	case r.call == callError:
		a.Failure = reported(kiln.OutcomeError, r.errorType, body)
	case c.trailerType != "":
		a.Failure = streamed(c.trailerType, c.trailerBody)
	}
	s.settle(a, direct)
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
	return s.reply(c, accepted)
}

// settle keeps the answer for Execute and wakes it, unless it is Execute itself that calls.
func (s *Session) settle(a kiln.Answer, direct bool) {
	a.End = time.Now()
	if a.Failure != nil {
		a.Payload = a.Failure.Payload
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.state != stateAnswering {
		return // Execute has gone meanwhile
	}
	s.answer, s.hasAnswer, s.state = a, true, stateAnswered
	if !direct {
		s.nudgeLocked()
	}
}

// brokeOff notes that the answer under way will never be whole.
func (s *Session) brokeOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.brokenAt = time.Now()
	s.nudgeLocked()
}

// nudge wakes Execute or whoever waits, to look again.
func (s *Session) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nudgeLocked()
}

func (s *Session) nudgeLocked() {
	if s.direct != nil {
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
	return s.reply(c, accepted)
}

// stateName gives AWS's word for the state. mu is held.
func (s *Session) stateName() string {
	if s.state == stateAnswering {
		return s.answering
	}
	return stateNames[s.state]
}

// reply sends a whole response and goes on.
func (s *Session) reply(c *conn, response string) after {
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
