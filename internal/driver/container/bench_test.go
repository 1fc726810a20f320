//go:build linux

package container

import (
	"testing"
	"time"

	"kiln"
)

// BenchmarkStart tells what making and binding a container costs, step by step.
func BenchmarkStart(b *testing.B) {
	h := newHarness(b, b.TempDir())
	i := h.newInstance(b)
	bind := binding(packageDir(b))
	var prepare, bound, remove time.Duration
	n := 0
	for b.Loop() {
		spec := newContainer(i.ID)
		at := time.Now()
		if _, err := h.CreateContainer(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
		prepare += time.Since(at)
		at = time.Now()
		if r, err := h.BindContainer(b.Context(), spec.ID, bind); err != nil || r.Failure != nil {
			b.Fatal(err, r.Failure)
		}
		bound += time.Since(at)
		at = time.Now()
		if err := h.DeleteContainer(b.Context(), spec.ID); err != nil {
			b.Fatal(err)
		}
		remove += time.Since(at)
		n++
	}
	for name, d := range map[string]time.Duration{"prepare-ms": prepare, "bind-ms": bound, "delete-ms": remove} {
		b.ReportMetric(float64(d)/float64(n)/1e6, name)
	}
}

// BenchmarkPrepareManaged tells what preparing an interpreter costs.
func BenchmarkPrepareManaged(b *testing.B) {
	for _, prefix := range []string{"python3", "nodejs"} {
		b.Run(prefix, func(b *testing.B) {
			h := newHarness(b, b.TempDir())
			i := h.newInstance(b)
			runtime := managed(b, prefix)
			for b.Loop() {
				spec := newContainer(i.ID)
				spec.Runtime = runtime
				if _, err := h.CreateContainer(b.Context(), spec); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := h.DeleteContainer(b.Context(), spec.ID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkExecute tells what one warm execution costs, and what reading the usage adds.
func BenchmarkExecute(b *testing.B) {
	h := newHarness(b, b.TempDir())
	i := h.newInstance(b)
	bind := binding(packageDir(b))
	bind.Amounts.MilliCPUs = 2000 // what is measured is the way, not the throttling
	id := h.running(b, i.ID, bind)
	d := &kiln.Delivery{RequestID: "r1", Payload: []byte(`{"hello":"world"}`), ARN: "arn"}
	b.Run("execute", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Deadline = time.Now().Add(5 * time.Second)
			if a := h.Execute(b.Context(), id, d); a.Failure != nil {
				b.Fatal(a.Failure)
			}
		}
	})
	b.Run("meter", func(b *testing.B) {
		b.ReportAllocs()
		c := h.container(id)
		for b.Loop() {
			if c.meter.Read().MemoryPeakBytes == 0 {
				b.Fatal("no memory used")
			}
		}
	})
	b.Run("drain", func(b *testing.B) {
		c := h.container(id)
		for b.Loop() {
			c.output.Drain()
		}
	})
}

// BenchmarkPaused tells what an execution takes in a container that runs, and in one that is paused and resumed for it, and
// what of that is the resuming.
func BenchmarkPaused(b *testing.B) {
	for _, paused := range []bool{false, true} {
		b.Run(map[bool]string{false: "running", true: "paused"}[paused], func(b *testing.B) {
			h := newHarness(b, b.TempDir())
			id := h.running(b, h.newInstance(b).ID, binding(packageDir(b)))
			var resumed time.Duration
			for b.Loop() {
				if paused {
					b.StopTimer()
					if err := h.Pause(b.Context(), id); err != nil {
						b.Fatal(err)
					}
					waitFor(b, "the pause", func() bool { return h.container(id).group.Fault() == "frozen" })
					b.StartTimer()
					at := time.Now()
					if err := h.Resume(b.Context(), id); err != nil {
						b.Fatal(err)
					}
					resumed += time.Since(at)
				}
				do[int](b, h, id, "count")
			}
			b.ReportMetric(float64(resumed.Microseconds())/float64(b.N), "resume-µs")
		})
	}
}
