package process

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// outputPiece is the most handed on at once, in bytes.
	outputPiece = 16 << 10
	// drainLimit is the most drain hands on for one answer, in bytes: a function may write without end.
	drainLimit = 1 << 20
)

// output carries what a container writes to the sink: its pipe's reading end, never blocking, read under mu so that
// nothing is ever between the pipe and the sink when mu is free.
type output struct {
	file *os.File
	raw  syscall.RawConn
	sink func([]byte)

	mu   sync.Mutex // one reader at a time; orders what the sink gets
	buf  []byte
	gone bool // the end was read, or the file is closed
}

func newOutput(file *os.File, sink func([]byte)) *output {
	raw, _ := file.SyscallConn() // fails for a closed file only
	return &output{file: file, raw: raw, sink: sink, buf: make([]byte, outputPiece)}
}

// pump hands on what is written until the last writer has gone or close is called.
func (o *output) pump() {
	_ = o.raw.Read(func(fd uintptr) bool {
		for {
			if n := o.read(fd); n <= 0 {
				return n < 0
			}
		}
	})
	o.mu.Lock()
	o.gone = true
	o.mu.Unlock()
	_ = o.file.Close() // without mu: it waits for a drain that has begun
}

// read hands one piece on and gives its length: 0 when there is nothing now, less at the end.
func (o *output) read(fd uintptr) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return -1
	}
	for {
		n, err := unix.Read(int(fd), o.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0
		case err != nil || n == 0:
			return -1
		}
		o.sink(o.buf[:n])
		return n
	}
}

// drain hands on what has been written so far, up to drainLimit.
func (o *output) drain() {
	_ = o.raw.Control(func(fd uintptr) {
		for total := 0; total < drainLimit; {
			n := o.read(fd)
			if n <= 0 {
				return
			}
			total += n
		}
	})
}

// close ends the pump once what is in the pipe has been handed on, even when someone else still holds the pipe open.
func (o *output) close() {
	o.drain()
	_ = o.file.SetReadDeadline(past)
}
