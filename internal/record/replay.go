package record

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/retention"
)

// maxLine is the longest line of a record, in bytes.
const maxLine = 16 << 20

// Replayed is what running a record again was.
type Replayed struct {
	Fleets    int    `json:"fleets"`
	Steps     int    `json:"steps"`
	Requests  int    `json:"requests"`
	Decisions int    `json:"decisions"` // actions
	Same      int    `json:"same"`      // steps that decided what was recorded
	Ended     string `json:"ended,omitempty"`
	// Differs says where the first step is that decided otherwise, and what; empty when none did.
	Differs string `json:"differs,omitempty"`
}

// Is says whether a file begins as a record does.
func Is(begin []byte) bool { return bytes.HasPrefix(begin, []byte(`{"format":"`+format+`"`)) }

// replayer is one record being run again.
type replayer struct {
	out      Replayed
	start    time.Time
	fleets   []*replayed
	versions []*kiln.Version
	line     int
}

type replayed struct {
	name      string
	manager   *manager.Manager
	instances []string // ids the step at hand is given
	boxes     []string
	requests  map[kiln.RequestID]*manager.Request // that wait
}

// Replay runs the managers of a record through it again and compares what they decide. KindInvalid when it is no record or
// broken; a record cut off in its last line is one up to there.
func Replay(ctx context.Context, from io.Reader) (_ Replayed, err error) {
	defer func() {
		if broken := recover(); broken != nil { // a manager told what no manager can be told
			err = kiln.Errorf(kiln.KindInvalid, "record: replay", "The record tells a manager what cannot be: %v.", broken)
		}
	}()
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 1<<16), maxLine)
	r := &replayer{}
	for lines.Scan() {
		if err := context.Cause(ctx); err != nil {
			return r.out, kiln.Wrap(kiln.KindUnavailable, "record: replay", "The replay was broken off.", err)
		}
		r.line++
		if err := r.take(lines.Bytes()); err != nil {
			if _, cut := err.(*json.SyntaxError); cut && !lines.Scan() {
				r.out.Ended = "cut off"
				break
			}
			return r.out, kiln.Wrap(kiln.KindInvalid, "record: replay", fmt.Sprintf("Line %d of the record: %s.", r.line, err), err)
		}
	}
	if err := lines.Err(); err != nil {
		return r.out, kiln.Wrap(kiln.KindInvalid, "record: replay", "The record cannot be read.", err)
	}
	if r.line == 0 {
		return r.out, kiln.Errorf(kiln.KindInvalid, "record: replay", "The record is empty.")
	}
	return r.out, nil
}

// take runs one line.
func (r *replayer) take(b []byte) error {
	if r.line == 1 {
		var h head
		if !Is(b) {
			return fmt.Errorf("it is not the first line of a record")
		}
		if err := json.Unmarshal(b, &h); err != nil {
			return err
		}
		r.start = h.Start.UTC()
		return nil
	}
	var l struct {
		made
		known
		step
		ending
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	switch {
	case l.Fleet > 0:
		return r.made(&l.made)
	case l.Version > 0:
		if l.Version != len(r.versions)+1 {
			return fmt.Errorf("version %d follows %d", l.Version, len(r.versions))
		}
		r.versions = append(r.versions, &l.known.Of)
		return nil
	case l.Step > 0 && l.Step <= len(r.fleets):
		return r.step(r.fleets[l.Step-1], &l.step)
	case l.End != "":
		r.out.Ended = l.End
		return nil
	}
	return fmt.Errorf("it is no line of a record")
}

func (r *replayer) made(m *made) error {
	if m.Fleet != len(r.fleets)+1 {
		return fmt.Errorf("fleet %d follows %d", m.Fleet, len(r.fleets))
	}
	var table *retention.Table
	if m.Table != nil {
		var err error
		if table, err = retention.ParseTable(m.Table); err != nil {
			return err
		}
	}
	f := &replayed{name: m.Name, requests: make(map[kiln.RequestID]*manager.Request)}
	next := func(ids *[]string) string {
		if len(*ids) == 0 {
			return "one-more-than-recorded"
		}
		id := (*ids)[0]
		*ids = (*ids)[1:]
		return id
	}
	f.manager = manager.New(manager.Config{
		Fleet: m.Name, Node: m.Node, Settings: m.Settings, History: m.History, Table: table,
		NewInstance:  func() kiln.InstanceID { return kiln.InstanceID(next(&f.instances)) },
		NewContainer: func() kiln.ContainerID { return kiln.ContainerID(next(&f.boxes)) },
	})
	r.fleets = append(r.fleets, f)
	r.out.Fleets++
	return nil
}

// step runs one step and compares.
func (r *replayer) step(f *replayed, s *step) error {
	e := s.Event
	if s.Err != nil {
		e.Err = &kiln.Error{Kind: s.Err.Kind, Cause: words(s.Err.Text)}
		e.Err = same{s.Err.Text, e.Err}
	}
	if s.Request != nil {
		q, err := r.request(f, s.Request)
		if err != nil {
			return err
		}
		e.Request = q
		if e.Kind == manager.Requested {
			f.requests[q.ID] = q
			r.out.Requests++
		}
	}
	f.instances, f.boxes = s.Instances, s.Boxes
	actions := f.manager.Step(r.start.Add(s.At), e)
	r.out.Steps++
	r.out.Decisions += len(actions)
	for i := range actions {
		if a := &actions[i]; a.Kind == manager.Deliver || a.Kind == manager.Refuse {
			delete(f.requests, a.Request.ID)
		}
	}
	if e.Kind == manager.Cancelled {
		delete(f.requests, s.Request.ID)
	}
	if digest(actions) == s.Digest && len(f.instances)+len(f.boxes) == 0 {
		r.out.Same++
		return nil
	}
	if r.out.Differs == "" {
		r.out.Differs = fmt.Sprintf("line %d, fleet %s, event %d: the decisions are", r.line, f.name, e.Kind)
		for i := range actions {
			r.out.Differs += " " + string(written(&actions[i]))
		}
	}
	return nil
}

// request gives the request a step is about: the one that waits, or a new one.
func (r *replayer) request(f *replayed, q *request) (*manager.Request, error) {
	if waiting := f.requests[q.ID]; waiting != nil {
		return waiting, nil
	}
	if q.Of < 1 || q.Of > len(r.versions) {
		return nil, fmt.Errorf("request %s is for version %d of %d", q.ID, q.Of, len(r.versions))
	}
	out := asked(&q.Request)
	out.Version = r.versions[q.Of-1]
	return &out, nil
}

// same is an error with the words of the recorded one and its kind.
type same struct {
	text string
	kind error
}

func (e same) Error() string { return e.text }
func (e same) Unwrap() error { return e.kind }

type words string

func (w words) Error() string { return string(w) }
