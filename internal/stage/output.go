//go:build linux

package stage

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

const (
	// outputChunk is the most that is handed over at once, in bytes.
	outputChunk = 16 << 10
	// drainLimit bounds what is read after an answer, in bytes: four times what a pipe holds, because a guest may go on
	// writing.
	drainLimit = 256 << 10
	// outputPerSecond bounds what is read of one container, in bytes a second, with outputBurst at once. Then the node pauses,
	// the pipe fills, and the container waits in its own write: reading is on the node's processor time.
	outputPerSecond = 16 << 20
	outputBurst     = 8 << 20
	// drainDebt is how much more may be read at once at the end of an execution before its answer waits, in bytes.
	drainDebt = 1 << 20
)

// Output reads what a container writes to its standard output and error: one pipe, so that the order is kept.
type Output struct {
	pipe *os.File
	raw  syscall.RawConn
	sink func([]byte)
	done chan struct{} // closed when all has been read
	over chan struct{} // closed by Close
	stop func()        // closes over

	mu     sync.Mutex // keeps the order: held from a read until what was read is handed over
	buffer [outputChunk]byte
	paid   time.Time // when all that was read is paid for, at outputPerSecond; guarded by mu
}

// NewOutput gives the reader and the end for the container. What is read is handed to sink in order; the bytes are only lent.
// Kinds: KindUnavailable.
func NewOutput(sink func([]byte)) (*Output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, kiln.Wrap(kiln.KindUnavailable, "stage: open output", "cannot make a pipe", err)
	}
	raw, err := r.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	o := &Output{pipe: r, raw: raw, sink: sink, done: make(chan struct{}), over: make(chan struct{})}
	o.stop = sync.OnceFunc(func() { close(o.over) })
	return o, w, nil
}

// Run hands everything over as it comes until the last writer has gone or Close is called.
func (o *Output) Run() {
	defer close(o.done)
	_ = o.raw.Read(func(fd uintptr) bool { // an error is the pipe's close
		for {
			n, more := o.step(fd)
			if n == 0 {
				return !more
			}
			o.pause(0)
		}
	})
}

// pause waits until no more than so many bytes beyond the burst are to be paid for.
func (o *Output) pause(debt int) {
	o.mu.Lock()
	wait := time.Until(o.paid) - time.Duration(debt)*time.Second/outputPerSecond
	o.mu.Unlock()
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.over:
	}
}

// Drain hands over what is in the pipe now. It does not block on the pipe; where execution after execution writes more than
// is read in a second, it waits its share of that.
func (o *Output) Drain() {
	_ = o.raw.Control(func(fd uintptr) { // an error is the pipe's close
		for left := drainLimit; left > 0; {
			n, _ := o.step(fd)
			if n == 0 {
				return
			}
			left -= n
			o.pause(drainDebt)
		}
	})
}

// step reads once. n is 0 when there is nothing now; then more tells whether there can be something later.
func (o *Output) step(fd uintptr) (n int, more bool) {
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
		o.charge(n)
		return n, true
	}
}

// Done is closed when all has been read.
func (o *Output) Done() <-chan struct{} { return o.done }

// charge notes that n bytes were read. Called with mu held.
func (o *Output) charge(n int) {
	const burst = outputBurst * time.Second / outputPerSecond
	if earliest := time.Now().Add(-burst); o.paid.Before(earliest) {
		o.paid = earliest
	}
	o.paid = o.paid.Add(time.Duration(n) * time.Second / outputPerSecond)
}

// Close ends the reading.
func (o *Output) Close() {
	o.stop()
	_ = o.pipe.Close()
}
