package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"time"

	"kiln"
)

const (
	// DefaultLimit and MaxLimit bound the items of one answer.
	DefaultLimit = 100
	MaxLimit     = 1000
	// maxRead bounds the lines one call reads from disk; a list that needs more goes on at its next token.
	maxRead = 20_000
	// maxSegmentsListed bounds the files one call looks into.
	maxSegmentsListed = 16
	// maxScan bounds how long one call reads old files, the wait for its turn included.
	maxScan = 3 * time.Second
	// maxScans bounds the calls that read old files at the same time; others wait.
	maxScans = 4
)

var errScan = errors.New("a search of old files took too long")

// Filter chooses execution records. Zero fields choose all.
type Filter struct {
	Account   kiln.AccountID
	Function  string
	Version   string // the version executed
	Fleet     string
	Instance  kiln.InstanceID
	Container kiln.ContainerID
	RequestID kiln.RequestID
	Outcome   kiln.Outcome
	Path      kiln.Path
	// Since and Until bound the time the request was received: Since ≤ received < Until.
	Since, Until time.Time
	// Limit bounds the answer; DefaultLimit when zero, at most MaxLimit.
	Limit int
	// Next goes on where an earlier answer ended.
	Next string
}

// EventFilter chooses events. Zero fields choose all.
type EventFilter struct {
	Account   kiln.AccountID
	Function  string
	Instance  kiln.InstanceID
	Container kiln.ContainerID
	RequestID kiln.RequestID
	Kind      kiln.EventKind
	// Since and Until bound the time: Since ≤ time < Until.
	Since, Until time.Time
	// Limit bounds the answer; DefaultLimit when zero, at most MaxLimit.
	Limit int
	// Next goes on where an earlier answer ended.
	Next string
}

// CheckNext says whether next is a token of an earlier answer of Executions or of Events. Kinds: KindInvalid.
func CheckNext(next string) error {
	if next == "" {
		return nil
	}
	if _, err := parseCursor('e', next); err == nil {
		return nil
	}
	_, err := parseCursor('x', next)
	return err
}

// scan takes a turn at reading old files. False when ctx ends first; otherwise done gives the turn back.
func (l *Ledger) scan(ctx context.Context) (_ context.Context, done func(), ok bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxScan, errScan)
	select {
	case l.scans <- struct{}{}:
		return ctx, func() { cancel(); <-l.scans }, true
	case <-ctx.Done():
		cancel()
		return ctx, nil, false
	}
}

// Execution gives one record. Recent ones are found by a table in memory, older ones by reading the files that may hold
// them. An id that is nowhere costs next to nothing. May block for the disk, some seconds at most.
// Kinds: KindNotFound; KindUnavailable (the search was cut short, by ctx or its own bound; the next one gets further).
func (l *Ledger) Execution(ctx context.Context, id kiln.RequestID) (kiln.Record, error) {
	const op = "ledger: find execution"
	var found kiln.Record
	ok := false
	j := l.records
	j.pending.each(0, math.MaxUint64, true, func(_ uint64, r *kiln.Record) bool {
		if r.RequestID == id {
			found, ok = *r, true
		}
		return !ok
	})
	if ok {
		return found, nil
	}
	ctx, done, ok := l.scan(ctx)
	if !ok {
		return found, kiln.Wrap(kiln.KindUnavailable, op, "Too many search the records; try again.", context.Cause(ctx))
	}
	defer done()
	is := func(r *kiln.Record) bool { return r.RequestID == id }
	hash := hashID(string(id))
	for _, s := range slices.Backward(j.list()) {
		if ctx.Err() != nil {
			return found, kiln.Wrap(kiln.KindUnavailable, op, "The search took too long; try again.", context.Cause(ctx))
		}
		if !j.mayHold(s, hash) {
			continue
		}
		j.mu.Lock()
		table, loaded := s.table, s.loaded
		j.mu.Unlock()
		if loaded {
			found, ok = j.lookup(s, table, hash, is)
		} else {
			found, ok = searchRecord(j.path(s), id)
		}
		if ok {
			return found, nil
		}
	}
	return kiln.Record{}, kiln.Errorf(kiln.KindNotFound, op, "No execution has the request id %s.", id)
}

// lookup finds an item by its hash, the newest first.
func (j *journal[T]) lookup(s *segment, table []entry, hash uint64, is func(*T) bool) (item T, ok bool) {
	for i := len(table) - 1; i >= 0; i-- {
		if table[i].id != hash || table[i].length == 0 {
			continue
		}
		f, err := os.Open(j.path(s))
		if err != nil {
			return item, false
		}
		item, ok = j.read(f, table[i])
		f.Close()
		if ok && is(&item) {
			return item, true
		}
	}
	var none T
	return none, false
}

// searchRecord reads a file for one record without making anything of the others.
func searchRecord(file string, id kiln.RequestID) (found kiln.Record, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return found, false
	}
	defer f.Close()
	mark := []byte(`"requestId":"` + string(id) + `"`)
	eachLine(f, func(_ int64, line []byte) {
		if !bytes.Contains(line, mark) {
			return
		}
		var r kiln.Record
		if json.Unmarshal(line, &r) == nil && r.RequestID == id {
			found, ok = r, true
		}
	})
	return found, ok
}

// Executions lists records, newest first. next is empty at the end; an answer may be short of its limit and still go on.
// A token that is not ours gives nothing (see CheckNext). May block for the disk, some seconds at most.
func (l *Ledger) Executions(ctx context.Context, f Filter) (items []kiln.Record, next string) {
	q := query[kiln.Record]{list: 'x', newestFirst: true, account: string(f.Account), function: f.Function,
		id: string(f.RequestID), since: f.Since, until: f.Until, limit: f.Limit, match: f.match}
	return list(ctx, l, l.records, &q, f.Next)
}

func (f *Filter) match(r *kiln.Record) bool {
	return (f.Account == "" || r.Account == f.Account) &&
		(f.Function == "" || r.Function == f.Function) &&
		(f.Version == "" || r.VersionExecuted == f.Version) &&
		(f.Fleet == "" || r.Fleet == f.Fleet) &&
		(f.Instance == "" || r.Instance == f.Instance) &&
		(f.Container == "" || r.Container == f.Container) &&
		(f.RequestID == "" || r.RequestID == f.RequestID) &&
		(f.Outcome == "" || r.Outcome == f.Outcome) &&
		(f.Path == "" || r.Path == f.Path) &&
		within(r.Times.Received.Time, f.Since, f.Until)
}

// Events lists events, oldest first. next is empty at the end; an answer may be short of its limit and still go on. A
// token that is not ours gives nothing (see CheckNext). May block for the disk, some seconds at most.
func (l *Ledger) Events(ctx context.Context, f EventFilter) (items []kiln.Event, next string) {
	q := query[kiln.Event]{list: 'e', account: string(f.Account), function: f.Function, id: string(f.RequestID),
		since: f.Since, until: f.Until, limit: f.Limit, match: f.match}
	return list(ctx, l, l.events, &q, f.Next)
}

func (f *EventFilter) match(e *kiln.Event) bool {
	return (f.Account == "" || e.Account == f.Account) &&
		(f.Function == "" || e.Function == f.Function) &&
		(f.Instance == "" || e.Instance == f.Instance) &&
		(f.Container == "" || e.Container == f.Container) &&
		(f.RequestID == "" || e.RequestID == f.RequestID) &&
		(f.Kind == "" || e.Kind == f.Kind) &&
		within(e.Time.Time, f.Since, f.Until)
}

func within(t, since, until time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (until.IsZero() || t.Before(until))
}

func recordKey(r *kiln.Record) key {
	return key{id: string(r.RequestID), account: string(r.Account), function: r.Function, at: r.Times.Received.UnixMicro()}
}

func eventKey(e *kiln.Event) key {
	return key{id: string(e.RequestID), account: string(e.Account), function: e.Function, at: e.Time.UnixMicro()}
}

// query is one walk over a journal.
type query[T any] struct {
	list                  byte
	newestFirst           bool
	account, function, id string
	since, until          time.Time
	limit                 int
	match                 func(*T) bool

	// from and to bound the numbers still to be looked at: from ≤ number < to.
	from, to uint64
	items    []T
	reads    int
}

// done says whether the walk must stop, full or tired.
func (q *query[T]) done() bool { return len(q.items) >= q.limit || q.reads >= maxRead }

// list walks what is on disk and what is pending, in the query's order.
func list[T any](ctx context.Context, l *Ledger, j *journal[T], q *query[T], next string) ([]T, string) {
	if q.limit <= 0 {
		q.limit = DefaultLimit
	}
	q.limit = min(q.limit, MaxLimit)
	q.to = math.MaxUint64
	if next != "" {
		seq, err := parseCursor(q.list, next)
		if err != nil {
			return nil, ""
		}
		if q.newestFirst {
			q.to = seq
		} else {
			q.from = seq
		}
	}
	if q.newestFirst {
		return q.descend(ctx, l, j)
	}
	return q.ascend(ctx, l, j)
}

// descend looks at what is pending, then at what is on disk. What is written meanwhile is seen once: pending said where
// the disk begins.
func (q *query[T]) descend(ctx context.Context, l *Ledger, j *journal[T]) ([]T, string) {
	onDisk := q.walkPending(j)
	if q.done() {
		return q.answer(q.to > 1, q.to)
	}
	q.to = min(q.to, onDisk)
	more := q.walkDisk(ctx, l, j)
	return q.answer(more, q.to)
}

// ascend looks at what is on disk, then at what is pending.
func (q *query[T]) ascend(ctx context.Context, l *Ledger, j *journal[T]) ([]T, string) {
	onDisk := j.pending.each(0, 0, false, nil)
	q.to = onDisk
	if q.from < onDisk && q.walkDisk(ctx, l, j) {
		return q.answer(true, q.from)
	}
	q.from, q.to = max(q.from, onDisk), math.MaxUint64
	n, from := len(q.items), q.from
	if q.walkPending(j) > from { // some were written meanwhile: the next call finds them on disk
		return q.items[:n], cursor(q.list, from)
	}
	return q.answer(q.done(), q.from)
}

func (q *query[T]) answer(more bool, at uint64) ([]T, string) {
	if !more {
		return q.items, ""
	}
	return q.items, cursor(q.list, at)
}

// walkPending looks at pending items, moves the bound it walks from, and gives the oldest pending number.
func (q *query[T]) walkPending(j *journal[T]) uint64 {
	return j.pending.each(q.from, q.to, q.newestFirst, func(seq uint64, item *T) bool {
		if len(q.items) >= q.limit {
			return false
		}
		if q.match(item) {
			q.items = append(q.items, *item)
		}
		if q.newestFirst {
			q.to = seq
		} else {
			q.from = seq + 1
		}
		return true
	})
}

// walkDisk looks at files and says whether there is more to look at, as there may be when it was cut short.
func (q *query[T]) walkDisk(ctx context.Context, l *Ledger, j *journal[T]) (more bool) {
	ctx, done, ok := l.scan(ctx)
	if !ok {
		return true
	}
	defer done()
	segments := j.list()
	looked := 0
	hash := hashID(q.id)
	for i := range segments {
		end := uint64(math.MaxUint64)
		at := i
		if q.newestFirst {
			at = len(segments) - 1 - i
		}
		if at+1 < len(segments) {
			end = segments[at+1].first
		}
		s := segments[at]
		if s.first >= q.to || end <= q.from {
			continue
		}
		if q.done() || looked >= maxSegmentsListed || ctx.Err() != nil {
			return true
		}
		if !j.endedBefore(s, q.since) && (q.id == "" || j.mayHold(s, hash)) {
			looked++
			if q.walkSegment(ctx, j, s); q.done() || ctx.Err() != nil {
				return true
			}
		}
		if q.newestFirst {
			q.to = min(q.to, s.first)
		} else if at+1 < len(segments) {
			q.from = max(q.from, end)
		}
	}
	return false
}

// endedBefore reports whether all of a segment was written before a time, and so all that is in it happened before. A file's
// time may be some ms behind the clock.
func (j *journal[T]) endedBefore(s *segment, since time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !s.ended.IsZero() && s.ended.Add(time.Second).Before(since)
}

// walkSegment looks at one file and moves the bound it walks from.
func (q *query[T]) walkSegment(ctx context.Context, j *journal[T], s *segment) {
	table := j.table(s)
	f, err := os.Open(j.path(s))
	if err != nil {
		table = nil // deleted meanwhile
	} else {
		defer f.Close()
	}
	want := entry{account: j.hash32(q.account), function: j.hash32(q.function), id: hashID(q.id)}
	for i := range table {
		if q.newestFirst {
			i = len(table) - 1 - i
		}
		seq := s.first + uint64(i)
		if seq < q.from || seq >= q.to {
			continue
		}
		if q.newestFirst {
			q.to = seq
		} else {
			q.from = seq + 1
		}
		e := table[i]
		if e.length == 0 || q.account != "" && e.account != want.account || q.function != "" && e.function != want.function ||
			q.id != "" && e.id != want.id || !within(time.UnixMicro(e.at), q.since, q.until) {
			continue
		}
		q.reads++
		if item, ok := j.read(f, e); ok && q.match(&item) {
			q.items = append(q.items, item)
		}
		if q.done() || ctx.Err() != nil {
			return
		}
	}
}
