package manager

import (
	"testing"
	"time"

	"kiln"
)

func pausing(s *Settings) { s.PauseAfter = 5 * time.Second }

func (w *world) state(id kiln.ContainerID) kiln.ContainerState {
	if c := w.m.containers[id]; c != nil {
		return c.state
	}
	return kiln.ContainerGone
}

// A container is paused once it was idle for long enough, serves the next request as an idle one does and is told to run on
// for it, and is let go by retention as if it had never been paused. R23 R41
func TestPausedContainerServes(t *testing.T) {
	w := newWorld(t, pausing)
	first := w.do("a", "one", 128)
	w.pass(4 * time.Second)
	if again := w.do("a", "one", 128); again.Resume != 0 || again.Container != first.Container {
		t.Errorf("before the pause: resume %d of %s", again.Resume, again.Container)
	}
	w.pass(4 * time.Second)
	if s := w.state(first.Container); s != kiln.ContainerIdle {
		t.Errorf("%s though it was used 4 s ago", s)
	}
	for n := uint64(1); n <= 2; n++ {
		w.pass(2 * time.Second)
		w.settle()
		if s := w.state(first.Container); s != kiln.ContainerPaused {
			t.Errorf("%s after 6 s", s)
		}
		r := w.request("a", "one", 128)
		if r.Container != first.Container || r.Resume != n || r.Path != kiln.PathContainer {
			t.Errorf("got %s by %s, resuming %d, want %s resuming %d", r.Container, r.Path, r.Resume, first.Container, n)
		}
		w.end(r, false)
		w.pass(4 * time.Second)
	}
	w.pass(10 * time.Minute)
	w.settle()
	if s := w.state(first.Container); s != kiln.ContainerGone {
		t.Errorf("%s after its retention", s)
	}
}

// A pause that has not begun when a request comes is taken back by that request, and its late word changes nothing; one
// that failed leaves the container idle, and is taken back as well.
func TestPauseComesLate(t *testing.T) {
	w := newWorld(t, pausing)
	first := w.do("a", "one", 128)
	w.pass(6 * time.Second)
	if len(w.todo) != 1 || w.todo[0].Kind != Pause {
		t.Fatalf("to do: %+v", w.todo)
	}
	r := w.request("a", "one", 128)
	if r.Container != first.Container || r.Resume != w.todo[0].Pauses {
		t.Fatalf("got %s, resuming %d", r.Container, r.Resume)
	}
	w.settle()
	if s := w.state(r.Container); s != kiln.ContainerBusy {
		t.Errorf("%s by a late pause", s)
	}
	w.end(r, false)
	w.pass(6 * time.Second)
	failed := w.todo[0]
	w.todo = nil
	w.step(Event{Kind: Paused, Container: failed.Container, Pauses: failed.Pauses, Err: kiln.Errorf(kiln.KindInternal, "test", "broken")})
	w.pass(time.Minute)
	if s := w.state(r.Container); s != kiln.ContainerIdle || len(w.todo) > 0 {
		t.Errorf("%s after a pause that failed, to do %+v", s, w.todo)
	}
	if r := w.request("a", "one", 128); r.Resume != failed.Pauses {
		t.Errorf("resuming %d, want the failed pause %d", r.Resume, failed.Pauses)
	}
}

// A paused container that ends, whose room is needed or whose instance drains goes as an idle one does.
func TestPausedContainerGoes(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world, r *Request)
	}{
		{"ended by itself", func(w *world, r *Request) { w.step(Event{Kind: Exited, Container: r.Container, Cause: "test"}) }},
		{"asked", func(w *world, r *Request) { w.step(Event{Kind: Asked, Container: r.Container, Cause: "test"}) }},
		{"drained", func(w *world, r *Request) { w.step(Event{Kind: Drain, Instance: r.Instance, Cause: "test"}) }},
		{"forgotten", func(w *world, r *Request) { w.step(Event{Kind: Forget, Version: r.Version.ID()}) }},
		{"room needed", func(w *world, r *Request) { w.request("a", "two", 1024) }},
	} {
		w := newWorld(t, func(s *Settings) { pausing(s); s.InstancesMax = 1; s.Shapes = s.Shapes[:1] })
		r := w.do("a", "one", 512)
		w.pass(6 * time.Second)
		w.settle()
		if s := w.state(r.Container); s != kiln.ContainerPaused {
			t.Fatalf("%s: %s", c.name, s)
		}
		c.do(w, r)
		w.settle()
		if s := w.state(r.Container); s != kiln.ContainerGone {
			t.Errorf("%s: still %s", c.name, s)
		}
	}
}

// With pause.after 0 nothing is ever paused.
func TestNeverPaused(t *testing.T) {
	w := newWorld(t, nil)
	r := w.do("a", "one", 128)
	w.pass(5 * time.Minute)
	if s := w.state(r.Container); s != kiln.ContainerIdle || len(w.todo) > 0 {
		t.Errorf("%s, to do %+v", s, w.todo)
	}
}
