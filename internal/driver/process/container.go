package process

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"kiln"
	"kiln/internal/runtimeapi"
)

const (
	// startLimit bounds the time from starting an interpreter to its question for the binding.
	startLimit = 30 * time.Second
	// endLimit bounds the wait for killed processes to be gone.
	endLimit = 10 * time.Second
	// runtimeDir is where containers of other drivers see the bootstraps.
	runtimeDir = "/var/runtime"
)

// container is one group of processes with its Runtime API.
type container struct {
	spec kiln.ContainerSpec
	dir  string

	// Written by start only, before others may look.
	session *runtimeapi.Session
	api     string
	cmd     *exec.Cmd
	stdin   *os.File // of a provided runtime: its binding as a script
	output  *output

	used   kiln.Usage         // when it last became idle; of BindContainer and Execute, which come one at a time
	shares *runtimeapi.Shares // instead of used, where several executions run at once; set by BindContainer

	wg   sync.WaitGroup // every goroutine of this container
	done chan struct{}  // closed when the first process has ended

	mu      sync.Mutex
	started bool // cmd runs or ran
	ending  bool // deleted: its end is nobody's news
}

func newContainer(spec kiln.ContainerSpec, dir string) *container {
	return &container{spec: spec, dir: dir, done: make(chan struct{}), session: runtimeapi.New(runtimeapi.Config{})}
}

// start runs the runtime's command and waits until it is prepared.
func (c *container) start(ctx context.Context, d *Driver) error {
	const op = "process: create container"
	temp := filepath.Join(c.dir, "tmp")
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the container's folder cannot be made", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "no port for the Runtime API", err)
	}
	c.api = l.Addr().String()
	c.mu.Lock()
	if c.ending {
		c.mu.Unlock()
		_ = l.Close()
		return kiln.Errorf(kiln.KindNotFound, op, "the container was deleted meanwhile")
	}
	c.wg.Go(func() {
		if err := c.session.Serve(l); err != nil {
			d.c.Logger.Error("runtime api ended", "container", c.spec.ID, "error", err)
		}
	})
	c.mu.Unlock()
	if err := c.launch(d); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the runtime "+c.spec.Runtime.Name+" cannot be started", err)
	}
	if c.spec.Runtime.Kind == kiln.RuntimeProvided {
		return nil // a shell is ready once it runs
	}
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	select {
	case <-c.session.Prepared():
		return nil
	case <-c.done:
		return kiln.Errorf(kiln.KindInternal, op, "the runtime %s ended while starting", c.spec.Runtime.Name)
	case <-timer.C:
		return kiln.Errorf(kiln.KindUnavailable, op, "the runtime %s did not start within %s", c.spec.Runtime.Name, startLimit)
	case <-ctx.Done():
		return kiln.Wrap(kiln.KindUnavailable, op, "the start was given up", context.Cause(ctx))
	}
}

// launch starts the process with its pipes and the goroutines that watch them.
func (c *container) launch(d *Driver) error {
	r := c.spec.Runtime
	args := make([]string, len(r.Command))
	for i, a := range r.Command {
		args[i] = a
		if rest, ok := strings.CutPrefix(a, runtimeDir+"/"); ok {
			args[i] = filepath.Join(r.BootstrapDir, rest)
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a session of its own is a process group of its own
	env := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin"}
	maps.Copy(env, r.Environment)
	if c.spec.Fresh != nil {
		maps.Copy(env, c.environment(*c.spec.Fresh))
	}
	env["AWS_LAMBDA_RUNTIME_API"] = c.api
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	cmd.Stdout, cmd.Stderr = write, write
	c.output = newOutput(read, func(b []byte) { d.c.Output(c.spec.ID, b) })
	if r.Kind == kiln.RuntimeProvided {
		script, stdin, err := os.Pipe()
		if err != nil {
			_ = read.Close()
			return err
		}
		defer script.Close()
		cmd.Stdin, c.stdin = script, stdin
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		_ = read.Close()
		return context.Canceled
	}
	if err := cmd.Start(); err != nil {
		_ = read.Close()
		return err
	}
	c.cmd, c.started = cmd, true
	c.wg.Go(c.output.pump)
	c.wg.Go(func() { c.watch(d) })
	return nil
}

// watch waits for the end of the first process, ends the rest of its session and tells.
func (c *container) watch(d *Driver) {
	pid := c.cmd.Process.Pid
	awaitExit(pid) // the process id is not free for others until Wait
	if left := endSession(pid); len(left) > 0 {
		d.c.Logger.Error("processes do not end", "container", c.spec.ID, "pids", left)
	}
	_ = c.cmd.Wait()
	c.output.close()
	e := kiln.Exit{Instance: c.spec.Instance, Container: c.spec.ID, Status: c.cmd.ProcessState.String()}
	c.session.Exited(e)
	close(c.done)
	c.mu.Lock()
	ending := c.ending
	c.mu.Unlock()
	if !ending && d.c.Exited != nil {
		d.c.Exited(e)
	}
}

// endSession kills every process of a session whose first has ended, and waits until they are gone: one that holds much
// memory, or waits for a disk, takes a while. It names those that are still there at the limit.
func endSession(pid int) (left []int) {
	limit := time.Now().Add(endLimit)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if left = killSession(pid); len(left) == 0 || time.Now().After(limit) {
			return left
		}
		time.Sleep(wait)
	}
}

// end kills everything of the container and waits until it has ended.
func (c *container) end() {
	c.mu.Lock()
	c.ending = true
	started := c.started
	c.mu.Unlock()
	c.session.Close()
	if started {
		select {
		case <-c.done:
		default:
			killSession(c.cmd.Process.Pid)
		}
	}
	c.wg.Wait()
	if c.stdin != nil {
		_ = c.stdin.Close()
	}
}

// environment is what the function sees: the code and the bootstraps are where they are, not where containers have them.
func (c *container) environment(b kiln.Binding) map[string]string {
	env := maps.Clone(b.Environment)
	if env == nil {
		env = map[string]string{}
	}
	env["LAMBDA_TASK_ROOT"] = b.CodeDir
	env["LAMBDA_RUNTIME_DIR"] = c.spec.Runtime.BootstrapDir
	env["AWS_LAMBDA_RUNTIME_API"] = c.api
	if env["TMPDIR"] == "" {
		env["TMPDIR"] = filepath.Join(c.dir, "tmp")
	}
	return env
}

// bind tells the runtime its version.
func (c *container) bind(ctx context.Context, b kiln.Binding) (kiln.InitResult, error) {
	env := c.environment(b)
	if c.spec.Runtime.Kind == kiln.RuntimeManaged {
		return c.session.Bind(ctx, env, b.Version.Handler, b.InitLimit), nil
	}
	program := filepath.Join(b.CodeDir, "bootstrap")
	if info, err := os.Stat(program); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		const kind, text = "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
		return kiln.InitResult{Failure: &kiln.Failure{Outcome: kiln.OutcomeInit, Type: kind,
			Payload: fmt.Appendf(nil, `{"errorType":%q,"errorMessage":%q}`, kind, text)}}, nil
	}
	var script strings.Builder
	for _, k := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&script, "export %s=%s\n", k, quote(env[k]))
	}
	fmt.Fprintf(&script, "cd %s\nexec %s </dev/null\n", quote(b.CodeDir), quote(program))
	if _, err := c.stdin.WriteString(script.String()); err != nil {
		return kiln.InitResult{}, kiln.Wrap(kiln.KindInternal, "process: bind container", "the container has ended", err)
	}
	return c.session.Started(ctx, b.InitLimit), nil
}

// quote makes a value safe in the shell's script.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
