// Package process is the driver for a developer's laptop without root or Linux: a container is a group of ordinary
// processes of the user who runs Kiln, and an instance is no more than a name over some of them.
//
// It isolates nothing and limits nothing, and says so in its Capabilities; one account's code can read another's. Use it
// to write functions, never to run other people's. There are no mounts either: the code is seen where it is unpacked
// (LAMBDA_TASK_ROOT and the working directory tell the function), /var/task does not exist.
//
// server makes it; node calls it. Everything is safe concurrently. Lock order: Driver.mu, then a container's; neither is
// held while waiting, nor while Exited is called.
package process

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"kiln"
	"kiln/internal/runtimeapi"
)

// Config is what the driver is made with.
type Config struct {
	// Dir is the folder for the containers' private folders. It is made, and emptied: nothing in it outlives a server.
	Dir string
	// Exited is told once of each container that ended by itself; Output of what a container wrote, in order.
	Exited func(kiln.Exit)
	Output func(kiln.ContainerID, []byte)
	Logger *slog.Logger
}

// Driver is a node.Driver.
type Driver struct {
	c Config

	mu         sync.Mutex // guards the maps
	instances  map[kiln.InstanceID]*instance
	containers map[kiln.ContainerID]*container
}

type instance struct {
	containers map[kiln.ContainerID]*container
	packages   map[kiln.Digest]string
}

// New makes the driver. KindUnavailable when its folder cannot be made.
func New(c Config) (*Driver, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, "process: empty folder", "the data directory cannot be written", err)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, "process: make folder", "the data directory cannot be written", err)
	}
	return &Driver{c: c, instances: map[kiln.InstanceID]*instance{}, containers: map[kiln.ContainerID]*container{}}, nil
}

// Capabilities says what this driver can do: little, and loudly.
func (d *Driver) Capabilities() kiln.Capabilities {
	return kiln.Capabilities{Name: "process", Notes: []string{
		"NO ISOLATION: functions are ordinary processes of the user who runs Kiln; they can read each other's files and memory, and yours.",
		"NO LIMITS: memory, processor, disk and processes of a function are not bounded.",
		"Functions have the machine's network; code is not at /var/task but where LAMBDA_TASK_ROOT says.",
		"NO PAUSE: what a function leaves running in the background goes on between its executions.",
		"A process that starts a session of its own may outlive its container.",
	}}
}

// CreateInstance notes an instance.
func (d *Driver) CreateInstance(_ context.Context, spec kiln.InstanceSpec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.instances[spec.ID] != nil {
		return kiln.Errorf(kiln.KindInternal, "process: create instance", "instance %s exists", spec.ID)
	}
	d.instances[spec.ID] = &instance{containers: map[kiln.ContainerID]*container{}, packages: map[kiln.Digest]string{}}
	return nil
}

// DeleteInstance ends an instance's containers and forgets it.
func (d *Driver) DeleteInstance(_ context.Context, id kiln.InstanceID) error {
	d.mu.Lock()
	i := d.instances[id]
	delete(d.instances, id)
	var ending []*container
	if i != nil {
		for _, c := range i.containers {
			ending = append(ending, c)
		}
	}
	d.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range ending {
		wg.Go(func() { d.remove(c) })
	}
	wg.Wait()
	return nil
}

// AttachPackage notes a package.
func (d *Driver) AttachPackage(_ context.Context, id kiln.InstanceID, digest kiln.Digest, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.instances[id]
	if i == nil {
		return kiln.Errorf(kiln.KindNotFound, "process: attach package", "no instance %s", id)
	}
	i.packages[digest] = dir
	return nil
}

// DetachPackage forgets a package.
func (d *Driver) DetachPackage(_ context.Context, id kiln.InstanceID, digest kiln.Digest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.instances[id]; i != nil {
		delete(i.packages, digest)
	}
	return nil
}

// CreateContainer starts the runtime's process and waits until it is prepared.
func (d *Driver) CreateContainer(ctx context.Context, spec kiln.ContainerSpec) (int, error) {
	c := newContainer(spec, filepath.Join(d.c.Dir, string(spec.ID)))
	d.mu.Lock()
	i := d.instances[spec.Instance]
	if i == nil {
		d.mu.Unlock()
		return 0, kiln.Errorf(kiln.KindNotFound, "process: create container", "no instance %s", spec.Instance)
	}
	i.containers[spec.ID], d.containers[spec.ID] = c, c
	d.mu.Unlock()
	if err := c.start(ctx, d); err != nil {
		d.remove(c)
		return 0, err
	}
	return c.cmd.Process.Pid, nil
}

// BindContainer gives the runtime its version and waits for the function's own initialisation.
func (d *Driver) BindContainer(ctx context.Context, id kiln.ContainerID, b kiln.Binding) (kiln.InitResult, error) {
	c := d.find(id)
	if c == nil {
		return kiln.InitResult{}, kiln.Errorf(kiln.KindNotFound, "process: bind container", "no container %s", id)
	}
	if b.Version.Slots() > 1 {
		c.session.SetSlots(b.Version.Slots())
		c.shares = new(runtimeapi.Shares)
	}
	r, err := c.bind(ctx, b)
	c.used = usage(c.cmd.Process.Pid)
	return r, err
}

// Execute hands one event to the container. What the code wrote before its answer has reached Output when it returns.
func (d *Driver) Execute(ctx context.Context, id kiln.ContainerID, e *kiln.Delivery) kiln.Answer {
	c := d.find(id)
	if c == nil {
		return kiln.Answer{Lost: true, Undelivered: true, Failure: &kiln.Failure{Outcome: kiln.OutcomeFailed, Type: "Sandbox.Failure",
			Payload: []byte(`{"errorType":"Sandbox.Failure","errorMessage":"The container has ended"}`)}}
	}
	if c.shares != nil {
		before := c.shares.Begin(usage(c.cmd.Process.Pid))
		a := c.session.Execute(ctx, e)
		c.output.drain()
		a.Before, a.Usage = before, c.shares.End(usage(c.cmd.Process.Pid))
		return a
	}
	a := c.session.Execute(ctx, e)
	c.output.drain()
	a.Before, c.used = c.used, usage(c.cmd.Process.Pid)
	a.Usage = c.used
	return a
}

// DeleteContainer ends a container's processes and removes its folder.
func (d *Driver) DeleteContainer(_ context.Context, id kiln.ContainerID) error {
	if c := d.find(id); c != nil {
		d.remove(c)
	}
	return nil
}

func (d *Driver) find(id kiln.ContainerID) *container {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.containers[id]
}

// remove ends a container and forgets it when nothing of it is left. May be repeated, also at once.
func (d *Driver) remove(c *container) {
	c.end()
	if err := os.RemoveAll(c.dir); err != nil {
		d.c.Logger.Error("container's folder not removed", "container", c.spec.ID, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.containers, c.spec.ID)
	if i := d.instances[c.spec.Instance]; i != nil {
		delete(i.containers, c.spec.ID)
	}
}
