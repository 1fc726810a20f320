//go:build linux

// Command guest is both sides of the hostile suite, as a compiled function: the neighbour, who keeps a canary and says
// whether it is unhurt, and the attacker, who tries by raw system calls what a container must not let through and says
// what the kernel answered. It judges nothing: the suite does.
//
// It speaks the Runtime API by plain net/http, without any library of AWS's.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// event says what to do.
type event struct {
	Do     string
	Secret string // the canary, to plant or to look for
	Kind   string // of what to exhaust
	target
}

// target is what the attacker is told of the world outside: more than a stranger would know.
type target struct {
	Pids      []int    // the neighbour's and the node's processes, as the host counts them
	Addresses []string // host:port of the node
	Paths     []string // the node's data directory and other places of the host
	RequestID string   // of the neighbour's execution now under way
}

// outcome is what one probe got.
type outcome struct {
	Area, Name string
	// Errno is the kernel's refusal by name, or a status of the Runtime API; empty when the attempt succeeded.
	Errno string
}

// probe is one attempt. It gives nil when it succeeded.
type probe struct {
	name string
	try  func() error
}

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	c := newCanary()
	for {
		res, err := http.Get(base + "next")
		if err != nil {
			fmt.Fprintln(os.Stderr, "next:", err)
			os.Exit(1)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		var e event
		answer := []byte(`"not an event"`)
		if json.Unmarshal(body, &e) == nil {
			answer, err = json.Marshal(c.handle(e, id))
		}
		if err != nil {
			answer = []byte(`"no answer"`)
		}
		res, err = http.Post(base+id+"/response", "application/json", bytes.NewReader(answer))
		if err != nil {
			fmt.Fprintln(os.Stderr, "response:", err)
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

func (c *canary) handle(e event, id string) any {
	switch e.Do {
	case "plant":
		return c.plant(e.Secret)
	case "hold":
		return c.hold(id)
	case "check":
		return c.check()
	case "probe":
		return run(e, id)
	case "exhaust":
		return c.exhaust(e.Kind)
	case "release":
		c.release()
		return "released"
	case "eat": // past the memory limit: this never returns
		for {
			c.kept = append(c.kept, fill(16<<20))
		}
	}
	return "unknown: " + e.Do
}

// run makes every attempt.
func run(e event, id string) []outcome {
	areas := []struct {
		name   string
		probes []probe
	}{
		{"files", files(e)}, {"processes", processes(e.Pids)}, {"network", network(e.Addresses)}, {"/proc and /sys", kernelFiles()},
		{"kernel", kernelCalls()}, {"mounts and namespaces", mounts()}, {"devices", devices()}, {"privileges", privileges()},
		{"runtime api", api(e.RequestID, id)},
	}
	var all []outcome
	for _, a := range areas {
		for _, p := range a.probes {
			all = append(all, outcome{a.name, p.name, word(p.try())})
		}
	}
	return all
}

// word names an error as the kernel's header does, or by its text.
func word(err error) string {
	if err == nil {
		return ""
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	}
	return err.Error()
}

// call makes a system call with up to six arguments.
func call(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// fill gives memory that is really there.
func fill(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return b
}
