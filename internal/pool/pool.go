// Package pool runs the instance managers: it feeds what happens into each fleet's core, carries out what the core
// decides on the node, and hands containers to executions.
//
// It decides nothing: that is package manager's, whose Step it calls behind one short lock a fleet. It does not deliver
// events nor keep records. Package invoke acquires and releases; operations lists and deletes; server runs it.
//
// All methods may be called at once. There is one lock a fleet, fleet.mu, around the core; nothing else is locked within,
// and it is never held while the node works, an event is told or a request waits. What the core wants done and told is
// queued under the lock and carried out, in order, by the fleet's own goroutine, which Run starts: so an instance's
// assignment is told before anything is fetched for it. A request that finds an idle container needs none of that.
//
// Which fleets there are may change at any time (fleets.go). Who reads the list takes no lock: it is replaced, never
// changed. Pool.mu orders those who replace it, and promises; within it a fleet's lock may be taken, never the other way.
package pool

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/node"
	"kiln/internal/record"
	"kiln/internal/retention"
)

// Config is what the pools are made of.
type Config struct {
	// Node carries everything out.
	Node *node.Node
	// Runtimes finds the runtime for AWS's identifier ("python3.12"); exact is false when it is the nearest one.
	Runtimes func(awsRuntime string) (runtime kiln.Runtime, exact bool, err error)
	// Fleets are those there are from the start, at least one; the first serves whatever Route does not place.
	Fleets []FleetConfig
	// Table is the learned hazard for retention; nil for that of each function's own gaps.
	Table *retention.Table
	// HealthInterval is the time between two looks at every instance (R46); DefaultHealthInterval when 0.
	HealthInterval time.Duration
	// Route names the fleet for a request, and no fleet for the first; nil for the first always. It must not block.
	Route func(Need) FleetID
	// Store keeps what the operator turned and what was learned of days and weeks; nil for nothing kept.
	Store Store
	// Record, when set, records what every manager is told and decides.
	Record *record.Recorder
	// Emit is told of every event in order. It must not block nor call back.
	Emit   func(kiln.Event)
	Logger *slog.Logger
}

// Need is a request's need of a container.
type Need struct {
	RequestID kiln.RequestID
	Version   *kiln.Version
	// MemoryMiB is the amount for this execution.
	MemoryMiB int
	// Fresh asks for a container started for this version alone (variables that act only when a process starts).
	Fresh bool
	// Fleet is the operator's fleet that the function's usage, or its owner, picks; empty for the first. Near says that
	// high-volume is that, or may soon be.
	Fleet string
	Near  bool
}

// Lease is a container held for one execution. Give it back with Release, exactly once, unless Init failed.
type Lease struct {
	RequestID kiln.RequestID
	Container kiln.ContainerID
	Instance  kiln.InstanceID
	Node      kiln.NodeID
	Fleet     string
	Driver    string
	Runtime   string // the interpreter's own name
	Path      kiln.Path
	Choice    kiln.Choice
	Amounts   kiln.Amounts
	// Init is the function's own initialisation when this request waited for it: Duration is 0 otherwise. When Failure is
	// set the container is of no use and the lease is already given back.
	Init kiln.InitResult
	// Provisioned is true when the container was promised.
	Provisioned bool

	fleet *fleet
}

// Pool is the shell over all fleets. Make it with New, start it with Run.
type Pool struct {
	config  Config
	fleets  atomic.Pointer[fleets]
	ready   chan struct{}
	unready atomic.Int32                              // of the first fleets, those whose warming targets were not met yet
	waiters sync.Pool                                 // of *waiter
	kick    chan struct{}                             // one word when unrun changed; capacity 1
	awaited atomic.Pointer[map[awaited]*atomic.Int64] // when high-volume is to be told again what it may expect, by what

	mu     sync.Mutex
	unrun  []*fleet // guarded by mu: added, and not run yet
	ending bool     // guarded by mu: no fleet may be added any more

	pinned atomic.Pointer[map[promised]*fleet] // what versions' promises are kept by; nil while there is none; written with mu held
}

// waiter is one Acquire under way.
type waiter struct {
	request manager.Request
	done    chan struct{} // one word when the request is delivered or refused; capacity 1
}

// New makes the pools. Nothing is booted before Run.
func New(config Config) *Pool {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Emit == nil {
		config.Emit = func(kiln.Event) {}
	}
	config.HealthInterval = cmp.Or(config.HealthInterval, DefaultHealthInterval)
	p := &Pool{config: config, ready: make(chan struct{}), kick: make(chan struct{}, 1)}
	p.waiters.New = func() any {
		w := &waiter{done: make(chan struct{}, 1)}
		w.request.Holder = w
		return w
	}
	p.unready.Store(int32(len(config.Fleets)))
	all := &fleets{byID: make(map[FleetID]*fleet, len(config.Fleets))}
	for _, c := range config.Fleets {
		all = all.with(newFleet(p, c))
	}
	p.fleets.Store(all)
	p.unrun = all.list
	p.wakeRun()
	return p
}

// Run keeps the pools until ctx ends, then deletes every container and instance and returns when nothing is left. The
// error, KindInternal, tells what was left after StopMax.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.watch(ctx) })
	wg.Go(func() { p.keepLearned(ctx) })
	wg.Go(func() { p.share(ctx) })
	return p.runFleets(ctx)
}

// Ready is closed once every warming target was met for the first time.
func (p *Pool) Ready() <-chan struct{} { return p.ready }

// fleetReady counts the fleets whose targets were met.
func (p *Pool) fleetReady() {
	if p.unready.Add(-1) == 0 {
		close(p.ready)
	}
}

// Acquire finds or makes a container for a request and blocks until it is there. Kinds: KindThrottled (no capacity within
// the bound), KindInvalid (no shape fits), KindUnavailable (draining, or ctx ended), and what fetching or starting gave.
func (p *Pool) Acquire(ctx context.Context, need Need) (Lease, error) {
	runtime, _, err := p.config.Runtimes(need.Version.Runtime)
	if err != nil {
		return Lease{}, err
	}
	if need.Near {
		p.expect(runtime.Name, need)
	}
	f, err := p.route(need)
	if err != nil {
		return Lease{}, err
	}
	w := p.waiters.Get().(*waiter)
	w.request = manager.Request{
		ID: need.RequestID, Version: need.Version, MemoryMiB: need.MemoryMiB,
		Driver: f.driver, Runtime: runtime.Name, Fresh: need.Fresh, Holder: w,
	}
	if !f.request(w) {
		select {
		case <-w.done:
		case <-ctx.Done():
			return Lease{}, p.abandon(ctx, f, w)
		}
	}
	lease, resume, err := f.lease(&w.request), w.request.Resume, w.request.Err
	p.recycle(w)
	if err != nil {
		return Lease{}, err
	}
	if resume > 0 {
		if err := p.config.Node.ResumeContainer(ctx, lease.Container, resume); err != nil {
			p.config.Logger.Warn("container was not resumed", "container", lease.Container, "error", err)
			f.step(manager.Event{Kind: manager.Ended, Container: lease.Container, RequestID: need.RequestID, Lost: true, Unused: true})
			return p.Acquire(ctx, need) // of the containers there are, each time one less
		}
	}
	return lease, nil
}

// abandon takes a request back whose caller no longer waits. A container it got at the last moment is given back unused.
func (p *Pool) abandon(ctx context.Context, f *fleet, w *waiter) error {
	f.step(manager.Event{Kind: manager.Cancelled, Request: &w.request})
	select {
	case <-w.done:
		if r := &w.request; r.Err == nil && r.Init.Failure == nil {
			lost := r.Resume > 0 && p.config.Node.ResumeContainer(context.WithoutCancel(ctx), r.Container, r.Resume) != nil
			f.step(manager.Event{Kind: manager.Ended, Container: r.Container, RequestID: r.ID, Lost: lost, Unused: true})
		}
	default:
	}
	p.recycle(w)
	return kiln.Wrap(kiln.KindUnavailable, "pool: acquire", "Stopped while waiting for a container.", context.Cause(ctx))
}

func (p *Pool) recycle(w *waiter) {
	w.request = manager.Request{}
	p.waiters.Put(w)
}

// Release gives a container back. lost is the answer's Lost: the container is deleted and replaced on demand.
func (p *Pool) Release(lease *Lease, lost bool) {
	if lease.Init.Failure != nil {
		return
	}
	lease.fleet.step(manager.Event{Kind: manager.Ended, Container: lease.Container, RequestID: lease.RequestID, Lost: lost})
}

// Exited tells that a container or an instance ended by itself: the driver's Exited calls it.
func (p *Pool) Exited(exit kiln.Exit) {
	cause := "ended by itself: " + exit.Status
	if exit.Memory {
		cause += ", out of memory"
	}
	p.lost(exit, cause)
}

// lost tells the fleets that a container or an instance is of no more use.
func (p *Pool) lost(exit kiln.Exit, cause string) {
	for _, f := range p.all() {
		f.step(manager.Event{Kind: manager.Exited, Instance: exit.Instance, Container: exit.Container, Cause: cause})
	}
}

// Detached tells that a package left an instance's code cache: the node's Detached calls it.
func (p *Pool) Detached(instance kiln.InstanceID, digest kiln.Digest) {
	for _, f := range p.all() {
		f.step(manager.Event{Kind: manager.Detached, Instance: instance, Package: digest})
	}
}

// Forget lets idle containers of a version go that is gone or superseded; busy ones follow when they end.
func (p *Pool) Forget(version kiln.VersionID) {
	for _, f := range p.all() {
		f.step(manager.Event{Kind: manager.Forget, Version: version})
	}
}

// Recall tells of a request of before the pools were made, so that its function is kept by that too. In the order they came.
func (p *Pool) Recall(need Need, at time.Time) {
	runtime, _, err := p.config.Runtimes(need.Version.Runtime)
	if err != nil {
		return
	}
	f, err := p.route(need)
	if err != nil {
		return
	}
	f.step(manager.Event{Kind: manager.Recalled, At: at, Request: &manager.Request{
		Version: need.Version, MemoryMiB: need.MemoryMiB, Driver: f.driver, Runtime: runtime.Name, Fresh: need.Fresh,
	}})
}

// Drain refuses new requests and new fleets, and blocks until every lease is given back and nobody waits. KindUnavailable when ctx ends
// before.
func (p *Pool) Drain(ctx context.Context) error {
	p.end()
	all := p.all()
	for _, f := range all {
		f.step(manager.Event{Kind: manager.Refusing})
	}
	for _, f := range all {
		select {
		case <-f.drained:
		case <-ctx.Done():
			return kiln.Wrap(kiln.KindUnavailable, "pool: drain", "Executions were still running.", context.Cause(ctx))
		}
	}
	return nil
}

// DeleteInstance ends an instance with all it runs: the executions fail. KindNotFound when there is none.
func (p *Pool) DeleteInstance(id kiln.InstanceID) error {
	for _, f := range p.all() {
		if f.ask(manager.Event{Kind: manager.Asked, Instance: id, Cause: "deleted by the operator"}) {
			return nil
		}
	}
	return kiln.Errorf(kiln.KindNotFound, "pool: delete instance", "No instance %s.", id)
}

// DeleteContainer ends a container: its execution fails. KindNotFound when there is none.
func (p *Pool) DeleteContainer(id kiln.ContainerID) error {
	for _, f := range p.all() {
		if f.ask(manager.Event{Kind: manager.Asked, Container: id, Cause: "deleted by the operator"}) {
			return nil
		}
	}
	return kiln.Errorf(kiln.KindNotFound, "pool: delete container", "No container %s.", id)
}
