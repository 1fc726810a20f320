//go:build linux

// Package gvisor is the driver that runs functions behind gVisor's kernel: an instance is a cgroup with a shape, and each
// container is a sandbox of its own (runsc) inside it, with a kernel of its own in user space, so that memory limits,
// processes and the loopback are each container's alone. It implements node.Driver, node.Resizer, node.Detacher
// and node.Pauser.
//
// Inside each sandbox kiln-agent is the first process. It serves the Runtime API's address and carries it over a Unix socket
// to the node (package agent); the sandbox has no other way out: no network, no file but what is mounted. A managed runtime
// is started once, its sandbox saved when it waits for its binding, and every later container continued from there.
//
// It is not for placement, code storage or the choice of what to run: node calls it, and nobody else does. runsc is a
// launcher only: cgroups, mounts, watching and removal are ours, with what package stage shares between drivers.
//
// Everything is safe concurrently as node.Driver says. Lock order: Driver.mu, then instance.mu, then template.mu.
//
// What a dead predecessor left is removed by New: its cgroups and the processes in them carry a name kept in the data
// directory, and every process of runsc names the stage on its command line.
package gvisor

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

const (
	// defaultDiskMiB is the /tmp a prepared container has before it knows its version: AWS's default.
	defaultDiskMiB = 512
	// sandboxMiB is the memory a container's cgroup has beyond the function's own: what gVisor's kernel and the agent take.
	// Measured: 36 to 40 MB resident for a sandbox at rest; the rest is room for its page tables and buffers under load.
	sandboxMiB = 96
	// sandboxThreads is how many host threads a container may have beyond the function's processes: the kernel's own.
	sandboxThreads = 512
	// launchLimit bounds one run of runsc.
	launchLimit = 60 * time.Second
)

// Config is what a Driver is made with.
type Config struct {
	// Dir is the driver's own folder in the data directory. It need not be readable for guests.
	Dir string
	// Runsc and Agent are the programs that come with Kiln; empty looks beside the server's own and then in the PATH.
	Runsc, Agent string
	// Launches is how many runsc may start at once (default the number of CPUs, at least 2).
	Launches int
	// PrepareLimit bounds the start of a container up to its runtime's readiness (default 60 s).
	PrepareLimit time.Duration
	// Exited is called once for a container that ended without being asked to; it may delete it at once.
	Exited func(kiln.Exit)
	// Output is called with what a container wrote to its standard output and error, in order. The bytes are only lent.
	// It must not call the driver.
	Output func(kiln.ContainerID, []byte)
	Logger *slog.Logger
}

// Driver makes instances and sandboxes on this machine.
type Driver struct {
	c        Config
	runsc    string
	agentDir string // on the stage; holds the agent
	stage    *stage.Stage
	tree     *sandbox.Tree
	ranges   *sandbox.Ranges
	disks    *sandbox.Disks // nil where /tmp must be in memory
	launches chan struct{}  // a slot for each runsc starting
	notes    []string
	news     sync.WaitGroup // calls of Config.Exited, and templates being made
	ended    chan struct{}  // closed by Close: no template is made any more

	mu         sync.Mutex
	closed     bool                            // guarded by mu
	instances  map[kiln.InstanceID]*instance   // guarded by mu
	containers map[kiln.ContainerID]*container // guarded by mu
	templates  map[string]*template            // guarded by mu; by the runtime's name
}

// New makes a driver, after it removed what a dead one with the same folder left. The process should have called
// sandbox.Enter. Close ends it. Kinds: KindUnavailable when the machine cannot do it (the message says what to do),
// KindConflict when another process uses the folder.
func New(ctx context.Context, c Config) (*Driver, error) {
	c.Launches = cmp.Or(c.Launches, max(2, runtime.NumCPU()))
	c.PrepareLimit = cmp.Or(c.PrepareLimit, launchLimit)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Exited == nil {
		c.Exited = func(kiln.Exit) {}
	}
	if c.Output == nil {
		c.Output = func(kiln.ContainerID, []byte) {}
	}
	d := &Driver{c: c, launches: make(chan struct{}, c.Launches), ended: make(chan struct{}), instances: map[kiln.InstanceID]*instance{},
		containers: map[kiln.ContainerID]*container{}, templates: map[string]*template{}}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.release())
	}
	return d, nil
}

// open takes what the driver needs, in the order in which release gives it back.
func (d *Driver) open(ctx context.Context) (err error) {
	if d.runsc, err = findProgram(d.c.Runsc, "runsc"); err != nil {
		return err
	}
	agent, err := findProgram(d.c.Agent, "kiln-agent")
	if err != nil {
		return err
	}
	if d.stage, err = stage.Claim(d.c.Dir); err != nil {
		return err
	}
	if d.tree, err = sandbox.OpenTree(d.stage.Name); err != nil {
		return err
	}
	if err := sandbox.BecomeSubreaper(); err != nil {
		return err
	}
	if err := d.sweep(ctx); err != nil {
		return err
	}
	if err := d.stage.Mount(); err != nil {
		return err
	}
	if err := d.buildRoot(agent); err != nil {
		return err
	}
	if d.ranges, err = sandbox.ClaimRanges(d.stage.Name); err != nil {
		return err
	}
	if d.disks, err = sandbox.OpenDisks(filepath.Join(d.c.Dir, "disks")); err != nil {
		d.c.Logger.Warn("the private /tmp of containers is in memory", "error", err)
	}
	d.describe()
	return nil
}

// buildRoot makes the shared root. A sandbox sees what is mounted on the node later only below a folder that it has from
// the start: /var is that folder, each container's own, with the code in /var/task and the disk in /var/tmp.
func (d *Driver) buildRoot(agent string) error {
	const op = "gvisor: build root"
	if err := stage.BuildRoot(d.stage.Root()); err != nil {
		return err
	}
	tmp := filepath.Join(d.stage.Root(), "tmp")
	if err := errors.Join(os.Remove(tmp), os.Symlink("var/tmp", tmp)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot place /tmp", err)
	}
	d.agentDir = filepath.Join(d.stage.Dir, "agent")
	program, err := os.ReadFile(agent)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read kiln-agent", err)
	}
	if err := errors.Join(os.Mkdir(d.agentDir, 0o755), os.WriteFile(filepath.Join(d.agentDir, "kiln-agent"), program, 0o755)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot put kiln-agent on the stage", err)
	}
	return nil
}

// sweep removes what carries this driver's name, and saved sandboxes: another runsc may not continue them. Being cut off in
// the middle is harmless: the next one goes on.
func (d *Driver) sweep(ctx context.Context) error {
	processes, err := d.tree.Sweep(ctx) // first: what is frozen ends only once it is thawed
	if err != nil {
		return err
	}
	launchers := sandbox.KillStrays(d.stage.OCI())
	if launchers+processes > 0 {
		d.c.Logger.Info("swept what a dead server left", "launchers", launchers, "processes", processes)
	}
	images, err := filepath.Glob(filepath.Join(d.c.Dir, "disks", "disk-*"))
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "gvisor: sweep", "cannot look for disk images", err)
	}
	for _, left := range append(images, d.templateDir()) {
		if err := os.RemoveAll(left); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, "gvisor: sweep", "cannot remove "+left, err)
		}
	}
	return d.stage.Drop()
}

// Capabilities says what this driver can do here.
func (d *Driver) Capabilities() kiln.Capabilities {
	return kiln.Capabilities{Name: "gvisor", Isolated: true, Limits: true, Resize: true, Pause: d.tree.CanFreeze(), Notes: d.notes}
}

// describe notes for the operator what is weaker here than elsewhere.
func (d *Driver) describe() {
	d.notes = append(d.notes,
		"Each container has a kernel of its own in user space; over its memory limit the whole sandbox is ended.",
		"Functions have no network but their own loopback.")
	if d.disks == nil {
		d.notes = append(d.notes, "The private /tmp of a container is in memory and counts to the function's memory.")
	}
	if !sandbox.Private() {
		d.notes = append(d.notes, "The server has no mount namespace of its own, so its mounts outlive a kill until the next start.")
	}
}

// Close ends every instance and leaves nothing behind. Blocks until all is gone.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	if !d.closed {
		close(d.ended)
	}
	d.closed = true
	var ids []kiln.InstanceID
	for id := range d.instances {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	errs := make([]error, len(ids))
	var ending sync.WaitGroup
	for i, id := range ids {
		ending.Go(func() { errs[i] = d.DeleteInstance(ctx, id) })
	}
	ending.Wait()
	d.news.Wait()
	return errors.Join(errors.Join(errs...), d.release())
}

// release gives back what open took.
func (d *Driver) release() error {
	var failed error
	if d.stage != nil {
		if d.tree != nil {
			_, failed = d.tree.Sweep(context.Background())
		}
		failed = errors.Join(failed, d.stage.Drop(), os.RemoveAll(d.templateDir()))
		defer d.stage.Close() // last: it ends the claim
	}
	if d.ranges != nil {
		d.ranges.Close()
	}
	return failed
}

// container finds a live container.
func (d *Driver) container(id kiln.ContainerID) *container {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.containers[id]
}
