package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/internal/images"
	"kiln/internal/sandbox"
)

// Doctor looks at this machine and tells, in sentences, what Kiln can do on it, why not more, and what would change
// that. It changes nothing. The error is of the writing alone.
func Doctor(ctx context.Context, cfg Config, w io.Writer) error {
	p := &page{w: w}
	p.line("kiln %s on %s/%s, %d processors, kernel %s", Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel())
	p.line("")
	p.doctorBoundary()
	p.doctorCgroups()
	p.doctorKVM()
	p.doctorRuntimes(ctx, cfg)
	p.doctorLimits(cfg)
	return p.err
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
	p.line("%s%-12s %s", mark, what, follows)
}

func (p *page) doctorBoundary() {
	if runtime.GOOS != "linux" {
		p.finding(false, "driver", "containers need Linux; `kiln serve --driver process` runs code you trust, without isolation")
		return
	}
	if os.Geteuid() != 0 {
		p.finding(false, "driver", "containers need root: run `sudo kiln serve`; `--driver process` runs code you trust, without isolation")
		return
	}
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			p.finding(true, "driver", "container, with "+path+"; auto takes it")
			return
		}
	}
	p.finding(false, "driver", "no OCI runtime: `apt-get install crun`")
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
		free := int64(fs.Bavail) * fs.Bsize >> 20
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
