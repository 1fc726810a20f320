package runtimeapi

import (
	"context"
	"errors"
	"os"
	"time"

	"kiln"
)

// inlineEvent is the largest event copied behind its head into one buffer, in bytes; larger ones are written by a
// gathering write.
const inlineEvent = 8 << 10

// execution is one call of Execute.
type execution struct {
	s         *Session
	ctx       context.Context // of the call; this struct does not outlive it
	d         *kiln.Delivery
	reply     *reply
	begin     time.Time
	start     time.Time // of the hand-over
	delivered bool
}

// Execute hands one event to the container and blocks until its answer, the container's end, d.Deadline or the end of
// ctx. As many at a time as there are slots, one without SetSlots: a further call meanwhile is answered Undelivered. It
// returns at most exitGrace after the deadline.
func (s *Session) Execute(ctx context.Context, d *kiln.Delivery) kiln.Answer {
	s.mu.Lock()
	if s.several != nil {
		s.mu.Unlock()
		return s.executeBeside(ctx, d)
	}
	x := execution{s: s, ctx: ctx, d: d, reply: &s.reply, begin: time.Now()}
	if lost := s.lost || s.state < stateReady; s.current != nil || lost {
		f := ended(d.RequestID, "The container is busy")
		if lost {
			f = ended(d.RequestID, "The container has ended or was never ready")
		}
		s.mu.Unlock()
		return kiln.Answer{Payload: f.Payload, Failure: f, Lost: lost, Undelivered: true}
	}
	s.current = d
	s.mu.Unlock()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, s.nudge)()
	}
	for !x.delivered {
		c := x.claim()
		if c == nil {
			return x.await()
		}
		if x.deliver(c) {
			x.listen(c)
		}
	}
	return x.await()
}

// claim waits for a connection that waits for an event, and makes it this execution's own. nil when the execution is
// over before there is one.
func (x *execution) claim() *conn {
	s := x.s
	var heard *conn
	for {
		s.mu.Lock()
		_, over := x.verdict(time.Now())
		c, unread := s.parked, s.unread
		s.parked = nil
		if c == nil && unread != nil && !over {
			s.unread = nil
			x.own(unread)
		}
		s.mu.Unlock()
		switch {
		case over:
			if c != nil {
				c.resume <- false
			}
			return nil
		case c == nil && unread != nil:
			if x.hear(unread) {
				heard = unread
			}
			continue
		case c == nil:
			x.sleep()
			continue
		case c != heard && !c.alive():
			c.resume <- false
			continue
		}
		s.mu.Lock()
		if s.lost { // since the look above
			s.mu.Unlock()
			c.resume <- false
			return nil
		}
		s.state = stateRunning
		x.own(c)
		s.mu.Unlock()
		return c
	}
}

// own makes a connection this execution's own, to the execution's deadline. mu is held: whoever nudges comes after it.
func (x *execution) own(c *conn) {
	x.s.direct = c
	if !c.until.Equal(x.d.Deadline) {
		c.until = x.d.Deadline
		_ = c.SetDeadline(x.d.Deadline)
	}
	if x.ctx.Err() != nil {
		x.s.nudgeLocked()
	}
}

// deliver writes the event, behind the 202 that may be owed. False when the connection broke; the event counts as
// delivered unless certainly none of it was sent.
func (x *execution) deliver(c *conn) bool {
	c.out = c.out[:0]
	if c.owed {
		c.out, c.owed = append(c.out, accepted...), false
	}
	before := len(c.out)
	c.out = appendEvent(c.out, x.d)
	body := x.d.Payload
	if len(body) <= inlineEvent {
		c.out, body = append(c.out, body...), nil
	}
	x.start = time.Now()
	n, err := c.send(0, c.out, body)
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	if err == nil {
		x.delivered = true
		return true
	}
	s := x.s
	s.mu.Lock()
	s.direct = nil
	x.delivered = n > before || s.again || errors.Is(err, os.ErrDeadlineExceeded)
	if !x.delivered {
		s.state = stateAnswered
	}
	s.mu.Unlock()
	c.resume <- false
	return false
}

// listen reads from the execution's own connection until the answer is there, or the connection can say no more.
func (x *execution) listen(c *conn) {
	s := x.s
	if c.ending { // the peer wanted nothing more on it
		x.letGo(c, false)
		return
	}
	var r request
	for {
		if err := c.readHead(&r); err != nil {
			// A read that was only interrupted goes on in the connection's own goroutine, with what has arrived.
			again := errors.Is(err, os.ErrDeadlineExceeded)
			if !again {
				s.refuseForm(c, err)
			}
			x.letGo(c, again)
			return
		}
		switch s.handle(c, &r, true) {
		case goOn:
			if r.closes {
				x.letGo(c, false)
				return
			}
		case waits:
			return
		case ends:
			x.letGo(c, false)
			return
		case answered:
			if c.owed && !c.ending && c.nextBuffered() && x.repark(c) || x.leave(c) {
				return
			}
			x.letGo(c, true)
			return
		}
	}
}

// repark keeps a connection whose peer sent its next GET along with the answer: the 202 goes out with the next event.
func (x *execution) repark(c *conn) bool {
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return false
	}
	s.park(c)
	return true
}

// letGo gives the connection back to its own goroutine.
func (x *execution) letGo(c *conn, goOn bool) {
	s := x.s
	s.mu.Lock()
	s.direct = nil
	if !goOn {
		delete(s.conns, c) // its end is known here first; exitSettled counts
	}
	s.mu.Unlock()
	if !goOn {
		_ = c.Close()
	}
	c.resume <- goOn
}

// await blocks until the execution is over and gives its answer.
func (x *execution) await() kiln.Answer {
	for {
		now := time.Now()
		x.s.mu.Lock()
		a, over := x.verdict(now)
		if over {
			x.finish(&a, now)
			x.s.mu.Unlock()
			return a
		}
		x.s.mu.Unlock()
		x.sleep()
	}
}

// verdict decides whether the execution is over, and how. mu is held.
func (x *execution) verdict(now time.Time) (a kiln.Answer, over bool) {
	s, r, id := x.s, x.reply, x.d.RequestID
	switch {
	case r.hasAnswer:
		return r.answer, true
	case s.closed:
		a.Failure = ended(id, "The container was ended")
	case s.exitSettled(now), s.exit != nil && !x.delivered && *s.stateOf(r) != stateRunning:
		a.Failure = exited(kiln.OutcomeCrash, id, s.exit)
	case x.ctx.Err() != nil:
		a.Failure = ended(id, "The execution was given up")
	case s.several != nil && s.lost && !x.delivered && r.state != stateRunning:
		a.Failure = ended(id, "The container was lost with another execution")
	case !r.brokenAt.IsZero() && !now.Before(r.brokenAt.Add(exitGrace)):
		a.Failure = truncatedAnswer(id)
	case !now.Before(x.d.Deadline):
		a.Failure = timedOut(kiln.OutcomeTimeout, id, x.d.Deadline.Sub(x.begin))
	default:
		return a, false
	}
	a.Payload, a.Lost = a.Failure.Payload, true
	return a, true
}

// sleep waits until something may have changed for the verdict.
func (x *execution) sleep() {
	s := x.s
	until := x.d.Deadline
	s.mu.Lock()
	for _, at := range [...]time.Time{s.exitAt, x.reply.brokenAt} {
		if at = at.Add(exitGrace); at.After(x.begin) && at.Before(until) {
			until = at
		}
	}
	s.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-x.reply.wake:
	case <-timer.C:
	}
}

// finish closes the execution's books. mu is held.
func (x *execution) finish(a *kiln.Answer, now time.Time) {
	s := x.s
	a.Start, a.Undelivered = x.start, !x.delivered && !s.again
	if a.Undelivered {
		a.Start = time.Time{}
	} else if a.End.IsZero() {
		a.End = now
	}
	s.lost = s.lost || a.Lost
	if s.several != nil {
		s.several.leave(x, a.Lost)
		return
	}
	s.last, s.current, s.again = x.d.RequestID, nil, false
	s.reply = reply{wake: s.wake}
	switch {
	case a.Lost:
	case s.parked != nil:
		s.state = stateReady
	default:
		s.state = stateAnswered
	}
}
