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
package pool

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/node"
)

// Config is what the pools are made of.
type Config struct {
	// Node carries everything out.
	Node *node.Node
	// Runtimes finds the runtime for AWS's identifier ("python3.12"); exact is false when it is the nearest one.
	Runtimes func(awsRuntime string) (runtime kiln.Runtime, exact bool, err error)
	// Fleets has at least one; the first serves whatever Route does not place.
	Fleets []FleetConfig
	// HealthInterval is the time between two looks at every instance (R46); DefaultHealthInterval when 0.
	HealthInterval time.Duration
	// Route names the fleet for a request; nil for the first always. It must not block.
	Route func(Need) string
	// Emit is told of every event in order. It must not block nor call back.
	Emit   func(kiln.Event)
	Logger *slog.Logger
}

// FleetConfig is one fleet: a name, kiln.FleetLowVolume while there is one, and its settings.
type FleetConfig struct {
	Name     string
	Settings manager.Settings
}

// Need is a request's need of a container.
type Need struct {
	RequestID kiln.RequestID
	Version   *kiln.Version
	// MemoryMiB is the amount for this execution.
	MemoryMiB int
	// Fresh asks for a container started for this version alone (variables that act only when a process starts).
	Fresh bool
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
}

// Pool is the shell over all fleets. Make it with New, start it with Run.
type Pool struct {
	config  Config
	fleets  []*fleet
	ready   chan struct{}
	unready atomic.Int32 // fleets whose warming targets were not met yet
	waiters sync.Pool    // of *waiter
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
	p := &Pool{config: config, ready: make(chan struct{})}
	p.waiters.New = func() any {
		w := &waiter{done: make(chan struct{}, 1)}
		w.request.Holder = w
		return w
	}
	for _, f := range config.Fleets {
		p.fleets = append(p.fleets, newFleet(p, f))
	}
	p.unready.Store(int32(len(p.fleets)))
	return p
}

// Run keeps the pools until ctx ends, then deletes every container and instance and returns when nothing is left. The
// error, KindInternal, tells what was left after StopMax.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.watch(ctx) })
	errs := make([]error, len(p.fleets))
	for i, f := range p.fleets {
		wg.Go(func() { errs[i] = f.run(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
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
	f := p.route(need)
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
	lease, err := f.lease(&w.request), w.request.Err
	p.recycle(w)
	if err != nil {
		return Lease{}, err
	}
	return lease, nil
}

// abandon takes a request back whose caller no longer waits. A container it got at the last moment is given back unused.
func (p *Pool) abandon(ctx context.Context, f *fleet, w *waiter) error {
	f.step(manager.Event{Kind: manager.Cancelled, Request: &w.request})
	select {
	case <-w.done:
		if r := &w.request; r.Err == nil && r.Init.Failure == nil {
			f.step(manager.Event{Kind: manager.Ended, Container: r.Container, RequestID: r.ID, Unused: true})
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
	if f := p.fleet(lease.Fleet); f != nil {
		f.step(manager.Event{Kind: manager.Ended, Container: lease.Container, RequestID: lease.RequestID, Lost: lost})
	}
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
	for _, f := range p.fleets {
		f.step(manager.Event{Kind: manager.Exited, Instance: exit.Instance, Container: exit.Container, Cause: cause})
	}
}

// Detached tells that a package left an instance's code cache: the node's Detached calls it.
func (p *Pool) Detached(instance kiln.InstanceID, digest kiln.Digest) {
	for _, f := range p.fleets {
		f.step(manager.Event{Kind: manager.Detached, Instance: instance, Package: digest})
	}
}

// Forget lets idle containers of a version go that is gone or superseded; busy ones follow when they end.
func (p *Pool) Forget(version kiln.VersionID) {
	for _, f := range p.fleets {
		f.step(manager.Event{Kind: manager.Forget, Version: version})
	}
}

// Drain refuses new requests and blocks until every lease is given back and nobody waits. KindUnavailable when ctx ends
// before.
func (p *Pool) Drain(ctx context.Context) error {
	for _, f := range p.fleets {
		f.step(manager.Event{Kind: manager.Refusing})
	}
	for _, f := range p.fleets {
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
	for _, f := range p.fleets {
		if f.ask(manager.Event{Kind: manager.Asked, Instance: id, Cause: "deleted by the operator"}) {
			return nil
		}
	}
	return kiln.Errorf(kiln.KindNotFound, "pool: delete instance", "No instance %s.", id)
}

// DeleteContainer ends a container: its execution fails. KindNotFound when there is none.
func (p *Pool) DeleteContainer(id kiln.ContainerID) error {
	for _, f := range p.fleets {
		if f.ask(manager.Event{Kind: manager.Asked, Container: id, Cause: "deleted by the operator"}) {
			return nil
		}
	}
	return kiln.Errorf(kiln.KindNotFound, "pool: delete container", "No container %s.", id)
}

// Change gives a fleet new settings. KindNotFound when there is no such fleet.
func (p *Pool) Change(name string, settings manager.Settings) error {
	f := p.fleet(name)
	if f == nil {
		return kiln.Errorf(kiln.KindNotFound, "pool: change settings", "No fleet %s.", name)
	}
	f.step(manager.Event{Kind: manager.Changed, Settings: &settings})
	return nil
}

// route gives the fleet that serves a request.
func (p *Pool) route(need Need) *fleet {
	if p.config.Route != nil {
		if f := p.fleet(p.config.Route(need)); f != nil {
			return f
		}
	}
	return p.fleets[0]
}

func (p *Pool) fleet(name string) *fleet {
	for _, f := range p.fleets {
		if f.name == name {
			return f
		}
	}
	return nil
}
