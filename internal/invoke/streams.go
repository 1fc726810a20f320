package invoke

import (
	"bytes"
	"sync"
	"time"

	"kiln"
	"kiln/internal/ledger"
)

// Bounds of what is kept of containers' output.
const (
	// TailBytes is the most of a log that an answer carries (AWS: the last 4 KB).
	TailBytes = 4 << 10
	// maxEarlyBytes bounds what a container may print before its first execution and is kept until then.
	maxEarlyBytes = 64 << 10
	// maxPartialBytes bounds a line without an end; the rest becomes further lines.
	maxPartialBytes = 16 << 10
	// endedStreams is how many ended containers' streams are kept: the request whose container has just ended still
	// closes its log.
	endedStreams = 256
)

// streams is where containers' output goes: each container's lines into its function's log, under the request that runs.
// There is one for a container from its creation until a while after its end; what comes later is nobody's.
type streams struct {
	ledger *ledger.Ledger
	byID   sync.Map // kiln.ContainerID → *stream

	mu    sync.Mutex
	ended []kiln.ContainerID // the latest last; guarded by mu
}

// stream is the output of one container. One execution at a time writes its marks, unless the container runs several (see
// beside.go); output comes from the driver.
type stream struct {
	ledger *ledger.Ledger
	id     kiln.ContainerID

	mu      sync.Mutex
	log     *ledger.Log    // nil until the first execution; guarded by mu
	request kiln.RequestID // of the execution that runs, or ran last; guarded by mu
	start   string         // the version whose START line is still to be written; guarded by mu
	partial []byte         // a line whose end has not come; guarded by mu
	early   []byte         // printed before the first START line; guarded by mu
	several *several       // nil unless the container runs several executions at once; guarded by mu
}

// Created makes the stream of a container that is about to be made.
func (v *Invoker) Created(id kiln.ContainerID) {
	v.streams.byID.LoadOrStore(id, &stream{ledger: v.cfg.Ledger, id: id})
}

// Ended lets go of an ended container's stream, once as many others have ended as are kept.
func (v *Invoker) Ended(id kiln.ContainerID) {
	s := &v.streams
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, id)
	if len(s.ended) > endedStreams {
		s.byID.Delete(s.ended[0])
		s.ended = append(s.ended[:0], s.ended[1:]...)
	}
}

// of gives a container's stream: one that nobody else sees, when its own is gone.
func (s *streams) of(id kiln.ContainerID) *stream {
	if v, ok := s.byID.Load(id); ok {
		return v.(*stream)
	}
	return &stream{ledger: s.ledger, id: id}
}

// Output takes what a container printed. It is a driver's Output, and never blocks.
func (v *Invoker) Output(id kiln.ContainerID, text []byte) {
	found, ok := v.streams.byID.Load(id)
	if !ok {
		return
	}
	s := found.(*stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		room := maxEarlyBytes - len(s.early)
		s.early = append(s.early, text[:min(len(text), room)]...)
		return
	}
	if s.several == nil {
		s.open(time.Now())
	}
	s.write(text)
}

// begin marks the start of an execution. A line the execution before left open is closed under that one's request.
func (s *stream) begin(version *kiln.Version, request kiln.RequestID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		s.log = s.ledger.Log(version.Account, version.Function)
	}
	if version.Slots() > 1 {
		s.beginBeside(version, request)
		return
	}
	s.flush(time.Now())
	s.request, s.start = request, version.Number
}

// open writes the START line when it has not been written. What the container printed before its first execution follows,
// so that it belongs to the request that waited for it, and to its tail. mu is held.
func (s *stream) open(now time.Time) {
	if s.start == "" {
		return
	}
	s.log.Start(now, s.id, s.request, s.start)
	s.start = ""
	s.write(s.early)
	s.flush(now)
	s.early = nil
}

// forgo takes a start back: the code never saw the event, and another container may.
func (s *stream) forgo(request kiln.RequestID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start = ""
	s.several.drop(request)
}

// end marks the end of an execution.
func (s *stream) end(rec *kiln.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.several != nil {
		s.endBeside(now, rec.RequestID)
	} else {
		s.open(now)
		s.flush(now)
	}
	if rec.Outcome != kiln.OutcomeSuccess && rec.Outcome != kiln.OutcomeError {
		s.log.Write(ledger.Line{Time: now, Container: s.id, RequestID: rec.RequestID, Text: platformLine(rec)})
	}
	s.log.End(now, s.id, rec.RequestID)
	s.log.Report(now, rec)
}

// write adds text to the log line by line. mu is held.
func (s *stream) write(text []byte) {
	now := time.Now()
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			s.partial = append(s.partial, text...)
			if len(s.partial) > maxPartialBytes {
				s.flush(now)
			}
			return
		}
		s.partial = append(s.partial, text[:end]...)
		s.line(now)
		text = text[end+1:]
	}
}

// line ends a line, empty ones too. mu is held.
func (s *stream) line(now time.Time) {
	request, text := s.request, s.partial
	if s.several != nil {
		request, text = s.several.owner(text)
		s.openBeside(now, request)
	}
	s.log.Write(ledger.Line{Time: now, Container: s.id, RequestID: request, Text: string(text)})
	s.partial = s.partial[:0]
}

// flush ends the line that has not ended itself, if there is one. mu is held.
func (s *stream) flush(now time.Time) {
	if len(s.partial) > 0 {
		s.line(now)
	}
}

// platformLine is what AWS writes into the log of an execution it had to end.
func platformLine(rec *kiln.Record) string {
	if rec.Outcome == kiln.OutcomeTimeout {
		return rec.Times.CodeEnd.UTC().Format("2006-01-02T15:04:05.000Z") + " " + rec.ErrorMessage
	}
	return rec.ErrorMessage
}
