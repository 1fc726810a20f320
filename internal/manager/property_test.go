package manager

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/capacity"
)

// model is what an outsider knows of a manager from its actions alone: a plain second book.
type model struct {
	t          *testing.T
	seed       uint64
	r          *rand.Rand
	m          *Manager
	now        time.Time
	ids        int
	todo       []Action
	instances  map[kiln.InstanceID]*modelInstance
	containers map[kiln.ContainerID]*modelContainer
	waiting    map[kiln.RequestID]*Request
	executing  map[kiln.RequestID]*Request
	asked      int
	served     int
	failed     int // by their initialisation
	refused    int
	wake       time.Time
	calm       bool // nothing fails any more
	kept       int  // containers promised at the end
	most       int  // executions at once in one container
	pools      map[kiln.InstanceID]kiln.Pool
	given      map[kiln.InstanceID]bool  // up, by consolidation
	over       map[kiln.ContainerID]bool // told to have ended
	limit      int
}

type modelInstance struct {
	size    int
	account kiln.AccountID
}

type modelContainer struct {
	instance kiln.InstanceID
	memory   int
	requests map[kiln.RequestID]bool
	lost     bool
	promised kiln.VersionID // it was bound for a promise of this version
	paused   bool           // by the guest's own book
	resumed  uint64         // the last pause taken back
}

func newModel(t *testing.T, seed uint64) *model {
	w := &model{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1_700_000_000, 0),
		instances: map[kiln.InstanceID]*modelInstance{}, containers: map[kiln.ContainerID]*modelContainer{},
		waiting: map[kiln.RequestID]*Request{}, executing: map[kiln.RequestID]*Request{}, pools: map[kiln.InstanceID]kiln.Pool{},
		given: map[kiln.InstanceID]bool{}, over: map[kiln.ContainerID]bool{},
	}
	s := w.settings()
	w.m = New(Config{
		Settings:     s,
		NewInstance:  func() kiln.InstanceID { w.ids++; return kiln.InstanceID(fmt.Sprintf("i-%d", w.ids)) },
		NewContainer: func() kiln.ContainerID { w.ids++; return kiln.ContainerID(fmt.Sprintf("c-%d", w.ids)) },
	})
	w.step(Event{Kind: Tick})
	return w
}

func (w *model) settings() Settings {
	s := testSettings()
	s.Shapes = []kiln.Shape{{MemoryMiB: 512, CPUs: 1}, {MemoryMiB: 2048, CPUs: 2}}
	s.InstancesMax = 1 + w.r.IntN(8)
	w.limit = max(w.limit, s.InstancesMax)
	s.WaitMax = time.Duration(1+w.r.IntN(20)) * time.Second
	s.WaitingMax = 1 + w.r.IntN(30)
	s.RetentionContainer = time.Duration(1+w.r.IntN(60)) * time.Second
	s.RetentionInstance = s.RetentionContainer * 2
	s.ConsolidationUtilisation, s.ConsolidationAfter = 0.9, time.Duration(w.r.IntN(3))*time.Second
	s.Capacity = capacity.Config{Second: 3, Threshold: 0.1, Window: time.Minute, Release: 3 * time.Second, Maximum: w.r.IntN(3)}
	s.Learned, s.Worth = w.r.IntN(2) == 0, float64(w.r.IntN(4))*40
	s.PauseAfter = time.Duration(w.r.IntN(4)) * time.Second
	for range w.r.IntN(3) {
		s.Dedicated = append(s.Dedicated, Dedicated{
			Account: kiln.AccountID(fmt.Sprint("account", w.r.IntN(3))), Instances: w.r.IntN(3), SpillOver: w.r.IntN(2) == 0,
			Configuration: kiln.Configuration{Driver: "fake", Runtime: "python", Shape: s.Shapes[w.r.IntN(2)]},
		})
	}
	for _, runtime := range []string{"python", "node"} {
		s.Warming = append(s.Warming, WarmingTarget{
			kiln.Configuration{Driver: "fake", Runtime: runtime, Shape: s.Shapes[w.r.IntN(2)]},
			capacity.Bounds{Minimum: w.r.IntN(3), Maximum: w.r.IntN(6), Pinned: w.r.IntN(8) == 0, Target: w.r.IntN(3)},
		})
	}
	return s
}

func (w *model) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

func (w *model) step(e Event) {
	w.t.Helper()
	for _, a := range w.m.Step(w.now, e) {
		w.book(a)
	}
	if err := w.m.Invariants(); err != nil {
		w.fail("after event %d %s%s: %v", e.Kind, e.Instance, e.Container, err)
	}
}

// book checks one action against the second book and writes it down.
func (w *model) book(a Action) {
	w.t.Helper()
	switch a.Kind {
	case Boot:
		w.instances[a.Instance] = &modelInstance{size: a.Configuration.Shape.MemoryMiB}
		if len(w.instances) > w.limit {
			w.fail("%d instances, limit was never over %d", len(w.instances), w.limit)
		}
	case Prepare:
		w.containers[a.Container] = &modelContainer{instance: a.Instance, requests: map[kiln.RequestID]bool{}}
		if a.Fresh {
			w.give(a)
		}
	case Bind:
		w.give(a)
	case Deliver:
		w.deliver(a.Request)
	case Refuse:
		if w.waiting[a.Request.ID] == nil || a.Request.Err == nil {
			w.fail("request %s refused, which does not wait or for nothing", a.Request.ID)
		}
		delete(w.waiting, a.Request.ID)
		w.refused++
	case Wake:
		w.wake = a.At
	case Tell:
		w.told(a.Event)
	}
	switch a.Kind {
	case Boot, Prepare, Bind, Pause, DeleteContainer, DeleteInstance:
		w.todo = append(w.todo, a)
	}
}

// give checks that code comes only to its own account's instance, within its size (R30 R34).
func (w *model) give(a Action) {
	w.t.Helper()
	c, in := w.containers[a.Container], w.instances[a.Instance]
	if in.account == "" {
		w.fail("container %s bound on %s before its assignment", a.Container, a.Instance)
	}
	if in.account != a.Version.Account {
		w.fail("code of %s on instance %s of %s", a.Version.Account, a.Instance, in.account)
	}
	c.memory = a.Amounts.MemoryMiB
	if a.Provisioned {
		c.promised = a.Version.ID()
	}
	sum := 0
	for _, o := range w.containers {
		if o.instance == a.Instance {
			sum += o.memory
		}
	}
	if sum > in.size {
		w.fail("instance %s of %d MiB holds %d", a.Instance, in.size, sum)
	}
}

// deliver checks that a container executes one thing at a time, or as many as its version declares, for whom it was asked,
// and nothing more once it is lost (R43).
func (w *model) deliver(r *Request) {
	w.t.Helper()
	if w.waiting[r.ID] != r {
		w.fail("request %s delivered, which does not wait", r.ID)
	}
	delete(w.waiting, r.ID)
	c := w.containers[r.Container]
	if r.Init.Failure != nil {
		w.failed++
		return
	}
	if c == nil || c.lost || len(c.requests) >= max(r.Version.Concurrency, 1) || c.memory < r.MemoryMiB || r.Path == "" || r.Choice.Reason == "" {
		w.fail("request %s got container %s %+v by path %q", r.ID, r.Container, c, r.Path)
	}
	if w.instances[c.instance].account != r.Version.Account {
		w.fail("request of %s on instance of %s", r.Version.Account, w.instances[c.instance].account)
	}
	if r.Resume > 0 {
		c.paused, c.resumed = false, max(c.resumed, r.Resume)
	}
	if c.paused {
		w.fail("request %s got container %s, which is paused", r.ID, r.Container)
	}
	c.requests[r.ID] = true
	w.most = max(w.most, len(c.requests))
	w.executing[r.ID] = r
	w.served++
}

// told rebuilds the pools from the events and the assignment from its own (R21 R32).
func (w *model) told(e kiln.Event) {
	w.t.Helper()
	in := w.instances[e.Instance]
	switch e.Kind {
	case kiln.EventInstanceCreate:
		w.pools[e.Instance] = kiln.PoolWarming
	case kiln.EventInstanceAssign:
		if in.account != "" && in.account != e.Account || w.pools[e.Instance] != kiln.PoolWarming {
			w.fail("instance %s of %q assigned to %q from pool %q", e.Instance, in.account, e.Account, w.pools[e.Instance])
		}
		in.account = e.Account
		w.pools[e.Instance] = kiln.PoolActive
	case kiln.EventContainerTerminate, kiln.EventContainerFail:
		w.over[e.Container] = true
	case kiln.EventInstanceDrain:
		if strings.HasPrefix(e.Cause, "consolidation") {
			w.given[e.Instance] = true
		}
	case kiln.EventInstanceTerminate, kiln.EventInstanceFail:
		for _, r := range w.executing { // what gives an instance up interrupts nothing (R65)
			if r.Instance == e.Instance && w.given[e.Instance] && e.Cause == "drained" && !w.over[r.Container] {
				w.fail("instance %s ended as drained while %s executed", e.Instance, r.ID)
			}
		}
		delete(w.pools, e.Instance)
	}
}

// act answers one thing that is under way, in any order, sometimes with a failure.
func (w *model) act() {
	w.t.Helper()
	i := w.r.IntN(len(w.todo))
	a := w.todo[i]
	w.todo = append(w.todo[:i:i], w.todo[i+1:]...)
	bad := !w.calm && w.r.IntN(8) == 0
	var err error
	if bad {
		err = kiln.Errorf(kiln.KindInternal, "test", "broken")
	}
	switch a.Kind {
	case Boot:
		if bad {
			delete(w.instances, a.Instance)
		}
		w.step(Event{Kind: Booted, Instance: a.Instance, Err: err})
	case Prepare:
		if bad {
			delete(w.containers, a.Container)
		}
		w.step(Event{Kind: Prepared, Container: a.Container, Err: err})
	case Bind:
		var init kiln.InitResult
		if bad && w.r.IntN(2) == 0 {
			err, init.Failure = nil, &kiln.Failure{}
		}
		w.step(Event{Kind: Bound, Container: a.Container, Err: err, Init: init})
	case Pause:
		w.pause(a, err)
	case DeleteContainer:
		if bad {
			w.step(Event{Kind: NotDeleted, Container: a.Container, Err: err})
			return
		}
		delete(w.containers, a.Container)
		w.step(Event{Kind: Deleted, Container: a.Container})
	case DeleteInstance:
		if bad {
			w.step(Event{Kind: NotDeleted, Instance: a.Instance, Err: err})
			return
		}
		for id, c := range w.containers {
			if c.instance == a.Instance {
				delete(w.containers, id)
			}
		}
		delete(w.instances, a.Instance)
		w.step(Event{Kind: Deleted, Instance: a.Instance})
	}
}

// pause carries a pause out, late as it may be, unless it was taken back: what executes is never stopped.
func (w *model) pause(a Action, err error) {
	w.t.Helper()
	if c := w.containers[a.Container]; c != nil && a.Pauses > c.resumed {
		if len(c.requests) > 0 {
			w.fail("container %s is paused while it executes %v", a.Container, c.requests)
		}
		c.paused = true // one that could not be may be stopped in part
	}
	w.step(Event{Kind: Paused, Container: a.Container, Pauses: a.Pauses, Err: err})
}

func (w *model) request() {
	w.t.Helper()
	w.asked++
	r := w.make()
	w.waiting[r.ID] = r
	w.step(Event{Kind: Requested, Request: r})
}

func (w *model) make() *Request {
	w.ids++
	account, function := w.r.IntN(3), w.r.IntN(4)
	return &Request{
		ID: kiln.RequestID(fmt.Sprintf("r-%d", w.ids)), MemoryMiB: []int{128, 256, 500, 1024}[function],
		Driver: "fake", Runtime: []string{"python", "node"}[function%2], Fresh: function == 3 && account == 1,
		Version: &kiln.Version{
			Account: kiln.AccountID(fmt.Sprint("account", account)), Function: fmt.Sprint("f", function), Number: kiln.Latest,
			Revision: fmt.Sprint(w.ids / 400), Package: kiln.Digest(fmt.Sprint("package", function)), DiskMiB: 512,
			Concurrency: []int{0, 4, 1, 2}[function],
		},
	}
}

// end ends an execution; which, the seed says.
func (w *model) end() {
	w.t.Helper()
	r := pick(w.r, w.executing, func(r *Request) string { return string(r.ID) })
	delete(w.executing, r.ID)
	lost := !w.calm && w.r.IntN(10) == 0
	if c := w.containers[r.Container]; c != nil {
		delete(c.requests, r.ID)
		c.lost = c.lost || lost
	}
	w.step(Event{Kind: Ended, Container: r.Container, RequestID: r.ID, Lost: lost})
}

// pick takes one value by the seed, not by the map's order.
func pick[K comparable, V any](r *rand.Rand, from map[K]V, name func(V) string) V {
	var best V
	first, at := "", r.Uint64()
	for _, v := range from {
		if key := fmt.Sprintf("%016x", hash(name(v))^at); first == "" || key < first {
			first, best = key, v
		}
	}
	return best
}

func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// disturb does one thing nobody expects.
func (w *model) disturb() {
	w.t.Helper()
	containers, _ := w.m.ContainerPage(&Mark{}, nil)
	instances, _ := w.m.InstancePage(&Mark{}, nil)
	switch kind := w.r.IntN(9); {
	case kind == 8:
		r := w.make()
		w.step(Event{Kind: Promised, Request: r, Count: w.r.IntN(4)})
	case kind == 7 && len(instances) > 0:
		in := instances[w.r.IntN(len(instances))]
		w.step(Event{Kind: Detached, Instance: in.ID, Package: kiln.Digest(fmt.Sprint("package", w.r.IntN(4)))})
	case kind == 0 && len(containers) > 0:
		w.step(Event{Kind: Exited, Container: containers[w.r.IntN(len(containers))].ID, Cause: "test"})
	case kind == 1 && len(containers) > 0:
		w.step(Event{Kind: Asked, Container: containers[w.r.IntN(len(containers))].ID, Cause: "test"})
	case kind == 2 && len(instances) > 0:
		w.step(Event{Kind: Exited, Instance: instances[w.r.IntN(len(instances))].ID, Cause: "test"})
	case kind == 3 && len(instances) > 0:
		w.step(Event{Kind: Drain, Instance: instances[w.r.IntN(len(instances))].ID, Cause: "test"})
	case kind == 4:
		s := w.settings()
		w.step(Event{Kind: Changed, Settings: &s})
	case kind == 5 && len(containers) > 0:
		if c := containers[w.r.IntN(len(containers))]; c.Version != nil {
			w.step(Event{Kind: Forget, Version: c.Version.ID()})
		}
	case kind == 6 && len(w.waiting) > 0:
		r := pick(w.r, w.waiting, func(r *Request) string { return string(r.ID) })
		delete(w.waiting, r.ID)
		w.refused++
		w.step(Event{Kind: Cancelled, Request: r})
	}
}

// pass lets a little time go by.
func (w *model) pass(d time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(d)
	if !w.wake.IsZero() && !w.wake.After(w.now) {
		w.wake = time.Time{}
		w.step(Event{Kind: Tick})
	}
}

// Random requests, ends, crashes, failing boots and changing limits, in any order: never overcommitted, one account an
// instance, one pool an instance, one execution a container or as many as declared, nothing waits while there is room,
// nothing executes that is paused, everything ends, nothing is left; the warming pool is never below its target while there
// is room, and what consolidation gives up interrupts nothing (R21 R29 R30 R32 R34 R35 R37 R43 R62 R65 R66).
func TestAnyHistory(t *testing.T) {
	seeds := 400
	if testing.Short() {
		seeds = 50
	}
	most := 0
	for seed := range uint64(seeds) {
		w := newModel(t, seed)
		for range 600 {
			switch n := w.r.IntN(20); {
			case n < 6:
				w.request()
			case n < 12 && len(w.todo) > 0:
				w.act()
			case n < 16 && len(w.executing) > 0:
				w.end()
			case n == 16:
				w.disturb()
			default:
				w.pass(time.Duration(w.r.IntN(int(time.Second))))
			}
		}
		w.finish()
		most = max(most, w.most)
	}
	if most != 4 {
		t.Errorf("at most %d executions at once in one container, 4 are declared", most)
	}
}

// finish lets everything end without further failures, and stops.
func (w *model) finish() {
	w.t.Helper()
	w.calm = true
	for range 20_000 {
		switch {
		case len(w.todo) > 0:
			w.act()
		case len(w.executing) > 0:
			w.end()
		case len(w.waiting) > 0:
			w.pass(50 * time.Millisecond)
		default:
			w.promisesKept()
			w.step(Event{Kind: Stopped})
			for range 3 { // what could not be deleted is tried again
				for len(w.todo) > 0 {
					w.act()
				}
				w.pass(deleteAgainLast)
			}
			w.balance()
			return
		}
	}
	w.fail("%d requests wait, %d execute for ever", len(w.waiting), len(w.executing))
}

// promisesKept gives the manager a while in which nothing fails, and then counts the containers that were made for promises
// and are still there. Only a want of room excuses (R36).
func (w *model) promisesKept() {
	w.t.Helper()
	for range 100 {
		w.pass(time.Second)
		for n := 0; len(w.todo) > 0; n++ {
			if n > 1000 {
				w.fail("things go on without end: %+v", w.todo)
			}
			w.act()
		}
	}
	for _, p := range w.m.Promises() {
		there := 0
		for _, c := range w.containers {
			if c.promised == p.Version.ID() && c.memory >= p.MemoryMiB && !c.lost {
				there++
			}
		}
		if there < p.Requested && kiln.KindOf(p.Err) != kiln.KindThrottled && kiln.KindOf(p.Err) != kiln.KindInvalid {
			w.fail("promise %+v: %d containers are there", p, there)
		}
		w.kept += p.Requested
	}
}

func (w *model) balance() {
	w.t.Helper()
	if w.served+w.failed+w.refused != w.asked {
		w.fail("%d asked, %d served, %d failed, %d refused", w.asked, w.served, w.failed, w.refused)
	}
	if left, stuck := w.m.Left(); left+stuck > 0 || len(w.instances) > 0 || len(w.pools) > 0 || len(w.m.containers) > 0 {
		w.fail("left: %d instances, %v in pools, %d containers", len(w.instances), w.pools, len(w.m.containers))
	}
	if len(w.m.timers.heap) > 1 || w.m.blocked != 0 || w.m.waiting.count != 0 || w.m.resting.count != 0 {
		w.fail("left: %d timers, %d blocked, %d waiting, %d resting", len(w.m.timers.heap), w.m.blocked, w.m.waiting.count, w.m.resting.count)
	}
}
