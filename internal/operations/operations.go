// Package operations is Kiln's own API under /kiln/v1: what runs where and why, for owners and operators, and the
// few things AWS's API has no word for (code that comes with its request, accounts and keys, the end of an instance).
//
// It is not the place for AWS's API (frontend) nor for decisions. An account sees what is its own, the operator all.
// docs/openapi.yaml describes it and is tested against it. Called by server. Safe concurrently; it has no locks.
package operations

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln"
	"kiln/internal/code"
	"kiln/internal/identity"
	"kiln/internal/invoke"
	"kiln/internal/ledger"
	"kiln/internal/node"
	"kiln/internal/pool"
	"kiln/internal/registry"
	"kiln/internal/usage"
)

// Bounds of requests and answers.
const (
	// maxBodyBytes bounds a request's body: a package and an event.
	maxBodyBytes = kiln.MaxPackageZipBytes + kiln.MaxPayloadBytes + 64<<10
	// maxRuns bounds requests with code of their own being received at once, for the memory they take.
	maxRuns = 4
	// defaultItems and maxItems bound the items of one answer.
	defaultItems = 100
	maxItems     = 1000
)

// Config is what the API speaks for.
type Config struct {
	Identity *identity.Identity
	Registry *registry.Registry
	Invoker  *invoke.Invoker
	Pool     *pool.Pool
	Node     *node.Node
	Ledger   *ledger.Ledger
	Usage    *usage.Usage
	Packages *code.Store
	// RuntimeKnown refuses an identifier that cannot run here.
	RuntimeKnown func(identifier, architecture string) error
	// Room refuses writes when the disk is nearly full.
	Room func() error
	// Backup writes a backup of everything that is not a cache.
	Backup func(context.Context, io.Writer) error
	Region string
	// Architecture is this machine's, in AWS's words.
	Architecture string
	Version      string
	Started      time.Time
	Logger       *slog.Logger
	// Ended is ended when no request may wait any longer.
	Ended context.Context
	// Draining is ended when requests that have no end of their own (logs being followed) must end.
	Draining context.Context
}

// Operations answers /kiln/v1.
type Operations struct {
	cfg  Config
	mux  *http.ServeMux
	runs chan struct{} // one place for each request with code of its own
	// backups has one place for each backup being written.
	backups  chan struct{}
	refusals *prometheus.CounterVec
	// patterns are what mux serves, a rest of the path written as one id.
	patterns []string
}

// New makes the API.
func New(cfg Config) *Operations {
	o := &Operations{cfg: cfg, mux: http.NewServeMux(), runs: make(chan struct{}, maxRuns), backups: make(chan struct{}, maxBackups)}
	o.refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kiln_operations_refused_total", Help: "Requests to /kiln/v1 answered with an error, by its kind.",
	}, []string{"kind"})
	o.route("GET /kiln/v1/executions/{id}", o.execution)
	o.route("GET /kiln/v1/executions", o.executions)
	o.route("GET /kiln/v1/events", o.events)
	o.route("GET /kiln/v1/instances", o.instances)
	o.route("GET /kiln/v1/containers", o.containers)
	o.route("GET /kiln/v1/pools", o.pools)
	o.route("GET /kiln/v1/pools/{id...}", o.pool)
	o.route("PUT /kiln/v1/pools/{id...}", o.turnPool)
	o.route("DELETE /kiln/v1/pools/{id...}", o.resetPool)
	o.route("PUT /kiln/v1/dedicated/{account}", o.dedicate)
	o.route("GET /kiln/v1/rates", o.rates)
	o.route("GET /kiln/v1/fleets", o.fleets)
	o.route("PUT /kiln/v1/fleets/{name}", o.setFleet)
	o.route("GET /kiln/v1/usage", o.usage)
	o.route("GET /kiln/v1/nodes", o.nodes)
	o.route("DELETE /kiln/v1/instances/{id}", o.deleteInstance)
	o.route("DELETE /kiln/v1/containers/{id}", o.deleteContainer)
	o.route("GET /kiln/v1/logs/{function}", o.logs)
	o.route("GET /kiln/v1/functions/{function}/explanation", o.explain)
	o.route("POST /kiln/v1/run", o.run)
	o.route("GET /kiln/v1/accounts", o.accounts)
	o.route("POST /kiln/v1/accounts", o.createAccount)
	o.route("GET /kiln/v1/backup", o.backup)
	o.route("GET /kiln/v1/keys", o.keys)
	o.route("POST /kiln/v1/keys", o.createKey)
	o.route("DELETE /kiln/v1/keys/{id}", o.deleteKey)
	return o
}

// Collector gives the API's metrics.
func (o *Operations) Collector() prometheus.Collector { return o.refusals }

// ServeHTTP answers one request.
func (o *Operations) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := o.mux.Handler(r); pattern == "" || path.Clean(r.URL.Path) != r.URL.Path {
		o.fail(w, r, newRequestID(), kiln.Errorf(kiln.KindNotFound, "operations: route", "no operation is at %s %s; docs/openapi.yaml lists them", r.Method, r.URL.Path))
		return
	}
	o.mux.ServeHTTP(w, r)
}

// call is one request being answered.
type call struct {
	*http.Request
	w      http.ResponseWriter
	id     kiln.RequestID
	caller identity.Caller
	body   []byte
	// received gives the place of a request with code of its own to the next; it may be called again.
	received func()
}

// route adds an operation: who signed the request is found out first.
func (o *Operations) route(pattern string, serve func(*call) error) {
	o.patterns = append(o.patterns, strings.ReplaceAll(pattern, "...", ""))
	o.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, Request: r, id: newRequestID()}
		w.Header().Set("X-Amzn-RequestId", string(c.id))
		if err := o.answer(c, serve); err != nil {
			o.fail(w, r, c.id, err)
		}
	})
}

func (o *Operations) answer(c *call, serve func(*call) error) error {
	limit := int64(64 << 10)
	if c.URL.Path == "/kiln/v1/run" {
		select {
		case o.runs <- struct{}{}:
			c.received = sync.OnceFunc(func() { <-o.runs })
			defer c.received()
		case <-c.Context().Done():
			return kiln.Wrap(kiln.KindUnavailable, "operations: run", "the request was given up", c.Context().Err())
		}
		limit = maxBodyBytes
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, limit))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return kiln.Errorf(kiln.KindTooLarge, "operations: read body", "the body must be at most %d bytes", limit)
		}
		return kiln.Wrap(kiln.KindMalformed, "operations: read body", "the body ended before its length", err)
	}
	c.body = body
	if c.caller, err = o.cfg.Identity.Authenticate(identity.FromHTTP(c.Request, body)); err != nil {
		return err
	}
	return serve(c)
}

// statuses maps kinds of error to HTTP's words.
var statuses = map[kiln.Kind]int{
	kiln.KindInvalid: http.StatusBadRequest, kiln.KindMalformed: http.StatusBadRequest, kiln.KindNotFound: http.StatusNotFound,
	kiln.KindConflict: http.StatusConflict, kiln.KindPrecondition: http.StatusPreconditionFailed, kiln.KindDenied: http.StatusForbidden,
	kiln.KindUnauthenticated: http.StatusForbidden, kiln.KindThrottled: http.StatusTooManyRequests,
	kiln.KindTooLarge: http.StatusRequestEntityTooLarge, kiln.KindUnsupported: http.StatusNotImplemented,
	kiln.KindUnavailable: http.StatusServiceUnavailable, kiln.KindLimit: http.StatusConflict,
}

// problem is an error as this API shows it.
type problem struct {
	Kind      string         `json:"kind"`
	Reason    string         `json:"reason,omitempty"`
	Message   string         `json:"message"`
	RequestID kiln.RequestID `json:"requestId"`
}

func (o *Operations) fail(w http.ResponseWriter, r *http.Request, id kiln.RequestID, err error) {
	e, ok := errors.AsType[*kiln.Error](err)
	if !ok {
		e = kiln.Wrap(kiln.KindInternal, "operations: answer", "something failed inside Kiln; the log of the server says more", err)
	}
	o.refusals.WithLabelValues(e.Kind.String()).Inc()
	status, known := statuses[e.Kind]
	if !known {
		status = http.StatusInternalServerError
		o.cfg.Logger.Error("request failed", "request", id, "path", r.URL.Path, "error", err)
	}
	o.write(w, id, status, problem{Kind: e.Kind.String(), Reason: e.Reason, Message: e.Message, RequestID: id})
}

func (o *Operations) write(w http.ResponseWriter, id kiln.RequestID, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		o.cfg.Logger.Error("answer cannot be written", "request", id, "error", err)
		status, b = http.StatusInternalServerError, []byte(`{"kind":"internal","message":"the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-RequestId", string(id))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

func (o *Operations) ok(c *call, body any) error {
	o.write(c.w, c.id, http.StatusOK, body)
	return nil
}

// operatorOnly refuses everyone else.
func operatorOnly(c *call) error {
	if !c.caller.Operator {
		return kiln.Errorf(kiln.KindDenied, "operations: check caller", "only the operator may do this; sign with the first key (kiln env prints it)")
	}
	return nil
}

// owner is whose things the caller sees: everyone's, the empty account, for the operator unless it asks for one.
func owner(c *call) (kiln.AccountID, error) {
	asked := kiln.AccountID(c.URL.Query().Get("account"))
	if c.caller.Operator {
		return asked, nil
	}
	if asked != "" && asked != c.caller.Account {
		return "", kiln.Errorf(kiln.KindDenied, "operations: check caller", "an account sees only what is its own")
	}
	return c.caller.Account, nil
}

// instant reads a query parameter that is a time: RFC 3339, or a duration back from now ("10m"). Zero when absent.
func instant(c *call, name string) (time.Time, error) {
	text := c.URL.Query().Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return time.Time{}, kiln.Errorf(kiln.KindInvalid, "operations: read query", "%s must be a time (2006-01-02T15:04:05Z) or a duration back from now (10m)", name)
	}
	return time.Now().Add(-d), nil
}

// limit reads how many items are wanted.
func limit(c *call) (int, error) {
	text := c.URL.Query().Get("limit")
	if text == "" {
		return defaultItems, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxItems {
		return 0, kiln.Errorf(kiln.KindInvalid, "operations: read query", "limit must be a whole number from 1 to %d", maxItems)
	}
	return n, nil
}

func newRequestID() kiln.RequestID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return kiln.NewRequestID(b)
}
