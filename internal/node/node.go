// Package node is one machine and its instances: it carries out what the pools decided (boot, prepare, fetch, attach,
// bind, execute, delete) through a driver, and tells what happened to code.
//
// It is not a place for decisions: which instance, which container and when is the manager's; it keeps no pool and no
// queue of requests. It bounds how many starts run at once, so that a storm of them does not starve the machine, and lets
// the starts a request waits for go before those that only refill a pool.
//
// Package pool calls everything but Execute, which package invoke calls with a container it leases. All methods may be
// called at once. There is one lock, mu, over the table of instances and their code caches, and the gate's own, never taken
// together. Neither is held while the driver or the cache works. A lock for each container that was ever paused orders its
// pauses; it alone is held while the driver works, which for those takes microseconds.
package node

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"sync"

	"kiln"
)

// Cache gives packages unpacked on this node.
type Cache interface {
	// Acquire gives an unpacked package and keeps it there until its Release is called. Blocks for its fetch; one fetch of a
	// package at a time. Kinds: KindNotFound, KindCorrupt, KindUnavailable.
	Acquire(ctx context.Context, digest kiln.Digest) (Package, error)
	// Over gives by how many bytes what is held is beyond the cache's bound. Does not block.
	Over() int64
}

// Package is an unpacked package that is held.
type Package struct {
	Dir     string // read-only
	Bytes   int64  // on disk
	Fetched bool   // it had to be brought from the store
	Release func() // lets it go; called once
}

// Bounds on the work a node does at once.
const (
	// DefaultStarts is how many boots and prepares run at once, of those a request waits for and others together.
	DefaultStarts = 4
)

// Config is what a node is made of.
type Config struct {
	ID     kiln.NodeID
	Region string
	Driver Driver
	Cache  Cache
	// Runtimes finds the language runtime of this node by its own name ("python3.11", "nodejs20", "provided").
	Runtimes func(name string) (kiln.Runtime, bool)
	// Emit is told of fetches and attachments. It must not block nor call back.
	Emit func(kiln.Event)
	// Detached is told of a package that left an instance's code cache before it can be attached again; nil tells nobody. It
	// must not block nor call back.
	Detached func(kiln.InstanceID, kiln.Digest)
	Logger   *slog.Logger
	// Rand is where ids come from: crypto/rand.Reader, or a seeded source in tests. Safe for use by many goroutines.
	Rand io.Reader
	// Starts bounds boots and prepares at once; DefaultStarts when 0.
	Starts int
}

// Node is one machine. Make it with New.
type Node struct {
	config Config
	starts *gate

	mu        sync.Mutex
	instances map[kiln.InstanceID]*instance        // guarded by mu
	places    map[kiln.ContainerID]kiln.InstanceID // the instance of each container; guarded by mu
	uses      uint64                               // packages let go so far, which orders them; guarded by mu
	fresh     map[kiln.ContainerID]*kiln.Binding   // bindings of containers started afresh, until bound; guarded by mu
	pauses    map[kiln.ContainerID]*pauses         // of containers that were ever paused; guarded by mu
}

// New makes a node over a driver.
func New(config Config) *Node {
	if config.Starts == 0 {
		config.Starts = DefaultStarts
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Node{
		config:    config,
		starts:    newGate(config.Starts),
		instances: make(map[kiln.InstanceID]*instance),
		places:    make(map[kiln.ContainerID]kiln.InstanceID),
		fresh:     make(map[kiln.ContainerID]*kiln.Binding),
		pauses:    make(map[kiln.ContainerID]*pauses),
	}
}

// ID is the node's name.
func (n *Node) ID() kiln.NodeID { return n.config.ID }

// Capabilities is what the node's driver can do.
func (n *Node) Capabilities() kiln.Capabilities { return n.config.Driver.Capabilities() }

// NewInstanceID gives an instance id that was never used.
func (n *Node) NewInstanceID() kiln.InstanceID { return kiln.InstanceID("i-" + n.random(8)) }

// NewContainerID gives a container id that was never used.
func (n *Node) NewContainerID() kiln.ContainerID { return kiln.ContainerID("c-" + n.random(8)) }

// random gives size random bytes in hexadecimal. A source of randomness that fails is a broken machine.
func (n *Node) random(size int) string {
	b := make([]byte, size)
	if _, err := io.ReadFull(n.config.Rand, b); err != nil {
		panic("node: random source failed: " + err.Error())
	}
	return hex.EncodeToString(b)
}

// Boot asks for an instance.
type Boot struct {
	ID            kiln.InstanceID
	Configuration kiln.Configuration
	AllowanceMiB  int
	// Urgent is true when a request waits for it.
	Urgent bool
}

// BootInstance boots an instance and gives its boot id. On an error nothing is left. Kinds: KindUnavailable,
// KindInternal.
func (n *Node) BootInstance(ctx context.Context, b Boot) (bootID string, err error) {
	leave, err := n.starts.enter(ctx, string(b.ID), b.Urgent)
	if err != nil {
		return "", err
	}
	defer leave()
	uuid := n.random(16)
	spec := kiln.InstanceSpec{ID: b.ID, BootID: uuid, Configuration: b.Configuration, AllowanceMiB: b.AllowanceMiB}
	if err := n.config.Driver.CreateInstance(ctx, spec); err != nil {
		return "", err
	}
	n.mu.Lock()
	n.instances[b.ID] = &instance{
		id: b.ID, containers: make(map[kiln.ContainerID]*attachment), packages: make(map[kiln.Digest]*attachment),
	}
	n.mu.Unlock()
	return uuid, nil
}

// Hasten lets a boot or a prepare that still waits for its turn go before those nobody waits for.
func (n *Node) Hasten(instance kiln.InstanceID, container kiln.ContainerID) {
	if container != "" {
		n.starts.hasten(string(container))
		return
	}
	n.starts.hasten(string(instance))
}

// Prepare asks for a container that waits for its version, or, with Version set, for one started afresh for it alone.
type Prepare struct {
	ID       kiln.ContainerID
	Instance kiln.InstanceID
	Runtime  string // the interpreter's own name
	Urgent   bool
	// Fresh is the binding the container is started for; nil for a prepared one.
	Fresh *Bind
}

// PrepareContainer starts a container's runtime and gives the process id of its first process, 0 where none is to be
// seen. On an error nothing is left. Kinds: KindNotFound, KindUnavailable, KindInternal and, afresh, the cache's.
func (n *Node) PrepareContainer(ctx context.Context, p Prepare) (pid int, err error) {
	runtime, ok := n.config.Runtimes(p.Runtime)
	if !ok {
		return 0, kiln.Errorf(kiln.KindNotFound, "node: prepare container", "No runtime %s on this node.", p.Runtime)
	}
	n.enter(p.Instance, p.ID)
	defer func() {
		if err != nil {
			n.leave(ctx, p.ID)
		}
	}()
	spec := kiln.ContainerSpec{ID: p.ID, Instance: p.Instance, Runtime: runtime}
	if p.Fresh != nil {
		b := *p.Fresh
		b.Container = p.ID
		if spec.Fresh, err = n.binding(ctx, runtime, &b); err != nil {
			return 0, err
		}
	}
	leave, err := n.starts.enter(ctx, string(p.ID), p.Urgent)
	if err != nil {
		return 0, err
	}
	defer leave()
	if pid, err = n.config.Driver.CreateContainer(ctx, spec); err != nil {
		return 0, err
	}
	if spec.Fresh != nil {
		n.mu.Lock()
		n.fresh[p.ID] = spec.Fresh
		n.mu.Unlock()
	}
	return pid, nil
}

// Bind asks a prepared container to become a version's.
type Bind struct {
	Container kiln.ContainerID
	Instance  kiln.InstanceID
	Runtime   string // the interpreter's own name
	Version   *kiln.Version
	Amounts   kiln.Amounts
	RequestID kiln.RequestID // the request it is made for, for events; may be empty
	Cause     string         // why this place was chosen, for the event
	// Provisioned tells the function that it is initialised before a request asks for it.
	Provisioned bool
}

// BindContainer brings the package to the node and into the instance where it is not there yet, and binds the container.
// A failing initialisation is a result; after an error the container must be deleted.
func (n *Node) BindContainer(ctx context.Context, b Bind) (kiln.InitResult, error) {
	n.mu.Lock()
	binding := n.fresh[b.Container]
	delete(n.fresh, b.Container)
	n.mu.Unlock()
	if binding == nil {
		runtime, ok := n.config.Runtimes(b.Runtime)
		if !ok {
			return kiln.InitResult{}, kiln.Errorf(kiln.KindNotFound, "node: bind container", "No runtime %s on this node.", b.Runtime)
		}
		var err error
		if binding, err = n.binding(ctx, runtime, &b); err != nil {
			return kiln.InitResult{}, err
		}
	}
	// Told here, and not where it was decided: the code is on the assigned instance only now.
	n.emit(kiln.EventContainerBind, b.Cause, &b)
	n.starts.begin()
	defer n.starts.end()
	return n.config.Driver.BindContainer(ctx, b.Container, *binding)
}

// Execute hands an event to an idle container the caller leases and blocks for its answer.
func (n *Node) Execute(ctx context.Context, id kiln.ContainerID, d *kiln.Delivery) kiln.Answer {
	return n.config.Driver.Execute(ctx, id, d)
}

// Check gives what of an instance is of no use though its end was not told; nothing where the driver cannot look.
func (n *Node) Check(ctx context.Context, id kiln.InstanceID) []kiln.Exit {
	if c, ok := n.config.Driver.(Checker); ok {
		return c.Check(ctx, id)
	}
	return nil
}

// DeleteContainer ends a container; it may be repeated.
func (n *Node) DeleteContainer(ctx context.Context, id kiln.ContainerID) error {
	n.mu.Lock()
	delete(n.fresh, id)
	n.mu.Unlock()
	if err := n.config.Driver.DeleteContainer(ctx, id); err != nil {
		return err
	}
	n.leave(ctx, id)
	return nil
}

// DeleteInstance ends an instance with all it holds; it may be repeated.
func (n *Node) DeleteInstance(ctx context.Context, id kiln.InstanceID) error {
	if err := n.config.Driver.DeleteInstance(ctx, id); err != nil {
		return err
	}
	n.mu.Lock()
	in := n.instances[id]
	delete(n.instances, id)
	if in != nil {
		for container := range in.containers {
			delete(n.places, container)
			delete(n.pauses, container)
		}
	}
	n.mu.Unlock()
	if in != nil {
		n.release(in)
	}
	return nil
}

// enter notes a container that is about to be, so that it can use packages.
func (n *Node) enter(instance kiln.InstanceID, id kiln.ContainerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in := n.instances[instance]; in != nil { // otherwise the driver says so
		in.containers[id] = nil
		n.places[id] = instance
	}
}

// leave forgets a container of which nothing is left: it uses no package any more.
func (n *Node) leave(ctx context.Context, id kiln.ContainerID) {
	n.mu.Lock()
	instance := n.places[id]
	delete(n.places, id)
	delete(n.pauses, id)
	n.mu.Unlock()
	n.let(ctx, instance, id, true)
}
