package manager

import (
	"slices"
	"testing"
	"time"

	"kiln"
	"kiln/internal/capacity"
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

// A listing goes page by page, so that it keeps no request waiting for long; what is removed between two pages, the
// instance it stopped at among them, neither ends it nor makes it repeat or skip what stays.
func TestListingByPages(t *testing.T) {
	w := newWorld(t, func(s *Settings) {
		s.InstancesMax = 3 * pageRows
		s.Warming = []WarmingTarget{{python, capacity.Bounds{Minimum: 3 * pageRows}}}
	})
	w.settle()
	var mark Mark
	list, more := w.m.InstancePage(&mark, nil)
	if len(list) != pageRows || !more {
		t.Fatalf("the first page has %d rows, more: %t", len(list), more)
	}
	w.step(Event{Kind: Refusing}) // so that nothing is booted instead
	ahead := mark
	next, _ := w.m.InstancePage(&ahead, nil)
	gone := map[kiln.InstanceID]bool{}
	for _, in := range slices.Concat(list[pageRows-5:], next[:7]) { // the listing stands at one of them
		gone[in.ID] = true
		w.step(Event{Kind: Asked, Instance: in.ID, Cause: "test"})
		w.settle()
	}
	listed := map[kiln.InstanceID]bool{}
	for more = true; more; {
		var page []InstanceView
		page, more = w.m.InstancePage(&mark, nil)
		for _, in := range page {
			if listed[in.ID] || gone[in.ID] {
				t.Fatalf("%s is listed twice or gone", in.ID)
			}
			listed[in.ID] = true
		}
	}
	if len(listed) != 2*pageRows-7 {
		t.Errorf("%d listed of %d", len(listed), 2*pageRows-7)
	}
}
