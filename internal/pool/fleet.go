package pool

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/node"
	"kiln/internal/record"
)

// Bounds of carrying actions out.
const (
	// StopMax is how long Run waits for the last instance to be gone after its context ended.
	StopMax = 30 * time.Second
	// deletesMax is how many deletions run at once in a fleet.
	deletesMax = 8
	// deleteAttempts is how often a failing deletion is tried, with deletePause between, doubled each time.
	deleteAttempts = 5
	deletePause    = 100 * time.Millisecond
)

// fleet is one instance manager and what carries its actions out.
type fleet struct {
	id      FleetID
	driver  string
	pool    *Pool
	drained chan struct{} // closed when nothing is leased nor waits any more, after Refusing
	remove  func()        // ends run before the pool does
	removed chan struct{} // closed by remove
	gone    chan struct{} // closed when run has ended
	err     error         // of run, once gone is closed
	empty   chan struct{} // closed when no instance is left but what cannot be deleted, after the stop
	kick    chan struct{} // one word when queue or wake changed; capacity 1
	deletes chan struct{} // one word for each deletion running

	told bool // of what other fleets serve, by share alone
	// turning is held while something of the fleet is kept or forgotten, the writing included: one after the other. Before mu.
	turning sync.Mutex

	mu       sync.Mutex
	manager  *manager.Manager
	recorded *record.Fleet    // steps the manager, when it is recorded
	queue    []manager.Action // actions to carry out and events to tell, in order
	wake     time.Time        // when the manager wants a Tick
	leased   int
	refused  bool // no new requests, for good
	refusing bool // refused, and not drained yet
	stopped  bool
	met      bool // the warming targets were met once
}

func newFleet(p *Pool, config FleetConfig) *fleet {
	n := p.config.Node
	history := p.recall(&config)
	f := &fleet{
		id: FleetID{config.Account, config.Name}, driver: n.Capabilities().Name, pool: p,
		removed: make(chan struct{}), gone: make(chan struct{}),
		drained: make(chan struct{}), empty: make(chan struct{}), kick: make(chan struct{}, 1),
		deletes: make(chan struct{}, deletesMax),
	}
	made := manager.Config{
		Fleet: config.Name, Node: n.ID(), Settings: can(n, config.Settings), History: history, Table: p.config.Table,
		NewInstance: n.NewInstanceID, NewContainer: n.NewContainerID,
	}
	if r := p.config.Record; r != nil {
		f.recorded, f.manager = r.New(config.Account, made)
	} else {
		f.manager = manager.New(made)
	}
	f.remove = sync.OnceFunc(func() { close(f.removed) })
	return f
}

// can takes out of settings what the node's driver cannot do.
func can(n *node.Node, s manager.Settings) manager.Settings {
	if !n.Capabilities().Pause {
		s.PauseAfter = 0
	}
	return s
}

// request steps a new request; true when it was delivered or refused at once.
func (f *fleet) request(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stepLocked(manager.Event{Kind: manager.Requested, Request: &w.request}, w)
}

// step takes an event.
func (f *fleet) step(e manager.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stepLocked(e, nil)
}

// ask takes an event about an instance or a container, unless there is none such: then false.
func (f *fleet) ask(e manager.Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.manager.HasInstance(e.Instance) && !f.manager.HasContainer(e.Container) {
		return false
	}
	f.stepLocked(e, nil)
	return true
}

// stepLocked takes an event and passes its actions on: answers to those who wait, the rest to the queue. True when own
// was answered. Called with mu held; nothing in it waits.
func (f *fleet) stepLocked(e manager.Event, own *waiter) (answered bool) {
	actions := f.advance(e)
	queued := len(f.queue)
	kick := false
	for i := range actions {
		a := &actions[i]
		switch a.Kind {
		case manager.Deliver, manager.Refuse:
			if a.Kind == manager.Deliver && a.Request.Init.Failure == nil {
				f.leased++
			}
			w := a.Request.Holder.(*waiter)
			if w == own {
				answered = true
			} else {
				w.done <- struct{}{}
			}
		case manager.Wake:
			f.wake = a.At
			kick = true
		default:
			f.queue = append(f.queue, *a)
		}
	}
	f.note(e.Kind, len(f.queue) > queued)
	if kick || len(f.queue) > queued {
		select {
		case f.kick <- struct{}{}:
		default: // the loop knows already
		}
	}
	return answered
}

// advance steps the manager now. Called with mu held.
func (f *fleet) advance(e manager.Event) []manager.Action {
	if f.recorded != nil {
		return f.recorded.Step(e)
	}
	return f.manager.Step(time.Now(), e)
}

// note sees to what others wait for: readiness, the end of draining, the end of everything. Called with mu held.
func (f *fleet) note(kind manager.EventKind, changed bool) {
	switch kind {
	case manager.Ended:
		f.leased--
	case manager.Refusing:
		f.refusing = f.refusing || !f.refused
		f.refused = true
	case manager.Stopped:
		f.stopped = true
	}
	if !f.met && (changed || kind == manager.Tick) && f.manager.Met() {
		f.met = true
		f.pool.fleetReady()
	}
	if f.refusing && f.leased == 0 && f.manager.Waiting() == 0 {
		f.refusing = false
		close(f.drained)
	}
	if left, stuck := f.manager.Left(); f.stopped && left == stuck {
		f.stopped = false
		close(f.empty)
	}
}

// run carries the manager's actions out until the fleet is removed or ctx ends, and everything is deleted.
func (f *fleet) run(ctx context.Context) error {
	var jobs sync.WaitGroup
	defer jobs.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	jobs.Go(func() { f.loop(ctx, work, &jobs) })
	f.step(manager.Event{Kind: manager.Tick})
	select {
	case <-ctx.Done():
	case <-f.removed:
		cancel()
	}
	f.step(manager.Event{Kind: manager.Stopped})
	bound := time.NewTimer(StopMax)
	defer bound.Stop()
	select {
	case <-f.empty:
		return f.unclean()
	case <-bound.C:
		return kiln.Errorf(kiln.KindInternal, "pool: stop", "Instances of fleet %s were left after %s.", f.id, StopMax)
	}
}

// unclean is the error of an end that left something.
func (f *fleet) unclean() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if left, _ := f.manager.Left(); left > 0 {
		return kiln.Errorf(kiln.KindInternal, "pool: stop", "%d instances of fleet %s could not be deleted.", left, f.id)
	}
	return nil
}

// loop tells events and starts jobs in the order the manager gave them, and ticks. Starts end with ctx, deletions and the
// loop itself with work.
func (f *fleet) loop(ctx, work context.Context, jobs *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var spare []manager.Action
	for {
		select {
		case <-work.Done():
			return
		case <-timer.C:
			f.tick()
		case <-f.kick:
		}
		f.mu.Lock()
		queue := f.queue
		f.queue = spare[:0]
		wake := f.wake
		f.mu.Unlock()
		for i := range queue {
			if queue[i].Kind == manager.Tell {
				f.pool.config.Emit(queue[i].Event)
				continue
			}
			a := queue[i]
			jobs.Go(func() { f.perform(ctx, work, &a) })
		}
		clear(queue)
		spare = queue
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
	}
}

// tick tells the manager that the time it asked for has come.
func (f *fleet) tick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake = time.Time{}
	f.stepLocked(manager.Event{Kind: manager.Tick}, nil)
}

// perform carries one action out and answers the manager.
func (f *fleet) perform(ctx, work context.Context, a *manager.Action) {
	n := f.pool.config.Node
	switch a.Kind {
	case manager.Boot:
		bootID, err := n.BootInstance(ctx, node.Boot{
			ID: a.Instance, Configuration: a.Configuration, AllowanceMiB: a.AllowanceMiB, Urgent: a.Urgent,
		})
		f.failed(ctx, a, "instance did not boot", err)
		f.step(manager.Event{Kind: manager.Booted, Instance: a.Instance, BootID: bootID, Err: err})
	case manager.Prepare:
		p := node.Prepare{ID: a.Container, Instance: a.Instance, Runtime: a.Configuration.Runtime, Urgent: a.Urgent}
		if a.Fresh {
			p.Fresh = bindOf(a)
		}
		pid, err := n.PrepareContainer(ctx, p)
		f.failed(ctx, a, "container was not prepared", err)
		f.step(manager.Event{Kind: manager.Prepared, Container: a.Container, PID: pid, Err: err})
	case manager.Bind:
		init, err := n.BindContainer(ctx, *bindOf(a))
		f.failed(ctx, a, "container was not bound", err)
		f.step(manager.Event{Kind: manager.Bound, Container: a.Container, Init: init, Err: err})
	case manager.Pause:
		err := n.PauseContainer(ctx, a.Container, a.Pauses)
		f.failed(ctx, a, "container was not paused", err)
		f.step(manager.Event{Kind: manager.Paused, Container: a.Container, Pauses: a.Pauses, Err: err})
	case manager.Hasten:
		n.Hasten(a.Instance, a.Container)
	case manager.DeleteContainer:
		err := f.delete(work, a, func() error { return n.DeleteContainer(work, a.Container) })
		f.step(manager.Event{Kind: deletedOrNot(err), Container: a.Container, Err: err})
	case manager.DeleteInstance:
		err := f.delete(work, a, func() error { return n.DeleteInstance(work, a.Instance) })
		f.step(manager.Event{Kind: deletedOrNot(err), Instance: a.Instance, Err: err})
	}
}

// failed logs an action that failed: a warning, unless what it was for was given up meanwhile.
func (f *fleet) failed(ctx context.Context, a *manager.Action, text string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	wanted := f.manager.HasInstance(a.Instance) && (a.Container == "" || f.manager.HasContainer(a.Container))
	f.mu.Unlock()
	level := slog.LevelDebug
	if wanted {
		level = slog.LevelWarn
	}
	f.pool.config.Logger.Log(ctx, level, text, "instance", a.Instance, "container", a.Container,
		"configuration", a.Configuration, "error", err)
}

func deletedOrNot(err error) manager.EventKind {
	if err != nil {
		return manager.NotDeleted
	}
	return manager.Deleted
}

// delete tries a deletion until it succeeds or deleteAttempts are used up: then the manager asks again later, and what is
// left when the server ends the next one's cleaning-up has.
func (f *fleet) delete(work context.Context, a *manager.Action, try func() error) error {
	select {
	case f.deletes <- struct{}{}:
		defer func() { <-f.deletes }()
	case <-work.Done():
		return context.Cause(work)
	}
	pause := deletePause
	for attempt := 1; ; attempt++ {
		err := try()
		if err == nil || work.Err() != nil {
			return err
		}
		f.pool.config.Logger.Error("deletion failed", "instance", a.Instance, "container", a.Container, "attempt", attempt, "error", err)
		if attempt == deleteAttempts {
			return err
		}
		again := time.NewTimer(pause)
		pause *= 2
		select {
		case <-again.C:
		case <-work.Done():
			again.Stop()
			return err
		}
	}
}

func bindOf(a *manager.Action) *node.Bind {
	return &node.Bind{
		Container: a.Container, Instance: a.Instance, Runtime: a.Configuration.Runtime,
		Version: a.Version, Amounts: a.Amounts, RequestID: a.RequestID, Cause: a.Cause, Provisioned: a.Provisioned,
	}
}

// lease is what a delivered request got.
func (f *fleet) lease(r *manager.Request) Lease {
	return Lease{
		RequestID: r.ID, Container: r.Container, Instance: r.Instance, Node: f.pool.config.Node.ID(), Fleet: f.id.Name,
		Driver: r.Configuration.Driver, Runtime: r.Configuration.Runtime,
		Path: r.Path, Choice: r.Choice, Amounts: r.Amounts, Init: r.Init, Provisioned: r.Provisioned, fleet: f,
	}
}
