package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"kiln"
	"kiln/internal/manager"
)

// world is the virtual time in which a manager lives: what is under way, and what of instances and containers is really
// there. It answers the manager's actions as a node would.
type world struct {
	clock    time.Duration // since the beginning
	events   agenda
	chance   *rand.Rand
	faults   Faults
	manager  *manager.Manager
	settings manager.Settings
	wake     time.Duration // when the manager asked for a Tick; never when it did not

	ids        int
	instances  map[kiln.InstanceID]*machine
	containers map[kiln.ContainerID]*box
	// machinesInOrder are the instances in the order they were made, with gaps where they are gone.
	lined []*machine

	meter *meter
	// watch, when set, is told of what happens; it may not step the manager.
	watch watcher
	// seen, when set, is shown every request.
	seen func(*call)
	// heard, when set, is told of the manager's events.
	heard func(*kiln.Event)
	// failed is the first thing that broke.
	failed error
}

// watcher looks on: at containers becoming idle and ending, at requests answered.
type watcher interface {
	idled(b *box)
	ended(b *box)
	served(c *call)
}

// machine is an instance as it is.
type machine struct {
	id      kiln.InstanceID
	account kiln.AccountID
	size    int
	up      bool
	given   int // MiB of its containers
	boxes   []*box
	gone    bool
}

// box is a container as it is.
type box struct {
	id      kiln.ContainerID
	in      *machine
	owner   *function // nil while prepared for nobody
	mib     int       // as idle memory counts it
	given   int       // of its instance, by its amounts
	state   boxState
	since   time.Duration
	running []*call // its executions, at most as many as its version declares
	calls   int
	gone    bool

	paused  bool
	resumed uint64 // the last pause that was taken back

	priority float64 // for greedy-dual
	listed   bool
	leaving  bool // it is being let go
}

type boxState uint8

const (
	boxStarting boxState = iota // for a request that waits
	boxIdle                     // or prepared, or started for nobody yet
	boxBusy
)

// call is one request under way.
type call struct {
	request manager.Request
	of      *function
	at      time.Duration
	takes   time.Duration
	ahead   bool // no request: the container is loaded ahead
	outcome outcome
}

type outcome uint8

const (
	outcomePending outcome = iota
	outcomeExecuting
	outcomeDone
	outcomeLost // its container or instance ended
	outcomeRefused
	outcomeFailed // its initialisation
	outcomeCancelled
	outcomes // how many there are
)

func (o outcome) String() string {
	return [outcomes]string{"pending", "executing", "done", "lost", "refused", "failed", "cancelled"}[o]
}

// epoch is when the virtual time begins: midnight UTC of a day, so that minutes of the hour are what they are.
func epoch() time.Time { return time.Unix(1_700_006_400, 0).UTC() }

func newWorld(seed uint64, config manager.Config, faults Faults) *world {
	w := &world{
		chance: rand.New(rand.NewPCG(seed, 0x776f726c64)), faults: faults, wake: never, settings: config.Settings,
		instances: make(map[kiln.InstanceID]*machine), containers: make(map[kiln.ContainerID]*box),
		meter: newMeter(),
	}
	config.Fleet, config.Node = kiln.FleetLowVolume, "simulated"
	config.NewInstance = func() kiln.InstanceID { w.ids++; return kiln.InstanceID("i" + strconv.Itoa(w.ids)) }
	config.NewContainer = func() kiln.ContainerID { w.ids++; return kiln.ContainerID("c" + strconv.Itoa(w.ids)) }
	w.manager = manager.New(config)
	return w
}

func (w *world) now() time.Time { return epoch().Add(w.clock) }

// run lets the time pass until a moment, and everything in it happen.
func (w *world) run(until time.Duration) {
	for w.failed == nil {
		at := w.events.at()
		if w.wake < at || w.wake == at && at != never {
			if w.wake > until {
				break
			}
			w.advance(w.wake)
			w.wake = never
			w.step(manager.Event{Kind: manager.Tick})
			continue
		}
		if at > until || at == never {
			break
		}
		e := w.events.pop()
		w.advance(e.at)
		w.happen(&e)
	}
	w.advance(until)
}

func (w *world) advance(to time.Duration) {
	if to > w.clock {
		w.clock = to
	}
}

// happen lets one thing happen.
func (w *world) happen(e *happening) {
	switch e.kind {
	case happensCall:
		w.call(e.call)
	case happensEnd:
		w.end(e.call, w.faults.hits(w, w.faults.Crash))
	case happensEvent:
		w.land(e.event)
	case happensDo:
		e.do()
	}
}

// land tells the manager the end of something it had begun, unless its instance is gone meanwhile.
func (w *world) land(e manager.Event) {
	switch e.Kind {
	case manager.Booted:
		if in := w.instances[e.Instance]; in != nil && e.Err == nil {
			in.up = true
		}
	case manager.Deleted:
		w.forget(e)
	}
	w.step(e)
	if e.Kind != manager.Bound {
		return
	}
	if b := w.containers[e.Container]; b != nil && b.state == boxStarting && !b.gone { // nobody waited for it any more
		w.settle(b, boxIdle)
		w.idled(b)
	}
}

// boxes gives a function's containers.
func (w *world) boxes(f *function) []*box {
	var out []*box
	for _, in := range w.lined {
		if in.account != f.version.Account {
			continue
		}
		for _, b := range in.boxes {
			if b.owner == f {
				out = append(out, b)
			}
		}
	}
	return out
}

func (w *world) idled(b *box) {
	if w.watch != nil {
		w.watch.idled(b)
	}
}

// forget takes out what is deleted.
func (w *world) forget(e manager.Event) {
	if e.Container != "" {
		if b := w.containers[e.Container]; b != nil {
			w.bury(b)
			b.in.given -= b.given
			b.in.boxes = slices.DeleteFunc(b.in.boxes, func(o *box) bool { return o == b })
			delete(w.containers, e.Container)
		}
		return
	}
	if in := w.instances[e.Instance]; in != nil {
		in.gone = true
		delete(w.instances, e.Instance)
	}
}

// call makes a request.
func (w *world) call(c *call) {
	c.at = w.clock
	if w.seen != nil {
		w.seen(c)
	}
	f := c.of
	c.request = manager.Request{
		ID: kiln.RequestID("r" + strconv.Itoa(w.meter.number())), Version: f.version, MemoryMiB: f.mib,
		Driver: simDriver, Runtime: f.runtime, Holder: c,
	}
	w.step(manager.Event{Kind: manager.Requested, Request: &c.request})
}

// end ends an execution. The container may be lost with it.
func (w *world) end(c *call, lost bool) {
	if c.outcome != outcomeExecuting {
		return
	}
	b := w.containers[c.request.Container]
	if b == nil || !slices.Contains(b.running, c) {
		w.fail("the execution %s ends in container %s, which does not execute it", c.request.ID, c.request.Container)
		return
	}
	c.outcome = outcomeDone
	if lost {
		c.outcome = outcomeLost
	}
	b.running = slices.DeleteFunc(b.running, func(o *call) bool { return o == c })
	if len(b.running) == 0 {
		w.settle(b, boxIdle)
	}
	w.meter.ended(c)
	unused := c.ahead
	w.step(manager.Event{Kind: manager.Ended, Container: b.id, RequestID: c.request.ID, Lost: lost, Unused: unused})
	if !b.gone && b.state == boxIdle {
		w.idled(b)
	}
}

// settle puts a container into a state, for the meter.
func (w *world) settle(b *box, s boxState) {
	w.meter.pass(w.clock)
	if b.state == boxIdle {
		w.meter.idleMiB -= b.mib
		w.meter.rested(b, w.clock)
	}
	b.state, b.since = s, w.clock
	if s == boxIdle {
		w.meter.idleMiB += b.mib
	}
}

// bury counts a container no more.
func (w *world) bury(b *box) {
	if b.gone {
		return
	}
	w.settle(b, boxStarting)
	if b.gone = true; b.owner != nil {
		w.meter.loadedMiB -= b.mib
	}
	if w.watch != nil {
		w.watch.ended(b)
	}
}

// step feeds the manager and carries out what it decides.
func (w *world) step(e manager.Event) {
	if w.failed != nil {
		return
	}
	w.meter.steps++
	for _, a := range w.manager.Step(w.now(), e) {
		w.carry(&a)
	}
	if w.faults.check != nil {
		if err := w.faults.check(); err != nil {
			w.fail("after event %d of %s%s at %s: %w", e.Kind, e.Instance, e.Container, w.clock, err)
		}
	}
}

func (w *world) fail(format string, args ...any) {
	if w.failed == nil {
		w.failed = fmt.Errorf(format, args...)
	}
}

// carry begins one action; what comes of it is an event later on.
func (w *world) carry(a *manager.Action) {
	switch a.Kind {
	case manager.Boot:
		w.boot(a)
	case manager.Prepare:
		w.prepare(a)
	case manager.Bind:
		w.bind(a)
	case manager.DeleteContainer:
		w.deleteContainer(a.Container)
	case manager.DeleteInstance:
		w.deleteInstance(a.Instance)
	case manager.Deliver:
		w.deliver(a.Request)
	case manager.Refuse:
		w.refuse(a.Request)
	case manager.Wake:
		w.wake = min(w.wake, max(a.At.Sub(epoch()), w.clock))
	case manager.Tell:
		w.told(&a.Event)
	case manager.Pause:
		w.pause(a)
	case manager.Hasten:
	default:
		w.fail("the simulator does not know action %d", a.Kind)
	}
}

// after has the manager told of something in a while.
func (w *world) after(d time.Duration, e manager.Event) {
	w.events.push(happening{at: w.clock + d, kind: happensEvent, event: e})
}

func (w *world) boot(a *manager.Action) {
	in := &machine{id: a.Instance, size: a.Configuration.Shape.MemoryMiB}
	w.instances[a.Instance] = in
	w.lined = append(w.lined, in)
	w.meter.boots++
	err := w.faults.strikes(w, w.faults.Boot, "the instance did not boot")
	w.after(w.takes(startBoot), manager.Event{Kind: manager.Booted, Instance: a.Instance, BootID: string(a.Instance), Err: err})
}

func (w *world) prepare(a *manager.Action) {
	in := w.instances[a.Instance]
	if in == nil {
		w.fail("a container is prepared in instance %s, which is gone", a.Instance)
		return
	}
	b := &box{id: a.Container, in: in, mib: preparedMiB, state: boxStarting}
	w.containers[a.Container] = b
	in.boxes = append(in.boxes, b)
	w.settle(b, boxIdle)
	err := w.faults.strikes(w, w.faults.Prepare, "the container was not prepared")
	w.after(w.takes(startPrepare), manager.Event{Kind: manager.Prepared, Container: a.Container, Err: err})
}

func (w *world) bind(a *manager.Action) {
	b := w.containers[a.Container]
	if b == nil || b.in.account != a.Version.Account {
		w.fail("code of account %s is bound in container %s of instance %s, which is not the account's", a.Version.Account, a.Container, a.Instance)
		return
	}
	w.settle(b, boxStarting)
	b.owner = w.meter.functions[a.Version.Function]
	b.mib, b.given = b.owner.countedMiB, a.Amounts.MemoryMiB
	w.meter.loadedMiB += b.mib
	if b.in.given += b.given; b.in.given > b.in.size {
		w.fail("instance %s of %d MiB holds %d", b.in.id, b.in.size, b.in.given)
		return
	}
	err := w.faults.strikes(w, w.faults.Bind, "the container was not bound")
	var init kiln.InitResult
	if err == nil && w.faults.hits(w, w.faults.Init) {
		init.Failure = &kiln.Failure{}
	}
	w.after(w.takes(startBind)+w.faults.slow(w), manager.Event{Kind: manager.Bound, Container: a.Container, Err: err, Init: init})
}

// deleteContainer ends a container's work at once and its memory shortly after.
func (w *world) deleteContainer(id kiln.ContainerID) {
	b := w.containers[id]
	if b == nil {
		w.after(0, manager.Event{Kind: manager.Deleted, Container: id})
		return
	}
	w.kill(b)
	if w.faults.hits(w, w.faults.Delete) {
		w.after(startDelete, manager.Event{Kind: manager.NotDeleted, Container: id, Err: kiln.Errorf(kiln.KindInternal, "sim: delete", "Processes are left.")})
		return
	}
	w.after(startDelete, manager.Event{Kind: manager.Deleted, Container: id})
}

// kill ends what a container executes.
func (w *world) kill(b *box) {
	for _, c := range b.running {
		c.outcome = outcomeLost
		w.meter.ended(c)
	}
	b.running = nil
	w.bury(b)
}

func (w *world) deleteInstance(id kiln.InstanceID) {
	in := w.instances[id]
	if in == nil { // it never came up
		w.after(0, manager.Event{Kind: manager.Deleted, Instance: id})
		return
	}
	w.clear(in)
	if w.faults.hits(w, w.faults.Delete) {
		w.after(startDelete, manager.Event{Kind: manager.NotDeleted, Instance: id, Err: kiln.Errorf(kiln.KindInternal, "sim: delete", "Processes are left.")})
		return
	}
	w.after(startDelete, manager.Event{Kind: manager.Deleted, Instance: id})
}

// clear ends all containers of an instance.
func (w *world) clear(in *machine) {
	for _, b := range in.boxes {
		w.kill(b)
		delete(w.containers, b.id)
	}
	in.boxes, in.given = nil, 0
}

// deliver lets a request execute, or take its failure.
func (w *world) deliver(r *manager.Request) {
	c := r.Holder.(*call)
	if c.outcome != outcomePending {
		w.fail("request %s is answered twice", r.ID)
		return
	}
	if r.Init.Failure != nil {
		c.outcome = outcomeFailed
		w.meter.answered(w.clock, c)
		return
	}
	b := w.containers[r.Container]
	if b == nil || b.gone || len(b.running) >= c.of.version.Slots() || b.owner != c.of || b.in.account != c.of.version.Account {
		w.fail("request %s of %s is given container %s: %+v", r.ID, c.of.version.Account, r.Container, b)
		return
	}
	w.settle(b, boxBusy)
	if r.Resume > 0 {
		b.paused, b.resumed = false, max(b.resumed, r.Resume)
	}
	if b.paused {
		w.fail("request %s is given container %s, which is paused", r.ID, b.id)
		return
	}
	b.running = append(b.running, c)
	b.calls++
	c.outcome = outcomeExecuting
	w.meter.answered(w.clock, c)
	if w.watch != nil {
		w.watch.served(c)
	}
	w.events.push(happening{at: w.clock + c.takes, kind: happensEnd, call: c})
}

// pause stops a container after a moment, unless the pause was taken back meanwhile.
func (w *world) pause(a *manager.Action) {
	id, number := a.Container, a.Pauses
	err := w.faults.strikes(w, w.faults.Pause, "the container was not paused")
	w.events.push(happening{at: w.clock + w.takes(startPause), kind: happensDo, do: func() {
		if b := w.containers[id]; b != nil && number > b.resumed {
			if len(b.running) > 0 {
				w.fail("container %s is paused while it executes", id)
			}
			b.paused = true
		}
		w.step(manager.Event{Kind: manager.Paused, Container: id, Pauses: number, Err: err})
	}})
}

func (w *world) refuse(r *manager.Request) {
	c := r.Holder.(*call)
	if c.outcome != outcomePending || r.Err == nil {
		w.fail("request %s is refused, which does not wait", r.ID)
		return
	}
	c.outcome = outcomeRefused
	w.meter.answered(w.clock, c)
}

// told follows the assignment of instances: whose code may run where.
func (w *world) told(e *kiln.Event) {
	in := w.instances[e.Instance]
	if w.heard != nil {
		w.heard(e)
	}
	if e.Kind != kiln.EventInstanceAssign || in == nil {
		return
	}
	if in.account != "" {
		w.fail("instance %s of account %s is assigned to %s", in.id, in.account, e.Account)
	}
	in.account = e.Account
}
