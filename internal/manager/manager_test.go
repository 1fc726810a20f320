package manager

import (
	"fmt"
	"testing"
	"time"

	"kiln"
	"kiln/internal/capacity"
)

// world carries out a manager's actions by hand: every start ends when the test says so.
type world struct {
	t       *testing.T
	m       *Manager
	now     time.Time
	todo    []Action // boots, prepares, binds, deletes not yet answered
	events  []kiln.Event
	served  []*Request
	refused []*Request
	wake    time.Time
	ids     int
}

var python = kiln.Configuration{Driver: "fake", Runtime: "python3.11", Shape: kiln.Shape{MemoryMiB: 1024, CPUs: 1}}

func newWorld(t *testing.T, change func(*Settings)) *world {
	s := testSettings()
	s.Shapes = []kiln.Shape{python.Shape, {MemoryMiB: 4096, CPUs: 4}}
	if change != nil {
		change(&s)
	}
	w := &world{t: t, now: time.Unix(1_700_000_000, 0)}
	w.m = New(Config{
		Fleet: kiln.FleetLowVolume, Node: "n", Settings: s,
		NewInstance:  func() kiln.InstanceID { w.ids++; return kiln.InstanceID(fmt.Sprintf("i-%d", w.ids)) },
		NewContainer: func() kiln.ContainerID { w.ids++; return kiln.ContainerID(fmt.Sprintf("c-%d", w.ids)) },
	})
	w.step(Event{Kind: Tick})
	return w
}

func (w *world) step(e Event) {
	w.t.Helper()
	for _, a := range w.m.Step(w.now, e) {
		switch a.Kind {
		case Tell:
			w.events = append(w.events, a.Event)
		case Deliver:
			w.served = append(w.served, a.Request)
		case Refuse:
			w.refused = append(w.refused, a.Request)
		case Wake:
			w.wake = a.At
		case Hasten:
		default:
			w.todo = append(w.todo, a)
		}
	}
	if err := w.m.Invariants(); err != nil {
		w.t.Fatalf("after event %+v: %v", e, err)
	}
}

// answer answers one action as done.
func (w *world) answer(a Action) {
	w.t.Helper()
	switch a.Kind {
	case Boot:
		w.step(Event{Kind: Booted, Instance: a.Instance, BootID: "b"})
	case Prepare:
		w.step(Event{Kind: Prepared, Container: a.Container, PID: 7})
	case Bind:
		w.step(Event{Kind: Bound, Container: a.Container, Init: kiln.InitResult{Duration: time.Millisecond}})
	case Pause:
		w.step(Event{Kind: Paused, Container: a.Container, Pauses: a.Pauses})
	case DeleteContainer:
		w.step(Event{Kind: Deleted, Container: a.Container})
	case DeleteInstance:
		w.step(Event{Kind: Deleted, Instance: a.Instance})
	}
}

// settle answers everything until nothing is left to do; each thing takes 10 ms.
func (w *world) settle() {
	w.t.Helper()
	for len(w.todo) > 0 {
		a := w.todo[0]
		w.todo = w.todo[1:]
		w.now = w.now.Add(10 * time.Millisecond)
		w.answer(a)
	}
}

// pass lets time go by, with the ticks the manager asked for.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for !w.wake.IsZero() && !w.wake.After(end) {
		if w.wake.After(w.now) {
			w.now = w.wake
		}
		w.wake = time.Time{}
		w.step(Event{Kind: Tick})
	}
	w.now = end
}

func (w *world) request(account, function string, memory int) *Request {
	w.t.Helper()
	r := w.build(account, function)
	r.MemoryMiB = memory
	w.step(Event{Kind: Requested, Request: r})
	return r
}

// build makes a request of 128 MiB.
func (w *world) build(account, function string) *Request {
	w.ids++
	return &Request{
		ID: kiln.RequestID(fmt.Sprintf("r-%d", w.ids)), MemoryMiB: 128, Driver: "fake", Runtime: "python3.11",
		Version: &kiln.Version{
			Account: kiln.AccountID(account), Function: function, Number: kiln.Latest, Revision: "1",
			Package: kiln.Digest("package of " + function), DiskMiB: 512,
		},
	}
}

func (w *world) end(r *Request, lost bool) {
	w.t.Helper()
	w.step(Event{Kind: Ended, Container: r.Container, RequestID: r.ID, Lost: lost})
}

// do requests, settles and ends.
func (w *world) do(account, function string, memory int) *Request {
	w.t.Helper()
	r := w.request(account, function, memory)
	w.settle()
	if r.Container == "" {
		w.t.Fatalf("request %s got nothing: %v", r.ID, r.Err)
	}
	w.end(r, false)
	w.settle()
	return r
}

func warming(n int) func(*Settings) {
	return func(s *Settings) { s.Warming = []WarmingTarget{{python, capacity.Bounds{Minimum: n}}} }
}

// The ladder from the top: warm instance, idle container, code cache, account's instance, a made one, each with its path
// (R23 R24 R26 R28 R29).
func TestLadder(t *testing.T) {
	w := newWorld(t, warming(1))
	w.settle()
	if !w.m.Met() {
		t.Fatal("warming target not met after everything was done")
	}
	a := w.do("a", "one", 512)
	again := w.do("a", "one", 512)
	w.step(Event{Kind: Asked, Container: a.Container, Cause: "test"})
	w.settle()
	cached := w.do("a", "one", 512)
	two := w.do("a", "two", 512)
	three := w.do("a", "three", 512)
	w.m.settings.Warming = nil
	w.step(Event{Kind: Changed, Settings: &w.m.settings})
	w.settle()
	big := w.do("a", "big", 2048)

	for _, c := range []struct {
		name     string
		r        *Request
		path     kiln.Path
		instance kiln.InstanceID
	}{
		{"first", a, kiln.PathWarmingPool, a.Instance},
		{"again", again, kiln.PathContainer, a.Instance},
		{"container deleted", cached, kiln.PathCodeCache, a.Instance},
		{"another function", two, kiln.PathAccountInstance, a.Instance},
		{"no room left", three, kiln.PathWarmingPool, three.Instance},
		{"none warm", big, kiln.PathInstantiated, big.Instance},
	} {
		if c.r.Path != c.path || c.r.Instance != c.instance {
			t.Errorf("%s: path %s on %s (%s), want %s on %s", c.name, c.r.Path, c.r.Instance, c.r.Choice.Reason, c.path, c.instance)
		}
	}
	if again.Container != a.Container || three.Instance == a.Instance {
		t.Errorf("containers %s %s, instances %s %s", a.Container, again.Container, a.Instance, three.Instance)
	}
}

// A request waits for a busy container where that is sooner than a start, and its path is container; where the busy one
// takes longer than was thought, another is started after all (R37).
func TestWaitsWhereSooner(t *testing.T) {
	w := newWorld(t, warming(1))
	w.settle()
	for range 20 { // the version is known to take 2 ms
		r := w.request("a", "one", 128)
		w.settle()
		w.now = w.now.Add(2 * time.Millisecond)
		w.end(r, false)
	}
	w.settle()
	first := w.request("a", "one", 128)
	second := w.request("a", "one", 128)
	if len(w.todo) > 0 || second.Container != "" {
		t.Fatalf("a start was made for a request that waits for 2 ms: %+v", w.todo)
	}
	w.now = w.now.Add(2 * time.Millisecond)
	w.end(first, false)
	if second.Container != first.Container || second.Path != kiln.PathContainer || second.Choice.Waited == 0 {
		t.Errorf("second on %s by %s, waited %d", second.Container, second.Path, second.Choice.Waited)
	}
	third := w.request("a", "one", 128)
	w.pass(2 * time.Second)
	w.settle()
	if third.Container == "" || third.Container == second.Container || third.Path != kiln.PathCodeCache {
		t.Errorf("third on %q by %s", third.Container, third.Path)
	}
}
