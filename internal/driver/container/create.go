//go:build linux

package container

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"kiln"
	"kiln/internal/runtimeapi"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

const (
	// exitWait bounds the wait for the last output and the end of a killed container's watchers.
	exitWait = 5 * time.Second
	// addressVariable tells a runtime where the Runtime API is.
	addressVariable = "AWS_LAMBDA_RUNTIME_API"
)

// container is one container, from the moment it is asked for until nothing of it is left.
type container struct {
	spec     kiln.ContainerSpec
	instance *instance
	session  *runtimeapi.Session
	cancel   context.CancelCauseFunc // ends its creation
	created  chan struct{}           // closed when its creation is over, well or not
	ending   atomic.Bool             // it was asked to end: its exit is no news
	turn     chan struct{}           // one word for the one who dismantles it
	silent   bool                    // guarded by turn: its processes, and all that served and read them, have ended
	gone     bool                    // guarded by turn: nothing of it is left

	// Written while it is created, by one goroutine; read by others after created is closed.
	firstUID uint32
	network  *sandbox.Network
	group    *sandbox.Group
	meter    *sandbox.Meter
	turns    stage.Turns // begun by BindContainer
	process  *sandbox.Process
	output   *stage.Output
	stdin    *os.File // the stub's script goes here; nil for managed runtimes
	tasks    sync.WaitGroup
	exited   chan struct{} // closed when the watcher has told everyone; nil when there is none
	live     atomic.Bool   // CreateContainer has returned it
	pauses   atomic.Uint64 // how often it was paused and resumed, together: odd while it is paused
	code     bool          // the code is mounted; written by creation or the one BindContainer
}

// CreateContainer makes a container and starts its runtime.
func (d *Driver) CreateContainer(ctx context.Context, spec kiln.ContainerSpec) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &container{spec: spec, cancel: cancel, created: make(chan struct{}), turn: make(chan struct{}, 1),
		session: runtimeapi.New(runtimeapi.Config{Logger: d.c.Logger.With("container", string(spec.ID))})}
	if err := d.admit(c); err != nil {
		return 0, err
	}
	err := d.create(ctx, c)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		c.live.Store(true)
	}
	close(c.created)
	if err != nil {
		if _, ours := errors.AsType[*kiln.Error](err); !ours {
			err = kiln.Wrap(kiln.KindUnavailable, "container: create container", "the container's start was given up", err)
		}
		return 0, errors.Join(err, d.endContainer(context.WithoutCancel(ctx), c))
	}
	return c.process.Pid, nil
}

// admit enters a container into its instance.
func (d *Driver) admit(c *container) error {
	const op = "container: create container"
	d.mu.Lock()
	defer d.mu.Unlock()
	c.instance = d.instances[c.spec.Instance]
	if c.instance == nil {
		return kiln.Errorf(kiln.KindNotFound, op, "there is no instance %s", c.spec.Instance)
	}
	if d.containers[c.spec.ID] != nil {
		return kiln.Errorf(kiln.KindConflict, op, "container %s exists", c.spec.ID)
	}
	c.instance.mu.Lock()
	defer c.instance.mu.Unlock()
	if c.instance.gone {
		return kiln.Errorf(kiln.KindNotFound, op, "instance %s is gone", c.spec.Instance)
	}
	d.containers[c.spec.ID], c.instance.containers[c.spec.ID] = c, c
	return nil
}

// create does the steps of a container's start. What a failing one leaves half done, dismantle takes away.
func (d *Driver) create(ctx context.Context, c *container) error {
	if err := d.provide(ctx, c); err != nil {
		return err
	}
	if err := d.writeBundle(c); err != nil {
		return err
	}
	var disk *sandbox.Detached
	var diskErr error
	var making sync.WaitGroup
	making.Go(func() { disk, diskErr = d.makeDisk(ctx, defaultDiskMiB) }) // while the launcher runs
	err := d.launchIn(ctx, c)
	making.Wait()
	defer disk.Close()
	if err := errors.Join(err, diskErr); err != nil {
		return err
	}
	if err := errors.Join(c.group.Add(c.process.Pid), c.process.Expendable(guestOOMScore)); err != nil {
		return err
	}
	if err := sandbox.Put(disk, c.process, "/tmp"); err != nil {
		return err
	}
	if c.spec.Fresh != nil {
		if err := c.putCode(*c.spec.Fresh); err != nil {
			return err
		}
	}
	if err := d.start(ctx, c.spec.ID); err != nil {
		return err
	}
	c.tasks.Go(func() {
		if err := c.session.Serve(c.network.Listener); err != nil {
			d.c.Logger.Warn("runtime api link failed", "container", string(c.spec.ID), "error", err)
		}
	})
	return d.awaitPrepared(ctx, c)
}

// provide takes what a container needs before it is launched.
func (d *Driver) provide(ctx context.Context, c *container) (err error) {
	if c.firstUID, err = d.ranges.Take(); err != nil {
		return err
	}
	if c.group, err = d.tree.Group(string(c.spec.Instance), string(c.spec.ID)); err != nil {
		return err
	}
	if err := c.group.Create(sandbox.Limits{Processes: kiln.MaxProcesses}); err != nil {
		return err
	}
	if c.meter, err = c.group.Meter(); err != nil {
		return err
	}
	c.network, err = d.networks.Take(ctx)
	return err
}

// writeBundle writes the OCI configuration.
func (d *Driver) writeBundle(c *container) error {
	bootstraps, err := d.stage.Show(c.spec.Runtime.BootstrapDir)
	if err != nil {
		return err
	}
	environment := map[string]string{"PATH": defaultPath}
	maps.Copy(environment, c.spec.Runtime.Environment)
	if c.spec.Fresh != nil {
		maps.Copy(environment, c.spec.Fresh.Environment)
	}
	environment[addressVariable] = sandbox.RuntimeAPIAddress
	des := design{id: c.spec.ID, root: d.stage.Root(), machineID: c.instance.machineID(), bootstraps: bootstraps,
		network: c.network.Path(), command: c.spec.Runtime.Command, environment: environment, firstUID: c.firstUID, group: c.group, seccomp: d.seccomp}
	if !d.launcher.crun {
		des.cgroupsPath = c.group.Name()
	}
	config, err := des.config()
	if err != nil {
		return err
	}
	bundle := d.stage.Bundle(c.spec.ID)
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "container: write bundle", "cannot make a folder on the stage", err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "container: write bundle", "cannot write the OCI configuration", err)
	}
	return nil
}

// makeDisk makes a private disk: on disk where that is possible.
func (d *Driver) makeDisk(ctx context.Context, sizeMiB int) (*sandbox.Detached, error) {
	if d.disks == nil {
		return sandbox.MakeMemoryDisk(sizeMiB)
	}
	return d.disks.Make(ctx, sizeMiB)
}

// launchIn launches the container with its pipes and starts to watch it. Pipes and never /dev/null: crun 1.8.1 changes
// the owner of what it is given.
func (d *Driver) launchIn(ctx context.Context, c *container) error {
	id := c.spec.ID
	out, outWrite, err := stage.NewOutput(func(b []byte) { d.c.Output(id, b) })
	if err != nil {
		return err
	}
	defer outWrite.Close()
	c.output = out
	c.turns = stage.Turns{Session: c.session, Output: out, Meter: c.meter}
	c.tasks.Go(out.Run)
	in, inWrite, err := os.Pipe()
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "container: open input", "cannot make a pipe", err)
	}
	defer in.Close()
	if c.spec.Runtime.Kind == kiln.RuntimeProvided {
		c.stdin = inWrite
	} else {
		_ = inWrite.Close() // a managed runtime reads the end of its input
	}
	if c.process, err = d.launch(ctx, id, [3]*os.File{in, outWrite, outWrite}); err != nil {
		return err
	}
	c.exited = make(chan struct{})
	c.tasks.Go(func() { d.watch(c) })
	return nil
}

// watch waits for the container's first process, and tells its end.
func (d *Driver) watch(c *container) {
	exit := kiln.Exit{Instance: c.spec.Instance, Container: c.spec.ID, Status: c.process.Wait()}
	// The count alone may be of a child, in an execution long over. 137 is what a shell says of a child killed.
	exit.Memory = (exit.Status == "signal: killed" || exit.Status == "exit status 137") && c.group.OutOfMemory() > 0
	select { // all writers are gone with the process namespace: what the container said last is told before its end
	case <-c.output.Done():
	case <-time.After(exitWait):
	}
	c.session.Exited(exit)
	close(c.exited)
	// Apart from the container's own tasks, so that the one who is told may delete it at once.
	d.news.Go(func() {
		<-c.created
		if c.live.Load() && !c.ending.Load() {
			d.c.Exited(exit)
		}
	})
}

// awaitPrepared blocks until the runtime is ready to be bound.
func (d *Driver) awaitPrepared(ctx context.Context, c *container) error {
	const op = "container: prepare"
	if c.spec.Runtime.Kind == kiln.RuntimeProvided {
		return nil // a shell that reads; what it cannot do shows at the binding
	}
	limit := time.NewTimer(d.c.PrepareLimit)
	defer limit.Stop()
	select {
	case <-c.session.Prepared():
		return nil
	case <-c.exited:
		return kiln.Errorf(kiln.KindUnavailable, op, "the runtime %s ended before it was ready", c.spec.Runtime.Name)
	case <-limit.C:
		return kiln.Errorf(kiln.KindUnavailable, op, "the runtime %s was not ready within %s", c.spec.Runtime.Name, d.c.PrepareLimit)
	case <-ctx.Done():
		return kiln.Wrap(kiln.KindUnavailable, op, "the container's start was given up", context.Cause(ctx))
	}
}

// DeleteContainer ends a container and leaves nothing of it.
func (d *Driver) DeleteContainer(ctx context.Context, id kiln.ContainerID) error {
	c := d.container(id)
	if c == nil {
		return nil
	}
	return d.endContainer(ctx, c)
}

// errEnded is why a creation is given up.
var errEnded = errors.New("the container was deleted")

// endContainer ends a container in whatever state it is. After an error it is still known, with all that is left of it, and
// another attempt goes on; until one succeeds its range of user ids is nobody else's.
func (d *Driver) endContainer(ctx context.Context, c *container) error {
	c.ending.Store(true)
	c.cancel(errEnded)
	c.session.Close()
	<-c.created
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.gone {
		return nil
	}
	if err := d.dismantle(context.WithoutCancel(ctx), c); err != nil { // half removed is worse than late
		return err
	}
	c.gone = true
	d.mu.Lock()
	delete(d.containers, c.spec.ID)
	d.mu.Unlock()
	c.instance.mu.Lock()
	delete(c.instance.containers, c.spec.ID)
	c.instance.mu.Unlock()
	return nil
}

// dismantle takes away what a container has, however far its creation came, its processes first: nothing that they may
// still use is given back before they have ended. Each step may be repeated.
func (d *Driver) dismantle(ctx context.Context, c *container) error {
	if !c.silent {
		if err := c.silence(ctx); err != nil {
			return err
		}
		c.silent = true
	}
	if c.group != nil {
		if err := c.group.Remove(); err != nil {
			return err
		}
	}
	// The OCI runtime's own record: with its cgroups disabled and no hooks, deleting is removing it.
	for _, dir := range []string{d.stage.Bundle(c.spec.ID), filepath.Join(d.stage.OCI(), string(c.spec.ID))} {
		if err := os.RemoveAll(dir); err != nil {
			return kiln.Wrap(kiln.KindInternal, "container: delete container", "cannot remove the container's folder", err)
		}
	}
	if c.firstUID != 0 {
		d.ranges.Return(c.firstUID)
	}
	return nil
}

// silence ends a container's processes, and then what served and read them.
func (c *container) silence(ctx context.Context) error {
	if c.process != nil {
		_ = c.process.Kill() // also before it joined its cgroup; gone already is as good
	}
	if c.group != nil {
		if err := c.group.Kill(ctx); err != nil {
			return err
		}
	}
	if c.exited != nil {
		limit := time.NewTimer(2 * exitWait)
		defer limit.Stop()
		select {
		case <-c.exited:
		case <-limit.C:
			return kiln.Errorf(kiln.KindInternal, "container: delete container", "the first process of container %s does not end", c.spec.ID)
		}
	}
	if c.output != nil {
		c.output.Close()
	}
	if c.stdin != nil {
		_ = c.stdin.Close() // nobody reads it any more
	}
	if c.network != nil {
		c.network.Close()
	}
	c.tasks.Wait()
	if c.process != nil {
		c.process.Close()
	}
	if c.meter != nil {
		c.meter.Close()
	}
	return nil
}
