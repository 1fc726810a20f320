package invoke

import (
	"bytes"
	"slices"
	"time"

	"kiln"
	"kiln/internal/ledger"
)

const (
	// lineMark stands before and behind the request at the beginning of a line: so our bootstraps tell whose line it is where
	// a container runs several executions at once. It is taken off.
	lineMark = 0x1e
	// formerRuns is how many executions that have ended are remembered in a container, for lines that come behind them.
	formerRuns = 2 * kiln.MaxConcurrency
)

// several is a stream's part of a container that runs several executions at once: they print on one pipe. A line belongs to
// the execution it is marked with; else to one under way whose id is in it, as in AWS's own log formats; else to the only
// one under way; else to the function, and to no execution.
type several struct {
	runs   []*run // under way, the first begun first
	former []kiln.RequestID
}

// run is one execution under way.
type run struct {
	request kiln.RequestID
	version string // its START line is still to be written; empty when it is
}

// beginBeside is begin where others may be under way. mu is held.
func (s *stream) beginBeside(version *kiln.Version, request kiln.RequestID) {
	if s.several == nil {
		s.several = &several{}
	}
	s.several.runs = append(s.several.runs, &run{request, version.Number})
}

// openBeside writes an execution's START line when it has not been written, and behind the first one what the container
// printed before. mu is held.
func (s *stream) openBeside(now time.Time, request kiln.RequestID) {
	r := s.several.find(request)
	if r == nil || r.version == "" {
		return
	}
	s.log.Start(now, s.id, request, r.version)
	r.version = ""
	early := s.early
	s.early = nil
	for line := range bytes.Lines(early) {
		s.log.Write(ledger.Line{Time: now, Container: s.id, RequestID: request, Text: string(bytes.TrimSuffix(line, []byte{'\n'}))})
	}
}

// endBeside closes an execution's lines. mu is held.
func (s *stream) endBeside(now time.Time, request kiln.RequestID) {
	if len(s.several.runs) == 1 {
		s.flush(now)
	}
	s.openBeside(now, request)
	s.several.drop(request)
	s.several.former = append(s.several.former, request)
	if extra := len(s.several.former) - formerRuns; extra > 0 {
		s.several.former = slices.Delete(s.several.former, 0, extra)
	}
}

func (m *several) find(request kiln.RequestID) *run {
	for _, r := range m.runs {
		if r.request == request {
			return r
		}
	}
	return nil
}

// drop forgets an execution. A nil one has none.
func (m *several) drop(request kiln.RequestID) {
	if m != nil {
		m.runs = slices.DeleteFunc(m.runs, func(r *run) bool { return r.request == request })
	}
}

// owner finds the execution of a line, and gives the line without its mark.
func (m *several) owner(line []byte) (kiln.RequestID, []byte) {
	if len(line) > 0 && line[0] == lineMark {
		if id, rest, ok := bytes.Cut(line[1:], []byte{lineMark}); ok {
			request := kiln.RequestID(id)
			if m.find(request) != nil || slices.Contains(m.former, request) {
				return request, rest
			}
		}
	}
	for _, r := range m.runs {
		if bytes.Contains(line, []byte(r.request)) {
			return r.request, line
		}
	}
	if len(m.runs) == 1 {
		return m.runs[0].request, line
	}
	return "", line
}
