package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"kiln"
)

const (
	// yieldMax is the longest a start that nobody waits for stands back for starts that requests wait for.
	yieldMax = 300 * time.Millisecond
	// calmAfter is how long nothing urgent must have been under way before it begins. First hits come in bursts, with moments
	// between them; a start made in such a moment takes a processor for tens of milliseconds from the next of them.
	calmAfter = 25 * time.Millisecond
)

// gate bounds the starts running at once. Urgent ones go first; the others run only when nothing urgent has been under way
// for calmAfter, or after yieldMax, and then one at a time.
type gate struct {
	mu       sync.Mutex
	slots    int             // guarded by mu: starts that may still begin
	urgent   int             // guarded by mu: urgent work running, binds included
	ordinary int             // guarded by mu: ordinary starts running
	last     time.Time       // guarded by mu: when urgent work ended last; zero before the first
	waiting  [2][]*admission // guarded by mu: urgent, ordinary; first come first served
}

// admission is one start standing at the gate.
type admission struct {
	id     string // of the instance or container started
	open   chan struct{}
	urgent bool // guarded by gate.mu until open
	pushed bool // guarded by gate.mu: stood back long enough
}

func newGate(slots int) *gate { return &gate{slots: slots} }

// enter waits for a slot and gives what gives it back. The error is KindUnavailable when ctx ends first.
func (g *gate) enter(ctx context.Context, id string, urgent bool) (leave func(), err error) {
	a := &admission{id: id, open: make(chan struct{}), urgent: urgent}
	g.mu.Lock()
	g.waiting[line(urgent)] = append(g.waiting[line(urgent)], a)
	g.admit()
	g.mu.Unlock()
	begun := time.Now()
	again := time.NewTicker(calmAfter)
	defer again.Stop()
	for {
		select {
		case <-a.open:
			return func() { g.leave(a.urgent) }, nil
		case <-again.C:
			g.mu.Lock()
			a.pushed = time.Since(begun) >= yieldMax
			g.admit()
			g.mu.Unlock()
		case <-ctx.Done():
			g.abandon(a)
			return nil, kiln.Wrap(kiln.KindUnavailable, "node: wait for a start", "Stopped before it began.", context.Cause(ctx))
		}
	}
}

// line is the index in waiting.
func line(urgent bool) int {
	if urgent {
		return 0
	}
	return 1
}

// hasten makes a waiting start urgent, because a request waits for it now.
func (g *gate) hasten(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, a := range g.waiting[1] {
		if a.id == id {
			g.waiting[1] = slices.Delete(g.waiting[1], i, i+1)
			a.urgent = true
			g.waiting[0] = append(g.waiting[0], a)
			g.admit()
			return
		}
	}
}

// leave gives the slot back.
func (g *gate) leave(urgent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slots++
	if urgent {
		g.ended()
	} else {
		g.ordinary--
	}
	g.admit()
}

// begin and end enclose urgent work that needs no slot of its own: binding.
func (g *gate) begin() {
	g.mu.Lock()
	g.urgent++
	g.mu.Unlock()
}

func (g *gate) end() {
	g.mu.Lock()
	g.ended()
	g.admit()
	g.mu.Unlock()
}

// ended notes the end of urgent work. Called with mu held.
func (g *gate) ended() {
	g.urgent--
	g.last = time.Now()
}

// admit lets in whoever may. Called with mu held.
func (g *gate) admit() {
	for g.slots > 0 && len(g.waiting[0]) > 0 {
		g.urgent++
		g.let(0)
	}
	for g.slots > 0 && len(g.waiting[1]) > 0 {
		free := g.urgent == 0 && (g.last.IsZero() || time.Since(g.last) >= calmAfter) && g.ordinary < (g.slots+g.ordinary+1)/2
		if !free && !(g.waiting[1][0].pushed && g.ordinary == 0) {
			return
		}
		g.ordinary++
		g.let(1)
	}
}

func (g *gate) let(line int) {
	g.slots--
	close(g.waiting[line][0].open)
	g.waiting[line] = g.waiting[line][1:]
}

// abandon takes a out of its line, or gives its slot back when it was let in meanwhile.
func (g *gate) abandon(a *admission) {
	g.mu.Lock()
	w := &g.waiting[line(a.urgent)]
	i := slices.Index(*w, a)
	if i >= 0 {
		*w = slices.Delete(*w, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 {
		g.leave(a.urgent)
	}
}
