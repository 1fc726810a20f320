// Package runtimeapi is what a container talks to: AWS's Runtime API (2018-06-01) for one container, and Kiln's own
// addition by which a prepared runtime asks which version it is (GET /kiln/binding).
//
// One Session serves one container for its whole life. A driver makes it, hands it the listener the container sees, and
// calls Bind or Started, then Execute once for each event. It is not for placement, for processes or for limits: the
// driver tells it when the process ended (Exited) and ends the container when an answer says Lost.
//
// The warm path is direct: the goroutine that calls Execute itself writes the event to the connection whose GET /next
// waits, and reads the answer from it. A connection is owned by one goroutine at a time, its own serving goroutine or an
// executing one; ownership goes over Session.mu and the connection's resume channel. Session.mu is the only lock and is
// never held while reading or writing.
//
// A container whose version declares more than one execution at once (SetSlots) is served otherwise: see shared.go.
//
// Guests are hostile: each call is matched by request id to an execution under way and to its state, every size and every
// wait has a limit, and only the answers that are due are ever kept in memory.
package runtimeapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"kiln"
)

// Config is what a Session is made with. The zero value of a limit stands for its default.
type Config struct {
	Logger *slog.Logger
	// MaxConnections is how many connections one container may hold at once (default 32). More are closed at once.
	MaxConnections int
	// MaxHeaderBytes bounds the head of one request, in bytes (default 128 KiB: X-Ray's cause may take 64).
	MaxHeaderBytes int
	// MaxBodyBytes bounds an answer, in bytes (default kiln.MaxPayloadBytes).
	MaxBodyBytes int
	// RequestLimit is how long a request may take from its first byte to its last, and a response to be taken off us,
	// outside an execution's own deadline (default 10 s).
	RequestLimit time.Duration
}

// exitGrace is how long, once the process is known to have ended, what it sent before may take to be read. Its
// connections end with it unless a child of it still holds them.
const exitGrace = 100 * time.Millisecond

// state is where the runtime stands in AWS's table. Binding and its wait belong to started.
type state uint8

const (
	stateStarted   state = iota // has not asked for an event yet
	stateInitError              // said that its initialisation failed
	stateReady                  // waits for an event
	stateRunning                // has an event
	stateAnswering              // its answer's body is being read
	stateAnswered               // has not asked for the next event yet
)

// stateNames are AWS's words, as its refusals show them. An answer under way has its own, by its kind.
var stateNames = [...]string{"Started", "InitError", "Ready", "Running", "InvocationResponse", "RuntimeResponseSentState"}

// Session is the Runtime API of one container. All methods may be called at once from many goroutines.
type Session struct {
	c        Config
	prepared chan struct{} // closed when the runtime asked for its binding
	wake     chan struct{} // a token when something changed for the one who waits in Bind, Started or Execute
	over     chan struct{} // closed with the session
	calls    *pace         // of calls that are no part of an execution
	arrivals *pace         // of connections

	mu       sync.Mutex // guards all below
	state    state
	listener net.Listener
	conns    map[*conn]struct{}
	asked    bool  // prepared is closed
	binder   *conn // its GET /kiln/binding waits
	parked   *conn // its GET /next waits
	direct   *conn // owned by Execute, which reads from it
	unread   *conn // gave the last answer, and nobody reads from it; see unread.go
	current  *kiln.Delivery
	reply    reply          // to current
	last     kiln.RequestID // of the execution before
	again    bool           // current was also given to a second GET /next
	initErr  *kiln.Failure
	exit     *kiln.Exit
	exitAt   time.Time
	lost     bool // nothing more can be executed
	closed   bool // no further connections
	unreadAt time.Time
	reader   *time.Timer // calls readOn; nil before the first answer
	watched  bool        // it will
	// several is there when the container runs more than one execution at once; then current and parked are not used.
	several *several
}

// reply is what has become of one execution so far. Guarded by Session.mu.
type reply struct {
	// state is where the runtime stands with it, in a container of several; Session.state has it otherwise.
	state state
	// answering is AWS's word for the kind of answer under way.
	answering string
	answer    kiln.Answer // when hasAnswer
	hasAnswer bool
	brokenAt  time.Time // when the answer under way broke off; zero if it did not
	wake      chan struct{}
}

// New makes a session that has not begun to serve.
func New(c Config) *Session {
	c.MaxConnections = cmp.Or(c.MaxConnections, 32)
	c.MaxHeaderBytes = cmp.Or(c.MaxHeaderBytes, 128<<10)
	c.MaxBodyBytes = cmp.Or(c.MaxBodyBytes, kiln.MaxPayloadBytes)
	c.RequestLimit = cmp.Or(c.RequestLimit, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Session{c: c, prepared: make(chan struct{}), wake: make(chan struct{}, 1), over: make(chan struct{}),
		calls: newPace(callsPerSecond, callsBurst), arrivals: newPace(connectionsPerSecond, connectionsBurst), conns: map[*conn]struct{}{}}
	s.reply.wake = s.wake
	return s
}

// Serve accepts the container's connections until the listener or the session is closed. All goroutines it started have
// ended when it returns. It gives nil after a close, otherwise the listener's error (KindInternal). Called once.
func (s *Session) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	closed := s.closed
	s.mu.Unlock()
	if closed {
		_ = l.Close()
		return nil
	}
	var wg sync.WaitGroup
	var err error
	for warned := false; ; {
		var nc net.Conn
		if nc, err = l.Accept(); err != nil {
			break
		}
		if c := newConn(nc, s.c.MaxHeaderBytes); s.add(c) {
			wg.Go(func() { s.serve(c) })
		} else {
			_ = nc.Close()
			if !warned { // once: the guest decides how often
				s.c.Logger.Warn("connection refused: container holds too many", "limit", s.c.MaxConnections)
			}
			warned = true
		}
		if d := s.arrivals.pass(time.Now(), 1); d > 0 {
			s.pauseFor(d)
		}
	}
	s.Close() // a container that nobody can reach is lost
	wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return kiln.Wrap(kiln.KindInternal, "runtimeapi: accept connection", "the container's link failed", err)
}

// Prepared is closed when the managed runtime has asked for its binding (GET /kiln/binding).
func (s *Session) Prepared() <-chan struct{} { return s.prepared }

// Idle reports whether the container waits for an event, so that Execute would deliver at once.
func (s *Session) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.several; m != nil {
		return !s.lost && len(m.waiting) > 0 && len(m.running) < m.slots
	}
	return s.parked != nil && !s.lost && s.current == nil
}

// Resting reports whether nothing is asked of the container: it waits for its binding or for an event.
func (s *Session) Resting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.several; m != nil && s.binder == nil {
		return !s.lost && len(m.running) == 0 && (len(m.waiting) > 0 || len(s.conns) == 0)
	}
	return !s.lost && s.current == nil && (s.binder != nil || s.parked != nil || len(s.conns) == 0)
}

// Bind answers the prepared runtime's question with its environment and handler and waits until the runtime asks for its
// first event, reports that its initialisation failed, exits, or initLimit has passed.
func (s *Session) Bind(ctx context.Context, env map[string]string, handler string, initLimit time.Duration) kiln.InitResult {
	body, err := json.Marshal(struct {
		Env     map[string]string `json:"env"`
		Handler string            `json:"handler"`
	}{env, handler})
	if err != nil {
		return kiln.InitResult{Failure: ended("", "The binding cannot be told")}
	}
	begin := time.Now()
	limit := begin.Add(initLimit)
	if f := s.wait(ctx, limit, initLimit, func() bool { return s.binder != nil }); f != nil {
		return kiln.InitResult{Duration: time.Since(begin), Failure: f}
	}
	s.mu.Lock()
	c := s.binder
	s.binder = nil
	s.mu.Unlock()
	if c != nil {
		c.out = append(c.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "...)
		c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
		c.out = append(c.out, "\r\n\r\n"...)
		_, err = c.send(initLimit, c.out, body)
		c.resume <- err == nil
	}
	return s.initialised(ctx, begin, initLimit)
}

// Started is Bind for a runtime that was told its version otherwise: it only waits, in the same way.
func (s *Session) Started(ctx context.Context, initLimit time.Duration) kiln.InitResult {
	return s.initialised(ctx, time.Now(), initLimit)
}

// initialised waits for the end of the function's own initialisation.
func (s *Session) initialised(ctx context.Context, begin time.Time, initLimit time.Duration) kiln.InitResult {
	f := s.wait(ctx, begin.Add(initLimit), initLimit, func() bool { return s.state >= stateReady })
	return kiln.InitResult{Duration: time.Since(begin), Failure: f}
}

// wait blocks until done, which is called with mu held, or until the initialisation has failed.
func (s *Session) wait(ctx context.Context, limit time.Time, initLimit time.Duration, done func() bool) *kiln.Failure {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	for {
		now := time.Now()
		s.mu.Lock()
		f, ready := s.initErr, done()
		if f == nil && !ready {
			switch {
			case s.closed:
				f = ended("", "The container was ended")
			case ctx.Err() != nil:
				f = ended("", "The initialisation was given up")
			case s.exitSettled(now):
				f = exited(kiln.OutcomeInit, "", s.exit)
			case !now.Before(limit):
				f = timedOut(kiln.OutcomeInit, "", initLimit)
			case s.exit != nil:
				timer.Reset(time.Until(s.exitAt.Add(exitGrace)))
			}
		}
		s.lost = s.lost || f != nil
		s.mu.Unlock()
		if f != nil || ready {
			return f
		}
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// exitSettled reports whether the process has ended and nothing it sent can still be on its way. mu is held.
func (s *Session) exitSettled(now time.Time) bool {
	return s.exit != nil && (len(s.conns) == 0 || !now.Before(s.exitAt.Add(exitGrace)))
}

// Exited tells the session that the container's process has ended. An answer the process sent before is still read.
func (s *Session) Exited(e kiln.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit != nil {
		return
	}
	s.exit, s.exitAt, s.lost = &e, time.Now(), true
	s.release()
	if s.direct != nil { // it reads on until the connection ends, or for the grace
		_ = s.direct.SetReadDeadline(s.exitAt.Add(exitGrace))
	}
	s.signal()
}

// Close ends the session and every call on it. May be repeated. It does not wait: Serve returns when all is ended.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		close(s.over)
	}
	s.closed, s.lost = true, true
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.release()
	for c := range s.conns {
		_ = c.Close()
	}
	s.signal()
}

// release sends the waiting connections back to their goroutines, to end. mu is held.
func (s *Session) release() {
	for _, c := range []*conn{s.binder, s.parked} {
		if c != nil {
			c.resume <- false // never blocks: a waiting connection has an empty channel
		}
	}
	s.binder, s.parked = nil, nil
	s.handBack()
	if s.reader != nil {
		s.reader.Stop()
	}
	s.several.release()
}

// signal leaves a token for the one who waits, or for all who do. mu is held.
func (s *Session) signal() {
	token(s.wake)
	s.several.signal()
}

// token wakes who waits on a channel, or will.
func token(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// add takes a new connection in, unless there are too many.
func (s *Session) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.c.MaxConnections+s.several.connections() {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// remove forgets a connection and closes it.
func (s *Session) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if s.exit != nil && len(s.conns) == 0 {
		s.signal()
	}
	s.mu.Unlock()
	_ = c.Close() // last: a peer that sees it may connect again at once
}
