// Package record writes down what each instance manager of a server was told, when, and a digest of what it decided, so that
// kiln simulate can run the same managers through the same again and find the same decisions.
//
// It decides nothing and reads nothing of a request but what a manager is told of it: no payload, no variable. Package
// pool steps its managers through a Fleet, the server opens and runs the Recorder, and Replay reads the file. Fleets may be
// stepped at once, each behind its own lock; Recorder.mu comes after theirs and is never held while the disk is written.
//
// A manager that is recorded is told times of the recorder's own clock: the wall clock when it was opened and, from there, the
// monotonic one. So a time is the same when it is read back, and never goes back.
package record

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/manager"
)

// Bounds of a record.
const (
	// MaxBytes is the largest file. What comes after is not recorded, and the record says so.
	MaxBytes = 1 << 30
	// pendingMax is how much may wait for the disk; a disk that is slower than that ends the record.
	pendingMax = 64 << 20
	// writeEvery is how long what is recorded waits for the disk at most.
	writeEvery = 100 * time.Millisecond
)

// format is the first thing in a file; another form has another name.
const format = "kiln-record-1"

// Recorder writes one file. Make it with Create.
type Recorder struct {
	file   *os.File
	logger *slog.Logger
	start  time.Time // with a monotonic reading
	kick   chan struct{}

	mu       sync.Mutex
	pending  []byte
	written  int64 // and pending
	fleets   int
	versions map[kiln.VersionID]int
	ended    bool // nothing more is recorded
}

// head is the first line of a file.
type head struct {
	Format string    `json:"format"`
	Start  time.Time `json:"start"`
}

// made is the line of a manager that was made.
type made struct {
	Fleet    int               `json:"fleet"` // counted from 1
	Name     string            `json:"name"`
	Account  kiln.AccountID    `json:"account,omitempty"`
	Node     kiln.NodeID       `json:"node"`
	Settings manager.Settings  `json:"settings"`
	History  *capacity.History `json:"history,omitempty"`
	Table    []byte            `json:"table,omitempty"` // of the learned hazard
}

// known is the line of a version that was not asked for before.
type known struct {
	Version int          `json:"version"` // counted from 1
	Of      kiln.Version `json:"of"`
}

// step is the line of one step.
type step struct {
	Step      int               `json:"step"` // the fleet's number
	At        time.Duration     `json:"at"`   // since the start
	Event     manager.Event     `json:"event"`
	Request   *request          `json:"request,omitempty"`
	Err       *failure          `json:"err,omitempty"`
	Instances []string          `json:"instances,omitempty"` // ids the manager was given in the step
	Boxes     []string          `json:"containers,omitempty"`
	Digest    uint64            `json:"digest"` // of its actions
	Actions   []json.RawMessage `json:"actions,omitempty"`
}

// request is what a manager is told of a request.
type request struct {
	manager.Request
	Of int `json:"of,omitempty"` // its version's number
}

// failure is an error, of which a manager knows the kind and the words.
type failure struct {
	Kind kiln.Kind `json:"kind"`
	Text string    `json:"text"`
}

// ending is the last line of a file that ended before its server.
type ending struct {
	End string `json:"end"`
}

// Create makes the file. KindConflict when there is one already, KindInvalid when it cannot be made.
func Create(path string, logger *slog.Logger) (*Recorder, error) {
	const op = "record: create"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case os.IsExist(err):
		return nil, kiln.Wrap(kiln.KindConflict, op, "There is a file "+path+" already; a record is never written over. Name another, or move it away.", err)
	case err != nil:
		return nil, kiln.Wrap(kiln.KindInvalid, op, "The record "+path+" cannot be made.", err)
	}
	r := &Recorder{file: f, logger: logger, start: time.Now(), kick: make(chan struct{}, 1), versions: make(map[kiln.VersionID]int)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line(head{format, r.start.UTC().Round(0)})
	return r, nil
}

// Run writes what is recorded to the disk until ctx ends, then the rest, and closes the file. The error is the disk's.
func (r *Recorder) Run(ctx context.Context) error {
	ticker := time.NewTicker(writeEvery)
	defer ticker.Stop()
	var spare []byte
	for {
		ending := ctx.Err() != nil
		r.mu.Lock()
		full := r.pending
		r.pending = spare[:0]
		if ending {
			r.ended = true
		}
		r.mu.Unlock()
		if _, err := r.file.Write(full); err != nil {
			r.mu.Lock()
			r.ended, r.pending = true, nil
			r.mu.Unlock()
			_ = r.file.Close() // the writing has failed already
			return kiln.Wrap(kiln.KindUnavailable, "record: write", "The record cannot be written any more.", err)
		}
		spare = full
		if ending {
			return r.file.Close()
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-r.kick:
		}
	}
}

// line appends one line. Called with mu held.
func (r *Recorder) line(v any) {
	if r.ended {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		r.end("a line could not be written: " + err.Error())
		return
	}
	switch {
	case r.written+int64(len(b)) > MaxBytes:
		r.end("the file is as large as it may be")
		return
	case len(r.pending)+len(b) > pendingMax:
		r.end("the disk is too slow")
		return
	}
	r.append(b)
}

func (r *Recorder) append(b []byte) {
	r.pending = append(append(r.pending, b...), '\n')
	r.written += int64(len(b)) + 1
	if len(r.pending) > pendingMax/8 {
		select {
		case r.kick <- struct{}{}:
		default: // it writes already
		}
	}
}

// end records nothing more, and says so in the file and in the log. Called with mu held.
func (r *Recorder) end(why string) {
	r.ended = true
	if b, err := json.Marshal(ending{why}); err == nil {
		r.append(b)
	}
	r.logger.Warn("record ended", "cause", why)
}

// Fleet is one manager that is recorded. It is used behind the lock its manager is used behind.
type Fleet struct {
	recorder  *Recorder
	number    int
	manager   *manager.Manager
	instances []string
	boxes     []string
}

// New makes a manager that is recorded, for a fleet of the account, which is empty for the operator's.
func (r *Recorder) New(account kiln.AccountID, c manager.Config) (*Fleet, *manager.Manager) {
	r.mu.Lock()
	r.fleets++
	f := &Fleet{recorder: r, number: r.fleets}
	m := made{f.number, c.Fleet, account, c.Node, c.Settings, c.History, nil}
	if c.Table != nil {
		m.Table = c.Table.Bytes()
	}
	r.line(m)
	r.mu.Unlock()
	newInstance, newContainer := c.NewInstance, c.NewContainer
	c.NewInstance = func() kiln.InstanceID {
		id := newInstance()
		f.instances = append(f.instances, string(id))
		return id
	}
	c.NewContainer = func() kiln.ContainerID {
		id := newContainer()
		f.boxes = append(f.boxes, string(id))
		return id
	}
	f.manager = manager.New(c)
	return f, f.manager
}

// Step steps the manager now, and records it.
func (f *Fleet) Step(e manager.Event) []manager.Action {
	r := f.recorder
	at := time.Since(r.start)
	s := step{Step: f.number, At: at, Event: e}
	s.Event.Request, s.Event.Err, s.Event.Init.Failure = nil, nil, told(e.Init.Failure)
	if e.Err != nil {
		s.Err = &failure{kiln.KindOf(e.Err), e.Err.Error()}
	}
	if e.Request != nil { // before the step, which writes into it
		s.Request = &request{Request: asked(e.Request)}
	}
	var version *kiln.Version
	if e.Request != nil {
		version = e.Request.Version
	}
	f.instances, f.boxes = nil, nil
	actions := f.manager.Step(r.start.UTC().Round(0).Add(at), e)
	s.Digest = digest(actions)
	s.Instances, s.Boxes = f.instances, f.boxes
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Request != nil && version != nil {
		s.Request.Of = r.version(version)
	}
	r.line(s)
	return actions
}

// version gives a version's number, and writes it down the first time. Called with mu held.
func (r *Recorder) version(v *kiln.Version) int {
	id := v.ID()
	n := r.versions[id]
	if n == 0 {
		n = len(r.versions) + 1
		r.versions[id] = n
		plain := *v
		plain.Environment, plain.Kept, plain.Description, plain.Role = nil, nil, "", ""
		r.line(known{n, plain})
	}
	return n
}

// asked is what a manager is told of a request: the first part of it, as exported fields.
func asked(r *manager.Request) manager.Request {
	return manager.Request{ID: r.ID, MemoryMiB: r.MemoryMiB, Driver: r.Driver, Runtime: r.Runtime, Fresh: r.Fresh}
}

// told is what a manager is told of a failed initialisation, without what the function said.
func told(f *kiln.Failure) *kiln.Failure {
	if f == nil {
		return nil
	}
	return &kiln.Failure{Outcome: f.Outcome, Type: f.Type}
}
