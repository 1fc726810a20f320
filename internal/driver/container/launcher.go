//go:build linux

package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"kiln"
	"kiln/internal/sandbox"
)

// maxLogBytes bounds what is read of an OCI runtime's complaint.
const maxLogBytes = 4096

// launcher is an OCI runtime found on this machine.
type launcher struct {
	path string
	crun bool
}

// findLauncher finds the OCI runtime wanted, or the first that is there.
func findLauncher(wanted string) (launcher, error) {
	const op = "container: find OCI runtime"
	names := []string{"crun", "runc"}
	if wanted != "" {
		names = []string{wanted}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil && !filepath.IsAbs(name) {
			path, err = exec.LookPath("/usr/sbin/" + name) // where Debian has runc, and PATH may not
		}
		if err == nil {
			return launcher{path: path, crun: strings.HasPrefix(filepath.Base(path), "crun")}, nil
		}
	}
	return launcher{}, kiln.Errorf(kiln.KindUnavailable, op, "no OCI runtime (%s) is installed; run: apt-get install crun", strings.Join(names, ", "))
}

// run runs the OCI runtime with a command and arguments. Its complaint is in the bundle's log, because its standard
// error is the container's.
func (d *Driver) run(ctx context.Context, bundle string, io [3]*os.File, args ...string) error {
	select {
	case d.launches <- struct{}{}:
		defer func() { <-d.launches }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	log := filepath.Join(bundle, "log")
	all := []string{"--root", d.stage.OCI(), "--log", log}
	if d.launcher.crun {
		all = append(all, "--cgroup-manager=disabled")
	}
	cmd := exec.CommandContext(ctx, d.launcher.path, append(all, args...)...)
	cmd.Dir = bundle
	cmd.Env = []string{"PATH=" + defaultPath + ":/usr/sbin:/sbin", "XDG_RUNTIME_DIR=" + d.stage.Dir}
	if io[0] != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = io[0], io[1], io[2]
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(d.launcher.path), args[0], err, complaint(log))
	}
	return nil
}

// complaint is the end of an OCI runtime's log, on one line.
func complaint(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	b = b[max(0, len(b)-maxLogBytes):]
	return string(bytes.ReplaceAll(bytes.TrimSpace(b), []byte("\n"), []byte("; ")))
}

// launch creates the container's first process, stopped before its command, and names it.
func (d *Driver) launch(ctx context.Context, id kiln.ContainerID, io [3]*os.File) (*sandbox.Process, error) {
	const op = "container: launch"
	ctx, cancel := context.WithTimeoutCause(ctx, launchLimit, errors.New("the OCI runtime takes too long"))
	defer cancel()
	bundle := d.stage.Bundle(id)
	pidFile := filepath.Join(bundle, "pid")
	if err := d.run(ctx, bundle, io, "create", "--bundle", bundle, "--pid-file", pidFile, string(id)); err != nil {
		sandbox.KillStrays(bundle) // what it had forked, if it was cut off
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot create a container", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "the OCI runtime told no process id", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "the OCI runtime told no process id", err)
	}
	return sandbox.OpenProcess(pid)
}

// start lets a launched container run its command.
func (d *Driver) start(ctx context.Context, id kiln.ContainerID) error {
	ctx, cancel := context.WithTimeoutCause(ctx, launchLimit, errors.New("the OCI runtime takes too long"))
	defer cancel()
	if err := d.run(ctx, d.stage.Bundle(id), [3]*os.File{}, "start", string(id)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "container: start", "cannot start a container", err)
	}
	return nil
}
