package manager

import (
	"testing"
	"time"

	"kiln"
)

// promise asks for provisioned containers of a function of 128 MiB.
func (w *world) promise(account, function string, count int) {
	w.t.Helper()
	w.step(Event{Kind: Promised, Count: count, Request: w.build(account, function)})
}

// promised is how the one promise there is stands.
func (w *world) promised() PromiseView {
	w.t.Helper()
	if list := w.m.Promises(); len(list) == 1 {
		return list[0]
	}
	return PromiseView{}
}

// Promised containers are there before any request, serve first and by the path of an idle container, outlive retention, and
// what comes beyond them takes the ladder as ever, is counted apart and let go. R36 R41
func TestPromise(t *testing.T) {
	w := newWorld(t, nil)
	w.promise("a", "one", 2)
	if p := w.promised(); p.Allocated != 2 || p.Available != 0 {
		t.Errorf("at once: %+v", p)
	}
	w.settle()
	if p := w.promised(); p.Allocated != 2 || p.Available != 2 || p.Idle != 2 || p.Err != nil {
		t.Errorf("made: %+v", p)
	}
	var all []*Request
	for range 3 {
		all = append(all, w.request("a", "one", 128))
		w.pass(time.Second) // in which no execution ends
		w.settle()
	}
	for i, r := range all {
		if want := i < 2; r.Container == "" || r.Provisioned != want || want != (r.Path == kiln.PathContainer) {
			t.Errorf("request %d: container %q by %s, provisioned %v", i, r.Container, r.Path, r.Provisioned)
		}
	}
	for _, r := range all {
		w.end(r, false)
	}
	w.pass(24 * time.Hour)
	w.settle()
	if p := w.promised(); p.Available != 2 || p.Served != 2 || p.Spilled != 1 {
		t.Errorf("a day later: %+v", p)
	}
	if s := w.state(all[2].Container); s != kiln.ContainerGone {
		t.Errorf("the one beyond the promise is %s", s)
	}
}

// Whatever ends a promised container, another takes its place at once; a smaller promise lets go, none lets all go.
func TestPromiseIsKept(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world, r *Request)
	}{
		{"ended by itself", func(w *world, r *Request) { w.step(Event{Kind: Exited, Container: r.Container, Cause: "test"}) }},
		{"asked", func(w *world, r *Request) { w.step(Event{Kind: Asked, Container: r.Container, Cause: "test"}) }},
		{"instance ended", func(w *world, r *Request) { w.step(Event{Kind: Exited, Instance: r.Instance, Cause: "test"}) }},
		{"drained", func(w *world, r *Request) { w.step(Event{Kind: Drain, Instance: r.Instance, Cause: "test"}) }},
		{"lost with an execution", func(w *world, _ *Request) { w.end(w.request("a", "one", 128), true) }},
		{"room needed", func(w *world, _ *Request) { w.request("a", "two", 1024) }},
		{"others' room needed", func(w *world, _ *Request) { w.request("b", "two", 1024) }},
	} {
		w := newWorld(t, func(s *Settings) { s.InstancesMax = 2; s.Shapes = s.Shapes[:1] })
		w.promise("a", "one", 3)
		w.settle()
		r := w.do("a", "one", 128)
		c.do(w, r)
		if p := w.promised(); p.Allocated != 3 {
			t.Errorf("%s: %+v", c.name, p)
		}
		w.settle()
		w.pass(time.Second)
		w.settle()
		if p := w.promised(); p.Available != 3 {
			t.Errorf("%s: %+v", c.name, p)
		}
		w.promise("a", "one", 1)
		w.pass(15 * time.Minute)
		w.settle()
		if p := w.promised(); p.Available != 1 || p.Allocated != 1 {
			t.Errorf("%s, promised one: %+v", c.name, p)
		}
		w.promise("a", "one", 0)
		w.pass(time.Hour)
		w.settle()
		for _, c := range w.m.containers {
			if c.group != nil && c.group.version.Function == "one" && c.state != kiln.ContainerGone {
				t.Errorf("container %s is still %s", c.place.ID, c.state)
			}
		}
	}
}

// A promise that finds no room says so and is kept as soon as there is some; one whose starts fail says why and is tried
// again, ever more seldom.
func TestPromiseWaits(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.InstancesMax = 1; s.Shapes = s.Shapes[:1] })
	w.request("b", "other", 1024)
	w.settle()
	w.promise("a", "one", 2)
	w.pass(time.Second)
	w.settle()
	if p := w.promised(); p.Allocated != 0 || kiln.KindOf(p.Err) != kiln.KindThrottled {
		t.Errorf("without room: %+v", p)
	}
	w.m.settings.InstancesMax = 2
	w.step(Event{Kind: Changed, Settings: &w.m.settings})
	w.pass(time.Second)
	w.settle()
	if p := w.promised(); p.Available != 2 || p.Err != nil {
		t.Errorf("with room: %+v", p)
	}

	w = newWorld(t, nil)
	w.promise("a", "one", 1)
	tried := 0
	for range 600 {
		w.pass(time.Second)
		for len(w.todo) > 0 {
			a := w.todo[0]
			w.todo = w.todo[1:]
			if a.Kind == Bind {
				tried++
				w.step(Event{Kind: Bound, Container: a.Container, Init: kiln.InitResult{Failure: &kiln.Failure{Type: "Runtime.ExitError"}}})
				continue
			}
			w.answer(a)
		}
	}
	if p := w.promised(); p.Available != 0 || p.Err == nil || tried < 8 || tried > 20 {
		t.Errorf("%d starts in ten minutes: %+v", tried, p)
	}
}
