package manager

import (
	"testing"
	"time"

	"kiln"
)

// keep has instances of 1024 MiB kept for account "a" beside two warm ones for all.
func keep(instances int, spillOver bool) func(*Settings) {
	return func(s *Settings) {
		warming(2)(s)
		s.Dedicated = []Dedicated{{Account: "a", Configuration: python, Instances: instances, SpillOver: spillOver}}
		s.WaitMax = 5 * time.Second
	}
}

// Instances kept for an account are warm beside the common ones, nobody else gets one, and the account's first requests
// do. With spill-over it takes common ones beyond; without, its requests wait for one of its own and are throttled with
// AWS's reason when none comes free in time. // R35
func TestDedicatedSubPool(t *testing.T) {
	for _, spillOver := range []bool{true, false} {
		w := newWorld(t, keep(2, spillOver))
		w.settle()
		if common, kept := w.m.index.Warm(python, ""), w.m.index.Warm(python, "a"); common != 2 || kept != 2 {
			t.Fatalf("%d common and %d kept instances are warm", common, kept)
		}
		for range 4 { // each takes a whole instance; none of the two kept
			if r := w.request("b", "f", 1000); r.Path == "" {
				w.settle()
			}
		}
		if kept := w.m.index.Warm(python, "a"); kept != 2 {
			t.Fatalf("%d kept instances are warm after others asked", kept)
		}
		first, second := w.request("a", "f", 1000), w.request("a", "f", 1000)
		w.settle()
		if first.Choice.Reason == "" || first.Path != kiln.PathWarmingPool || second.Path != kiln.PathWarmingPool {
			t.Errorf("the account's own came by %q and %q", first.Path, second.Path)
		}
		if kept := w.m.index.Warm(python, "a"); kept != 0 {
			t.Errorf("%d are kept beside the two it has", kept)
		}
		third := w.request("a", "f", 1000)
		w.settle()
		w.pass(time.Second) // until a start is worth more than to wait for one that is busy
		w.settle()
		if spillOver {
			if third.Container == "" {
				t.Errorf("beyond its own, with spill-over: %v", third.Err)
			}
			continue
		}
		w.pass(6 * time.Second)
		w.settle()
		if e, ok := third.Err.(*kiln.Error); !ok || e.Kind != kiln.KindThrottled || e.Reason != "ConcurrentInvocationLimitExceeded" {
			t.Errorf("beyond its own, without spill-over: %v, container %q", third.Err, third.Container)
		}
		fourth := w.request("a", "g", 1000)
		w.pass(time.Second)
		w.end(first, false)
		w.pass(time.Second)
		w.settle()
		w.pass(time.Second)
		w.settle()
		if fourth.Container == "" || fourth.Instance == second.Instance {
			t.Errorf("one that waited for its own got %q: %v", fourth.Container, fourth.Err)
		}
	}
}

// Without spill-over provisioned containers keep to the account's own instances, too, and it is told why there are no more. // R35 R36
func TestPromiseKeepsToTheSubPool(t *testing.T) {
	w := newWorld(t, keep(1, false))
	w.settle()
	r := w.build("a", "one")
	r.MemoryMiB = 1000
	w.step(Event{Kind: Promised, Count: 2, Request: r})
	w.settle()
	w.pass(2 * time.Second)
	w.settle()
	own := 0
	for _, in := range w.m.instances {
		if in.place.Account == "a" || in.place.Reserved == "a" {
			own++
		}
	}
	if p := w.promised(); own != 1 || p.Available != 1 || p.Err == nil {
		t.Errorf("%d instances of its own: %+v", own, p)
	}
}

// A sub-pool grows and shrinks as it is set, is filled again when its account gives an instance up, and is let go when it
// is taken back. // R35
func TestDedicatedFollowsItsSetting(t *testing.T) {
	w := newWorld(t, keep(1, false))
	w.settle()
	set := func(instances, want int) {
		t.Helper()
		s := testSettings()
		s.Shapes = []kiln.Shape{python.Shape}
		keep(instances, false)(&s)
		if instances == 0 {
			s.Dedicated = nil
		}
		w.step(Event{Kind: Changed, Settings: &s})
		w.settle()
		if kept := w.m.index.Warm(python, "a"); kept != want {
			t.Errorf("set to %d: %d are warm, want %d", instances, kept, want)
		}
	}
	set(3, 3)
	r := w.request("a", "f", 1000)
	w.settle()
	set(3, 2)
	w.end(r, false)
	w.step(Event{Kind: Asked, Instance: r.Instance, Cause: "test"})
	w.settle()
	set(3, 3)
	set(1, 1)
	set(0, 0)
	if r := w.request("a", "f", 1000); r.Err != nil {
		t.Error(r.Err)
	}
	w.settle()
}
