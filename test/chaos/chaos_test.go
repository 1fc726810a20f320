// Package chaos shows that the truth survives: the server is killed, its disk is filled, its OCI runtime breaks, and code,
// packages and clients do their worst, each within bounds of count and time and on loopback only. What is demanded
// afterwards is seen from outside, by the API and by the kernel.
//
// `make test` runs a chosen part (see required_test.go), `make test-long` all. A wall clock that steps is not shown here:
// it has no namespace of its own, the library that fakes it does not reach static Go binaries, and the machine's is not
// ours to set. In Kiln it stamps records, dates signatures and ends download links; whatever waits or lasts is measured by
// the monotonic clock that time.Time carries.
package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"kiln/test/kilntest"
)

// shared is the server of those who do their worst by the API alone.
var shared = kilntest.Shared{Options: kilntest.Options{Settings: map[string]string{
	"instances.shapes": `[{"memory":1024,"cpus":2}]`, "warming.instances": "1", "logs.function": "1", "wait.max": "5s",
}}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// address gives a free address below the ports that the kernel gives to clients, so that a server that is started again
// finds it free.
func address(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no address is free")
	return ""
}

// dice gives random numbers that can be had again from the seed the test prints.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// neighbour is a function of another account that must not notice anything: it executes until the test has ended or
// unhurt is called, each time in the same process.
type neighbour struct {
	t      *testing.T
	cancel context.CancelFunc
	done   sync.WaitGroup
	count  int
	worst  time.Duration
}

func startNeighbour(t *testing.T, s *kilntest.Server) *neighbour {
	t.Helper()
	a := s.NewAccount(t)
	a.Probe("python", "neighbour")
	a.Pin("neighbour", "low-volume") // it is called often, and is to stay in one container
	first := a.Invoke(kilntest.Invocation{Function: "neighbour"}).Facts()
	ctx, cancel := context.WithCancel(context.Background())
	n := &neighbour{t: t, cancel: cancel}
	t.Cleanup(func() { cancel(); n.done.Wait() })
	n.done.Go(func() {
		for ctx.Err() == nil {
			answer, err := a.TryInvoke(kilntest.Invocation{Function: "neighbour", Payload: `{"sleepMs":20}`})
			if err != nil {
				t.Errorf("the neighbour: %v", err)
				return
			}
			f, err := answer.TryFacts()
			if err != nil || f.Hostname != first.Hostname || f.Pid != first.Pid {
				t.Errorf("the neighbour was in %s as %d and is in %s as %d: %v", first.Hostname, first.Pid, f.Hostname, f.Pid, err)
				return
			}
			n.count, n.worst = n.count+1, max(n.worst, answer.Got.Sub(answer.Sent))
		}
	})
	return n
}

// unhurt ends the neighbour and demands that it executed all the while.
func (n *neighbour) unhurt() {
	n.t.Helper()
	n.cancel()
	n.done.Wait()
	if n.count == 0 {
		n.t.Error("the neighbour never executed")
	}
	n.t.Logf("the neighbour executed %d times of 20 ms, the slowest took %s", n.count, n.worst)
}

// after waits, for what nobody tells the end of.
func after(d time.Duration) { <-time.After(d) }
