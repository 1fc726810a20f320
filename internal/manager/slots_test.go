package manager

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"kiln"
)

// declared asks for a container of a function that declares three executions at once.
func (w *world) declared(account, function string) *Request {
	w.t.Helper()
	w.ids++
	r := &Request{
		ID: kiln.RequestID(fmt.Sprintf("r-%d", w.ids)), MemoryMiB: 128, Driver: "fake", Runtime: "python3.11",
		Version: &kiln.Version{
			Account: kiln.AccountID(account), Function: function, Number: kiln.Latest, Revision: "1",
			Package: kiln.Digest("package of " + function), DiskMiB: 512, Concurrency: 3,
		},
	}
	w.step(Event{Kind: Requested, Request: r})
	return r
}

// Requests at once share a container up to the number declared, those that came first as those that come later; the next
// has another, and a place that comes free is taken before a new container is. One who waited for the start has its
// initialisation, and only one. // R37 R43
func TestPlacesInOneContainer(t *testing.T) {
	w := newWorld(t, warming(1))
	w.settle()
	first, second, third, fourth := w.declared("a", "f"), w.declared("a", "f"), w.declared("a", "f"), w.declared("a", "f")
	w.settle()
	if c := first.Container; c == "" || second.Container != c || third.Container != c || fourth.Container == c || fourth.Container == "" {
		t.Fatalf("in %q %q %q %q", first.Container, second.Container, third.Container, fourth.Container)
	}
	if first.Init.Duration == 0 || second.Init.Duration != 0 || second.Path != first.Path {
		t.Errorf("initialisations %v and %v, paths %s and %s", first.Init.Duration, second.Init.Duration, first.Path, second.Path)
	}
	w.end(second, false)
	w.end(fourth, false) // idle now
	if fifth := w.declared("a", "f"); fifth.Container != first.Container || fifth.Path != kiln.PathContainer {
		t.Errorf("the place that came free was not taken: %q by %s", fifth.Container, fifth.Path)
	}
	if sixth := w.declared("a", "f"); sixth.Container != fourth.Container {
		t.Errorf("the idle container was not taken: %q", sixth.Container)
	}
}

// A container lost with one execution takes no further one and goes when the last in it has ended; so does one in an
// instance that drains, which waits for all. // R43 R44
func TestLostAndDrainingContainersWaitForAll(t *testing.T) {
	for _, drains := range []bool{false, true} {
		w := newWorld(t, warming(1))
		w.settle()
		first, second := w.declared("a", "f"), w.declared("a", "f")
		w.settle()
		if drains {
			w.step(Event{Kind: Drain, Instance: first.Instance, Cause: "test"})
		}
		w.end(first, !drains)
		deleted := func() bool {
			return slices.ContainsFunc(w.todo, func(a Action) bool { return a.Kind == DeleteContainer && a.Container == second.Container })
		}
		if deleted() {
			t.Fatal("deleted under its other execution")
		}
		third := w.declared("a", "f")
		w.settle()
		if third.Container == first.Container {
			t.Error("an execution began in what is lost or drains")
		}
		w.now = w.now.Add(time.Second)
		w.end(second, false)
		if !deleted() {
			t.Error("not deleted after its last execution")
		}
	}
}
