//go:build linux

package container

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln"
	"kiln/internal/sandbox"
)

const (
	// scriptLimit bounds the wait for the stub to read its script.
	scriptLimit = 5 * time.Second
	codeDir     = "/var/task"
)

// BindContainer mounts the code, sets the limits and lets the function initialise. Until that is over only the
// instance's processor limit holds.
func (d *Driver) BindContainer(ctx context.Context, id kiln.ContainerID, binding kiln.Binding) (kiln.InitResult, error) {
	const op = "container: bind"
	c := d.container(id)
	if c == nil || !c.live.Load() {
		return kiln.InitResult{}, kiln.Errorf(kiln.KindNotFound, op, "there is no container %s", id)
	}
	if err := d.equip(ctx, c, binding); err != nil {
		return kiln.InitResult{}, err
	}
	environment := maps.Clone(binding.Environment)
	if environment == nil {
		environment = map[string]string{}
	}
	environment[addressVariable] = sandbox.RuntimeAPIAddress
	var result kiln.InitResult
	if c.spec.Runtime.Kind == kiln.RuntimeManaged {
		handler := ""
		if binding.Version != nil {
			handler = binding.Version.Handler
		}
		result = c.session.Bind(ctx, environment, handler, binding.InitLimit)
	} else {
		result = c.become(ctx, environment, binding)
	}
	c.output.drain()
	if result.Failure != nil {
		return result, nil
	}
	if err := c.group.Set(sandbox.Limits{MilliCPUs: binding.Amounts.MilliCPUs}); err != nil {
		return result, err
	}
	c.used = c.meter.Read()
	return result, nil
}

// equip puts the code, the disk and the limits in.
func (d *Driver) equip(ctx context.Context, c *container, binding kiln.Binding) error {
	if err := c.putCode(binding); err != nil {
		return err
	}
	a := binding.Amounts
	if a.DiskMiB > 0 && a.DiskMiB != defaultDiskMiB {
		disk, err := d.makeDisk(ctx, a.DiskMiB)
		if err != nil {
			return err
		}
		defer disk.Close()
		if err := sandbox.Put(disk, c.process, "/tmp"); err != nil {
			return err
		}
	}
	return c.group.Set(sandbox.Limits{MemoryBytes: int64(a.MemoryMiB) << 20, Processes: a.Processes})
}

// putCode mounts the package from the instance's code cache, once.
func (c *container) putCode(binding kiln.Binding) error {
	if c.code || binding.CodeDir == "" {
		return nil
	}
	var digest kiln.Digest
	if binding.Version != nil {
		digest = binding.Version.Package
	}
	if digest == "" {
		return kiln.Errorf(kiln.KindInvalid, "container: mount code", "the binding names no package")
	}
	folder, err := c.instance.attach(digest, binding.CodeDir)
	if err != nil {
		return err
	}
	mount, err := sandbox.CloneReadOnly(folder)
	if err != nil {
		return err
	}
	defer mount.Close()
	if err := sandbox.Put(mount, c.process, codeDir); err != nil {
		return err
	}
	c.code = true
	return nil
}

// become makes the stub of a provided runtime become the package's bootstrap.
func (c *container) become(ctx context.Context, environment map[string]string, binding kiln.Binding) kiln.InitResult {
	if failure := checkEntrypoint(binding.CodeDir); failure != nil {
		return kiln.InitResult{Failure: failure}
	}
	if _, ok := environment["GOMAXPROCS"]; !ok && binding.Amounts.MilliCPUs > 0 {
		// What Go would set itself if the processor limit were there before the start.
		environment["GOMAXPROCS"] = strconv.Itoa((binding.Amounts.MilliCPUs + 999) / 1000)
	}
	begin := time.Now()
	drop := slices.Sorted(maps.Keys(c.spec.Runtime.Environment))
	_ = c.stdin.SetWriteDeadline(begin.Add(scriptLimit))
	_, err := io.WriteString(c.stdin, script(environment, append(drop, "PATH", "HOME")))
	if err = errors.Join(err, c.stdin.Close()); err != nil {
		return kiln.InitResult{Duration: time.Since(begin), Failure: initFailure("Runtime.ExitError", "Runtime exited before its initialisation")}
	}
	return c.session.Started(ctx, binding.InitLimit)
}

// script is what the stub reads: the environment, without what it had itself, and the bootstrap's start. drop names the
// variables the stub was started with.
func script(environment map[string]string, drop []string) string {
	var b strings.Builder
	b.WriteString("unset OLDPWD PWD")
	for _, name := range drop {
		if _, kept := environment[name]; !kept && plainName(name) {
			b.WriteString(" " + name)
		}
	}
	b.WriteString("\n")
	var odd []string // what a shell cannot export, or treats in its own way
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		assignment := name + "=" + environment[name]
		if !plainName(name) {
			odd = append(odd, quote(assignment))
			continue
		}
		b.WriteString("export " + name + "=" + quote(environment[name]) + "\n")
	}
	run := "exec "
	if len(odd) > 0 {
		run = "exec /usr/bin/env -- " + strings.Join(odd, " ") + " "
	}
	b.WriteString("cd " + codeDir + "\n")
	b.WriteString("if [ -f " + codeDir + "/bootstrap ]; then " + run + codeDir + "/bootstrap </dev/null; fi\n")
	b.WriteString(run + "/opt/bootstrap </dev/null\n")
	return b.String()
}

// plainName reports whether a variable can be exported in any shell without the shell minding.
func plainName(name string) bool {
	switch name {
	case "", "_", "OPTIND", "OPTARG", "PPID", "UID", "EUID", "GID", "EGID", "IFS", "PS1", "PS2", "PS4", "ENV", "LINENO", "PWD", "OLDPWD",
		"RANDOM", "SECONDS", "SHELLOPTS", "BASHOPTS", "GROUPS", "HISTCMD", "DIRSTACK", "FUNCNAME", "POSIXLY_CORRECT":
		return false
	}
	if strings.HasPrefix(name, "BASH_") || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// quote makes one word of any bytes, for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// checkEntrypoint says why a package cannot be started, or nil when it can or only the start will tell.
func checkEntrypoint(dir string) *kiln.Failure {
	const path = codeDir + "/bootstrap"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	info, err := root.Stat("bootstrap")
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		return initFailure("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
	case err != nil:
		return nil // a link out of the package: the container sees where it leads
	case info.Mode().Perm()&0o001 == 0:
		return initFailure("Runtime.InvalidEntrypoint", "fork/exec "+path+": permission denied")
	}
	f, err := root.Open("bootstrap")
	if err != nil {
		return nil
	}
	defer f.Close()
	if !executable(f) {
		return initFailure("Runtime.InvalidEntrypoint", "fork/exec "+path+": exec format error")
	}
	return nil
}

// executable reports whether the kernel would run a file: a script that names its interpreter, or a program for this
// machine. A shell would try anything else as a script of its own.
func executable(f io.ReaderAt) bool {
	var head [20]byte
	if n, _ := f.ReadAt(head[:], 0); n < len(head) {
		return n > 2 && bytes.HasPrefix(head[:], []byte("#!"))
	}
	if bytes.HasPrefix(head[:], []byte("#!")) {
		return true
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	return bytes.HasPrefix(head[:], []byte(elf.ELFMAG)) && elf.Machine(uint16(head[18])|uint16(head[19])<<8) == machine
}

// initFailure is a failed initialisation as AWS words it.
func initFailure(kind, text string) *kiln.Failure {
	payload, _ := json.Marshal(struct { // strings always marshal
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, text})
	return &kiln.Failure{Outcome: kiln.OutcomeInit, Type: kind, Payload: payload}
}
