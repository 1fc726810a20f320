// Package invoke is where every door and every trigger comes through: it resolves what a request names, admits it within
// its account's limits, acquires a container, hands the event to the code, and records what happened.
//
// It is not the place where capacity is decided (pool and below) nor where requests are read or answers written
// (frontend). Called by frontend and operations, and told by server what containers print. Safe concurrently; its only
// lock is admission's, held for a few counters.
package invoke

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"kiln"
	"kiln/internal/admission"
	"kiln/internal/fleet"
	"kiln/internal/ledger"
	"kiln/internal/node"
	"kiln/internal/pool"
	"kiln/internal/registry"
)

// tries is how many containers one request may be given: a second one only when the first certainly never saw the event.
const tries = 3

// Config is what an Invoker needs.
type Config struct {
	Registry *registry.Registry
	Pool     *pool.Pool
	Node     *node.Node
	Ledger   *ledger.Ledger
	// Count counts a request for a registered function, and gives its instant and where the function stands. It must not
	// block. Nil when nobody counts.
	Count func(fleet.Code, fleet.Pin) (time.Time, fleet.Standing)
	// AccountLimit bounds an account's executions at once.
	AccountLimit int
	Region       string
	Logger       *slog.Logger
}

// Request is one request for an execution.
type Request struct {
	ID      kiln.RequestID
	Caller  kiln.AccountID
	Trigger kiln.Trigger
	// Account, Function and Qualifier name the code. Qualifier may be empty.
	Account   kiln.AccountID
	Function  string
	Qualifier string
	// Version, when not nil, is code that the request itself carried and that is registered nowhere.
	Version *kiln.Version
	// Payload is the event: JSON, or empty for {}.
	Payload []byte
	// MemoryMiB is the amount asked for this execution alone; 0 when the request is silent.
	MemoryMiB int
	// ClientContext is JSON, empty when there is none.
	ClientContext []byte
	TraceID       string
	// Tail asks for the end of the log.
	Tail     bool
	Received time.Time
}

// Result is what became of a request that was admitted. A failing function is a result.
type Result struct {
	Payload []byte
	// Failed is true when the payload describes a failure.
	Failed bool
	// LogTail is the end of the execution's log, at most TailBytes, when it was asked for.
	LogTail []byte
	Record  kiln.Record
}

// Headers gives the header fields by which every door tells the result, in order: AWS's own and Kiln's. A range function.
func (r *Result) Headers(yield func(name, value string) bool) {
	rec := &r.Record
	_ = yield("X-Amz-Executed-Version", rec.VersionExecuted) &&
		(!r.Failed || yield("X-Amz-Function-Error", "Unhandled")) &&
		(r.LogTail == nil || yield("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(r.LogTail))) &&
		yield("X-Kiln-Acquisition-Path", string(rec.Path)) &&
		yield("X-Kiln-Instance", string(rec.Instance)) &&
		yield("X-Kiln-Container", string(rec.Container)) &&
		yield("X-Kiln-Fleet", rec.Fleet) &&
		yield("X-Kiln-Node", string(rec.Node))
}

// Invoker executes requests.
type Invoker struct {
	cfg     Config
	streams streams // its own locks, one a container

	mu       sync.Mutex
	admitted map[kiln.AccountID]*admission.Counter // guarded by mu
}

// New makes an Invoker that holds to the registry's reservations. Of those that change later it is told by Reserve.
func New(cfg Config) *Invoker {
	v := &Invoker{cfg: cfg, admitted: map[kiln.AccountID]*admission.Counter{}, streams: streams{ledger: cfg.Ledger}}
	for r := range cfg.Registry.Reservations() {
		v.Reserve(r)
	}
	return v
}

// Executing is how many executions of a version, by its number, are admitted now.
func (v *Invoker) Executing(account kiln.AccountID, function, number string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if counter := v.admitted[account]; counter != nil {
		return counter.Executing(function, number)
	}
	return 0
}

// Reserve takes a function's terms that have changed, or a function that was deleted. It is the registry's Reserved, and
// never blocks.
func (v *Invoker) Reserve(r registry.Reservation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	counter := v.counter(r.Account)
	if r.Deleted {
		counter.Forget(r.Function)
		return
	}
	counter.Set(r.Function, r.Terms)
}

// Resolve finds the version a request names, without executing it. Kinds: KindNotFound, KindConflict (not yet active).
func (v *Invoker) Resolve(account kiln.AccountID, function, qualifier string) (*kiln.Version, error) {
	resolved, err := v.cfg.Registry.Resolve(account, function, qualifier)
	if err != nil {
		return nil, err
	}
	return resolved.Version, nil
}

// Invoke executes a request and fills res. It blocks until the code has answered, failed, or was never started; ctx ends
// the wait for a container, never running code. Kinds: KindInvalid and KindMalformed (the request), KindNotFound and
// KindConflict (the function), KindThrottled, KindUnavailable, KindInternal.
func (v *Invoker) Invoke(ctx context.Context, req *Request, res *Result) error {
	version, pin, memory, err := v.check(req)
	if err != nil {
		return err
	}
	resolved, standing := v.count(req, version, pin)
	res.Record = kiln.Record{
		RequestID: req.ID, Account: version.Account, Function: version.Function, Trigger: req.Trigger,
		VersionAsked: req.Qualifier, VersionExecuted: version.Number, RuntimeAsked: version.Runtime,
		Memory: kiln.MemoryRecord{AskedMiB: memory}, RequestBytes: len(req.Payload),
	}
	rec := &res.Record
	rec.Times.Received.Time, rec.Times.Resolved.Time = req.Received, resolved
	grant, err := v.admit(version)
	if err != nil {
		v.refused(rec, err)
		return err
	}
	defer v.dismiss(version, grant)
	rec.Times.Admitted.Time = time.Now()
	need := pool.Need{RequestID: req.ID, Version: version, MemoryMiB: memory, Fresh: version.StartsFresh(),
		Fleet: standing.Serves.String(), Near: standing.Near}
	err = v.execute(ctx, req, need, res)
	if err != nil {
		v.refused(rec, err)
		return err
	}
	rec.Times.Answered.Time = time.Now()
	v.cfg.Ledger.Append(rec)
	return nil
}

// check resolves the code and reads the amounts and the event.
func (v *Invoker) check(req *Request) (version *kiln.Version, pin fleet.Pin, memory int, err error) {
	const op = "invoke: check request"
	version = req.Version
	if version == nil {
		resolved, err := v.cfg.Registry.Resolve(req.Account, req.Function, req.Qualifier)
		if err != nil {
			return nil, pin, 0, err
		}
		version, pin = resolved.Version, resolved.Pin
	}
	if len(req.Payload) == 0 {
		req.Payload = []byte("{}")
	} else if !json.Valid(req.Payload) {
		return nil, pin, 0, kiln.Errorf(kiln.KindMalformed, op, "Could not parse request body into json: %s", jsonFault(req.Payload))
	}
	memory = version.MemoryMiB
	asked, err := memoryAsked(req)
	if err != nil {
		return nil, pin, 0, err
	}
	if asked != 0 {
		memory = asked
	}
	return version, pin, memory, nil
}

// count counts a request to its function's usage. Code that came with its request has none, and low-volume serves it.
func (v *Invoker) count(req *Request, version *kiln.Version, pin fleet.Pin) (time.Time, fleet.Standing) {
	if v.cfg.Count == nil || req.Version != nil {
		return time.Time{}, fleet.Standing{}
	}
	return v.cfg.Count(fleet.Code{Account: version.Account, Function: version.Function}, pin)
}

// memoryAsked gives the amount the request states for itself, from its own header or its client context; 0 when silent.
func memoryAsked(req *Request) (int, error) {
	const op = "invoke: read amount"
	asked := req.MemoryMiB
	if asked == 0 && bytes.Contains(req.ClientContext, []byte(`"kiln:memory"`)) {
		var wishes struct {
			Custom struct {
				Memory json.RawMessage `json:"kiln:memory"`
			} `json:"custom"`
		}
		if err := json.Unmarshal(req.ClientContext, &wishes); err != nil {
			return 0, kiln.Wrap(kiln.KindInvalid, op, "the client context is not a JSON object", err)
		}
		if len(wishes.Custom.Memory) > 0 {
			n, err := strconv.Atoi(string(bytes.Trim(wishes.Custom.Memory, `"`)))
			if err != nil {
				return 0, kiln.Errorf(kiln.KindInvalid, op, "kiln:memory in the client context must be a whole number of MiB")
			}
			asked = n
			if n == 0 {
				asked = -1
			}
		}
	}
	if asked != 0 && (asked < kiln.MinMemoryMiB || asked > kiln.MaxMemoryMiB) {
		return 0, kiln.Errorf(kiln.KindInvalid, op, "the memory asked for must be between %d and %d MiB", kiln.MinMemoryMiB, kiln.MaxMemoryMiB)
	}
	return asked, nil
}

func jsonFault(b []byte) string {
	var into any
	if err := json.Unmarshal(b, &into); err != nil {
		return err.Error()
	}
	return "not JSON"
}

func (v *Invoker) admit(version *kiln.Version) (admission.Grant, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counter(version.Account).Acquire(version.Function, version.Number)
}

// counter gives an account's counter. mu is held.
func (v *Invoker) counter(account kiln.AccountID) *admission.Counter {
	counter := v.admitted[account]
	if counter == nil {
		counter = admission.NewCounter(v.cfg.AccountLimit)
		v.admitted[account] = counter
	}
	return counter
}

func (v *Invoker) dismiss(version *kiln.Version, grant admission.Grant) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.admitted[version.Account].Release(grant)
}

// execute acquires a container, has it execute the event and fills the record. Only when the event was certainly never
// seen by the code is another container tried.
func (v *Invoker) execute(ctx context.Context, req *Request, need pool.Need, res *Result) error {
	rec, version := &res.Record, need.Version
	for range tries {
		lease, err := v.cfg.Pool.Acquire(ctx, need)
		if err != nil {
			return err
		}
		noteLease(rec, &lease)
		stream := v.streams.of(lease.Container)
		if lease.Init.Failure != nil {
			fill(rec, &lease, &kiln.Answer{Failure: ofRequest(lease.Init.Failure, req.ID)}, res)
			stream.begin(version, req.ID)
			stream.end(rec)
			v.tail(req, version, res)
			return nil
		}
		stream.begin(version, req.ID)
		answer := v.cfg.Node.Execute(ctx, lease.Container, &kiln.Delivery{
			RequestID: req.ID, Payload: req.Payload, Deadline: time.Now().Add(version.Timeout()),
			ARN:     kiln.FunctionARN(v.cfg.Region, version.Account, version.Function, req.Qualifier),
			TraceID: req.TraceID, ClientContext: string(req.ClientContext),
		})
		if answer.Undelivered {
			stream.forgo(req.ID)
			v.cfg.Pool.Release(&lease, answer.Lost)
			continue
		}
		rec.CPUMs = kiln.Millis(answer.Usage.CPUNanos - answer.Before.CPUNanos)
		rec.ThrottledMs = kiln.Millis(answer.Usage.ThrottledNanos - answer.Before.ThrottledNanos)
		fill(rec, &lease, &answer, res)
		// The log is closed before the container is given back: the next execution's lines come behind ours.
		stream.end(rec)
		v.cfg.Pool.Release(&lease, answer.Lost)
		v.tail(req, version, res)
		return nil
	}
	return kiln.Errorf(kiln.KindInternal, "invoke: deliver event", "no container took the event; try again")
}

func noteLease(rec *kiln.Record, l *pool.Lease) {
	rec.Times.Acquired.Time = time.Now()
	rec.Fleet, rec.Node, rec.Instance, rec.Container = l.Fleet, l.Node, l.Instance, l.Container
	rec.Driver, rec.RuntimeUsed, rec.Path, rec.Choice = l.Driver, l.Runtime, l.Path, l.Choice
	rec.Memory.AllocatedMiB = l.Amounts.MemoryMiB
	rec.InitMs = kiln.Millis(l.Init.Duration)
}

// fill turns an answer into the rest of the record and the result.
func fill(rec *kiln.Record, l *pool.Lease, a *kiln.Answer, res *Result) {
	rec.Times.CodeStart.Time, rec.Times.CodeEnd.Time = a.Start, a.End
	rec.Memory.UsedBytes = a.Usage.MemoryPeakBytes
	if !a.Start.IsZero() && !a.End.IsZero() {
		rec.DurationMs = kiln.Millis(a.End.Sub(a.Start))
	}
	rec.BilledMs = kiln.Millis((time.Duration(rec.DurationMs) + l.Init.Duration + time.Millisecond - 1).Truncate(time.Millisecond))
	rec.Outcome, res.Payload = kiln.OutcomeSuccess, a.Payload
	if f := a.Failure; f != nil {
		res.Failed, res.Payload = true, f.Payload
		rec.Outcome, rec.ErrorType, rec.ErrorMessage = f.Outcome, f.Type, errorMessage(f.Payload)
	}
	rec.ResponseBytes = len(res.Payload)
}

// tail gives the end of the execution's log when it was asked for.
func (v *Invoker) tail(req *Request, version *kiln.Version, res *Result) {
	if !req.Tail {
		return
	}
	res.LogTail = []byte{}
	for _, line := range v.cfg.Ledger.Log(version.Account, version.Function).Tail(ledger.Tail{Bytes: TailBytes, RequestID: req.ID}) {
		res.LogTail = append(append(res.LogTail, line.Text...), '\n')
	}
}

// maxErrorMessage bounds what a record keeps of a function's own error message, in bytes.
const maxErrorMessage = 512

func errorMessage(payload []byte) string {
	var body struct {
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal(payload, &body)
	if len(body.Message) > maxErrorMessage {
		body.Message = string(bytes.ToValidUTF8([]byte(body.Message[:maxErrorMessage]), nil))
	}
	return body.Message
}

// refused records a request for which no code ran.
func (v *Invoker) refused(rec *kiln.Record, err error) {
	rec.Outcome = kiln.OutcomeFailed
	if kiln.KindOf(err) == kiln.KindThrottled {
		rec.Outcome = kiln.OutcomeThrottled
	}
	rec.ErrorMessage = "the request failed inside Kiln"
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		rec.ErrorType, rec.ErrorMessage = e.Reason, e.Message // the cause is the operator's, and the record its owner's
	}
	rec.Times.Answered.Time = time.Now()
	v.cfg.Ledger.Append(rec)
}

// ofRequest gives a failed initialisation as the request that waited for it sees it: AWS names the request in what the
// platform says, and leaves the function's own errors as they are.
func ofRequest(f *kiln.Failure, id kiln.RequestID) *kiln.Failure {
	switch f.Type {
	case "Runtime.ExitError", "Runtime.InvalidEntrypoint", "Runtime.OutOfMemory", "Sandbox.Timedout":
	default:
		return f
	}
	var body struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(f.Payload, &body) != nil || strings.HasPrefix(body.Message, "RequestId: ") {
		return f
	}
	body.Message = "RequestId: " + string(id) + " Error: " + body.Message
	payload, err := json.Marshal(body)
	if err != nil {
		return f
	}
	return &kiln.Failure{Outcome: f.Outcome, Type: f.Type, Payload: payload}
}
