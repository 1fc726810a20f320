//go:build linux

package gvisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/stage"
)

const (
	// maxLogBytes bounds what is read of runsc's complaint.
	maxLogBytes = 4096
	// openFiles is how many files a function may have open (AWS Lambda's quota).
	openFiles   = 1024
	defaultPath = "/usr/local/bin:/usr/bin:/bin"
)

// findProgram finds a program that comes with Kiln: the one given, else beside the server's own, else in the PATH.
func findProgram(given, name string) (string, error) {
	const op = "gvisor: find program"
	if given != "" {
		if _, err := os.Stat(given); err != nil {
			return "", kiln.Wrap(kiln.KindUnavailable, op, "there is no "+name+" at "+given, err)
		}
		return given, nil
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), name); exists(beside) {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", kiln.Errorf(kiln.KindUnavailable, op, "%s is neither beside the server nor in the PATH; run: make runsc", name)
	}
	return path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// writeBundle writes the OCI configuration. What a saved sandbox is continued with may differ in the sources of its mounts
// and in its name, in nothing else.
func (d *Driver) writeBundle(c *container) error {
	environment := map[string]string{"PATH": defaultPath}
	maps.Copy(environment, c.spec.Runtime.Environment)
	if c.spec.Fresh != nil {
		maps.Copy(environment, c.spec.Fresh.Environment)
	}
	environment[addressVariable] = runtimeAPIAddress
	list := make([]string, 0, len(environment))
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		list = append(list, name+"="+environment[name])
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: c.firstUID, Size: sandbox.RangeSize}}
	readOnly := []string{"bind", "ro", "nosuid", "nodev"}
	spec := specs.Spec{
		Version:  "1.0.2",
		Hostname: string(c.spec.ID),
		Root:     &specs.Root{Path: d.stage.Root(), Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=64m"}},
			{Destination: "/etc/machine-id", Type: "bind", Source: c.instance.machineID(), Options: readOnly},
			{Destination: "/sys/fs/cgroup", Type: "bind", Source: c.home.limits(), Options: readOnly},
			{Destination: "/var", Type: "bind", Source: c.home.variable(), Options: []string{"rbind", "rslave", "nosuid", "nodev"}},
			{Destination: "/run", Type: "bind", Source: c.home.link(), Options: readOnly},
			{Destination: "/home", Type: "bind", Source: d.agentDir, Options: readOnly},
		},
		Process: &specs.Process{
			User: specs.User{UID: stage.GuestUID, GID: stage.GuestGID},
			Args: append([]string{"/home/kiln-agent", "--link", "/run/node", "--listen", runtimeAPIAddress, "--"},
				c.spec.Runtime.Command...),
			Env: list, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}, NoNewPrivileges: true,
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: openFiles, Hard: openFiles}, {Type: "RLIMIT_CORE"}},
		},
		Linux: &specs.Linux{UIDMappings: ids, GIDMappings: ids,
			Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}}},
	}
	config, err := json.Marshal(spec)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "gvisor: write bundle", "cannot write the OCI configuration", err)
	}
	if err := os.WriteFile(filepath.Join(c.home.dir, "config.json"), config, 0o600); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "gvisor: write bundle", "cannot write the OCI configuration", err)
	}
	return nil
}

// born starts a program inside cgroups: everything of a sandbox must be born there, since what gVisor's platform starts
// later does not follow when its kernel is moved.
const born = `while [ "$1" != -- ]; do echo $$ >"$1" || exit 126; shift; done; shift; exec "$@"`

// run runs runsc with a command and arguments, in a container's cgroup when the command makes processes.
func (d *Driver) run(ctx context.Context, c *container, io [3]*os.File, command string, args ...string) error {
	select {
	case d.launches <- struct{}{}:
		defer func() { <-d.launches }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, launchLimit, errors.New("runsc takes too long"))
	defer cancel()
	log := filepath.Join(c.home.dir, "log")
	all := append([]string{"-c", born, "sh"}, c.group.Procs()...)
	all = append(all, "--", d.runsc, "--root", d.stage.OCI(), "--log", log, "--log-format=text", "--ignore-cgroups", "--platform=systrap",
		"--host-uds=open", "--overlay2=none", "--network=none", "--restore-spec-validation=warning", command)
	cmd := exec.CommandContext(ctx, "/bin/sh", append(append(all, args...), string(c.spec.ID))...)
	cmd.Dir = c.home.dir
	cmd.Env = []string{"PATH=" + defaultPath + ":/usr/sbin:/sbin", "XDG_RUNTIME_DIR=" + d.stage.Dir}
	if io[0] != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = io[0], io[1], io[2]
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("runsc %s: %w: %s", command, err, complaint(log))
	}
	return nil
}

// complaint is the end of runsc's log, on one line.
func complaint(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	b = b[max(0, len(b)-maxLogBytes):]
	return string(bytes.ReplaceAll(bytes.TrimSpace(b), []byte("\n"), []byte("; ")))
}

// launch creates the sandbox and starts its agent, or continues a saved one, and names its process.
func (d *Driver) launch(ctx context.Context, c *container, image string, io [3]*os.File) (*sandbox.Process, error) {
	const op = "gvisor: launch"
	pidFile := filepath.Join(c.home.dir, "pid")
	if err := d.run(ctx, c, io, "create", "--bundle", c.home.dir, "--pid-file", pidFile); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot create a sandbox", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "runsc told no process id", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "runsc told no process id", err)
	}
	p, err := sandbox.OpenProcess(pid)
	if err != nil {
		return nil, err
	}
	if image == "" {
		err = d.run(ctx, c, [3]*os.File{}, "start")
	} else {
		err = d.run(ctx, c, [3]*os.File{}, "restore", "--detach", "--image-path", image, "--bundle", c.home.dir)
	}
	if err != nil {
		p.Close()
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot start a sandbox", err)
	}
	return p, nil
}
