package pool

import (
	"context"
	"testing"

	"kiln"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
)

// BenchmarkWarm measures Acquire and Release of an idle container: no goroutine, no timer, no allocation.
func BenchmarkWarm(b *testing.B) {
	p, v := warmPool(b)
	need := Need{RequestID: "r", Version: v, MemoryMiB: 128}
	b.ReportAllocs()
	for b.Loop() {
		lease, err := p.Acquire(context.Background(), need)
		if err != nil || lease.Path != kiln.PathContainer {
			b.Fatal(lease.Path, err)
		}
		p.Release(&lease, false)
	}
}

// A warm Acquire and Release allocate nothing.
func TestWarmAllocations(t *testing.T) {
	p, v := warmPool(t)
	need := Need{RequestID: "r", Version: v, MemoryMiB: 128}
	n := testing.AllocsPerRun(1000, func() {
		lease, err := p.Acquire(context.Background(), need)
		if err != nil || lease.Path != kiln.PathContainer {
			t.Fatal(lease.Path, err)
		}
		p.Release(&lease, false)
	})
	if n >= 1 { // the race detector's sync.Pool drops some at random
		t.Logf("%v allocations", n)
		if !raceEnabled {
			t.Fail()
		}
	}
}

// warmPool runs a pool in which one container of the version is idle.
func warmPool(t testing.TB) (*Pool, *kiln.Version) {
	b := newBench(t, fake.Config{}, func(s *manager.Settings) { s.Warming = nil })
	t.Cleanup(b.stop)
	v := b.version("a", "one")
	if r := b.invoke(v); r.err != nil {
		t.Fatal(r.err)
	}
	return b.pool, v
}
