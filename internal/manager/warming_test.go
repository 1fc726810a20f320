package manager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/capacity"
)

var node = kiln.Configuration{Driver: "fake", Runtime: "node20", Shape: python.Shape}

// follow sets bounds by which the demand is followed.
func follow(minimum, maximum int, c capacity.Config) func(*Settings) {
	return func(s *Settings) {
		s.Capacity = c
		for _, configuration := range []kiln.Configuration{python, node} {
			s.Warming = append(s.Warming, WarmingTarget{configuration, capacity.Bounds{Minimum: minimum, Maximum: maximum}})
		}
	}
}

// newcomer has a new account ask for the first time, which takes an instance from the warming pool.
func (w *world) newcomer(runtime string) *Request {
	w.t.Helper()
	w.ids++
	r := &Request{
		ID: kiln.RequestID(fmt.Sprintf("r-%d", w.ids)), MemoryMiB: 128, Driver: "fake", Runtime: runtime,
		Version: &kiln.Version{
			Account: kiln.AccountID(fmt.Sprint("account ", w.ids)), Function: "f", Number: kiln.Latest, Revision: "1", Package: "p", DiskMiB: 512,
		},
	}
	w.step(Event{Kind: Requested, Request: r})
	return r
}

// first is a newcomer whose request is served.
func (w *world) first(runtime string) {
	w.t.Helper()
	r := w.newcomer(runtime)
	w.settle()
	w.end(r, false)
	w.settle()
}

// boots counts the instances created, by the beginning of their cause.
func (w *world) boots(cause string) (n int) {
	for _, e := range w.told(kiln.EventInstanceCreate) {
		if strings.Contains(e.Cause, cause) {
			n++
		}
	}
	return n
}

// Each instance taken adds the first number of instances while the rate of requests is below the threshold condition, and
// the second number above it; the events say which and why. // R61
func TestFirstAndSecondNumber(t *testing.T) {
	w := newWorld(t, follow(2, 30, capacity.Config{First: 1, Second: 3}))
	w.settle()
	created := len(w.told(kiln.EventInstanceCreate))
	for range 3 {
		w.first("python3.11")
	}
	if n := len(w.told(kiln.EventInstanceCreate)) - created; n != 3 || w.boots("the first number") != 3 {
		t.Errorf("below the threshold 3 takes booted %d, %d by the first number", n, w.boots("the first number"))
	}
	for range 600 { // ten a second
		w.do("busy", "f", 128)
		w.pass(60 * time.Millisecond)
	}
	created, first := len(w.told(kiln.EventInstanceCreate)), w.boots("the first number")
	for range 3 {
		w.first("python3.11")
	}
	if n := len(w.told(kiln.EventInstanceCreate)) - created; n != 9 || w.boots("the second number") != 9 || w.boots("the first number") != first {
		t.Errorf("above the threshold 3 takes booted %d, %d by the second number", n, w.boots("the second number"))
	}
	w.pass(10 * time.Minute)
	w.settle()
	created = len(w.told(kiln.EventInstanceCreate))
	w.first("python3.11")
	if n := len(w.told(kiln.EventInstanceCreate)) - created; n != 1 {
		t.Errorf("back below the threshold a take booted %d", n)
	}
}

// The mix of the warming pool follows the mix requested: first Python alone is asked for, then Node.js; the pools can be
// counted from the events alone. // R21 R64
func TestMixFollowsTheMixRequested(t *testing.T) {
	w := newWorld(t, follow(1, 20, capacity.Config{Window: 2 * time.Minute, Release: 10 * time.Second}))
	w.settle()
	for _, c := range []kiln.Configuration{python, node} {
		other := node
		if c == node {
			other = python
		}
		for range 60 { // six at once, every five seconds, for five minutes
			var burst []*Request
			for range 6 {
				burst = append(burst, w.newcomer(c.Runtime))
			}
			w.settle()
			for _, r := range burst {
				w.end(r, false)
				w.step(Event{Kind: Asked, Instance: r.Instance, Cause: "test"})
				w.step(Event{Kind: Forget, Version: r.Version.ID()})
			}
			w.settle()
			w.pass(5 * time.Second)
			w.settle()
		}
		if much, little := w.m.index.Warm(c, ""), w.m.index.Warm(other, ""); much < 5 || little != 1 {
			t.Errorf("while %s is asked for: %d of it warm, %d of the other", c.Runtime, much, little)
		}
	}
	rebuilt := map[kiln.InstanceID]bool{}
	for _, e := range w.events {
		switch e.Kind {
		case kiln.EventInstanceCreate:
			rebuilt[e.Instance] = true
		case kiln.EventInstanceAssign, kiln.EventInstanceTerminate, kiln.EventInstanceFail:
			delete(rebuilt, e.Instance)
		}
		if e.Cause == "" {
			t.Errorf("no cause: %+v", e)
		}
	}
	if there := w.m.index.Warm(python, "") + w.m.index.Warm(node, ""); len(rebuilt) != there {
		t.Errorf("by the events %d are warm, %d are", len(rebuilt), there)
	}
}

// With one boot at a time, of a second each, and 0.3 takes a second the warming pool stays small: the line of boots does
// not make a larger target, which would make a longer line. // R62
func TestBootLineDoesNotFeedItself(t *testing.T) {
	w := newWorld(t, func(s *Settings) {
		follow(1, 1000, capacity.Config{})(s)
		s.InstancesMax = 10_000
	})
	greatest := 0
	var booting time.Time
	for i := range 3600 {
		if i%10 < 3 {
			w.newcomer("python3.11")
		}
		boots := 0
		for n := len(w.todo); n > 0; n-- {
			a := w.todo[0]
			w.todo = w.todo[1:]
			if a.Kind == Boot && (boots > 0 || w.now.Sub(booting) < time.Second) {
				w.todo = append(w.todo, a)
				continue
			}
			if a.Kind == Boot {
				boots++
				booting = w.now
			}
			w.answer(a)
		}
		for _, r := range w.served {
			w.end(r, false)
			w.step(Event{Kind: Asked, Instance: r.Instance, Cause: "test"})
			w.step(Event{Kind: Forget, Version: r.Version.ID()})
		}
		w.served = nil
		w.pass(time.Second)
		for _, d := range w.m.Demands(w.now) {
			greatest = max(greatest, d.Target)
		}
	}
	if greatest > 12 {
		t.Errorf("the target reached %d at 0.3 takes a second", greatest)
	}
}
