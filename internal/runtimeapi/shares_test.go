package runtimeapi

import (
	"testing"

	"kiln"
)

// What a container uses is counted to its executions once: alone to the one that runs, in equal parts to those that run at
// once, to nobody while none does; two readings in the wrong order count nothing twice. // R43
func TestSharesAddUp(t *testing.T) {
	var s Shares
	read := func(ms int64) kiln.Usage {
		return kiln.Usage{CPUNanos: ms * 1e6, ThrottledNanos: 2 * ms * 1e6, MemoryPeakBytes: ms}
	}
	first := s.Begin(read(100))
	second := s.Begin(read(110)) // 10 to the first
	end1 := s.End(read(130))     // 10 to each
	end2 := s.End(read(125))     // older, nothing
	third := s.Begin(read(500))  // nobody's
	end3 := s.End(read(507))
	for _, c := range []struct {
		begin, end kiln.Usage
		want       int64
	}{{first, end1, 20}, {second, end2, 10}, {third, end3, 7}} {
		if cpu, held := (c.end.CPUNanos-c.begin.CPUNanos)/1e6, (c.end.ThrottledNanos-c.begin.ThrottledNanos)/1e6; cpu != c.want || held != 2*c.want {
			t.Errorf("%d ms used and %d held back, want %d and %d", cpu, held, c.want, 2*c.want)
		}
	}
	if end3.MemoryPeakBytes != 507 {
		t.Errorf("memory %d", end3.MemoryPeakBytes)
	}
}
