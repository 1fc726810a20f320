package manager

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kiln"
)

// BenchmarkStep measures a warm request and its end, two steps, in a fleet of so many containers in a fifth as many
// instances.
func BenchmarkStep(b *testing.B) {
	for _, containers := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(containers), func(b *testing.B) {
			m, requests := full(containers, 5)
			now := time.Unix(1_700_000_100, 0)
			r := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				q := requests[r.IntN(len(requests))]
				m.Step(now, Event{Kind: Requested, Request: q})
				if q.Path != kiln.PathContainer {
					b.Fatal(q.Path, q.Err)
				}
				m.Step(now, Event{Kind: Ended, Container: q.Container, RequestID: q.ID})
			}
		})
	}
}

// BenchmarkTick measures a tick that looks at everything that is looked at by time: the demand, and the utilisation of
// the instances of accounts of fifty functions each, all of which execute.
func BenchmarkTick(b *testing.B) {
	for _, functions := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(functions), func(b *testing.B) {
			m, requests := full(functions, 50)
			now := time.Unix(1_700_000_100, 0)
			for _, q := range requests {
				m.Step(now, Event{Kind: Requested, Request: q})
			}
			m.settings.ConsolidationUtilisation, m.settings.ConsolidationAfter = 0.5, time.Second
			now = now.Add(time.Hour)
			m.Step(now, Event{Kind: Tick})
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(m.capacity.Period())
				m.Step(now, Event{Kind: Tick})
			}
		})
	}
}

// full makes a fleet with one idle container for each of so many functions, so many of an account.
func full(containers, perAccount int) (*Manager, []*Request) {
	ids := 0
	s := testSettings()
	s.Shapes = []kiln.Shape{{MemoryMiB: 640, CPUs: 1}}
	s.InstancesMax = containers
	m := New(Config{
		Settings:     s,
		NewInstance:  func() kiln.InstanceID { ids++; return kiln.InstanceID(fmt.Sprintf("i-%016x", ids)) },
		NewContainer: func() kiln.ContainerID { ids++; return kiln.ContainerID(fmt.Sprintf("c-%016x", ids)) },
	})
	now := time.Unix(1_700_000_000, 0)
	var requests []*Request
	for i := range containers {
		q := &Request{
			ID: kiln.RequestID(fmt.Sprint("r", i)), MemoryMiB: 128, Driver: "fake", Runtime: "python3.11",
			Version: &kiln.Version{
				Account: kiln.AccountID(fmt.Sprintf("%012d", i/perAccount)), Function: fmt.Sprint("f", i), Number: kiln.Latest,
				Revision: fmt.Sprintf("%036d", i), Package: kiln.Digest(fmt.Sprintf("%064d", i)),
			},
		}
		requests = append(requests, q)
		run(m, now, Event{Kind: Requested, Request: q})
		run(m, now, Event{Kind: Ended, Container: q.Container, RequestID: q.ID})
	}
	return m, requests
}

// run takes an event and answers all it leads to.
func run(m *Manager, now time.Time, e Event) {
	for todo := []Event{e}; len(todo) > 0; todo = todo[1:] {
		for _, a := range m.Step(now, todo[0]) {
			switch a.Kind {
			case Boot:
				todo = append(todo, Event{Kind: Booted, Instance: a.Instance})
			case Prepare:
				todo = append(todo, Event{Kind: Prepared, Container: a.Container})
			case Bind:
				todo = append(todo, Event{Kind: Bound, Container: a.Container})
			}
		}
	}
}
