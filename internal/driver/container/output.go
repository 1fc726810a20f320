//go:build linux

package container

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"kiln"
)

const (
	// outputChunk is the most that is handed over at once, in bytes.
	outputChunk = 16 << 10
	// drainLimit bounds what is read after an answer, in bytes: four times what a pipe holds, because a guest may go on
	// writing.
	drainLimit = 256 << 10
)

// output reads what a container writes to its standard output and error: one pipe, so that the order is kept.
type output struct {
	pipe *os.File
	raw  syscall.RawConn
	sink func([]byte)
	done chan struct{} // closed when all has been read

	mu     sync.Mutex // keeps the order: held from a read until what was read is handed over
	buffer [outputChunk]byte
}

// newOutput gives the reader and the end for the container.
func newOutput(sink func([]byte)) (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, kiln.Wrap(kiln.KindUnavailable, "container: open output", "cannot make a pipe", err)
	}
	raw, err := r.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return &output{pipe: r, raw: raw, sink: sink, done: make(chan struct{})}, w, nil
}

// run hands everything over as it comes until the last writer has gone or close is called.
func (o *output) run() {
	defer close(o.done)
	_ = o.raw.Read(func(fd uintptr) bool { // an error is the pipe's close
		for {
			n, more := o.step(fd)
			if n == 0 {
				return !more
			}
		}
	})
}

// drain hands over what is in the pipe now. Does not block on the pipe.
func (o *output) drain() {
	_ = o.raw.Control(func(fd uintptr) { // an error is the pipe's close
		for left := drainLimit; left > 0; {
			n, _ := o.step(fd)
			if n == 0 {
				return
			}
			left -= n
		}
	})
}

// step reads once. n is 0 when there is nothing now; then more tells whether there can be something later.
func (o *output) step(fd uintptr) (n int, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		n, err := unix.Read(int(fd), o.buffer[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, true
		case err != nil || n <= 0:
			return 0, false
		}
		o.sink(o.buffer[:n])
		return n, true
	}
}

// close ends the reading.
func (o *output) close() { _ = o.pipe.Close() }
