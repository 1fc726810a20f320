package manager

import (
	"testing"
	"time"

	"kiln"
)

// testSettings are ordinary settings; the documented defaults are the server's to give.
func testSettings() Settings {
	return Settings{
		InstancesMax:       64,
		Shapes:             []kiln.Shape{{MemoryMiB: 2048, CPUs: 1}, {MemoryMiB: kiln.MaxMemoryMiB, CPUs: 6}},
		AllowanceMiB:       256,
		RetentionContainer: 10 * time.Minute,
		RetentionInstance:  15 * time.Minute,
		WaitMax:            10 * time.Second,
		WaitingMax:         1000,
	}
}

// WaitingMax bounds all requests that wait, whichever versions and amounts they are of: the next is throttled at once,
// and one that leaves the line makes room for another (R37).
func TestWaitingIsBoundedOverTheFleet(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.WaitingMax = 3 })
	first := w.request("a", "one", 128)
	w.request("a", "one", 256)
	w.request("b", "two", 128)
	if len(w.refused) != 0 || w.m.Waiting() != 3 {
		t.Fatalf("%d refused, %d wait", len(w.refused), w.m.Waiting())
	}
	over := w.request("c", "three", 128)
	if kiln.KindOf(over.Err) != kiln.KindThrottled {
		t.Errorf("the fourth of three: %v", over.Err)
	}
	w.step(Event{Kind: Cancelled, Request: first})
	if next := w.request("c", "three", 128); next.Err != nil {
		t.Errorf("after one has gone: %v", next.Err)
	}
}
