//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// roleVariable makes this binary one of the other processes of a run. Each prints JSON values on its standard output,
// first one that says it is up, and ends when its standard input does.
const roleVariable = "KILN_BENCH_ROLE"

// The roles.
const (
	roleFloor  = "floor"  // what no HTTP server in Go is quicker than: an echo by net/http, unsigned
	roleClient = "client" // the caller: an ordinary net/http client; see client.go
	roleBurner = "burner" // keeps one CPU from idling: SCHED_IDLE, so that it gives way to everyone
	roleRival  = "rival"  // starts an interpreter by crun; see rival.go
)

func play(role string) error {
	switch role {
	case roleFloor:
		return playFloor()
	case roleClient:
		return playClient()
	case roleBurner:
		return playBurner()
	case roleRival:
		return playRival()
	}
	return fmt.Errorf("there is no role %q", role)
}

// process is this binary in a role.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	log bytes.Buffer
}

// goneWithin bounds the wait for a role's end.
const goneWithin = 10 * time.Second

// start runs this binary in a role and reads its first value into up.
func (b *bench) start(ctx context.Context, role string, up any, change func(*exec.Cmd)) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, b.self)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = &p.log
	p.cmd.WaitDelay = goneWithin
	if change != nil {
		change(p.cmd)
	}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	if err := p.read(up); err != nil {
		return nil, errors.Join(fmt.Errorf("start the %s: %w", role, err), p.end())
	}
	return p, nil
}

// ask sends a value and reads the answer.
func (p *process) ask(question, answer any) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("%w: %s", err, p.log.Bytes())
	}
	return p.read(answer)
}

func (p *process) read(into any) error {
	if err := p.out.Decode(into); err != nil {
		return fmt.Errorf("its answer: %w: %s", err, p.log.Bytes())
	}
	return nil
}

// end closes the role's standard input and waits for it.
func (p *process) end() error {
	_ = p.in.Close()
	timer := time.AfterFunc(goneWithin, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, p.log.Bytes())
	}
	return nil
}

// playFloor serves the echo that everything warm is compared with.
func playFloor() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := json.NewEncoder(os.Stdout).Encode("http://" + l.Addr().String()); err != nil {
		return err
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// playBurner spins on one CPU, named by the first line of its input, with the least of all priorities.
func playBurner() error {
	runtime.LockOSThread()
	in := json.NewDecoder(os.Stdin)
	if err := json.NewEncoder(os.Stdout).Encode("up"); err != nil {
		return err
	}
	var cpu int
	if err := in.Decode(&cpu); err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
		return fmt.Errorf("take SCHED_IDLE: %w", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode("burning"); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	for {
		select {
		case <-done:
			return nil
		default:
			for range 1 << 20 { // about a millisecond
			}
		}
	}
}

// burn starts a burner on each CPU; stop ends them.
func (b *bench) burn(ctx context.Context) (stop func() error, err error) {
	var burners []*process
	stop = func() error {
		var failed error
		for _, p := range burners {
			failed = errors.Join(failed, p.end())
		}
		return failed
	}
	for cpu := range runtime.NumCPU() {
		var word string
		p, err := b.start(ctx, roleBurner, &word, nil)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		burners = append(burners, p)
		if err := p.ask(cpu, &word); err != nil {
			return nil, errors.Join(err, stop())
		}
	}
	return stop, nil
}
