package agent

import (
	"encoding/binary"
	"io"
)

// yamux writes a frame's head and its body apart. Each write to a guest costs a system call and often a wake of the other
// end, so that a head with a body to follow waits for it.
const (
	headBytes = 12
	typeData  = 0
)

// joinedStream is a byte stream whose writes of heads are kept until their bodies come. yamux writes from one goroutine.
type joinedStream struct {
	io.ReadWriteCloser
	head []byte
	out  []byte
}

func joined(rw io.ReadWriteCloser) io.ReadWriteCloser { return &joinedStream{ReadWriteCloser: rw} }

// Write passes on what is whole. What it says of a head kept is that it was written: an error shows with the body.
func (j *joinedStream) Write(p []byte) (int, error) {
	if len(j.head) == 0 && len(p) == headBytes && p[1] == typeData && binary.BigEndian.Uint32(p[8:]) > 0 {
		j.head = append(j.head, p...)
		return len(p), nil
	}
	if len(j.head) == 0 {
		return j.ReadWriteCloser.Write(p)
	}
	j.out = append(append(j.out[:0], j.head...), p...)
	kept := len(j.head)
	j.head = j.head[:0]
	n, err := j.ReadWriteCloser.Write(j.out)
	if cap(j.out) > 2*windowBytes {
		j.out = nil
	}
	return max(n-kept, 0), err
}
