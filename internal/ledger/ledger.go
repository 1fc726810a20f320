// Package ledger keeps what happened: execution records, pool events, function logs, and the metrics made of them.
//
// It is not where anything is decided, and nothing waits for it: what is appended is copied into bounded memory, readable
// at once, and written to the data directory within 100 ms, so that kill -9 loses at most that. With the disk full or
// stuck it counts what it must drop, keeps serving what it has, and goes on by itself when there is room again.
//
// invoke appends records and log lines, pool and node append events, operations and the command line read. Everything may
// be called from many goroutines at once. No lock is held over I/O. Lock order: metrics.mu, then pending.mu; logs.mu, then
// Log.mu; all others stand alone.
package ledger

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kiln"
)

const (
	// FlushInterval is how long what is appended waits for company before it is written: half of the promised 100 ms.
	FlushInterval = 50 * time.Millisecond
	// RetryInterval is the wait after a failed write.
	RetryInterval = time.Second
	// MaxPendingRecords bounds the records that wait for the disk, some 800 bytes each. Beyond it new ones are dropped and
	// counted.
	MaxPendingRecords = 16_384
	// MaxPendingEvents bounds the events that wait for the disk.
	MaxPendingEvents = 16_384
	// MaxErrorBytes bounds the error type and message a record keeps, in bytes.
	MaxErrorBytes = 4 << 10
)

// Defaults of Config, in bytes.
const (
	DefaultRecordBytes      = 1 << 30
	DefaultEventBytes       = 256 << 20
	DefaultFunctionLogBytes = 16 << 20
	DefaultLogBytes         = 1 << 30
)

// Config says how much is kept. Zero means the default.
type Config struct {
	// RecordBytes and EventBytes bound the records and the events on disk, in bytes; the oldest go first. At least two
	// files of 8 MiB are kept.
	RecordBytes, EventBytes int64
	// FunctionLogBytes bounds one function's log, LogBytes all logs together, in bytes; the oldest go first.
	FunctionLogBytes, LogBytes int64
	// StartBounds are the bounds on receipt to code start; a record beyond its path's is counted and leaves an event.
	StartBounds StartBounds
	// Registered reports whether a function exists; the log of one that does not is deleted after a time. It is called by
	// Run alone, without a lock, and must not wait. Nil when all do.
	Registered func(account kiln.AccountID, function string) bool
	// Logger is told when the disk refuses and when it takes again. Must be set.
	Logger *slog.Logger
}

// Ledger is what happened on this node. Run must run for anything to reach the disk.
type Ledger struct {
	config  Config
	records *journal[kiln.Record]
	events  *journal[kiln.Event]
	metrics *metrics

	wake     chan struct{}     // holds one token when something is pending
	syncs    chan chan<- error // requests of Sync
	wakeLogs chan struct{}     // as wake, for the logs' writer
	syncLogs chan chan<- error // as syncs
	scans    chan struct{}     // one token for each reading of old files under way
	down     atomic.Bool       // the last write failed

	logs logs
}

// Open opens the ledger in dir. Recent records are found at once; older files are read when somebody asks for them.
// Kinds: KindUnavailable (disk full), KindInternal.
func Open(dir string, config Config) (*Ledger, error) {
	const op = "ledger: open"
	orDefault(&config.RecordBytes, DefaultRecordBytes)
	orDefault(&config.EventBytes, DefaultEventBytes)
	orDefault(&config.FunctionLogBytes, DefaultFunctionLogBytes)
	orDefault(&config.LogBytes, DefaultLogBytes)
	l := &Ledger{config: config, metrics: newMetrics(config.StartBounds),
		wake: make(chan struct{}, 1), syncs: make(chan chan<- error),
		wakeLogs: make(chan struct{}, 1), syncLogs: make(chan chan<- error), scans: make(chan struct{}, maxScans)}
	var err error
	l.records, err = openJournal(filepath.Join(dir, "records"), config.RecordBytes, MaxPendingRecords, recordKey, appendRecord)
	if err != nil {
		return nil, diskError(op, err)
	}
	l.events, err = openJournal(filepath.Join(dir, "events"), config.EventBytes, MaxPendingEvents, eventKey, appendEvent)
	if err != nil {
		return nil, diskError(op, err)
	}
	if err := l.logs.open(filepath.Join(dir, "logs"), l); err != nil {
		return nil, diskError(op, err)
	}
	l.metrics.folded = l.records.pending.next
	l.records.leaving = func() { l.metrics.fold(&l.records.pending) }
	return l, nil
}

func orDefault(v *int64, d int64) {
	if *v == 0 {
		*v = d
	}
}

// Append keeps a record. It copies it and returns; it never waits for the disk. The record is readable by Execution when
// Append returns. When too many wait for the disk it is dropped, and counted.
func (l *Ledger) Append(r *kiln.Record) {
	if breach, late := l.metrics.starts.breach(r); late {
		l.AppendEvent(breach)
	}
	_, wake, ok := l.records.pending.add(r, cutErrors)
	if !ok {
		l.metrics.observe(r)
		l.metrics.droppedRecords.Inc()
		return
	}
	if wake {
		signal(l.wake)
	}
}

// cutErrors keeps a record's line within its bound whatever the function made of its error.
func cutErrors(r *kiln.Record, _ uint64) {
	r.ErrorType = cut(r.ErrorType, MaxErrorBytes)
	r.ErrorMessage = cut(r.ErrorMessage, MaxErrorBytes)
}

// AppendEvent keeps an event and gives it its ID, greater than every ID before, also across restarts. It returns at once;
// when too many events wait for the disk this one is dropped, counted, and the ID is 0.
func (l *Ledger) AppendEvent(e kiln.Event) (id uint64) {
	id, wake, ok := l.events.pending.add(&e, func(e *kiln.Event, seq uint64) {
		e.ID, e.Cause = seq, cut(e.Cause, MaxErrorBytes)
	})
	if !ok {
		l.metrics.droppedEvents.Inc()
		return 0
	}
	if wake {
		signal(l.wake)
	}
	return id
}

// Run writes what is appended until ctx ends, then writes the rest and returns. Returns nil, or the error of the last
// writing. Kinds: KindUnavailable (disk full), KindInternal.
func (l *Ledger) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	var logErr error
	wg.Go(func() { l.remind(ctx) })
	wg.Go(func() { logErr = l.runWriter(ctx, l.wakeLogs, l.syncLogs, l.logs.flush) })
	err := l.runWriter(ctx, l.wake, l.syncs, l.flush)
	wg.Wait()
	if err == nil {
		err = errors.Join(l.records.close(), l.events.close())
	}
	if err = errors.Join(err, logErr); err != nil {
		return diskError("ledger: end", err)
	}
	return nil
}

// runWriter calls flush soon after a wake, and after every wait that follows a failure.
func (l *Ledger) runWriter(ctx context.Context, wake <-chan struct{}, syncs <-chan chan<- error, flush func() error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var answer chan<- error
		select {
		case <-wake:
			timer.Reset(FlushInterval)
			continue
		case answer = <-syncs:
		case <-timer.C:
		case <-ctx.Done():
			return flush()
		}
		err := flush()
		l.note(err)
		if err != nil {
			timer.Reset(RetryInterval)
		}
		if answer != nil {
			answer <- err
		}
	}
}

// note tells the log once when the disk refuses, and once when it takes again.
func (l *Ledger) note(err error) {
	if err != nil {
		l.metrics.writeErrors.Inc()
		if !l.down.Swap(true) {
			l.config.Logger.Error("ledger cannot be written", "err", err)
		}
		return
	}
	if l.down.Swap(false) {
		l.config.Logger.Info("ledger is written again")
	}
}

func (l *Ledger) flush() error {
	return errors.Join(l.records.flush(), l.events.flush())
}

// Sync returns when all that was appended before is written, for tests and for an orderly end. Blocks for the disk.
// Kinds: KindUnavailable (disk full, or ctx ended, as it must when Run does not run), KindInternal.
func (l *Ledger) Sync(ctx context.Context) error {
	const op = "ledger: sync"
	for _, syncs := range []chan chan<- error{l.syncs, l.syncLogs} {
		answer := make(chan error, 1)
		select {
		case syncs <- answer:
		case <-ctx.Done():
			return kiln.Wrap(kiln.KindUnavailable, op, "The wait was cut short.", context.Cause(ctx))
		}
		select {
		case err := <-answer:
			if err != nil {
				return diskError(op, err)
			}
		case <-ctx.Done():
			return kiln.Wrap(kiln.KindUnavailable, op, "The wait was cut short.", context.Cause(ctx))
		}
	}
	return nil
}

// signal puts a token into a channel that holds one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func diskError(op string, err error) error {
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return kiln.Wrap(kiln.KindUnavailable, op, "The disk is full.", err)
	}
	return kiln.Wrap(kiln.KindInternal, op, "The file system failed.", err)
}
