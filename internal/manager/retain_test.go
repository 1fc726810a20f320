package manager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kiln"
)

// learning keeps by what requests were like; a cold start is worth so many GB-seconds.
func learning(worth float64) func(*Settings) {
	return func(s *Settings) { s.Learned, s.Worth, s.RetentionContainer = true, worth, 0 }
}

// waits lets time go by, with everything the manager wants done as it comes.
func (w *world) waits(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(min(time.Second, end.Sub(w.now)))
		for len(w.todo) > 0 {
			a := w.todo[0]
			w.todo = w.todo[1:]
			w.answer(a)
		}
	}
}

// warm counts a function's containers.
func (w *world) warm(account, function string) int {
	n := 0
	for _, c := range w.m.containers {
		if c.state != kiln.ContainerGone && c.group != nil && c.group.function.key == (functionKey{kiln.AccountID(account), function}) {
			n++
		}
	}
	return n
}

// once requests and ends at once, and says by which path it was served.
func (w *world) once(account, function string) kiln.Path {
	w.t.Helper()
	r := w.request(account, function, 128)
	for len(w.todo) > 0 && r.Container == "" {
		w.settle()
	}
	w.end(r, false)
	return r.Path
}

// A function that is asked for every few minutes keeps its container between requests, one that was asked for once loses it,
// and the event names the volume; a fixed time would have treated both alike. R40
func TestFrequentStaysRareGoes(t *testing.T) {
	w := newWorld(t, learning(80.5))
	w.once("a", "rare")
	cold := 0
	for n := range 60 {
		if path := w.once("a", "frequent"); path != kiln.PathContainer && n > 3 {
			cold++
		}
		w.waits(3 * time.Minute)
	}
	if cold > 0 || w.warm("a", "frequent") != 1 {
		t.Errorf("%d cold starts of the frequent one, %d containers", cold, w.warm("a", "frequent"))
	}
	if n := w.warm("a", "rare"); n != 0 {
		t.Errorf("%d containers of the rare one after three hours", n)
	}
	told := ""
	for _, e := range w.events {
		if e.Kind == kiln.EventContainerTerminate && e.Function == "rare" {
			told = e.Cause
		}
	}
	if !strings.HasPrefix(told, "1 request in the last hour; ") {
		t.Errorf("the event says %q", told)
	}
	e, ok := w.m.Explain(w.now, "a", "frequent")
	if !ok || e.PerHour < 15 || e.PerHour > 25 || !strings.HasPrefix(e.Sentence, "It is kept warm now: 1 container") {
		t.Errorf("%+v", e)
	}
	if e, ok := w.m.Explain(w.now, "a", "rare"); !ok || !strings.HasPrefix(e.Sentence, "It is not kept warm now; there were 0 requests") {
		t.Errorf("%+v", e)
	}
	if _, ok := w.m.Explain(w.now, "b", "rare"); ok {
		t.Error("another account's function is known")
	}
}

// What is asked for every half hour is loaded shortly before, by no request, as events say, and let go after; its requests
// find it idle. R40 R63
func TestPeriodicIsPrepared(t *testing.T) {
	w := newWorld(t, learning(80.5))
	cold, held := 0, time.Duration(0)
	for n := range 60 {
		if path := w.once("a", "periodic"); path != kiln.PathContainer && n >= 30 {
			cold++
		}
		for range 30 {
			w.waits(time.Minute)
			if n >= 30 {
				held += time.Duration(w.warm("a", "periodic")) * time.Minute
			}
		}
	}
	if cold > 3 {
		t.Errorf("%d of 30 requests waited for a start", cold)
	}
	if most := 30 * 10 * time.Minute; held > most { // of 15 hours
		t.Errorf("it was loaded for %s of 15 h", held)
	}
	loaded := 0
	for _, e := range w.events {
		if e.Kind == kiln.EventContainerCreate && e.Cause == causesContainer[forLoad] && e.RequestID == "" ||
			e.Kind == kiln.EventInstanceAssign && e.Cause == causesAssign[forLoad] {
			loaded++
		}
	}
	if loaded == 0 {
		t.Error("no event tells of a start that no request asked for")
	}
}

// Of the containers of a burst those beyond what the function needs now go soon; what it needs stays. R40
func TestSurplusGoes(t *testing.T) {
	w := newWorld(t, learning(80.5))
	var all []*Request
	for range 6 {
		all = append(all, w.request("a", "one", 128))
		w.pass(time.Second) // in which no execution ends
		w.settle()
	}
	w.waits(time.Second)
	for _, r := range all {
		if r.Container == "" {
			t.Fatalf("request %s waits", r.ID)
		}
		w.end(r, false)
	}
	for range 30 {
		w.once("a", "one")
		w.waits(time.Minute)
	}
	if n := w.warm("a", "one"); n != 1 {
		t.Errorf("%d containers half an hour after the burst, 1 is needed", n)
	}
}

// A function that was cold too often for a policy that would not keep it is kept all the same, but one container of it.
func TestOneIsKeptWhateverItCosts(t *testing.T) {
	w := newWorld(t, learning(0.5))
	for range 8 {
		w.once("a", "one")
		w.waits(5 * time.Minute)
	}
	var all []*Request
	for range 4 {
		all = append(all, w.request("a", "one", 128))
		w.pass(time.Second) // in which no execution ends
		w.settle()
	}
	for _, r := range all {
		w.end(r, false)
	}
	w.waits(4 * time.Minute)
	if n := w.warm("a", "one"); n != 1 {
		t.Errorf("%d containers are kept", n)
	}
}

// An idle container is kept no longer than retention.container by the policy learned, and just as long by fixed. R41
func TestRetentionIsBounded(t *testing.T) {
	for _, learned := range []bool{false, true} {
		w := newWorld(t, func(s *Settings) { s.Learned, s.Worth, s.RetentionContainer = learned, 1e6, 5*time.Minute })
		w.once("a", "one")
		w.waits(5*time.Minute - 2*time.Second)
		if n := w.warm("a", "one"); n != 1 {
			t.Errorf("learned %v: %d containers before its time", learned, n)
		}
		w.waits(4 * time.Second)
		if n := w.warm("a", "one"); n != 0 {
			t.Errorf("learned %v: %d containers after its time", learned, n)
		}
	}
}

// The instance keeps the code for a while after the container, then goes too (R41).
func TestLayersGoOneByOne(t *testing.T) {
	w := newWorld(t, learning(1))
	w.once("a", "one")
	var gone [3]time.Duration // container, spare, instance
	began := w.now
	for range 60 * 60 {
		w.waits(time.Second)
		at := w.now.Sub(began)
		spares := 0
		for _, c := range w.m.containers {
			if c.group == nil {
				spares++
			}
		}
		for i, there := range []bool{w.warm("a", "one") > 0, spares > 0, len(w.m.instances) > 0} {
			if !there && gone[i] == 0 {
				gone[i] = at
			}
		}
	}
	if gone[0] == 0 || gone[0] > 3*time.Minute || gone[1] <= gone[0] || gone[2] <= gone[1] {
		t.Errorf("container, prepared runtime and instance went after %v", gone)
	}
}

// What was asked for before the manager was made counts, and is loaded when it is due as if it had been asked since.
func TestRecalled(t *testing.T) {
	w := newWorld(t, learning(80.5))
	for n := range 40 {
		r := w.build("a", "periodic")
		w.step(Event{Kind: Recalled, Request: r, At: w.now.Add(time.Duration(n-40) * 30 * time.Minute)})
	}
	w.waits(3 * time.Minute) // the next would have come at once
	cold := 0
	w.waits(27*time.Minute - time.Second)
	for range 4 {
		if w.once("a", "periodic") != kiln.PathContainer {
			cold++
		}
		w.waits(30 * time.Minute)
	}
	if cold > 1 {
		t.Errorf("%d of 4 requests waited for a start", cold)
	}
}

// A periodic function that was not looked at because the manager was halted is loaded ahead again once it goes on. // R63
func TestResumedLoadsAhead(t *testing.T) {
	w := newWorld(t, learning(80.5))
	for n := range 40 {
		r := w.build("a", "periodic")
		w.step(Event{Kind: Recalled, Request: r, At: w.now.Add(time.Duration(n-40)*30*time.Minute + 20*time.Minute)})
	}
	w.step(Event{Kind: Halted, Cause: "stopped"})
	w.waits(10 * time.Minute) // nothing is planned meanwhile
	w.step(Event{Kind: Resumed})
	w.waits(10*time.Minute + 30*time.Second)
	if w.warm("a", "periodic") == 0 {
		t.Error("nothing is loaded in the minute in which a request is due")
	}
}

// So many functions are remembered and no more: those called last.
func TestFunctionsAreBounded(t *testing.T) {
	w := newWorld(t, learning(1))
	for n := range functionsMax + 100 {
		w.m.functionOf(functionKey{"a", fmt.Sprint(n)})
	}
	if len(w.m.functions) != functionsMax || w.m.known.count != functionsMax {
		t.Errorf("%d functions, %d in order", len(w.m.functions), w.m.known.count)
	}
	if w.m.functions[functionKey{"a", "99"}] != nil || w.m.functions[functionKey{"a", "100"}] == nil {
		t.Error("others than the oldest were forgotten")
	}
}
