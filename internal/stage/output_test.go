//go:build linux

package stage

import (
	"testing"
	"time"
)

// A container that writes without end is read at a bounded pace, whether the pump reads or the ends of its executions do,
// and nothing is lost; one that writes little never waits.
func TestOutputIsPaced(t *testing.T) {
	const total = outputBurst + outputPerSecond/2
	least := 400 * time.Millisecond // half a second's output beyond the burst, but what drainDebt lets pass
	for name, drained := range map[string]bool{"pump": false, "drain": true} {
		t.Run(name, func(t *testing.T) {
			read := 0
			o, w, err := NewOutput(func(b []byte) { read += len(b) })
			if err != nil {
				t.Fatal(err)
			}
			if !drained {
				go o.Run()
			}
			piece := make([]byte, 32<<10) // less than a pipe holds
			began := time.Now()
			for written := 0; written < total; written += len(piece) {
				if _, err := w.Write(piece); err != nil {
					t.Fatal(err)
				}
				if drained {
					o.Drain()
				}
			}
			took := time.Since(began)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if drained {
				o.Close()
			} else {
				<-o.done
			}
			if read != total || took < least || took > 10*least {
				t.Errorf("%d bytes of %d read in %s", read, total, took)
			}
		})
	}
	o, w, err := NewOutput(func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	go o.Run()
	o.mu.Lock()
	o.paid = time.Now().Add(time.Hour)
	o.mu.Unlock()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { o.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the end waits for what is owed")
	}
}
