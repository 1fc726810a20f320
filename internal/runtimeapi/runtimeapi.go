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
// Guests are hostile: each call is matched by request id to the one current execution and to its state, every size and
// every wait has a limit, and only the one answer that is due is ever kept in memory.
package runtimeapi

import (
	"context"
	"log/slog"
	"net"
	"time"

	"kiln"
)

// Config is what a Session is made with. The zero value of a limit stands for its default.
type Config struct {
	Logger *slog.Logger
	// MaxConnections is how many connections one container may hold at once (default 32).
	MaxConnections int
	// MaxHeaderBytes bounds the head of one request, in bytes (default 128 KiB: X-Ray's cause may take 64).
	MaxHeaderBytes int
	// MaxBodyBytes bounds an answer, in bytes (default kiln.MaxPayloadBytes).
	MaxBodyBytes int
	// RequestLimit is how long a request may take from its first byte to its last, outside an execution's own
	// deadline (default 10 s).
	RequestLimit time.Duration
}

// Session is the Runtime API of one container. All methods may be called at once from many goroutines.
type Session struct{}

// New makes a session that has not begun to serve.
func New(c Config) *Session { return &Session{} }

// Serve accepts the container's connections until the listener or the session is closed. All goroutines it started have
// ended when it returns. It gives nil after a close, otherwise the listener's error. Called once.
func (s *Session) Serve(l net.Listener) error { return nil }

// Prepared is closed when the managed runtime has asked for its binding (GET /kiln/binding).
func (s *Session) Prepared() <-chan struct{} { return nil }

// Bind answers the prepared runtime's question with its environment and handler and waits until the runtime asks for its
// first event, reports that its initialisation failed, exits, or initLimit has passed.
func (s *Session) Bind(ctx context.Context, env map[string]string, handler string, initLimit time.Duration) kiln.InitResult {
	return kiln.InitResult{}
}

// Started is Bind for a runtime that was told its version otherwise: it only waits, in the same way.
func (s *Session) Started(ctx context.Context, initLimit time.Duration) kiln.InitResult {
	return kiln.InitResult{}
}

// Execute hands one event to the container and blocks until its answer, the container's end, d.Deadline or the end of
// ctx. One at a time: a second call meanwhile is answered Undelivered.
func (s *Session) Execute(ctx context.Context, d *kiln.Delivery) kiln.Answer { return kiln.Answer{} }

// Idle reports whether the container waits for an event, so that Execute would deliver at once.
func (s *Session) Idle() bool { return false }

// Exited tells the session that the container's process has ended. An answer the process sent before is still read.
func (s *Session) Exited(e kiln.Exit) {}

// Close ends the session and every call on it. May be repeated. It does not wait: Serve returns when all is ended.
func (s *Session) Close() {}
