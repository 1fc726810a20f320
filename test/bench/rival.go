//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The rival of a start is crun itself: create and start of a minimal bundle, until the interpreter in it asks our
// listener for its first event. The bundle isolates as Kiln's containers do (user namespace, pid, mount, ipc and uts
// namespaces, system call filter for one architecture, no capabilities, read-only root), but shares the host's network
// and has no cgroup: that is the quicker way and in the rival's favour.

const (
	rivalLimit  = 20 * time.Second // bounds one start
	rivalFirst  = 1_000_000        // the first host uid of its user namespace
	rivalRange  = 65_536
	rivalScript = "/starter.py"
)

// rivalQuestion asks for one start.
type rivalQuestion struct {
	Command []string
}

// rivalAnswer is how long it took, in nanoseconds.
type rivalAnswer struct {
	Took  time.Duration
	Error string
}

// rival is the process that starts interpreters, in a mount namespace of its own.
type rival struct{ *process }

func (b *bench) newRival(ctx context.Context) (rival, error) {
	var word string
	p, err := b.start(ctx, roleRival, &word, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	})
	return rival{p}, err
}

// once starts an interpreter and gives the time from crun create to its first GET of /next.
func (r rival) once(interpreter string) (time.Duration, error) {
	var a rivalAnswer
	if err := r.ask(rivalQuestion{[]string{interpreter, "-S", "-E", "-B", rivalScript}}, &a); err != nil {
		return 0, err
	}
	if a.Error != "" {
		return 0, errors.New(a.Error)
	}
	return a.Took, nil
}

func playRival() error {
	// crun refuses a host with both kinds of cgroup; in this mount namespace there is only one.
	if err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount the second kind of cgroup: %w", err)
	}
	// crun's child becomes ours, so that nothing of it waits for a process 1 that reaps late.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kiln-rival-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := newStarter(dir)
	if err != nil {
		return err
	}
	defer func() { _ = r.listener.Close() }()
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	if err := out.Encode("up"); err != nil {
		return err
	}
	for n := 0; ; n++ {
		var q rivalQuestion
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a rivalAnswer
		if a.Took, err = r.start(fmt.Sprintf("rival-%d-%d", os.Getpid(), n), q.Command); err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// starter makes bundles and starts them.
type starter struct {
	dir      string
	listener net.Listener
	seccomp  *specs.LinuxSeccomp
}

func newStarter(dir string) (*starter, error) {
	// The interpreter runs as a user that must get to its root.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "root")
	for _, d := range []string{"usr", "proc", "dev", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(root, name)); err != nil {
			return nil, err
		}
	}
	script, err := sources.ReadFile("guests/starter.py")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(root, rivalScript), script, 0o644); err != nil {
		return nil, err
	}
	s := &starter{dir: dir}
	if s.seccomp, err = seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}); err != nil {
		return nil, err
	}
	s.seccomp.Architectures = []specs.Arch{specs.ArchX86_64}
	if runtime.GOARCH == "arm64" {
		s.seccomp.Architectures = []specs.Arch{specs.ArchAARCH64}
	}
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	return s, err
}

// start runs one bundle until it has asked for /next, then ends it.
func (s *starter) start(id string, command []string) (took time.Duration, err error) {
	bundle := filepath.Join(s.dir, id)
	if err := os.Mkdir(bundle, 0o755); err != nil {
		return 0, err
	}
	config, err := json.Marshal(s.config(command))
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o644); err != nil {
		return 0, err
	}
	asked := make(chan error, 1)
	go func() { asked <- s.awaitNext() }()
	defer func() { err = errors.Join(err, s.remove(id, bundle)) }()
	begin := time.Now()
	if err := s.crun(bundle, "create", "--bundle", bundle, "--pid-file", filepath.Join(bundle, "pid"), id); err != nil {
		return 0, err
	}
	if err := s.crun(bundle, "start", id); err != nil {
		return 0, err
	}
	err = <-asked
	return time.Since(begin), err
}

// awaitNext waits for one connection that asks for /next.
func (s *starter) awaitNext() error {
	if l, ok := s.listener.(*net.TCPListener); ok {
		_ = l.SetDeadline(time.Now().Add(rivalLimit))
	}
	c, err := s.listener.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(rivalLimit))
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err == nil && !strings.HasSuffix(req.URL.Path, "/runtime/invocation/next") {
		err = fmt.Errorf("it asked for %s", req.URL.Path)
	}
	return err
}

func (s *starter) remove(id, bundle string) error {
	err := s.crun(bundle, "delete", "--force", id)
	var status unix.WaitStatus
	for {
		if pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil); err != nil || pid <= 0 {
			break
		}
	}
	return errors.Join(err, os.RemoveAll(bundle))
}

// crun runs crun. Its standard streams are pipes: given /dev/null, crun 1.8 changes the owner of the host's.
func (s *starter) crun(bundle string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), rivalLimit)
	defer cancel()
	all := append([]string{"--root", filepath.Join(s.dir, "state"), "--cgroup-manager=disabled", "--log", filepath.Join(bundle, "log")}, args...)
	cmd := exec.CommandContext(ctx, "crun", all...)
	in, err := os.OpenFile(filepath.Join(bundle, "in"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(bundle, "out"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	err = cmd.Run()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(bundle, "log"))
		said, _ := os.ReadFile(filepath.Join(bundle, "out"))
		err = fmt.Errorf("crun %s: %w: %s %s", args[0], err, log, said)
	}
	return errors.Join(err, in.Close(), out.Close())
}

func (s *starter) config(command []string) specs.Spec {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: rivalFirst, Size: rivalRange}}
	return specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: filepath.Join(s.dir, "root"), Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
			{Destination: "/usr", Type: "bind", Source: "/usr", Options: []string{"rbind", "ro", "nosuid", "nodev"}},
		},
		Process: &specs.Process{
			User: specs.User{UID: 1000, GID: 1000}, Args: command, Cwd: "/", NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{},
			Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "AWS_LAMBDA_RUNTIME_API=" + s.listener.Addr().String()},
		},
		Linux: &specs.Linux{
			UIDMappings: ids, GIDMappings: ids, Seccomp: s.seccomp,
			Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
		},
	}
}
