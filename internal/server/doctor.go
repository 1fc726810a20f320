package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/driver/container"
	"kiln/internal/driver/gvisor"
	"kiln/internal/images"
	"kiln/internal/sandbox"
)

// Doctor looks at this machine and tells, in sentences, what Kiln can do on it, why not more, and what would change
// that. It makes a container and takes it away again, and changes nothing else. What does not work is no error: the error
// is of the writing alone.
func Doctor(ctx context.Context, cfg Config, w io.Writer) error {
	p := &page{w: w}
	p.line("kiln %s on %s/%s, %d processors, kernel %s", Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel())
	p.line("")
	works := p.doctorBoundary(ctx, cfg)
	p.doctorCgroups()
	p.doctorKVM()
	p.doctorRuntimes(ctx, cfg)
	p.doctorLimits(cfg)
	p.line("")
	if works {
		p.line("`kiln serve%s` runs functions here.", driverFlag(cfg))
	} else {
		p.line("`kiln serve%s` would not start here: see the line \"no  driver\" for what to do.", driverFlag(cfg))
	}
	return p.err
}

// driverFlag gives the flag that asks for the driver of the configuration, with a space before it; nothing for auto.
func driverFlag(cfg Config) string {
	if cfg.Driver == "auto" {
		return ""
	}
	return " --driver " + cfg.Driver
}

// page writes lines until one fails.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// finding writes one finding: good or not, and what follows.
func (p *page) finding(good bool, what, follows string) {
	mark := "ok  "
	if !good {
		mark = "no  "
	}
	p.line("%s%-15s %s", mark, what, follows)
}

// trusted is the way out where there can be no containers.
const trusted = "`kiln serve --driver process` runs code you trust, without isolation"

// doctorBoundary tries the driver that serve would open and says whether it works.
func (p *page) doctorBoundary(ctx context.Context, cfg Config) bool {
	switch cfg.Driver {
	case "process":
		p.finding(true, "driver", "process: isolates nothing and limits nothing; run only code you trust")
		return true
	case "auto", "container":
		return p.doctorDriver(ctx, "container", container.Probe)
	case "gvisor":
		return p.doctorDriver(ctx, "gvisor", gvisor.Probe)
	}
	p.finding(false, "driver", cfg.Driver+" is not served yet; use container or gvisor, or process on a machine without root")
	return false
}

// doctorDriver tries a driver that makes containers by making one.
func (p *page) doctorDriver(ctx context.Context, name string, probe func(context.Context) (kiln.Capabilities, error)) bool {
	switch {
	case runtime.GOOS != "linux":
		p.finding(false, "driver", "containers need Linux; "+trusted)
		return false
	case os.Geteuid() != 0:
		p.finding(false, "driver", "containers need root: run `sudo kiln doctor` to see more and `sudo kiln serve` to serve; "+trusted)
		return false
	}
	start := time.Now()
	can, err := probe(ctx)
	if err != nil {
		p.finding(false, "driver", fmt.Sprintf("%s: %v; or %s", name, err, trusted))
		return false
	}
	p.finding(true, "driver", fmt.Sprintf("%s: one was made and taken away again, in %d ms", name, time.Since(start).Milliseconds()))
	for _, note := range can.Notes {
		p.line("    %-15s %s", "", note)
	}
	p.doctorDisks()
	return true
}

// doctorDisks says whether containers get a /tmp on disk.
func (p *page) doctorDisks() {
	dir, err := os.MkdirTemp("", "kiln-doctor-")
	if err == nil {
		defer os.RemoveAll(dir)
		_, err = sandbox.OpenDisks(dir)
	}
	if err != nil {
		p.finding(false, "disks", fmt.Sprintf("the private /tmp of containers would be in memory and count to the function's: %v", err))
		return
	}
	p.finding(true, "disks", "the private /tmp of containers is on disk")
}

func (p *page) doctorCgroups() {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		p.finding(true, "cgroups", "version 2: memory, processor and process limits are the kernel's")
		return
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		text := "version 1: memory, processor and process limits are the kernel's"
		if sandbox.Hybrid() {
			text += "; version 2 is mounted beside it, and Kiln hides that from crun in a mount namespace of its own"
		}
		p.finding(true, "cgroups", text)
		return
	}
	p.finding(false, "cgroups", "none are mounted below /sys/fs/cgroup: containers cannot be limited, so driver container refuses to start")
}

func (p *page) doctorKVM() {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		p.finding(false, "kvm", "/dev/kvm cannot be opened: microVMs would run in software emulation, many times slower")
		return
	}
	_ = f.Close()
	p.finding(true, "kvm", "/dev/kvm opens; the microvm driver that would use it is not served yet")
}

func (p *page) doctorRuntimes(ctx context.Context, cfg Config) {
	dir, err := os.MkdirTemp("", "kiln-doctor-")
	if err != nil {
		p.finding(false, "runtimes", "cannot look: "+err.Error())
		return
	}
	defer os.RemoveAll(dir)
	found, err := images.Find(ctx, images.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		p.finding(false, "runtimes", "cannot look: "+err.Error())
		return
	}
	for _, identifier := range []string{"python3.12", "python3.11", "nodejs22.x", "nodejs20.x", "provided.al2023"} {
		r, exact, err := found.Lookup(identifier, images.Mode(cfg.Runtimes))
		switch {
		case err != nil:
			p.finding(false, identifier, err.Error())
		case exact:
			p.finding(true, identifier, "runs on "+r.Name)
		default:
			p.finding(true, identifier, "runs on "+r.Name+", the nearest installed; `--runtimes strict` would refuse it")
		}
	}
}

func (p *page) doctorLimits(cfg Config) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		p.finding(files.Cur >= 4096, "descriptors", fmt.Sprintf("%d of at most %d; each container takes about ten", files.Cur, files.Max))
	}
	dir := cfg.Data
	for dir != "/" && dir != "." {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		free := int64(fs.Bavail) * int64(fs.Bsize) >> 20
		p.finding(free > 2*cfg.DiskReserve, "disk", fmt.Sprintf("%d MiB free under %s; writes of new code stop below %d", free, dir, cfg.DiskReserve))
	}
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return strings.TrimRight(string(u.Release[:]), "\x00")
}
