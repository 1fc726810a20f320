// Package provisioning keeps what owners were promised of the pools: containers of their versions that are ready at all
// times (provisioned concurrency), as many as their settings ask for at the moment; and the fleets of their capacity
// providers, which share what the operator gives for them.
//
// It decides nothing: package promise does, which it asks once a second and whenever the registry has changed. The pools
// make and keep the containers, admission keeps places for their executions. Server runs it; the frontend asks it how a
// promise stands. All methods may be called at once; mu guards what was last asked of the pools, and nothing that waits is
// called with it held. What is not guarded is Run's own.
package provisioning

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/pool"
	"kiln/internal/promise"
	"kiln/internal/registry"
)

// interval is the time between two looks at everything that was promised.
const interval = time.Second

// Ready is how a version's promise stands, as the pools count it.
type Ready struct {
	// Allocated is the containers there are for it, those included that are being made; Available those that are ready,
	// whether they execute or not.
	Allocated int
	Available int
	// Failure says why containers cannot be made, empty while they can.
	Failure string
}

// Config is what a Provisioning needs.
type Config struct {
	Registry *registry.Registry
	// Promise tells the pools that so many containers of a version are to be ready at all times; 0 for no more. It must not
	// block. With an error the promise was not taken: it is told again.
	Promise func(version *kiln.Version, containers int) error
	// Promised tells how a version's promise stands. It must not block.
	Promised func(kiln.VersionID) Ready
	// Executing is how many executions of a version, by its number, there are now.
	Executing func(account kiln.AccountID, function, number string) int
	// Fleets are the pools' fleets, Settings what a fleet of the operator's has, Runtime the interpreter for AWS's identifier.
	Fleets   Fleets
	Settings func() manager.Settings
	Runtime  func(identifier string) (name string, ok bool)
	// ProviderInstances is how many instances the fleets of all capacity providers may have together.
	ProviderInstances int
	Logger            *slog.Logger
}

// Provisioning keeps promises. Make it with New, start it with Run.
type Provisioning struct {
	cfg  Config
	kick chan struct{} // one word when the registry has changed; capacity 1

	leaving map[pool.FleetID]bool // Run's own: fleets being removed
	going   sync.WaitGroup        // those removals
	left    chan pool.FleetID     // a fleet whose removal has ended

	mu       sync.Mutex
	book     promise.Book                 // guarded by mu
	trackers map[tracked]*promise.Tracker // guarded by mu: of what has a target
	fleets   map[pool.FleetID]asked       // guarded by mu: what was asked for each provider
	refused  map[kiln.VersionID]string    // guarded by mu: why the pools did not take a version's promise
}

// tracked is what has a target of utilisation.
type tracked struct {
	function  promise.Function
	qualifier string
}

// New makes a Provisioning. Nothing is promised before Run.
func New(cfg Config) *Provisioning {
	return &Provisioning{
		cfg: cfg, kick: make(chan struct{}, 1), trackers: map[tracked]*promise.Tracker{},
		fleets: map[pool.FleetID]asked{}, refused: map[kiln.VersionID]string{}, leaving: map[pool.FleetID]bool{}, left: make(chan pool.FleetID),
	}
}

// Begin makes the fleets of the capacity providers there are, before any request asks for one.
func (p *Provisioning) Begin(ctx context.Context) { p.keepProviders(ctx) }

// Changed has Run look at once. It never blocks.
func (p *Provisioning) Changed() {
	select {
	case p.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// Run keeps the promises until ctx ends. It returns nil when all it started has ended.
func (p *Provisioning) Run(ctx context.Context) error {
	defer p.going.Wait()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		p.keep(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-p.kick:
		case id := <-p.left:
			delete(p.leaving, id)
		}
	}
}

// keep does what is due: the fleets first, then the settings of provisioned concurrency, then the promises.
func (p *Provisioning) keep(ctx context.Context, now time.Time) {
	p.keepProviders(ctx)
	for _, r := range p.rescales(now) {
		if err := p.cfg.Registry.Rescale(ctx, r.function.Account, r.function.Name, r.qualifier, r.executions); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Warn("provisioned concurrency not changed", "account", r.function.Account, "function", r.function.Name,
				"qualifier", r.qualifier, "error", err)
		}
	}
	for _, c := range p.settle(now) {
		p.noteAnswer(c.Version, p.cfg.Promise(c.Version, c.Containers))
	}
}

// noteAnswer has a promise that the pools did not take told again at the next look.
func (p *Provisioning) noteAnswer(v *kiln.Version, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.refused, v.ID())
		return
	}
	if p.refused[v.ID()] == "" { // once, not every second
		p.cfg.Logger.Warn("containers not provisioned", "account", v.Account, "function", v.Function, "version", v.Number, "error", err)
	}
	p.book.Refused(v.ID())
	p.refused[v.ID()] = "The containers cannot be made."
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		p.refused[v.ID()] = e.Message
	}
}

// rescale is a change of provisioned concurrency that its settings ask for.
type rescale struct {
	tracked
	executions int
}

// rescales gives what the settings of all functions ask for now, where it is not so already.
func (p *Provisioning) rescales(now time.Time) (list []rescale) {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := map[tracked]bool{}
	for f := range p.cfg.Registry.Promising() {
		schedule, target := f.Tags[promise.ScheduleTag], f.Tags[promise.TargetTag]
		if schedule == "" && target == "" {
			continue
		}
		s := promise.Settings{} // what cannot be read was refused when it was set, and asks for nothing
		if err := s.Read(schedule, target); err != nil {
			continue
		}
		for _, qualifier := range slices.Sorted(maps.Keys(f.Provisioned)) { // the first changed takes of what is left
			c := f.Provisioned[qualifier]
			t := tracked{promise.Function{Account: f.Account, Name: f.Function}, qualifier}
			tracker := p.tracker(t, s)
			if tracker != nil {
				alive[t] = true
				tracker.Observe(now, p.executing(t, c.Versions))
			}
			if n := s.Wanted(qualifier, now, c.Executions, c.Modified, tracker); n != c.Executions {
				list = append(list, rescale{t, n})
			}
		}
	}
	for t := range p.trackers {
		if !alive[t] {
			delete(p.trackers, t)
		}
	}
	return list
}

// tracker gives the tracker of what has a target, nil for what has none. mu is held.
func (p *Provisioning) tracker(t tracked, s promise.Settings) *promise.Tracker {
	if _, ok := s.Targets[t.qualifier]; !ok {
		return nil
	}
	if p.trackers[t] == nil {
		p.trackers[t] = &promise.Tracker{}
	}
	return p.trackers[t]
}

// executing is how many executions there are now of the versions that a qualifier's provisioned concurrency is shared by.
func (p *Provisioning) executing(t tracked, versions map[string]int) (n int) {
	for number := range versions {
		n += p.cfg.Executing(t.function.Account, t.function.Name, number)
	}
	return n
}

// settle gives what the pools are to be told.
func (p *Provisioning) settle(now time.Time) []promise.Change {
	var wanted []promise.Wanted
	for f, promises := range p.cfg.Registry.Promising() {
		for _, one := range promises {
			wanted = append(wanted, promise.Wanted{
				Function: promise.Function{Account: f.Account, Name: f.Function}, Version: one.Version, Containers: one.Containers,
			})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.refused, func(id kiln.VersionID, _ string) bool {
		return !slices.ContainsFunc(wanted, func(w promise.Wanted) bool { return w.Version.ID() == id })
	})
	return p.book.Settle(now, wanted, func(id kiln.VersionID) int { return p.cfg.Promised(id).Available }, p.gone)
}

// gone reports whether a version can be asked for no more.
func (p *Provisioning) gone(v *kiln.Version) bool {
	found, err := p.cfg.Registry.Get(v.Account, v.Function, v.Number)
	return err != nil || found.Version.ID() != v.ID()
}

// refusal says why the pools did not take a version's promise, empty when they did.
func (p *Provisioning) refusal(id kiln.VersionID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused[id]
}

// State is where provisioned concurrency stands, in AWS's words.
type State string

// The states.
const (
	InProgress State = "IN_PROGRESS"
	AllReady   State = "READY"
	Failed     State = "FAILED"
)

// Standing is how provisioned concurrency stands.
type Standing struct {
	Allocated int
	Available int
	State     State
	// Reason says why not all of it is there, or why its settings could not change it; empty when there is nothing to say.
	Reason string
}

// Standing tells how provisioned concurrency stands.
func (p *Provisioning) Standing(c registry.ProvisionedConfig) Standing {
	s := Standing{State: InProgress, Reason: c.Refused}
	failure := ""
	for number, n := range c.Versions {
		found, err := p.cfg.Registry.Get(c.Account, c.Function, number)
		if err != nil {
			continue
		}
		ready := p.cfg.Promised(found.Version.ID())
		s.Allocated += min(n, ready.Allocated)
		s.Available += min(n, ready.Available)
		if ready.Available < n {
			failure = cmp.Or(ready.Failure, p.refusal(found.Version.ID()), failure)
		}
	}
	switch {
	case s.Available >= c.Executions:
		s.State = AllReady
	case failure != "":
		s.State, s.Reason = Failed, failure
	}
	return s
}
