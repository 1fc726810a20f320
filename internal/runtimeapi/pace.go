package runtimeapi

import (
	"sync"
	"time"
)

// What a container may ask of the node beside its executions, whose pace is their callers': pings, refusals, events asked
// for twice, connections. The node answers on its own processor time, which no limit of the container counts.
const (
	// callsPerSecond and callsBurst bound calls that are no part of an execution, of all connections together.
	callsPerSecond = 100
	callsBurst     = 200
	// callBytes is how many bytes of a body, thrown away or sent again, count as one call more.
	callBytes = 64 << 10
	// connectionsPerSecond and connectionsBurst bound new connections. A runtime that makes one for each call is served.
	connectionsPerSecond = 1000
	connectionsBurst     = 256
)

// pace lets so many things pass in a second and tells the rest to wait. Safe for concurrent use.
type pace struct {
	interval, burst time.Duration

	mu sync.Mutex
	at time.Time // when all that has passed is paid for; guarded by mu
}

func newPace(perSecond, burst int) *pace {
	interval := time.Second / time.Duration(perSecond)
	return &pace{interval: interval, burst: time.Duration(burst) * interval}
}

// pass notes n things and gives how long to wait before the next.
func (p *pace) pass(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-p.burst); p.at.Before(earliest) {
		p.at = earliest
	}
	p.at = p.at.Add(time.Duration(n) * p.interval)
	return max(0, p.at.Sub(now))
}

// charge notes a call that is no part of an execution, with so many bytes read or written for it in vain. The connection
// pays in its own goroutine, before its next request: an execution that met the call is not held up.
func (s *Session) charge(c *conn, bytes int64) {
	c.pause = s.calls.pass(time.Now(), 1+int(bytes/callBytes))
}

// rest waits out what the connection owes. False when the session is closed.
func (s *Session) rest(c *conn) bool {
	d := c.pause
	c.pause = 0
	return d == 0 || s.pauseFor(d)
}

// pauseFor waits. False when the session is closed.
func (s *Session) pauseFor(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.over:
		return false
	}
}
