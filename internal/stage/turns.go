//go:build linux

package stage

import (
	"context"
	"sync"

	"kiln"
	"kiln/internal/runtimeapi"
	"kiln/internal/sandbox"
)

// Turns has a bound container execute events, and counts to each what it used. Begin makes it ready; Execute may then be
// called as often at once as the container takes events.
type Turns struct {
	Session *runtimeapi.Session
	Output  *Output
	Meter   *sandbox.Meter

	used    kiln.Usage         // when the container last became idle, where it executes one event at a time
	shares  *runtimeapi.Shares // instead of used, where several run at once
	reading sync.Mutex         // keeps readings of the meter apart, where there are shares
}

// Begin notes what the container used for its initialisation, which is no execution's; slots is how many events it executes
// at once.
func (t *Turns) Begin(slots int) {
	if slots > 1 {
		t.shares = new(runtimeapi.Shares)
		return
	}
	t.used = t.Meter.Read()
}

// Execute hands an event over and blocks until its answer. What the container wrote before its answer has been handed on
// when it returns.
func (t *Turns) Execute(ctx context.Context, d *kiln.Delivery) kiln.Answer {
	if t.shares != nil {
		before := t.shares.Begin(t.read())
		answer := t.Session.Execute(ctx, d)
		t.Output.Drain()
		answer.Before, answer.Usage = before, t.shares.End(t.read())
		return answer
	}
	answer := t.Session.Execute(ctx, d)
	t.Output.Drain()
	answer.Before, t.used = t.used, t.Meter.Read()
	answer.Usage = t.used
	return answer
}

// read gives what the container has used, from any of several goroutines: the kernel's counters, which do not wait.
func (t *Turns) read() kiln.Usage {
	t.reading.Lock()
	defer t.reading.Unlock()
	return t.Meter.Read()
}

// Gone is the answer of a container that is not there.
func Gone() kiln.Answer {
	return kiln.Answer{Lost: true, Undelivered: true, Failure: &kiln.Failure{Outcome: kiln.OutcomeFailed, Type: "Sandbox.Failure",
		Payload: []byte(`{"errorType":"Sandbox.Failure","errorMessage":"The container is gone"}`)}}
}
