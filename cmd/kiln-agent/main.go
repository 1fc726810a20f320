// Command kiln-agent is the first process of a guest that the node cannot reach into. It serves the Runtime API's address
// on the guest's loopback (package agent has the protocol), starts the runtime it is told on its command line, reaps what
// that leaves behind, and ends with it and its status.
//
//	kiln-agent --link PATH [--listen HOST:PORT] -- COMMAND [ARGUMENT ...]
//
// It runs as the function's own user, trusts nothing and is trusted by nobody: what it says to the node is a guest's word.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"kiln/internal/agent"
)

func main() {
	link := flag.String("link", "", "the Unix socket of the node")
	listen := flag.String("listen", "127.0.0.1:9001", "where the runtime finds the Runtime API")
	flag.Parse()
	if *link == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "kiln-agent is started by Kiln inside a guest: kiln-agent --link PATH -- COMMAND")
		os.Exit(2)
	}
	status, err := run(*link, *listen, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "kiln-agent:", err)
		os.Exit(125) // as the launchers of containers say that they failed themselves
	}
	os.Exit(status)
}

// run serves until the command has ended, and gives its status as a shell does.
func run(link, listen string, command []string) (int, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- agent.Run(ctx, agent.Config{Listener: listener, Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
			return new(net.Dialer).DialContext(ctx, "unix", link)
		}})
	}()
	status, err := await(command)
	cancel()
	return status, errors.Join(err, <-served)
}

// await starts a command with the agent's own input and outputs and waits for its end, reaping what else ends meanwhile.
func await(command []string) (int, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return 0, err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	process, err := os.StartProcess(path, command, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 0, err
	}
	_ = os.Stdin.Close() // the runtime's alone: it must see its end
	for range children {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
			if pid != process.Pid {
				continue
			}
			if status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return status.ExitStatus(), nil
		}
	}
	return 0, nil // not reached: the channel is never closed
}
