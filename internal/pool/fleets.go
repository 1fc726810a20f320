package pool

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"kiln"
	"kiln/internal/manager"
)

// FleetsMax bounds the fleets there are at once: each has a goroutine, and pools of its own.
const FleetsMax = 1000

// FleetID names a fleet. The operator's, low-volume and high-volume, have no account; an account's own, its capacity
// providers, have theirs, so that two accounts may use one name. The zero value names no fleet.
type FleetID struct {
	Account kiln.AccountID
	Name    string
}

// String shows an account's own fleet as ACCOUNT:NAME, the operator's by its name.
func (id FleetID) String() string {
	if id.Account == "" {
		return id.Name
	}
	return string(id.Account) + ":" + id.Name
}

// FleetConfig is one fleet: whose it is, its name, and its manager's settings.
type FleetConfig struct {
	// Account is empty for the operator's fleets.
	Account  kiln.AccountID
	Name     string
	Settings manager.Settings
}

// ManagerState says whether a fleet's manager works.
type ManagerState string

// The states of a fleet's manager. Stopped: it takes no request and boots nothing; what executes goes on. Removing: the
// same, and all of it is deleted once nothing executes any more.
const (
	ManagerRunning  ManagerState = "running"
	ManagerStopped  ManagerState = "stopped"
	ManagerRemoving ManagerState = "removing"
)

// Fleet is a fleet as operations shows it.
type Fleet struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Account      kiln.AccountID `json:"account"` // empty for the operator's
	Manager      ManagerState   `json:"manager"`
	InstancesMax int            `json:"instancesMax"`
	Instances    int            `json:"instances"`
	Booting      int            `json:"booting"`
	Containers   int            `json:"containers"`
	Busy         int            `json:"busy"`
	Waiting      int            `json:"waiting"` // requests that wait for a container
	Target       int            `json:"target"`  // warm instances wanted, over all configurations
}

// fleets is the list of fleets at one moment. It is never changed.
type fleets struct {
	list []*fleet // in the order they were added; the first serves what nobody places
	byID map[FleetID]*fleet
}

func (f *fleets) with(added *fleet) *fleets {
	next := &fleets{list: append(slices.Clone(f.list), added), byID: maps.Clone(f.byID)}
	next.byID[added.id] = added
	return next
}

func (f *fleets) without(gone *fleet) *fleets {
	next := &fleets{list: slices.Clone(f.list), byID: maps.Clone(f.byID)}
	next.list = slices.DeleteFunc(next.list, func(f *fleet) bool { return f == gone })
	delete(next.byID, gone.id)
	return next
}

// all gives the fleets there are. The list is shared and must not be written to.
func (p *Pool) all() []*fleet { return p.fleets.Load().list }

// find gives a fleet, nil when there is none of this name.
func (p *Pool) find(id FleetID) *fleet { return p.fleets.Load().byID[id] }

// route gives the fleet that serves a request: the one that keeps a promise of its version, or whichever it belongs to.
// KindUnavailable when the one it belongs to is not there.
func (p *Pool) route(need Need) (*fleet, error) {
	all := p.fleets.Load()
	if pinned := p.pinned.Load(); pinned != nil {
		if f := (*pinned)[promisedBy(need.Version)]; f != nil {
			return f, nil
		}
	}
	if p.config.Route == nil {
		return all.list[0], nil
	}
	id := p.config.Route(need)
	if id == (FleetID{}) {
		return all.list[0], nil
	}
	if f := all.byID[id]; f != nil {
		return f, nil
	}
	return nil, kiln.Errorf(kiln.KindUnavailable, "pool: acquire", "There is no fleet %s to serve this function.", id.Name)
}

// runFleets runs each fleet from when it is added until it is removed or ctx ends, and gives the errors of those that
// left something.
func (p *Pool) runFleets(ctx context.Context) error {
	var running sync.WaitGroup
	var mu sync.Mutex
	var errs []error // guarded by mu
	for ending := false; !ending; {
		select {
		case <-ctx.Done():
			p.end()
			ending = true
		case <-p.kick:
		}
		for _, f := range p.toRun() {
			running.Go(func() {
				f.err = f.run(ctx)
				p.drop(f)
				close(f.gone)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, f.err)
			})
		}
	}
	running.Wait()
	return errors.Join(errs...)
}

// toRun takes the fleets that were added and are not run yet.
func (p *Pool) toRun() []*fleet {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.unrun
	p.unrun = nil
	return list
}

// end lets no fleet be added any more.
func (p *Pool) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
}

// drop takes a fleet that is gone off the list; the first, which serves what nobody places, stays to refuse it.
func (p *Pool) drop(gone *fleet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unpin(gone)
	if all := p.fleets.Load(); all.list[0] != gone {
		p.fleets.Store(all.without(gone))
	}
}

// AddFleet makes one more fleet, with a manager of its own, and returns at once: its warm instances boot meanwhile. Before
// Run nothing boots. Kinds: KindConflict (there is one of this name, or it is still being removed), KindLimit (FleetsMax),
// KindUnavailable (draining).
func (p *Pool) AddFleet(c FleetConfig) error {
	const op = "pool: add fleet"
	p.mu.Lock()
	defer p.mu.Unlock()
	all, id := p.fleets.Load(), FleetID{c.Account, c.Name}
	switch {
	case p.ending:
		return kiln.Errorf(kiln.KindUnavailable, op, "The server is ending.")
	case all.byID[id] != nil:
		return kiln.Errorf(kiln.KindConflict, op, "There is a fleet %s, or what is left of it.", c.Name)
	case len(all.list) >= FleetsMax:
		return kiln.Errorf(kiln.KindLimit, op, "There may be %d fleets, and as many there are.", FleetsMax)
	}
	f := newFleet(p, c) // only now: what is recorded of a manager begins here
	f.met = true        // the pool's readiness is of the fleets it began with
	p.fleets.Store(all.with(f))
	p.unrun = append(p.unrun, f)
	p.wakeRun()
	return nil
}

// wakeRun has runFleets look at unrun.
func (p *Pool) wakeRun() {
	select {
	case p.kick <- struct{}{}:
	default: // it knows already
	}
}

// RemoveFleet lets a fleet go: it takes no request from now on, its executions end, then all of it is deleted. It blocks
// until that is so; when ctx ends before, what still executes is ended. It must not be called before Run. It may be
// repeated: a second call waits too. Kinds: KindNotFound, KindConflict (the first fleet stays), KindInternal (something
// could not be deleted; the fleet is off the list all the same), and the store's. What is kept of it is forgotten, also when it
// is not there.
func (p *Pool) RemoveFleet(ctx context.Context, id FleetID) error {
	const op = "pool: remove fleet"
	all := p.fleets.Load()
	f := all.byID[id]
	switch {
	case f == nil:
		if err := p.forget(ctx, id); err != nil {
			return err
		}
		return kiln.Errorf(kiln.KindNotFound, op, "There is no fleet %s.", id.Name)
	case f == all.list[0]:
		return kiln.Errorf(kiln.KindConflict, op, "The fleet %s serves what no other does, and stays.", id.Name)
	}
	f.step(manager.Event{Kind: manager.Refusing, Cause: "The fleet " + id.Name + " is being removed."})
	select {
	case <-f.drained:
	case <-ctx.Done():
	}
	f.remove()
	<-f.gone
	f.turning.Lock()
	defer f.turning.Unlock()
	return errors.Join(f.err, p.forget(ctx, id))
}

// StopManager has a fleet's manager take no request and boot nothing from now on; what waits is refused, what executes
// goes on, and so do the other fleets. It may be repeated. Kinds: KindNotFound, KindConflict (being removed).
func (p *Pool) StopManager(id FleetID) error {
	return p.manage("pool: stop manager", id, manager.Event{Kind: manager.Halted,
		Cause: "The manager of fleet " + id.Name + " is stopped; `kiln fleet start " + id.Name + "` starts it."})
}

// StartManager has a stopped manager go on. It may be repeated. Kinds as StopManager's.
func (p *Pool) StartManager(id FleetID) error {
	return p.manage("pool: start manager", id, manager.Event{Kind: manager.Resumed})
}

func (p *Pool) manage(op string, id FleetID, e manager.Event) error {
	f := p.find(id)
	if f == nil {
		return kiln.Errorf(kiln.KindNotFound, op, "There is no fleet %s.", id.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused {
		return kiln.Errorf(kiln.KindConflict, op, "The fleet %s is ending.", id.Name)
	}
	f.stepLocked(e, nil)
	return nil
}

// Change gives a fleet new settings: change is called with those it has and must not block. KindNotFound when there is no
// such fleet.
func (p *Pool) Change(id FleetID, change func(*manager.Settings)) error {
	f := p.find(id)
	if f == nil {
		return kiln.Errorf(kiln.KindNotFound, "pool: change settings", "There is no fleet %s.", id.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	settings := f.manager.Settings()
	change(&settings)
	settings = can(f.pool.config.Node, settings)
	f.stepLocked(manager.Event{Kind: manager.Changed, Settings: &settings}, nil)
	return nil
}

// Moved tells a fleet that another serves a function from now on: its idle containers go, its executions end. A fleet that
// is not there has nothing to let go.
func (p *Pool) Moved(id FleetID, account kiln.AccountID, function string) {
	if f := p.find(id); f != nil {
		f.step(manager.Event{Kind: manager.Moved, Account: account, Function: function})
	}
}

// Fleets lists the fleets in the order they were added.
func (p *Pool) Fleets() []Fleet {
	list := []Fleet{}
	for _, f := range p.all() {
		list = append(list, f.view())
	}
	return list
}

// view shows a fleet.
func (f *fleet) view() Fleet {
	v := Fleet{ID: f.id.String(), Name: f.id.Name, Account: f.id.Account, Manager: ManagerRunning}
	t := f.tally()
	v.InstancesMax, v.Waiting = t.instancesMax, t.waiting
	switch {
	case t.refused:
		v.Manager = ManagerRemoving
	case t.halted:
		v.Manager = ManagerStopped
	}
	for _, d := range t.demands {
		v.Target += d.Target
	}
	for _, c := range t.counts {
		v.Instances += sum(c.Instances[:])
		v.Booting += c.Instances[kiln.InstanceBooting]
		v.Containers += sum(c.Containers[:kiln.ContainerGone])
		v.Busy += c.Containers[kiln.ContainerBusy]
	}
	return v
}
