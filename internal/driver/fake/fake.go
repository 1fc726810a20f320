// Package fake is a driver of nothing but memory, for the tests of node, pool and what is above them: every delay and
// every failure comes from functions of its Config. It makes no processes, files or connections, and all its waiting is
// time's and channels', so that it works in a testing/synctest bubble.
//
// It keeps the contract as the real drivers do and passes the same suite; it also checks its caller: it counts what is
// alive and panics when one container is asked to execute more events at once than its version declares, one unless it
// does, since that is a broken invariant of ours.
// Everything is safe concurrently; the one lock is never held while waiting or while calling back.
package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"kiln"
)

// Config scripts the driver. Every function may be nil, which stands for at once and without failure.
type Config struct {
	// Capabilities is what the driver says of itself; an empty name stands for "fake".
	Capabilities kiln.Capabilities
	// Exited and Output are as for every driver.
	Exited func(kiln.Exit)
	Output func(kiln.ContainerID, []byte)

	// BootTime, StartTime and DeleteTime are how long an instance boots, a container starts and either takes to end.
	BootTime   func(kiln.InstanceSpec) time.Duration
	StartTime  func(kiln.ContainerSpec) time.Duration
	DeleteTime func() time.Duration

	// Boot, Attach and Start fail their step when they give an error.
	Boot   func(kiln.InstanceSpec) error
	Attach func(kiln.InstanceID, kiln.Digest) error
	Start  func(kiln.ContainerSpec) error
	// Delete fails the deletion of an instance or a container, which then stays as it is.
	Delete func(kiln.InstanceID, kiln.ContainerID) error
	// Pause and Resume fail the pausing of a container and its end.
	Pause  func(kiln.ContainerID) error
	Resume func(kiln.ContainerID) error
	// Bind is the function's own initialisation; BindError fails the step itself.
	Bind      func(context.Context, *Guest, kiln.Binding) kiln.InitResult
	BindError func(kiln.ContainerID) error
	// Handle is the code: what it gives is the answer, a failure a reported error. nil gives the event back. Its
	// context ends with the container and at the deadline.
	Handle func(context.Context, *Guest, *kiln.Delivery) ([]byte, *kiln.Failure)
}

// Guest is a container as its code sees it.
type Guest struct {
	ID          kiln.ContainerID
	Instance    kiln.InstanceID
	Binding     kiln.Binding
	Fresh       *kiln.Binding  // what the process saw when it started
	Packages    []kiln.Digest  // the instance's code cache when it was bound
	Executions  int            // how many it began, this one included
	State       map[string]any // its memory, for the code to use; one execution at a time, unless more are declared
	driver      *Driver
	killed      context.CancelCauseFunc
	writeOutput func([]byte)
}

// Print writes to the container's standard output.
func (g *Guest) Print(s string) { g.writeOutput([]byte(s)) }

// Runs waits while the container is paused, as all that runs in it does, and says whether it has not ended: what the code
// does in the background asks it before each step.
func (g *Guest) Runs() bool {
	d := g.driver
	for {
		d.mu.Lock()
		c := d.containers[g.ID]
		if c == nil || c.ctx.Err() != nil {
			d.mu.Unlock()
			return false
		}
		resumed := c.resumed
		d.mu.Unlock()
		if resumed == nil {
			return true
		}
		select {
		case <-resumed:
		case <-c.ctx.Done():
		}
	}
}

// Exit ends the container's process with a status, as the code itself may.
func (g *Guest) Exit(status string, memory bool) { g.driver.Kill(g.ID, status, memory) }

// Driver is a node.Driver.
type Driver struct {
	c Config

	mu         sync.Mutex // guards all below
	instances  map[kiln.InstanceID]*instance
	containers map[kiln.ContainerID]*container
	most       int // containers alive at once, at most
}

type instance struct {
	spec     kiln.InstanceSpec
	booted   bool
	packages map[kiln.Digest]string
}

type container struct {
	guest   Guest
	ctx     context.Context // ended by Kill and by deletion
	bound   bool
	busy    int // executions under way
	exit    *kiln.Exit
	resumed chan struct{}  // closed when it is resumed; nil while it is not paused
	leases  sync.WaitGroup // calls under way
}

// errExited and errDeleted are the causes a container's context ends with.
var (
	errExited  = kiln.Errorf(kiln.KindInternal, "fake: container", "the process ended")
	errDeleted = kiln.Errorf(kiln.KindInternal, "fake: container", "the container was deleted")
)

// New makes the driver.
func New(c Config) *Driver {
	if c.Capabilities.Name == "" {
		c.Capabilities.Name = "fake"
	}
	return &Driver{c: c, instances: map[kiln.InstanceID]*instance{}, containers: map[kiln.ContainerID]*container{}}
}

// Capabilities gives what Config says.
func (d *Driver) Capabilities() kiln.Capabilities { return d.c.Capabilities }

// CreateInstance boots an instance, which takes BootTime.
func (d *Driver) CreateInstance(ctx context.Context, spec kiln.InstanceSpec) error {
	const op = "fake: create instance"
	d.mu.Lock()
	if d.instances[spec.ID] != nil {
		d.mu.Unlock()
		return kiln.Errorf(kiln.KindInternal, op, "instance %s exists", spec.ID)
	}
	i := &instance{spec: spec, packages: map[kiln.Digest]string{}}
	d.instances[spec.ID] = i
	d.mu.Unlock()
	err := pause(ctx, op, call(d.c.BootTime, spec))
	if err == nil {
		err = call(d.c.Boot, spec)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		if d.instances[spec.ID] == i {
			delete(d.instances, spec.ID)
		}
		return err
	case d.instances[spec.ID] != i:
		return kiln.Errorf(kiln.KindNotFound, op, "instance %s was deleted meanwhile", spec.ID)
	}
	i.booted = true
	return nil
}

// DeleteInstance ends an instance with its containers, which takes DeleteTime.
func (d *Driver) DeleteInstance(ctx context.Context, id kiln.InstanceID) error {
	if d.c.Delete != nil {
		if err := d.c.Delete(id, ""); err != nil {
			return err
		}
	}
	d.mu.Lock()
	_, there := d.instances[id]
	delete(d.instances, id)
	var ending []kiln.ContainerID
	for cid, c := range d.containers {
		if c.guest.Instance == id {
			ending = append(ending, cid)
		}
	}
	d.mu.Unlock()
	for _, cid := range ending {
		d.remove(cid)
	}
	if there && d.c.DeleteTime != nil {
		wait(ctx, d.c.DeleteTime())
	}
	return nil
}

// AttachPackage puts a package into the instance's code cache.
func (d *Driver) AttachPackage(_ context.Context, id kiln.InstanceID, digest kiln.Digest, dir string) error {
	if d.c.Attach != nil {
		if err := d.c.Attach(id, digest); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.instances[id]
	if i == nil || !i.booted {
		return kiln.Errorf(kiln.KindNotFound, "fake: attach package", "no instance %s", id)
	}
	i.packages[digest] = dir
	return nil
}

// DetachPackage takes a package out of the instance's code cache. One that a container was bound to is a mistake of the
// caller's.
func (d *Driver) DetachPackage(_ context.Context, id kiln.InstanceID, digest kiln.Digest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for cid, c := range d.containers {
		if v := c.guest.Binding.Version; c.guest.Instance == id && v != nil && v.Package == digest {
			panic(fmt.Sprintf("fake: package %s is detached while container %s uses it", digest, cid))
		}
	}
	if i := d.instances[id]; i != nil {
		delete(i.packages, digest)
	}
	return nil
}

// Attached lists the packages in an instance's code cache, in order.
func (d *Driver) Attached(id kiln.InstanceID) []kiln.Digest {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.instances[id]; i != nil {
		return slices.Sorted(maps.Keys(i.packages))
	}
	return nil
}

// CreateContainer starts a container, which takes StartTime.
func (d *Driver) CreateContainer(ctx context.Context, spec kiln.ContainerSpec) (int, error) {
	const op = "fake: create container"
	if err := d.lookInstance(op, spec.Instance); err != nil {
		return 0, err
	}
	if err := pause(ctx, op, call(d.c.StartTime, spec)); err != nil {
		return 0, err
	}
	if err := call(d.c.Start, spec); err != nil {
		return 0, err
	}
	alive, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &container{ctx: alive, guest: Guest{ID: spec.ID, Instance: spec.Instance, Fresh: spec.Fresh, State: map[string]any{}, driver: d, killed: kill}}
	c.guest.writeOutput = func(b []byte) {
		if d.c.Output != nil {
			d.c.Output(spec.ID, b)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.instances[spec.Instance]; i == nil || !i.booted { // deleted while this waited
		kill(errDeleted)
		return 0, kiln.Errorf(kiln.KindNotFound, op, "no instance %s", spec.Instance)
	}
	d.containers[spec.ID] = c
	d.most = max(d.most, len(d.containers))
	return 0, nil
}

// BindContainer runs Bind.
func (d *Driver) BindContainer(ctx context.Context, id kiln.ContainerID, b kiln.Binding) (kiln.InitResult, error) {
	const op = "fake: bind container"
	c := d.hold(id)
	if c == nil {
		return kiln.InitResult{}, kiln.Errorf(kiln.KindNotFound, op, "no container %s", id)
	}
	defer c.leases.Done()
	if d.c.BindError != nil {
		if err := d.c.BindError(id); err != nil {
			return kiln.InitResult{}, err
		}
	}
	d.mu.Lock()
	if i := d.instances[c.guest.Instance]; i != nil {
		c.guest.Packages = slices.Sorted(maps.Keys(i.packages))
	}
	c.guest.Binding = b
	d.mu.Unlock()
	begin := time.Now()
	var r kiln.InitResult
	if d.c.Bind != nil {
		bound, stop := merge(ctx, c.ctx, begin.Add(cmp.Or(b.InitLimit, kiln.InitLimit)))
		r = d.c.Bind(bound, &c.guest, b)
		stop()
	}
	if r.Duration == 0 {
		r.Duration = time.Since(begin)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case c.exit != nil && r.Failure == nil:
		r.Failure = exitFailure(kiln.OutcomeInit, c.exit)
	case c.ctx.Err() != nil && c.exit == nil:
		return r, kiln.Errorf(kiln.KindNotFound, op, "container %s was deleted meanwhile", id)
	case r.Failure == nil && b.InitLimit > 0 && r.Duration >= b.InitLimit:
		r.Failure = failure(kiln.OutcomeInit, "Sandbox.Timedout", fmt.Sprintf("Task timed out after %.2f seconds", b.InitLimit.Seconds()))
	}
	c.bound = r.Failure == nil
	return r, nil
}

// Execute runs Handle until it answers, its container ends or the deadline passes.
func (d *Driver) Execute(ctx context.Context, id kiln.ContainerID, e *kiln.Delivery) kiln.Answer {
	c := d.hold(id)
	if c == nil {
		return undelivered(failure(kiln.OutcomeFailed, "Sandbox.Failure", "The container has ended"))
	}
	defer c.leases.Done()
	d.mu.Lock()
	if v := c.guest.Binding.Version; c.busy > 0 && (v == nil || c.busy >= v.Slots()) {
		panic(fmt.Sprintf("fake: container %s is asked to execute %s while it executes", id, e.RequestID))
	}
	if c.ctx.Err() != nil || !c.bound {
		f := failure(kiln.OutcomeFailed, "Sandbox.Failure", "The container has ended or is not bound")
		if c.exit != nil {
			f = exitFailure(kiln.OutcomeCrash, c.exit)
		}
		d.mu.Unlock()
		return undelivered(f)
	}
	if c.resumed != nil {
		panic(fmt.Sprintf("fake: container %s is asked to execute %s while it is paused", id, e.RequestID))
	}
	c.busy++
	c.guest.Executions++
	d.mu.Unlock()
	a := d.handle(ctx, c, e)
	d.mu.Lock()
	defer d.mu.Unlock()
	c.busy--
	c.bound = c.bound && !a.Lost
	return a
}

// handle runs the code. Code that does not heed its context holds Execute up.
func (d *Driver) handle(ctx context.Context, c *container, e *kiln.Delivery) kiln.Answer {
	a := kiln.Answer{Start: time.Now(), Payload: e.Payload}
	if d.c.Handle != nil {
		running, stop := merge(ctx, c.ctx, e.Deadline)
		a.Payload, a.Failure = d.c.Handle(running, &c.guest, e)
		stop()
	}
	a.End = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case c.exit != nil:
		a.Failure, a.Lost = exitFailure(kiln.OutcomeCrash, c.exit), true
	case c.ctx.Err() != nil:
		a.Failure, a.Lost = failure(kiln.OutcomeFailed, "Sandbox.Failure", "The container was ended"), true
	case ctx.Err() != nil:
		a.Failure, a.Lost = failure(kiln.OutcomeFailed, "Sandbox.Failure", "The execution was given up"), true
	case !a.End.Before(e.Deadline):
		a.Failure = failure(kiln.OutcomeTimeout, "Sandbox.Timedout", fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds",
			e.RequestID, e.Deadline.Sub(a.Start).Round(100*time.Millisecond).Seconds()))
		a.Lost = true
	}
	if a.Failure != nil {
		a.Payload = a.Failure.Payload
	}
	return a
}

// Pause stops a container: its code's Runs waits. One that executes is a mistake of the caller's.
func (d *Driver) Pause(_ context.Context, id kiln.ContainerID) error {
	if d.c.Pause != nil {
		if err := d.c.Pause(id); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.containers[id]
	if c == nil {
		return kiln.Errorf(kiln.KindNotFound, "fake: pause", "no container %s", id)
	}
	if c.busy > 0 {
		panic(fmt.Sprintf("fake: container %s is paused while it executes", id))
	}
	if c.resumed == nil {
		c.resumed = make(chan struct{})
	}
	return nil
}

// Resume lets a container run on.
func (d *Driver) Resume(_ context.Context, id kiln.ContainerID) error {
	if d.c.Resume != nil {
		if err := d.c.Resume(id); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.containers[id]
	if c == nil {
		return kiln.Errorf(kiln.KindNotFound, "fake: resume", "no container %s", id)
	}
	if c.resumed != nil {
		close(c.resumed)
		c.resumed = nil
	}
	return nil
}

// Paused says whether a container is paused.
func (d *Driver) Paused(id kiln.ContainerID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.containers[id]
	return c != nil && c.resumed != nil
}

// DeleteContainer ends a container, which takes DeleteTime.
func (d *Driver) DeleteContainer(ctx context.Context, id kiln.ContainerID) error {
	if d.c.Delete != nil {
		if err := d.c.Delete("", id); err != nil {
			return err
		}
	}
	if d.remove(id) && d.c.DeleteTime != nil {
		wait(ctx, d.c.DeleteTime())
	}
	return nil
}

// Kill ends a container's process from outside, as the kernel may. False when there is no such container alive.
func (d *Driver) Kill(id kiln.ContainerID, status string, memory bool) bool {
	d.mu.Lock()
	c := d.containers[id]
	if c == nil || c.exit != nil {
		d.mu.Unlock()
		return false
	}
	e := kiln.Exit{Instance: c.guest.Instance, Container: id, Status: status, Memory: memory}
	c.exit = &e
	d.mu.Unlock()
	c.guest.killed(errExited)
	if d.c.Exited != nil {
		d.c.Exited(e)
	}
	return true
}

// KillInstance ends a whole instance from outside, as a lost machine does. Exited is called once, for the instance.
func (d *Driver) KillInstance(id kiln.InstanceID, status string) bool {
	d.mu.Lock()
	_, there := d.instances[id]
	e := kiln.Exit{Instance: id, Status: status}
	for _, c := range d.containers {
		if there && c.guest.Instance == id && c.exit == nil {
			c.exit = &e
			defer c.guest.killed(errExited)
		}
	}
	d.mu.Unlock()
	if there && d.c.Exited != nil {
		d.c.Exited(e)
	}
	return there
}

// Alive counts the instances and containers there are, and the most containers there have been at once.
func (d *Driver) Alive() (instances, containers, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.instances), len(d.containers), d.most
}

// remove ends a container and waits for the calls on it.
func (d *Driver) remove(id kiln.ContainerID) bool {
	d.mu.Lock()
	c := d.containers[id]
	delete(d.containers, id)
	d.mu.Unlock()
	if c == nil {
		return false
	}
	c.guest.killed(errDeleted)
	c.leases.Wait()
	return true
}

// hold finds a container and keeps remove waiting until the caller is done with it.
func (d *Driver) hold(id kiln.ContainerID) *container {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.containers[id]
	if c != nil {
		c.leases.Add(1)
	}
	return c
}

func (d *Driver) lookInstance(op string, id kiln.InstanceID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.instances[id]; i == nil || !i.booted {
		return kiln.Errorf(kiln.KindNotFound, op, "no instance %s", id)
	}
	return nil
}

// call calls f unless it is nil.
func call[A, R any](f func(A) R, a A) (r R) {
	if f != nil {
		r = f(a)
	}
	return r
}

// pause waits for d, or fails when the caller gives up.
func pause(ctx context.Context, op string, d time.Duration) error {
	wait(ctx, d)
	if err := ctx.Err(); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "given up", context.Cause(ctx))
	}
	return nil
}

// wait blocks for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// merge gives a context that ends with either of two and at a time (unless zero).
func merge(a, b context.Context, at time.Time) (context.Context, func()) {
	ctx, cancel := context.WithDeadline(a, at)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() { stop(); cancel() }
}

func undelivered(f *kiln.Failure) kiln.Answer {
	return kiln.Answer{Payload: f.Payload, Failure: f, Lost: true, Undelivered: true}
}

func failure(o kiln.Outcome, kind, message string) *kiln.Failure {
	return &kiln.Failure{Outcome: o, Type: kind, Payload: fmt.Appendf(nil, `{"errorType":%q,"errorMessage":%q}`, kind, message)}
}

func exitFailure(o kiln.Outcome, e *kiln.Exit) *kiln.Failure {
	if e.Memory {
		return failure(kiln.OutcomeMemory, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed")
	}
	return failure(o, "Runtime.ExitError", "Runtime exited with error: "+e.Status)
}
