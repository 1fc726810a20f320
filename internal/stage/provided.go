//go:build linux

package stage

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"kiln"
)

// CodeDir is where a container sees its package.
const CodeDir = "/var/task"

// Script is what the stub reads: the environment, without what it had itself, and the bootstrap's start. drop names the
// variables the stub was started with.
func Script(environment map[string]string, drop []string) string {
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
	b.WriteString("cd " + CodeDir + "\n")
	b.WriteString("if [ -f " + CodeDir + "/bootstrap ]; then " + run + CodeDir + "/bootstrap </dev/null; fi\n")
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

// CheckEntrypoint says why a package cannot be started, or nil when it can or only the start will tell.
func CheckEntrypoint(dir string) *kiln.Failure {
	const path = CodeDir + "/bootstrap"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	info, err := root.Stat("bootstrap")
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		return InitFailure("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
	case err != nil:
		return nil // a link out of the package: the container sees where it leads
	case info.Mode().Perm()&0o001 == 0:
		return InitFailure("Runtime.InvalidEntrypoint", "fork/exec "+path+": permission denied")
	}
	f, err := root.Open("bootstrap")
	if err != nil {
		return nil
	}
	defer f.Close()
	if !executable(f) {
		return InitFailure("Runtime.InvalidEntrypoint", "fork/exec "+path+": exec format error")
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

// InitFailure is a failed initialisation as AWS words it.
func InitFailure(kind, text string) *kiln.Failure {
	payload, _ := json.Marshal(struct { // strings always marshal
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, text})
	return &kiln.Failure{Outcome: kiln.OutcomeInit, Type: kind, Payload: payload}
}
