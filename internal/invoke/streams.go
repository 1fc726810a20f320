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
)

// streams is where containers' output goes: each container's lines into its function's log, under the request that runs.
type streams struct {
	ledger *ledger.Ledger
	byID   sync.Map // kiln.ContainerID → *stream
}

// stream is the output of one container. One execution at a time writes its marks; output comes from the driver.
type stream struct {
	mu      sync.Mutex
	log     *ledger.Log    // nil until the first execution; guarded by mu
	request kiln.RequestID // of the execution that runs; guarded by mu
	partial []byte         // a line whose end has not come; guarded by mu
	early   []byte         // printed before there was a log; guarded by mu
	usage   kiln.Usage     // at the end of the last execution; guarded by mu
}

func (s *streams) of(id kiln.ContainerID) *stream {
	if v, ok := s.byID.Load(id); ok {
		return v.(*stream)
	}
	v, _ := s.byID.LoadOrStore(id, new(stream))
	return v.(*stream)
}

// Output takes what a container printed. It is a driver's Output, and never blocks.
func (v *Invoker) Output(id kiln.ContainerID, text []byte) {
	s := v.streams.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		room := maxEarlyBytes - len(s.early)
		s.early = append(s.early, text[:min(len(text), room)]...)
		return
	}
	s.write(text)
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
		s.flush(now)
		text = text[end+1:]
	}
}

// flush ends the line that has not ended itself. mu is held.
func (s *stream) flush(now time.Time) {
	s.log.Write(ledger.Line{Time: now, RequestID: s.request, Text: string(s.partial)})
	s.partial = s.partial[:0]
}

// begin marks the start of an execution. What the container printed before its first one comes first, under its request.
func (s *streams) begin(id kiln.ContainerID, version *kiln.Version, request kiln.RequestID) *stream {
	st := s.of(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.request = request
	if st.log == nil {
		st.log = s.ledger.Log(version.Account, version.Function)
		st.write(st.early)
		st.early = nil
	}
	if len(st.partial) > 0 {
		st.flush(time.Now())
	}
	st.log.Start(time.Now(), id, request, version.Number)
	return st
}

// note keeps the container's usage and gives what it was before.
func (s *stream) note(now kiln.Usage) (before kiln.Usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.usage = s.usage, now
	return before
}

// end marks the end of an execution and gives the end of its log when it was asked for.
func (s *streams) end(id kiln.ContainerID, version *kiln.Version, rec *kiln.Record, tail bool) []byte {
	st := s.of(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now()
	if st.log == nil { // the initialisation failed: there was no start
		st.log, st.request = s.ledger.Log(version.Account, version.Function), rec.RequestID
		st.write(st.early)
		st.early = nil
		st.log.Start(now, id, rec.RequestID, version.Number)
	}
	if len(st.partial) > 0 {
		st.flush(now)
	}
	if rec.Outcome != kiln.OutcomeSuccess && rec.Outcome != kiln.OutcomeError {
		st.log.Write(ledger.Line{Time: now, Container: id, RequestID: rec.RequestID, Text: platformLine(rec)})
	}
	st.log.End(now, id, rec.RequestID)
	st.log.Report(now, rec)
	if !tail {
		return nil
	}
	return tailOf(st.log, rec.RequestID)
}

// platformLine is what AWS writes into the log of an execution it had to end.
func platformLine(rec *kiln.Record) string {
	if rec.Outcome == kiln.OutcomeTimeout {
		return rec.Times.CodeEnd.UTC().Format("2006-01-02T15:04:05.000Z") + " " + rec.ErrorMessage
	}
	return rec.ErrorMessage
}

func tailOf(log *ledger.Log, id kiln.RequestID) []byte {
	var out []byte
	for _, line := range log.Tail(ledger.Tail{Bytes: TailBytes, RequestID: id}) {
		out = append(append(out, line.Text...), '\n')
	}
	return out
}

// Forget lets go of what is kept for a container that has ended.
func (v *Invoker) Forget(id kiln.ContainerID) {
	v.streams.byID.Delete(id)
}
