//go:build linux

// Package container is the driver that runs functions in Linux containers on the node itself: an instance is a cgroup
// with a shape, a container is an OCI container (crun, or runc) inside it, with its own user, process, mount, network,
// IPC and host-name namespaces. It implements node.Driver and node.Resizer.
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
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/sandbox"
)

const (
	// stageMiB bounds the memory file system that holds the root's skeleton and the bundles of live containers.
	stageMiB = 256
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
	name     string // of its cgroups and its stage, unique to the data directory
	stage    string // folder that guests' users can reach, in memory
	lock     *os.File
	tree     *sandbox.Tree
	networks *sandbox.Networks
	ranges   *sandbox.Ranges
	disks    *sandbox.Disks // nil where /tmp must be in memory
	seccomp  *seccompProfile
	launches chan struct{} // a slot for each OCI runtime running
	notes    []string
	news     sync.WaitGroup // calls of Config.Exited

	mu         sync.Mutex
	closed     bool                              // guarded by mu
	instances  map[kiln.InstanceID]*instance     // guarded by mu
	containers map[kiln.ContainerID]*container   // guarded by mu
	runtimes   map[string]func() (string, error) // guarded by mu; bootstraps by their folder, shown on the stage once
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
		containers: map[kiln.ContainerID]*container{}, runtimes: map[string]func() (string, error){}}
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
	if err := d.claim(); err != nil {
		return err
	}
	if d.tree, err = sandbox.OpenTree(d.name); err != nil {
		return err
	}
	if err := sandbox.BecomeSubreaper(); err != nil {
		return err
	}
	if err := d.sweep(ctx); err != nil {
		return err
	}
	if err := d.mountStage(); err != nil {
		return err
	}
	if err := buildRoot(filepath.Join(d.stage, "root")); err != nil {
		return err
	}
	if d.seccomp, err = newSeccomp(); err != nil {
		return err
	}
	if d.ranges, err = sandbox.ClaimRanges(d.name); err != nil {
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

// claim takes the folder for this process and finds the name that is its own: random, and bound to this very folder, so
// that a copied data directory is another.
func (d *Driver) claim() error {
	const op = "container: claim folder"
	if err := os.MkdirAll(d.c.Dir, 0o700); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot make the driver's folder", err)
	}
	lock, err := os.OpenFile(filepath.Join(d.c.Dir, "name"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot open the driver's folder", err)
	}
	d.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return kiln.Wrap(kiln.KindConflict, op, "another process uses "+d.c.Dir, err)
	}
	info, err := lock.Stat()
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot look at the driver's folder", err)
	}
	inode := fmt.Sprintf("-%x", info.Sys().(*syscall.Stat_t).Ino)
	kept, err := os.ReadFile(lock.Name())
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read the driver's name", err)
	}
	if name := string(kept); validName(name) && strings.HasSuffix(name, inode) {
		d.name = name
		return nil
	}
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	d.name = "kiln-" + hex.EncodeToString(random[:]) + inode
	if err := errors.Join(lock.Truncate(0), writeAt(lock, d.name), lock.Sync()); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot keep the driver's name", err)
	}
	return nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// validName tells a whole name from one whose writing was cut off: "kiln-", twelve hexadecimal digits, "-" and more.
func validName(name string) bool {
	random, inode, ok := strings.Cut(strings.TrimPrefix(name, "kiln-"), "-")
	if _, err := hex.DecodeString(random); err != nil || len(random) != 12 {
		return false
	}
	return ok && inode != "" && strings.HasPrefix(name, "kiln-") && strings.Trim(inode, "0123456789abcdef") == ""
}

// sweep removes what carries this driver's name. Being cut off in the middle is harmless: the next one goes on.
func (d *Driver) sweep(ctx context.Context) error {
	d.stage = filepath.Join("/run", d.name)
	launchers := sandbox.KillStrays(d.ociRoot())
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
	return d.dropStage()
}

// mountStage makes the folder from which containers are built. It is in memory, and not in the data directory because
// the users of guests must be able to reach it, which they cannot below a private home.
func (d *Driver) mountStage() error {
	const op = "container: make stage"
	if err := os.MkdirAll(d.stage, 0o755); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot make a folder in /run", err)
	}
	if err := unix.Mount("tmpfs", d.stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=755,size=%dm", stageMiB)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot mount a tmpfs; the process needs CAP_SYS_ADMIN", err)
	}
	for _, dir := range []string{"root", "oci", "instances", "containers", "runtimes"} {
		if err := os.Mkdir(filepath.Join(d.stage, dir), 0o755); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot make a folder on the stage", err)
		}
	}
	return nil
}

// dropStage takes the stage away with all that is mounted on it.
func (d *Driver) dropStage() error {
	if err := sandbox.UnmountBelow(d.stage); err != nil {
		return err
	}
	if err := os.Remove(d.stage); err != nil && !errors.Is(err, os.ErrNotExist) {
		return kiln.Wrap(kiln.KindInternal, "container: drop stage", "cannot remove "+d.stage, err)
	}
	return nil
}

// ociRoot is where the OCI runtime keeps its own state. It is on the command line of every run of it.
func (d *Driver) ociRoot() string { return filepath.Join(d.stage, "oci") }

// Capabilities says what this driver can do here.
func (d *Driver) Capabilities() kiln.Capabilities {
	return kiln.Capabilities{Name: "container", Isolated: true, Limits: true, Resize: true, Notes: d.notes}
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
	if d.stage != "" {
		_, err := d.tree.Sweep(context.Background())
		failed = errors.Join(err, d.dropStage())
	}
	if d.ranges != nil {
		d.ranges.Close()
	}
	if d.lock != nil {
		_ = d.lock.Close() // ends the claim
	}
	return failed
}

// container finds a live container.
func (d *Driver) container(id kiln.ContainerID) *container {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.containers[id]
}
