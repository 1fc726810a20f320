package runtimeapi

import (
	"sync"

	"kiln"
)

// Shares divides what a container uses among the executions in it: what is used while several are under way counts to each
// in equal parts, because a container is measured as a whole. What is used while none is counts to nobody. The zero value
// is ready for use; safe for concurrent use. Begin and End are given what the container has used so far.
type Shares struct {
	mu      sync.Mutex
	running int        // guarded by mu
	last    kiln.Usage // read last; guarded by mu
	share   kiln.Usage // what one execution from the beginning on would have had; guarded by mu
}

// Begin notes an execution that begins, and gives what its usage counts from.
func (s *Shares) Begin(read kiln.Usage) kiln.Usage { return s.pass(read, 1) }

// End notes the end of one, and gives the usage that Begin's is to be taken from.
func (s *Shares) End(read kiln.Usage) kiln.Usage { return s.pass(read, -1) }

func (s *Shares) pass(read kiln.Usage, change int) kiln.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running > 0 {
		s.share.CPUNanos += max(0, read.CPUNanos-s.last.CPUNanos) / int64(s.running)
		s.share.ThrottledNanos += max(0, read.ThrottledNanos-s.last.ThrottledNanos) / int64(s.running)
	}
	s.last.CPUNanos = max(s.last.CPUNanos, read.CPUNanos) // two readings may come in the other order
	s.last.ThrottledNanos = max(s.last.ThrottledNanos, read.ThrottledNanos)
	s.running += change
	read.CPUNanos, read.ThrottledNanos = s.share.CPUNanos, s.share.ThrottledNanos
	return read
}
