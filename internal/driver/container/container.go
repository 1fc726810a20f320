//go:build linux

// Package container is the driver that runs functions in Linux containers on the node itself: an instance is a cgroup
// with a shape, a container is an OCI container (crun, or runc) inside it, with its own user, process, mount, network,
// IPC and host-name namespaces. It implements node.Driver, node.Resizer, node.Detacher,
// node.Checker and node.Pauser.
//
// It is not for placement, code storage or the choice of what to run: node calls it, and nobody else does. The OCI
// runtime is a launcher only and has no say after the start: cgroups, mounts, network, watching and removal are ours.
//
// Everything is safe concurrently as node.Driver says. Lock order: Driver.mu, then instance.mu; output.mu (which keeps a
// container's output in order and is held while Config.Output is called) is taken with no other lock held.
//
// What a dead predecessor left is removed by New: its cgroups and the processes in them carry a name kept in the data
// directory; launchers cut off in the middle name its stage on their command line; mounts, loop devices and network
// namespaces ended with it (see package sandbox).
package container

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
	// launchLimit bounds one run of the OCI runtime.
	launchLimit = 30 * time.Second
)

// Config is what a Driver is made with.
type Config struct {
	// Dir is the driver's own folder in the data directory. It need not be readable for guests.
	Dir string
	// Launcher is the OCI runtime: "crun" or "runc", or a path to one; empty takes the first of them found.
	Launcher string
	// Networks is how many network namespaces are made ahead (default 8).
	Networks int
	// Launches is how many OCI runtimes may run at once (default the number of CPUs, at least 2).
	Launches int
	// PrepareLimit bounds the start of a container up to its runtime's readiness (default 30 s).
	PrepareLimit time.Duration
	// Exited is called once for a container that ended without being asked to; it may delete it at once.
	Exited func(kiln.Exit)
	// Output is called with what a container wrote to its standard output and error, in order. The bytes are only lent.
	// It must not call the driver.
	Output func(kiln.ContainerID, []byte)
	Logger *slog.Logger
}

// Driver makes instances and containers on this machine.
type Driver struct {
	c        Config
	launcher launcher
	stage    *stage.Stage
	tree     *sandbox.Tree
	networks *sandbox.Networks
	ranges   *sandbox.Ranges
	disks    *sandbox.Disks // nil where /tmp must be in memory
	seccomp  *seccompProfile
	launches chan struct{} // a slot for each OCI runtime running
	notes    []string
	news     sync.WaitGroup // calls of Config.Exited

	mu         sync.Mutex
	closed     bool                            // guarded by mu
	instances  map[kiln.InstanceID]*instance   // guarded by mu
	containers map[kiln.ContainerID]*container // guarded by mu
}

// New makes a driver, after it removed what a dead one with the same folder left. The process should have called
// sandbox.Enter. Close ends it. Kinds: KindUnavailable when the machine cannot do it (the message says what to do),
// KindConflict when another process uses the folder.
func New(ctx context.Context, c Config) (*Driver, error) {
	c.Networks = cmp.Or(c.Networks, 8)
	c.Launches = cmp.Or(c.Launches, max(2, runtime.NumCPU()))
	c.PrepareLimit = cmp.Or(c.PrepareLimit, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Exited == nil {
		c.Exited = func(kiln.Exit) {}
	}
	if c.Output == nil {
		c.Output = func(kiln.ContainerID, []byte) {}
	}
	d := &Driver{c: c, launches: make(chan struct{}, c.Launches), instances: map[kiln.InstanceID]*instance{},
		containers: map[kiln.ContainerID]*container{}}
	if err := d.open(ctx); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// open takes what the driver needs, in the order in which release gives it back.
func (d *Driver) open(ctx context.Context) (err error) {
	if d.launcher, err = findLauncher(d.c.Launcher); err != nil {
		return err
	}
	if d.launcher.crun && sandbox.Hybrid() {
		return kiln.Errorf(kiln.KindUnavailable, "container: open", "crun refuses cgroup v1 and v2 side by side; let the process enter a mount namespace of its own first (sandbox.Enter), or use runc")
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
	if err := stage.BuildRoot(d.stage.Root()); err != nil {
		return err
	}
	if d.seccomp, err = newSeccomp(); err != nil {
		return err
	}
	if d.ranges, err = sandbox.ClaimRanges(d.stage.Name); err != nil {
		return err
	}
	d.openDisks(ctx)
	if err := sandbox.RaiseLimits(); err != nil {
		d.c.Logger.Warn("one container can keep the others from watching files", "error", err)
		d.notes = append(d.notes, "Containers share the machine's bound on inotify instances; raise fs.inotify.max_user_instances.")
	}
	d.describe()
	d.networks = sandbox.NewNetworks(d.c.Networks, d.c.Logger)
	return nil
}

// openDisks finds out by making one whether disks can be had here; the template it leaves serves every container.
func (d *Driver) openDisks(ctx context.Context) {
	disks, err := sandbox.OpenDisks(filepath.Join(d.c.Dir, "disks"))
	if err == nil {
		var first *sandbox.Detached
		first, err = disks.Make(ctx, defaultDiskMiB)
		first.Close()
	}
	if err != nil {
		d.c.Logger.Warn("the private /tmp of containers is in memory", "error", err)
		return
	}
	d.disks = disks
}

// sweep removes what carries this driver's name. Being cut off in the middle is harmless: the next one goes on.
func (d *Driver) sweep(ctx context.Context) error {
	launchers := sandbox.KillStrays(d.stage.OCI())
	processes, err := d.tree.Sweep(ctx)
	if err != nil {
		return err
	}
	if launchers+processes > 0 {
		d.c.Logger.Info("swept what a dead server left", "launchers", launchers, "processes", processes)
	}
	for _, cut := range []string{"disk-*", "template-*.new"} { // images whose making was cut off; only space is lost
		images, err := filepath.Glob(filepath.Join(d.c.Dir, "disks", cut))
		if err != nil {
			return kiln.Wrap(kiln.KindInternal, "container: sweep", "cannot look for disk images", err)
		}
		for _, image := range images {
			_ = os.Remove(image)
		}
	}
	return d.stage.Drop()
}

// Capabilities says what this driver can do here.
func (d *Driver) Capabilities() kiln.Capabilities {
	return kiln.Capabilities{Name: "container", Isolated: true, Limits: true, Resize: true, Pause: d.tree.CanFreeze(), Notes: d.notes}
}

// Close ends every instance and leaves nothing behind. Blocks until all is gone.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
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
	if d.networks != nil {
		d.networks.Close()
	}
	if d.stage != nil {
		if d.tree != nil {
			_, failed = d.tree.Sweep(context.Background())
		}
		failed = errors.Join(failed, d.stage.Drop())
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
