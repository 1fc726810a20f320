// Package engine keeps Kiln's state: small documents, changed by compare-and-swap, in a NATS JetStream that runs inside
// this process. It is the one place that knows NATS. Registry and identity keep their documents here; nothing on the way of
// a request waits for it, since every reader has a local copy.
//
// It is not for packages or payloads (a document is at most MaxValueBytes), and it knows nothing of what the documents mean.
//
// An Engine and its Documents are safe for use by many goroutines. Each Documents has one goroutine that applies changes in
// the order of the store and calls the hook; it owns the writing side of the local copy. Locks: Engine.mu, then the
// Documents' mu in the order of their buckets' names; no lock is held over I/O, channels or hooks.
//
// An embedded server whose files once failed it (a full disk) answers no more, and one may die: Run starts it anew
// (heal.go), and what is read meanwhile comes from the local copies.
//
// One process alone may open a directory; the server's lock on the data directory sees to that.
package engine

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"kiln"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// Bounds of the engine.
const (
	// MaxValueBytes bounds one document's value, in bytes.
	MaxValueBytes = 1 << 20
	// MaxKeyBytes bounds one document's key, in bytes, as the caller writes it.
	MaxKeyBytes = 512
	// maxBuckets bounds the sets of documents of one engine: each costs a stream, a watch and a goroutine.
	maxBuckets = 64
	// startLimit bounds the start of the embedded server, recovery of its files included, when ctx has no nearer deadline.
	startLimit = 2 * time.Minute
	// writeLimit bounds one write when ctx has no nearer deadline. A store that does not answer for so long is broken.
	writeLimit = 10 * time.Second
	// DefaultReserveBytes is the free disk space below which nothing new is written: 64 MiB.
	DefaultReserveBytes = 64 << 20
	// headerBytes is room for the headers that come with a value, in bytes.
	headerBytes = 8 << 10
)

// Config tells where and how the engine keeps its files.
type Config struct {
	// Dir is the engine's own folder. It is made, readable by its owner only, when it is missing.
	Dir string
	// Logger is told what the embedded server says. Required.
	Logger *slog.Logger
	// ReserveBytes is the free disk space below which writes other than deletions are refused; DefaultReserveBytes when 0,
	// none when negative.
	ReserveBytes int64
}

// Engine is a running embedded JetStream and the one connection to it.
type Engine struct {
	dir     string
	reserve int64
	logger  *slog.Logger
	suspect chan *backend // holds one backend that did not take a write, for Run to look at

	mu      sync.Mutex
	backend *backend              // guarded by mu: the one in use
	buckets map[string]*Documents // guarded by mu: the buckets that are open; nil while one is being opened
	closed  bool                  // guarded by mu
}

// backend is one life of the embedded server and the connection to it.
type backend struct {
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream

	// life ends when the backend is closed; the watches hang on it.
	life    context.Context
	end     context.CancelFunc
	watches sync.WaitGroup
}

// Open starts the embedded server on the directory and connects to it. A directory left by a killed process is recovered:
// every acknowledged write is there. ctx bounds the start only. Kinds: KindUnavailable (the files cannot be used),
// KindInternal.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	const op = "engine: open"
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "the data directory has no absolute path", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "the engine's directory cannot be made", err)
	}
	// Secrets are in here; a folder made by someone else may be open to all.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "the engine's directory cannot be closed to others", err)
	}
	e := &Engine{dir: dir, reserve: cfg.ReserveBytes, logger: cfg.Logger, suspect: make(chan *backend, 1), buckets: map[string]*Documents{}}
	if e.reserve == 0 {
		e.reserve = DefaultReserveBytes
	}
	if e.backend, err = e.newBackend(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// newBackend starts the embedded server and connects to it. ctx bounds the start only.
func (e *Engine) newBackend(ctx context.Context) (*backend, error) {
	b := &backend{}
	srv, err := start(ctx, e.dir, &serverLog{logger: e.logger, broken: func() { e.doubt(b) }})
	if err != nil {
		return nil, err
	}
	b.server = srv
	b.life, b.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := b.connect(e.logger); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// start runs the embedded server and waits until it takes connections.
func start(ctx context.Context, dir string, log *serverLog) (*server.Server, error) {
	const op = "engine: start server"
	srv, err := server.NewServer(&server.Options{
		ServerName:             "kiln",
		DontListen:             true,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             true,
		SyncInterval:           2 * time.Minute, // of what SyncAlways does not cover; the server's own default
		JetStreamMaxMemory:     64 << 20,
		JetStreamMaxStore:      1 << 40, // the disk bounds it, not a guess made at start
		MaxPayload:             MaxValueBytes + headerBytes,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "the embedded server cannot be made", err)
	}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	limit := startLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	if fatal := log.fatal(); fatal != "" {
		srv.Shutdown()
		return nil, kiln.Errorf(kiln.KindUnavailable, op, "the embedded server did not start: %s", fatal)
	}
	if !srv.ReadyForConnections(limit) {
		srv.Shutdown()
		return nil, kiln.Errorf(kiln.KindUnavailable, op, "the embedded server was not ready within %s", limit)
	}
	return srv, nil
}

// connect makes the in-process connection.
func (b *backend) connect(logger *slog.Logger) error {
	const op = "engine: connect"
	conn, err := nats.Connect("", nats.InProcessServer(b.server), nats.Name("kiln"), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Error("engine connection failed", "error", err)
		}))
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "the embedded server refuses its own process", err)
	}
	b.conn = conn
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(writeLimit))
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "the embedded server has no store", err)
	}
	b.js = js
	return nil
}

// room refuses a write that would eat into the reserve of disk space.
func (e *Engine) room(op string) error {
	free, err := e.free()
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the free disk space cannot be read", err)
	}
	if free < e.reserve {
		return kiln.Errorf(kiln.KindUnavailable, op, "the disk of the data directory is nearly full: %d MiB are free, %d MiB are "+
			"kept in reserve; make room and try again", free>>20, e.reserve>>20)
	}
	return nil
}

// free gives the free disk space in bytes.
func (e *Engine) free() (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(e.dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil
}

// Close ends the watches, the connection and the server, and returns when all of them have ended. Writes under way fail.
// It may be called twice.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	b := e.backend
	e.mu.Unlock()
	b.close()
	return nil
}

// close ends a backend. It may be called twice.
func (b *backend) close() {
	b.end()
	if b.conn != nil {
		b.conn.Close() // before the watches are waited for: with a dead server they would wait for its answer
	}
	b.watches.Wait()
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// current gives the backend in use.
func (e *Engine) current() *backend {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.backend
}
