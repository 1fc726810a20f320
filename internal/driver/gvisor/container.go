//go:build linux

package gvisor

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/agent"
	"kiln/internal/runtimeapi"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

const (
	// exitWait bounds the wait for the last output and the end of a killed sandbox's watchers.
	exitWait = 5 * time.Second
	// addressVariable tells a runtime where the Runtime API is.
	addressVariable = "AWS_LAMBDA_RUNTIME_API"
	// runtimeAPIAddress is where the agent serves it inside every sandbox.
	runtimeAPIAddress = "127.0.0.1:9001"
	// guestOOMScore makes guests go before the node when the whole machine is out of memory.
	guestOOMScore = 500
)

// container is one sandbox, from the moment it is asked for until nothing of it is left.
type container struct {
	spec     kiln.ContainerSpec
	instance *instance
	home     home
	session  *runtimeapi.Session
	cancel   context.CancelCauseFunc // ends its creation
	created  chan struct{}           // closed when its creation is over, well or not
	ending   atomic.Bool             // it was asked to end: its exit is no news
	turn     chan struct{}           // one word for the one who dismantles it
	silent   bool                    // guarded by turn: its processes, and all that served and read them, have ended
	gone     bool                    // guarded by turn: nothing of it is left

	// Written while it is created, by one goroutine; read by others after created is closed.
	firstUID uint32
	group    *sandbox.Group
	meter    *sandbox.Meter
	turns    stage.Turns // begun by BindContainer
	process  *sandbox.Process
	output   *stage.Output
	stdin    *os.File // the stub's script goes here; nil for managed runtimes
	link     net.Listener
	guest    *agent.Guest
	tasks    sync.WaitGroup
	exited   chan struct{} // closed when the watcher has told everyone; nil when there is none
	live     atomic.Bool   // CreateContainer has returned it
	code     bool          // the code is mounted; written by creation or the one BindContainer
}

// home is where a sandbox's own files are on the stage.
type home struct{ dir string }

func (h home) link() string   { return filepath.Join(h.dir, "link") }
func (h home) socket() string { return filepath.Join(h.dir, "link", "node") }
func (h home) limits() string { return filepath.Join(h.dir, "limits") }
func (h home) variable() string {
	return filepath.Join(h.dir, "var")
}

// CreateContainer makes a sandbox and starts its runtime, or continues one that was saved when its runtime was prepared.
func (d *Driver) CreateContainer(ctx context.Context, spec kiln.ContainerSpec) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := d.newContainer(spec, cancel)
	if err := d.admit(c); err != nil {
		return 0, err
	}
	err := d.create(ctx, c, d.image(spec))
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		c.live.Store(true)
	}
	close(c.created)
	if err != nil {
		if _, ours := errors.AsType[*kiln.Error](err); !ours {
			err = kiln.Wrap(kiln.KindUnavailable, "gvisor: create container", "the container's start was given up", err)
		}
		return 0, errors.Join(err, d.endContainer(context.WithoutCancel(ctx), c))
	}
	return c.process.Pid, nil
}

func (d *Driver) newContainer(spec kiln.ContainerSpec, cancel context.CancelCauseFunc) *container {
	return &container{spec: spec, cancel: cancel, created: make(chan struct{}), turn: make(chan struct{}, 1),
		home:    home{d.stage.Bundle(spec.ID)},
		session: runtimeapi.New(runtimeapi.Config{Logger: d.c.Logger.With("container", string(spec.ID))})}
}

// admit enters a container into its instance.
func (d *Driver) admit(c *container) error {
	const op = "gvisor: create container"
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

// create does the steps of a sandbox's start, from a saved image when there is one. What a failing one leaves half done,
// dismantle takes away.
func (d *Driver) create(ctx context.Context, c *container, image string) error {
	if err := d.provide(ctx, c); err != nil {
		return err
	}
	if err := d.writeBundle(c); err != nil {
		return err
	}
	if c.spec.Fresh != nil {
		if err := c.putCode(*c.spec.Fresh); err != nil {
			return err
		}
	}
	if err := d.launchIn(ctx, c, image); err != nil {
		return err
	}
	if err := c.process.Expendable(guestOOMScore); err != nil {
		return err
	}
	if err := d.meet(ctx, c); err != nil {
		return err
	}
	return d.awaitPrepared(ctx, c)
}

// provide takes what a sandbox needs before it is launched.
func (d *Driver) provide(ctx context.Context, c *container) (err error) {
	const op = "gvisor: create container"
	if c.firstUID, err = d.ranges.Take(); err != nil {
		return err
	}
	if c.group, err = d.tree.Group(string(c.spec.Instance), string(c.spec.ID)); err != nil {
		return err
	}
	if err := c.group.Create(sandbox.Limits{Processes: kiln.MaxProcesses + sandboxThreads}); err != nil {
		return err
	}
	if c.meter, err = c.group.Meter(); err != nil {
		return err
	}
	for _, dir := range []string{c.home.link(), c.home.limits(), filepath.Join(c.home.variable(), "task"),
		filepath.Join(c.home.variable(), "tmp"), filepath.Join(c.home.variable(), "runtime"), filepath.Join(c.home.variable(), "lib")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot make a folder on the stage", err)
		}
	}
	if err := writeLimits(c.home.limits(), d.tree.V2(), kiln.Amounts{}); err != nil {
		return err
	}
	if err := sandbox.Share(c.home.variable()); err != nil {
		return err
	}
	if c.spec.Runtime.BootstrapDir != "" {
		if err := sandbox.BindReadOnly(c.spec.Runtime.BootstrapDir, filepath.Join(c.home.variable(), "runtime")); err != nil {
			return err
		}
	}
	if err := d.putDisk(ctx, c, defaultDiskMiB); err != nil {
		return err
	}
	if c.link, err = net.Listen("unix", c.home.socket()); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot make the link's socket", err)
	}
	if err := os.Chmod(c.home.socket(), 0o666); err != nil { // the folder is this sandbox's alone
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot open the link's socket to the guest", err)
	}
	return nil
}

// putDisk mounts a new private disk at the sandbox's /tmp.
func (d *Driver) putDisk(ctx context.Context, c *container, sizeMiB int) error {
	make := sandbox.MakeMemoryDisk
	if d.disks != nil {
		make = func(sizeMiB int) (*sandbox.Detached, error) { return d.disks.Make(ctx, sizeMiB) }
	}
	disk, err := make(sizeMiB)
	if err != nil {
		return err
	}
	defer disk.Close()
	return disk.MoveTo(filepath.Join(c.home.variable(), "tmp"))
}

// launchIn launches the sandbox with its pipes and starts to watch it.
func (d *Driver) launchIn(ctx context.Context, c *container, image string) error {
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
		return kiln.Wrap(kiln.KindUnavailable, "gvisor: open input", "cannot make a pipe", err)
	}
	defer in.Close()
	if c.spec.Runtime.Kind == kiln.RuntimeProvided {
		c.stdin = inWrite
	} else {
		_ = inWrite.Close() // a managed runtime reads the end of its input
	}
	if c.process, err = d.launch(ctx, c, image, [3]*os.File{in, outWrite, outWrite}); err != nil {
		return err
	}
	c.exited = make(chan struct{})
	c.tasks.Go(func() { d.watch(c) })
	return nil
}

// watch waits for the sandbox's end, and tells it. Its status is the agent's, and so the runtime's.
func (d *Driver) watch(c *container) {
	exit := kiln.Exit{Instance: c.spec.Instance, Container: c.spec.ID, Status: worded(c.process.Wait())}
	exit.Memory = c.group.OutOfMemory() > 0
	select { // all writers are gone with the sandbox: what the container said last is told before its end
	case <-c.output.Done():
	case <-time.After(exitWait):
	}
	c.session.Exited(exit)
	close(c.exited)
	d.news.Go(func() { // apart from the container's own tasks, so that the one who is told may delete it at once
		<-c.created
		if c.live.Load() && !c.ending.Load() {
			d.c.Exited(exit)
		}
	})
}

// worded gives the runtime's status from the agent's, who says of a runtime ended by a signal what a shell says: 128 and its
// number. A runtime that ends itself with such a number is taken for one.
func worded(status string) string {
	text, ok := strings.CutPrefix(status, "exit status ")
	if n, err := strconv.Atoi(text); ok && err == nil && n > 128 && n < 128+32 {
		return "signal: " + syscall.Signal(n-128).String()
	}
	return status
}

// meet takes the agent's link and serves the Runtime API on it. One link is taken in a sandbox's life; a guest that gives it
// up is of no more use, and ended.
func (d *Driver) meet(ctx context.Context, c *container) error {
	const op = "gvisor: meet agent"
	_ = c.link.(*net.UnixListener).SetDeadline(time.Now().Add(d.c.PrepareLimit))
	defer context.AfterFunc(ctx, func() { _ = c.link.Close() })()
	watching := make(chan struct{})
	defer close(watching)
	c.tasks.Go(func() { // a sandbox that ended will not call
		select {
		case <-c.exited:
			_ = c.link.Close()
		case <-watching:
		}
	})
	conn, err := c.link.Accept()
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the sandbox's agent did not call", err)
	}
	_ = c.link.Close()
	if c.guest, err = agent.Meet(conn, c.spec.Instance); err != nil {
		return err
	}
	linked := &linked{Guest: c.guest, container: c, closed: make(chan struct{})}
	linked.close = sync.OnceFunc(func() { close(linked.closed) })
	c.tasks.Go(func() {
		if err := c.session.Serve(linked); err != nil {
			d.c.Logger.Warn("runtime api link failed", "container", string(c.spec.ID), "error", err)
		}
	})
	return nil
}

// linked is a guest's link as a listener that outlives it: the end of a link is not the end of its container, which the
// container's process tells, or its deletion. A guest that gives its link up and lives on is ended.
type linked struct {
	*agent.Guest
	container *container
	closed    chan struct{}
	close     func()
}

// Accept gives the next connection of the runtime, and net.ErrClosed after Close alone.
func (l *linked) Accept() (net.Conn, error) {
	conn, err := l.Guest.Accept()
	if err == nil {
		return conn, nil
	}
	select {
	case <-l.container.exited:
	case <-l.closed:
	case <-time.After(exitWait):
		_ = l.container.process.Kill()
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close ends the link.
func (l *linked) Close() error {
	l.close()
	return l.Guest.Close()
}

// awaitPrepared blocks until the runtime is ready to be bound.
func (d *Driver) awaitPrepared(ctx context.Context, c *container) error {
	const op = "gvisor: prepare"
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
// another attempt goes on.
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

// dismantle takes away what a sandbox has, however far its creation came, its processes first. Each step may be repeated.
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
	if err := sandbox.UnmountBelow(c.home.dir); err != nil {
		return err
	}
	records, err := filepath.Glob(filepath.Join(d.stage.OCI(), string(c.spec.ID)+"_*")) // runsc's own
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "gvisor: delete container", "cannot look for runsc's records", err)
	}
	for _, left := range append(records, c.home.dir) {
		if err := os.RemoveAll(left); err != nil {
			return kiln.Wrap(kiln.KindInternal, "gvisor: delete container", "cannot remove "+left, err)
		}
	}
	if c.firstUID != 0 {
		d.ranges.Return(c.firstUID)
	}
	return nil
}

// silence ends a sandbox's processes, and then what served and read them.
func (c *container) silence(ctx context.Context) error {
	if c.group != nil {
		if err := c.group.Kill(ctx); err != nil { // all of them were born in it
			return err
		}
	}
	if c.exited != nil {
		limit := time.NewTimer(2 * exitWait)
		defer limit.Stop()
		select {
		case <-c.exited:
		case <-limit.C:
			return kiln.Errorf(kiln.KindInternal, "gvisor: delete container", "the sandbox of container %s does not end", c.spec.ID)
		}
	}
	if c.output != nil {
		c.output.Close()
	}
	if c.stdin != nil {
		_ = c.stdin.Close() // nobody reads it any more
	}
	if c.link != nil {
		_ = c.link.Close()
	}
	if c.guest != nil {
		_ = c.guest.Close()
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

// exhausted reports whether a function used up what its container has of disk, so that the next execution is better off in
// another one. Asked after failures only.
func (c *container) exhausted() bool {
	var fs unix.Statfs_t
	err := unix.Statfs(filepath.Join(c.home.variable(), "tmp"), &fs)
	return c.group.ProcessesRefused() > 0 || err == nil && (fs.Bavail == 0 || fs.Ffree == 0)
}
