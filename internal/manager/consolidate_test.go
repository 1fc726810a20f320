package manager

import (
	"strings"
	"testing"
	"time"

	"kiln"
)

// thin puts one execution of 256 MiB on each of n instances of 1024, and consolidates after 10 s below one half.
func thin(t *testing.T, n int, change func(*Settings)) (*world, []*Request) {
	w := newWorld(t, func(s *Settings) {
		s.ConsolidationUtilisation, s.ConsolidationAfter = 0.5, 10*time.Second
		s.RetentionContainer, s.RetentionInstance = time.Hour, 2*time.Hour
		if change != nil {
			change(s)
		}
	})
	w.settle()
	var kept, filling []*Request
	for range n {
		for i := range 4 { // four fill an instance, so that the next four get another
			r := w.request("a", "f", 256)
			w.settle()
			if i == 0 {
				kept = append(kept, r)
			} else {
				filling = append(filling, r)
			}
		}
	}
	for _, r := range filling {
		w.end(r, false)
	}
	w.settle()
	return w, kept
}

func (w *world) stateOf(id kiln.InstanceID) kiln.InstanceState {
	list, _ := w.m.InstancePage(&Mark{}, nil)
	for _, in := range list {
		if in.ID == id {
			return in.State
		}
	}
	return kiln.InstanceGone
}

func (w *world) told(kind kiln.EventKind) (events []kiln.Event) {
	for _, e := range w.events {
		if e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

// One execution on each of four instances: after the time below the threshold one instance drains while it still executes;
// new work goes to others although it has more room; its execution goes on for as long as it likes, then it ends, and the
// others are fuller than before. // R65
func TestConsolidation(t *testing.T) {
	w, kept := thin(t, 4, nil)
	w.pass(8 * time.Second)
	w.settle()
	if drains := w.told(kiln.EventInstanceDrain); len(drains) != 0 {
		t.Fatalf("drained before its time: %+v", drains)
	}
	w.pass(5 * time.Second)
	w.settle()
	drains := w.told(kiln.EventInstanceDrain)
	if len(drains) != 1 || !strings.HasPrefix(drains[0].Cause, "consolidation: utilisation of 4 ") {
		t.Fatalf("drained: %+v", drains)
	}
	chosen := drains[0].Instance
	var long *Request
	for _, r := range kept {
		if r.Instance == chosen {
			long = r
		}
	}
	if long == nil || w.stateOf(chosen) != kiln.InstanceDraining {
		t.Fatalf("%s is %s and executes %v", chosen, w.stateOf(chosen), long)
	}
	for range 8 {
		if r := w.request("a", "f", 256); true {
			w.settle()
			if r.Instance == chosen || r.Instance == "" {
				t.Errorf("new work went to %q, chosen is %s", r.Instance, chosen)
			}
			defer func() { w.end(r, false) }()
		}
	}
	w.pass(10 * time.Minute)
	w.settle()
	if w.stateOf(chosen) != kiln.InstanceDraining {
		t.Fatalf("it is %s while it executes", w.stateOf(chosen))
	}
	w.end(long, false)
	w.settle()
	if w.stateOf(chosen) != kiln.InstanceGone {
		t.Errorf("it is %s when its execution is over", w.stateOf(chosen))
	}
}

// The least used is chosen, one after the other until the others would be too full; a load above the threshold, even for a
// moment, starts the time anew; a single instance stays. // R65
func TestConsolidationChoosesAndStops(t *testing.T) {
	w, kept := thin(t, 4, nil)
	more := w.request("a", "f", 256) // beside one of the four
	w.settle()
	w.pass(2 * time.Minute)
	w.settle()
	drains := w.told(kiln.EventInstanceDrain)
	if len(drains) != 3 { // what drains executes on, and counts no more
		t.Fatalf("%d drained: %+v", len(drains), drains)
	}
	for _, d := range drains {
		if d.Instance == more.Instance {
			t.Errorf("the fullest, %s, drained", d.Instance)
		}
	}
	for _, r := range append(kept, more) {
		w.end(r, false)
	}
	w.settle()
	if w.m.Consolidated() != 3 {
		t.Errorf("%d counted", w.m.Consolidated())
	}

	w, _ = thin(t, 2, nil)
	for range 10 {
		w.pass(8 * time.Second)
		var busy []*Request
		for range 3 {
			busy = append(busy, w.request("a", "f", 256))
		}
		w.pass(2 * time.Second)
		for _, r := range busy {
			w.end(r, false)
		}
	}
	if drains := w.told(kiln.EventInstanceDrain); len(drains) != 0 {
		t.Errorf("drained between two times of load: %+v", drains)
	}

	w, _ = thin(t, 1, nil)
	w.pass(time.Hour)
	if drains := w.told(kiln.EventInstanceDrain); len(drains) != 0 {
		t.Errorf("the only one drained: %+v", drains)
	}
}

// Consolidation takes nothing that is kept for requests to come: where the others have no room it does not happen, and the
// warming pool stays as it is. // R66
func TestConsolidationKeepsTheReserve(t *testing.T) {
	w, _ := thin(t, 0, warming(2))
	var idle []*Request
	for _, o := range []struct {
		function string
		busy     int
	}{{"f", 300}, {"g", 350}} { // an instance each, full with what waits idle for its next request
		w.request("a", o.function, o.busy)
		w.settle()
		idle = append(idle, w.request("a", o.function+" idle", 600))
		w.settle()
	}
	for _, r := range idle {
		w.end(r, false)
	}
	w.pass(30 * time.Minute)
	w.settle()
	if drains := w.told(kiln.EventInstanceDrain); len(drains) != 0 {
		t.Errorf("drained though the others have no room: %+v", drains)
	}
	before := len(w.told(kiln.EventInstanceAssign))
	w.step(Event{Kind: Asked, Container: idle[1].Container})
	w.settle()
	w.pass(time.Minute)
	w.settle()
	if drains := w.told(kiln.EventInstanceDrain); len(drains) != 1 {
		t.Errorf("%d drained", len(drains))
	}
	if warm := w.m.index.Warm(python, ""); warm != 2 || len(w.told(kiln.EventInstanceAssign)) != before {
		t.Errorf("%d are warm, %d taken", warm, len(w.told(kiln.EventInstanceAssign))-before)
	}
}
