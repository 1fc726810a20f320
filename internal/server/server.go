// Package server puts Kiln together: it reads the configuration, opens the data directory, makes every room with what it
// needs from the rooms below, serves, and ends everything in order. It is the only place that knows every concrete type.
//
// It decides nothing and serves nothing itself. Called by cmd/kiln. Run is called once; nothing here is shared.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kiln"
	"kiln/internal/client"
	"kiln/internal/code"
	"kiln/internal/engine"
	"kiln/internal/fleet"
	"kiln/internal/frontend"
	"kiln/internal/identity"
	"kiln/internal/images"
	"kiln/internal/invoke"
	"kiln/internal/ledger"
	"kiln/internal/node"
	"kiln/internal/operations"
	"kiln/internal/pool"
	"kiln/internal/provisioning"
	"kiln/internal/record"
	"kiln/internal/registry"
	"kiln/internal/retention"
	"kiln/internal/usage"
)

// endLimit bounds the ending of everything after the last execution: containers, instances, files.
const endLimit = 30 * time.Second

// Run serves until ctx ends, then drains and ends everything in order. It prints one line beginning "kiln: ready" to
// stdout once every warming target is met. Errors are for the operator and say what to do.
func Run(ctx context.Context, cfg Config, log *slog.Logger, stdout io.Writer) error {
	dir, err := openDataDir(cfg.Data)
	if err != nil {
		return err
	}
	defer dir.close()
	s := &server{cfg: cfg, dir: dir, log: log, started: time.Now(), metrics: prometheus.NewRegistry()}
	// Rooms live on while requests drain: their contexts are ended by hand, in order.
	s.ended, s.end = context.WithCancel(context.WithoutCancel(ctx))
	defer s.end()
	s.draining, s.drain = context.WithCancel(s.ended)
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	return errors.Join(s.serve(ctx, stdout), s.close())
}

// server is everything that runs, in the order it is made.
type server struct {
	cfg     Config
	dir     *dataDir
	log     *slog.Logger
	started time.Time
	metrics *prometheus.Registry
	// ended is the context of requests and of the rooms; end ends it.
	ended context.Context
	end   context.CancelFunc
	// draining is ended when requests that have no end of their own must end; drain ends it.
	draining context.Context
	drain    context.CancelFunc

	engine   *engine.Engine
	identity *identity.Identity
	packages *code.Store
	cache    *code.Cache
	ledger   *ledger.Ledger
	usage    *usage.Usage
	images   *images.Images
	registry *registry.Registry
	driver   *boundary
	node     *node.Node
	pool     *pool.Pool
	invoker  *invoke.Invoker
	door     *frontend.Door

	provisioning *provisioning.Provisioning
	recorder     *record.Recorder // nil when nothing is recorded

	lookups sync.Map       // AWS's identifier → runtimeFound
	keeping sync.WaitGroup // engine, registry, ledger and the collecting of packages
	backups atomic.Int32   // under way; no package is collected meanwhile
	stop    context.CancelFunc
	failed  chan error // the first room that ended by itself with an error
}

// open makes the rooms, the lower floors first.
func (s *server) open(ctx context.Context) error {
	if err := s.openKeeping(ctx); err != nil {
		return err
	}
	if err := s.openPools(ctx); err != nil {
		return err
	}
	return s.openDoors()
}

// openKeeping makes the rooms that keep things: the engine and what lies on it.
func (s *server) openKeeping(ctx context.Context) (err error) {
	s.failed = make(chan error, 4)
	if s.engine, err = engine.Open(ctx, engine.Config{
		Dir: s.dir.in("engine"), ReserveBytes: s.cfg.engineReserve(), Logger: s.log.With("room", "engine"),
	}); err != nil {
		return err
	}
	if s.identity, err = identity.Open(ctx, s.engine, identity.Config{}); err != nil {
		return err
	}
	if err := s.writeCredentials(); err != nil {
		return err
	}
	if s.packages, err = code.OpenStore(s.dir.in("packages"), code.Config{Logger: s.log.With("room", "code")}); err != nil {
		return err
	}
	if s.cache, err = code.OpenCache(s.dir.in("cache/packages"), s.packages.OpenChecked, code.CacheConfig{
		MaxBytes: s.cfg.CodeCache << 20, ReserveBytes: s.cfg.cacheReserve(), Seal: s.cfg.Driver == "process", Logger: s.log.With("room", "code"),
	}); err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(s.dir.in("ledger"), ledger.Config{
		RecordBytes: s.cfg.LedgerRecords << 20, EventBytes: s.cfg.LedgerEvents << 20,
		FunctionLogBytes: s.cfg.LogsFunction << 20, LogBytes: s.cfg.LogsTotal << 20, StartBounds: s.cfg.startBounds(),
		Registered: s.registered, Logger: s.log.With("room", "ledger"),
	}); err != nil {
		return err
	}
	if s.images, err = images.Find(ctx, images.Config{Dir: s.dir.in("bootstraps"), Logger: s.log.With("room", "images")}); err != nil {
		return err
	}
	s.registry, err = registry.Open(ctx, s.engine, registry.Config{
		Region: s.cfg.Region, Verify: s.packages.Verify, Changed: s.versionGone, Reserved: s.reserved, Promised: s.promised,
		ConcurrencyLimit: s.cfg.ConcurrencyAccount, ProvidersMax: s.cfg.providersMax(), Logger: s.log.With("room", "registry"),
	})
	if err != nil {
		return err
	}
	return s.openUsage(ctx)
}

// cacheReserve is the free disk that unpacked packages leave alone, in bytes.
func (c *Config) cacheReserve() int64 {
	if c.DiskReserve == 0 {
		return -1 // none; 0 would be the cache's own default
	}
	return c.DiskReserve << 20
}

// engineReserve is the free disk the engine leaves alone, in bytes: half of disk.reserve, so that what the doors let in
// just above it can still be settled.
func (c *Config) engineReserve() int64 {
	if c.DiskReserve == 0 {
		return -1 // none; 0 would be the engine's own default
	}
	return c.DiskReserve << 20 / 2
}

// startBounds puts the bounds in the order of kiln.Paths; the last path, an instance booted for the request, has none.
func (c *Config) startBounds() ledger.StartBounds {
	return ledger.StartBounds{c.StartContainer, c.StartCodeCache, c.StartAccount, c.StartWarmingPool}
}

// writeCredentials leaves the first key where kiln env finds it.
func (s *server) writeCredentials() error {
	k, ok := s.identity.DefaultKey()
	if !ok {
		return kiln.Errorf(kiln.KindInternal, "server: write credentials", "the first access key is missing; restore the data directory from a backup")
	}
	return s.dir.writeJSON(client.CredentialsFile, client.Credentials{
		AccessKeyID: k.ID, SecretAccessKey: k.Secret, Account: k.Account, Region: s.cfg.Region,
	})
}

// versionGone lets containers go that hold a version nobody can ask for any more.
func (s *server) versionGone(gone registry.Gone) {
	if s.pool != nil {
		s.pool.Forget(gone.Version.ID())
	}
}

// reserved tells the invoker of a reservation that has changed. One made before knows what the registry held then.
func (s *server) reserved(r registry.Reservation) {
	if s.invoker != nil {
		s.invoker.Reserve(r)
	}
	if s.usage != nil && r.Deleted {
		s.usage.Forget(fleet.Code{Account: r.Account, Function: r.Function})
	}
}

// promised has what was promised looked at again. Provisioning made before looks by itself.
func (s *server) promised() {
	if s.provisioning != nil {
		s.provisioning.Changed()
	}
}

// openPools makes the host and the pools.
func (s *server) openPools(ctx context.Context) (err error) {
	s.driver, err = openDriver(ctx, &s.cfg, s.dir, driverHooks{
		exited: func(e kiln.Exit) { s.pool.Exited(e) },
		output: func(id kiln.ContainerID, text []byte) { s.invoker.Output(id, text) },
	}, s.log)
	if err != nil {
		return err
	}
	runtimes := map[string]kiln.Runtime{}
	for _, r := range s.images.List() {
		runtimes[r.Name] = r
	}
	s.node = node.New(node.Config{
		ID: s.dir.node, Region: s.cfg.Region, Driver: s.driver.Driver, Cache: nodeCache{s.cache}, Rand: rand.Reader,
		Runtimes: func(name string) (kiln.Runtime, bool) { r, ok := runtimes[name]; return r, ok },
		Detached: func(id kiln.InstanceID, digest kiln.Digest) { s.pool.Detached(id, digest) },
		Emit:     s.emit, Logger: s.log.With("room", "node"),
	})
	table, err := retention.Shipped()
	if err != nil {
		return err
	}
	store, err := openPoolStore(ctx, s.engine)
	if err != nil {
		return err
	}
	if s.cfg.Record != "" {
		if s.recorder, err = record.Create(s.cfg.Record, s.log.With("room", "record")); err != nil {
			return err
		}
	}
	s.pool = pool.New(pool.Config{
		Store: store, Table: table, Record: s.recorder,
		Node: s.node, Emit: s.emit, Logger: s.log.With("room", "pool"),
		Runtimes: s.lookup, HealthInterval: s.cfg.HealthInterval,
		Fleets: []pool.FleetConfig{{Name: kiln.FleetLowVolume, Settings: s.settings()}, {Name: kiln.FleetHighVolume, Settings: s.highVolume()}},
		Route:  route,
	})
	s.invoker = invoke.New(invoke.Config{
		Registry: s.registry, Pool: s.pool, Node: s.node, Ledger: s.ledger, AccountLimit: s.cfg.ConcurrencyAccount,
		Count: s.usage.Received, Region: s.cfg.Region, Logger: s.log.With("room", "invoke"),
	})
	s.provisioning = provisioning.New(provisioning.Config{
		Registry: s.registry, Executing: s.invoker.Executing, Logger: s.log.With("room", "provisioning"),
		Fleets:   provisioning.Fleets{Add: s.pool.AddFleet, Remove: s.pool.RemoveFleet, Change: s.pool.Change, List: s.pool.Fleets},
		Settings: s.settings, Runtime: s.interpreter, ProviderInstances: s.cfg.ProvidersInstancesMax,
		Promise: s.provision,
		Promised: func(id kiln.VersionID) provisioning.Ready {
			p := s.pool.Provisioned(id)
			return provisioning.Ready{Allocated: p.Allocated, Available: p.Available, Failure: p.Failure}
		},
	})
	s.provisioning.Begin(ctx)
	return nil
}

// interpreter gives the interpreter's own name for one of AWS's identifiers.
func (s *server) interpreter(identifier string) (string, bool) {
	r, _, err := s.lookup(identifier)
	return r.Name, err == nil
}

// lookup finds the runtime that stands for one of AWS's identifiers. Every request asks, so what was found is remembered;
// identifiers are few, since only those that were found are.
func (s *server) lookup(identifier string) (kiln.Runtime, bool, error) {
	if found, ok := s.lookups.Load(identifier); ok {
		return found.(runtimeFound).runtime, found.(runtimeFound).exact, nil
	}
	r, exact, err := s.images.Lookup(identifier, images.Mode(s.cfg.Runtimes))
	if err == nil {
		s.lookups.Store(identifier, runtimeFound{r, exact})
	}
	return r, exact, err
}

// runtimeFound is what lookup remembers.
type runtimeFound struct {
	runtime kiln.Runtime
	exact   bool
}

// runtimeKnown refuses what cannot run here, in the words of a mistake in the request.
func (s *server) runtimeKnown(identifier, architecture string) error {
	const op = "server: check runtime"
	if architecture != nodeArchitecture() {
		return kiln.Errorf(kiln.KindInvalid, op, "The architecture %s cannot run on this machine, which is %s.", architecture, nodeArchitecture())
	}
	_, _, err := s.lookup(identifier)
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return kiln.Wrap(kiln.KindInvalid, op, e.Message, err)
	}
	return err
}

// registered reports whether a function exists. The ledger asks.
func (s *server) registered(account kiln.AccountID, function string) bool {
	_, err := s.registry.Get(account, function, "")
	return err == nil
}

// emit keeps an event, and lets go of what was kept for a container that has ended.
func (s *server) emit(e kiln.Event) {
	s.ledger.AppendEvent(e)
	switch e.Kind {
	case kiln.EventContainerCreate:
		s.invoker.Created(e.Container)
	case kiln.EventContainerTerminate, kiln.EventContainerFail:
		s.invoker.Ended(e.Container)
	}
}

// openDoors makes the doors.
func (s *server) openDoors() error {
	room := func() error { return s.dir.room(s.cfg.DiskReserve) }
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return kiln.Wrap(kiln.KindInternal, "server: open doors", "no random bytes", err)
	}
	front := frontend.New(frontend.Config{
		Identity: s.identity, Registry: s.registry, Invoker: s.invoker, Packages: s.packages, Provisioning: s.provisioning,
		RuntimeKnown: s.runtimeKnown, Room: room,
		ConcurrentExecutions: s.cfg.ConcurrencyAccount, Region: s.cfg.Region, Architecture: nodeArchitecture(), Shapes: s.cfg.InstancesShapes,
		LocationKey: key,
		Logger:      s.log.With("room", "frontend"), Ended: s.ended,
	})
	ops := operations.New(operations.Config{
		Identity: s.identity, Registry: s.registry, Invoker: s.invoker, Pool: s.pool, Node: s.node, Ledger: s.ledger, Usage: s.usage, Packages: s.packages,
		RuntimeKnown: s.runtimeKnown, Room: room, Backup: s.backup, Region: s.cfg.Region, Architecture: nodeArchitecture(), Version: Version(), Started: s.started,
		Logger: s.log.With("room", "operations"), Ended: s.ended, Draining: s.draining,
	})
	s.metrics.MustRegister(s.ledger.Collector(), s.pool.Collector(), front.Collector(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := loopbackOnly(promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	// By prefix, and not by a ServeMux: that one answers an unclean path with a redirect, which no signature survives.
	rest := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/kiln/v1/"):
			ops.ServeHTTP(w, r)
		case r.URL.Path == "/metrics":
			metrics.ServeHTTP(w, r)
		default:
			front.ServeHTTP(w, r)
		}
	})
	s.door = frontend.NewDoor(frontend.DoorConfig{
		Frontend: front, Rest: front.URLs(rest), Connections: s.cfg.HTTPConnections, BodyTimeout: s.cfg.HTTPRead, IdleTimeout: s.cfg.HTTPIdle,
		Logger: s.log.With("room", "door"),
	})
	s.metrics.MustRegister(s.door.Collector(), ops.Collector())
	return nil
}

// loopbackOnly hides an unsigned page from everyone who is not on this machine.
func loopbackOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			http.Error(w, "this page is served on loopback only", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// serve opens the public port, runs the rooms and says ready; it returns when ctx has ended and requests are drained.
func (s *server) serve(ctx context.Context, stdout io.Writer) error {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "server: listen", "cannot listen on "+s.cfg.Listen+"; another program may, so stop it or name another address with --listen", err)
	}
	endpoint := "http://" + l.Addr().String()
	s.runKeeping()
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	poolCtx, stopPool := context.WithCancel(s.ended)
	defer stopPool()
	running.Go(func() { s.note(s.pool.Run(poolCtx)) })
	running.Go(func() { s.note(s.provisioning.Run(serving)) })
	running.Go(func() { s.recall(serving) })
	running.Go(func() { s.sayReady(serving, endpoint, stdout) })
	var doorErr error
	doorDone := make(chan struct{})
	go func() {
		defer close(doorDone)
		doorErr = s.door.Serve(serving, l, s.cfg.DrainMax)
	}()
	select {
	case <-ctx.Done():
	case err = <-s.failed:
		s.log.Error("a room failed, ending", "error", err)
	case <-doorDone:
	}
	s.log.Info("draining", "bound", s.cfg.DrainMax)
	s.drain()
	cancel()
	drainCtx, stopDrain := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainMax)
	defer stopDrain()
	drained := s.pool.Drain(drainCtx)
	if drained != nil {
		s.end() // what still runs is ended now, and its callers are told
	}
	<-doorDone
	stopPool()
	running.Wait()
	if drained != nil {
		s.log.Warn("executions were ended by the drain bound", "error", drained)
	}
	return errors.Join(err, doorErr)
}

// runKeeping runs the rooms that keep things until close.
func (s *server) runKeeping() {
	ctx, stop := context.WithCancel(context.WithoutCancel(s.ended))
	s.stop = stop
	s.keeping.Go(func() { s.note(s.engine.Run(ctx)) })
	s.keeping.Go(func() { s.note(s.registry.Run(ctx)) })
	s.keeping.Go(func() { s.note(s.ledger.Run(ctx)) })
	if s.recorder != nil {
		s.keeping.Go(func() { s.record(ctx) })
	}
	s.keeping.Go(func() { s.note(s.usage.Run(ctx)) })
	s.keeping.Go(func() { s.collect(ctx) })
}

// record writes the record. What it cannot write ends the record, and nothing else.
func (s *server) record(ctx context.Context) {
	if err := s.recorder.Run(ctx); err != nil {
		s.log.Error("record ended, its file cannot be written", "file", s.cfg.Record, "error", err)
	}
}

// Packages nobody refers to are removed, those put lately spared: their function may be about to be created, or the
// request that carried them may still run.
const (
	collectEvery = 10 * time.Minute
	collectAge   = 30 * time.Minute
)

// collect removes packages nobody refers to any more, now and then.
func (s *server) collect(ctx context.Context) {
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		wanted := func(d kiln.Digest) bool { return s.backups.Load() > 0 || s.registry.References(d) }
		removed, size, err := s.packages.Collect(ctx, time.Now().Add(-collectAge), wanted)
		if err != nil {
			s.log.Warn("packages not collected", "error", err)
		} else if removed > 0 {
			s.log.Info("packages collected", "packages", removed, "bytes", size)
		}
	}
}

// note keeps the error of a room that ended by itself.
func (s *server) note(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	select {
	case s.failed <- err:
	default:
	}
}

// sayReady announces the server once every warming target is met.
func (s *server) sayReady(ctx context.Context, endpoint string, stdout io.Writer) {
	select {
	case <-s.pool.Ready():
	case <-ctx.Done():
		return
	}
	if err := s.dir.announce(endpoint); err != nil {
		s.note(err)
		return
	}
	caps := s.node.Capabilities()
	fmt.Fprintf(stdout, "kiln: ready %s driver=%s node=%s data=%s\n", endpoint, caps.Name, s.dir.node, s.dir.path)
	s.log.Info("ready", "endpoint", endpoint, "driver", caps.Name, "took", time.Since(s.started).Round(time.Millisecond))
}

// close ends the rooms, the upper floors first. Everything made is ended, whatever fails.
func (s *server) close() error {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	var errs []error
	if s.driver != nil {
		errs = append(errs, s.driver.close(ctx))
	}
	if s.stop != nil {
		s.stop()
		s.keeping.Wait()
	}
	if s.cache != nil {
		errs = append(errs, s.cache.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	return errors.Join(errs...)
}

// nodeCache shows the code cache as the node sees it.
type nodeCache struct{ cache *code.Cache }

// Acquire implements node.Cache.
func (c nodeCache) Acquire(ctx context.Context, digest kiln.Digest) (node.Package, error) {
	e, err := c.cache.Acquire(ctx, digest)
	if err != nil {
		return node.Package{}, err
	}
	return node.Package{Dir: e.Dir, Bytes: e.Bytes, Fetched: e.Fetched, Release: e.Release}, nil
}

// Over implements node.Cache.
func (c nodeCache) Over() int64 { return c.cache.Over() }
