// Package frontend is the public door: AWS's Lambda API over HTTP, and the little of AWS's Security Token Service that
// tools ask first. It reads requests, finds out who signed them, turns AWS's shapes into Kiln's words and back, and leaves
// the deciding to registry and the executing to invoke.
//
// It keeps no state but connections, and is not the place for what is not AWS's (that is operations). Called by server,
// which gives it the public listener. Safe concurrently; Door's lock guards its table of connections only.
//
// What comes through a function's URL is answered in urldoor.go, on the ordinary way.
//
// An Invoke in the plainest form is read and answered by Door's own loop (door.go, head.go, invoke.go); everything else
// goes through net/http (frontend.go and on). Both ways share the code behind the reading.
package frontend

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	crand "crypto/rand"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"kiln"
	"kiln/internal/code"
	"kiln/internal/identity"
	"kiln/internal/invoke"
	"kiln/internal/lambdaapi"
	"kiln/internal/provisioning"
	"kiln/internal/registry"
)

// Bounds of requests on the ordinary way.
const (
	// maxBodyBytes bounds a request's body: AWS takes about 70 MB for CreateFunction, a zip of 50 MB in base64.
	maxBodyBytes = 70 << 20
)

// Config is what a Frontend needs.
type Config struct {
	Identity *identity.Identity
	Registry *registry.Registry
	Invoker  *invoke.Invoker
	Packages *code.Store
	// Provisioning tells how provisioned concurrency stands.
	Provisioning *provisioning.Provisioning
	// RuntimeKnown refuses an identifier that cannot run here: KindInvalid with what to do.
	RuntimeKnown func(identifier, architecture string) error
	// Room refuses writes when the disk is nearly full: KindUnavailable.
	Room func() error
	// ConcurrentExecutions is an account's limit, as GetAccountSettings tells it.
	ConcurrentExecutions int
	Region               string
	// Architecture is this machine's, in AWS's words: what a function is made for that does not say.
	Architecture string
	// Shapes are those instances come in.
	Shapes []kiln.Shape
	// LocationKey signs the addresses of packages that GetFunction gives out.
	LocationKey []byte
	Logger      *slog.Logger
	// Ended is ended when no request may wait any longer.
	Ended context.Context
}

// Frontend answers the Lambda API.
type Frontend struct {
	cfg        Config
	operations map[string]handler
	bodies     *semaphore.Weighted
	refusals   *prometheus.CounterVec
}

// New makes a Frontend.
func New(cfg Config) *Frontend {
	f := &Frontend{
		cfg:    cfg,
		bodies: semaphore.NewWeighted(maxBodiesBytes),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kiln_requests_refused_total", Help: "Requests answered with an error, by AWS's code.",
		}, []string{"code"}),
	}
	f.operations = f.handlers()
	return f
}

// Collector gives the frontend's metrics.
func (f *Frontend) Collector() prometheus.Collector { return f.refusals }

// call is one request on the ordinary way.
type call struct {
	id     kiln.RequestID
	caller identity.Caller
	// operation is AWS's name of what is asked.
	operation string
	http      *http.Request
	body      []byte
	// received is when the body was read.
	received time.Time
}

// handler serves one operation: its typed input in, its typed output out.
type handler func(ctx context.Context, c *call, input any) (output any, err error)

// ServeHTTP answers one request on the ordinary way.
func (f *Frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID(cryptoChance{})
	if strings.HasPrefix(r.URL.Path, locationPrefix) && r.Method == http.MethodGet {
		f.serveLocation(w, r, id)
		return
	}
	body, free, err := f.readBody(r, maxBodyBytes)
	if err != nil {
		f.writeError(w, id, nil, err)
		return
	}
	defer free()
	c := &call{id: id, http: r, body: body, received: time.Now()}
	c.caller, err = f.cfg.Identity.Authenticate(identity.FromHTTP(r, body))
	if err != nil {
		f.writeError(w, id, nil, err)
		return
	}
	if c.caller.Service == "sts" {
		f.serveSTS(w, r, c)
		return
	}
	f.serveLambda(w, r, c)
}

func (f *Frontend) serveLambda(w http.ResponseWriter, r *http.Request, c *call) {
	query := r.URL.Query()
	op, params, ok := lambdaapi.Route(r.Method, r.URL.EscapedPath(), query)
	if !ok {
		f.writeError(w, c.id, nil, kiln.Errorf(kiln.KindNotFound, "frontend: route", "No operation of the Lambda API is at %s %s.", r.Method, r.URL.EscapedPath()))
		return
	}
	handle, served := f.operations[op.Name]
	if !served {
		f.writeError(w, c.id, op, kiln.Errorf(kiln.KindUnsupported, "frontend: route", "Kiln does not serve %s yet; docs/operations.md lists what it serves.", op.Name))
		return
	}
	c.operation = op.Name
	input, err := lambdaapi.Decode(op, params, query, r.Header, c.body)
	if err != nil {
		f.writeError(w, c.id, op, err)
		return
	}
	output, err := handle(r.Context(), c, input)
	if err != nil {
		f.writeError(w, c.id, op, err)
		return
	}
	w.Header().Set("x-amzn-RequestId", string(c.id))
	if err := lambdaapi.Encode(w, op, output); err != nil {
		f.cfg.Logger.Debug("answer not written", "request", c.id, "operation", op.Name, "error", err)
	}
}

// readBody reads a request's body of at most limit bytes. free gives its room back.
func (f *Frontend) readBody(r *http.Request, limit int64) (body []byte, free func(), err error) {
	if r.ContentLength > limit && r.Header.Get("Expect") == "" {
		// A client that does not wait for an answer before it sends would lose it, had nobody read on.
		_, _ = io.CopyN(io.Discard, r.Body, 2*kiln.MaxPayloadBytes)
	}
	body, held, err := f.receive(r.Body, r.ContentLength, limit)
	if err == nil {
		return body, func() { f.release(held) }, nil
	}
	f.release(held)
	if _, ours := errors.AsType[*kiln.Error](err); ours {
		return nil, nil, err
	}
	return nil, nil, kiln.Wrap(kiln.KindMalformed, "frontend: read body", "the body ended, or stopped, before its length", err)
}

func tooLarge(limit int64) error {
	e := kiln.Errorf(kiln.KindTooLarge, "frontend: read body", "Request must be smaller than %d bytes", limit)
	e.Reason = "RequestEntityTooLargeException"
	return e
}

// source is where the randomness of ids comes from.
type source interface{ Uint64() uint64 }

// cryptoChance takes each number from the kernel; for requests that are not in a hurry.
type cryptoChance struct{}

func (cryptoChance) Uint64() uint64 {
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	return rand.NewChaCha8(seed).Uint64()
}

// random gives sixteen bytes of a source.
func random(s source) (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:8], s.Uint64())
	binary.LittleEndian.PutUint64(b[8:], s.Uint64())
	return b
}

func newRequestID(s source) kiln.RequestID { return kiln.NewRequestID(random(s)) }

// newTraceID gives the root of a trace in X-Ray's form, not sampled.
func newTraceID(s source, now time.Time) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 56)
	out = append(out, "Root=1-"...)
	for shift := 28; shift >= 0; shift -= 4 {
		out = append(out, digits[now.Unix()>>shift&15])
	}
	out = append(out, '-')
	b := random(s)
	out = hex.AppendEncode(out, b[:12])
	return string(append(out, ";Sampled=0"...))
}
