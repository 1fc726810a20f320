package provisioning

import (
	"context"
	"maps"
	"slices"

	"kiln"
	"kiln/internal/manager"
	"kiln/internal/pool"
	"kiln/internal/promise"
	"kiln/internal/registry"
)

// Fleets is what is asked of the pools for capacity providers. Each function is as the method of pool.Pool of its name.
type Fleets struct {
	Add    func(pool.FleetConfig) error
	Remove func(context.Context, pool.FleetID) error
	Change func(pool.FleetID, func(*manager.Settings)) error
	List   func() []pool.Fleet
}

// asked is what was last asked of the pools for a provider's fleet.
type asked struct {
	max      int
	runtimes []string // the interpreters that warm instances hold, sorted
	provider *registry.Provider
}

// FleetOf names the fleet that serves a version: its capacity provider's, or none.
func FleetOf(v *kiln.Version) pool.FleetID {
	if v.Provider == "" {
		return pool.FleetID{}
	}
	return pool.FleetID{Account: v.Account, Name: v.Provider}
}

// OperatorsFleets gives the fleets that are no capacity provider's.
func (p *Provisioning) OperatorsFleets() []pool.Fleet {
	return slices.DeleteFunc(p.cfg.Fleets.List(), func(f pool.Fleet) bool { return f.Account != "" })
}

// keepProviders makes, changes and lets go the fleets of capacity providers.
func (p *Provisioning) keepProviders(ctx context.Context) {
	var alive []*registry.Provider
	for _, one := range p.cfg.Registry.Providers() {
		if one.Deleting {
			p.letGo(ctx, one)
		} else {
			alive = append(alive, one)
		}
	}
	has := map[pool.FleetID]int{}
	there := map[pool.FleetID]bool{}
	for _, f := range p.cfg.Fleets.List() {
		id := pool.FleetID{Account: f.Account, Name: f.Name}
		has[id], there[id] = f.Instances, true
	}
	want, have := make([]int, len(alive)), make([]int, len(alive))
	for i, one := range alive {
		want[i], have[i] = p.mostInstances(one), has[fleetID(one)]
	}
	for i, n := range promise.Fair(p.cfg.ProviderInstances, want, have) {
		p.keepFleet(alive[i], n, there[fleetID(alive[i])])
	}
}

// keepFleet gives a provider's fleet what it is to have, when that has changed.
func (p *Provisioning) keepFleet(one *registry.Provider, most int, there bool) {
	id := fleetID(one)
	now := asked{most, p.runtimes(one), one}
	p.mu.Lock()
	last, known := p.fleets[id]
	p.mu.Unlock()
	if there && known && last.max == now.max && slices.Equal(last.runtimes, now.runtimes) && last.provider == one {
		return
	}
	var err error
	if there {
		err = p.cfg.Fleets.Change(id, func(s *manager.Settings) { p.set(s, now) })
	} else {
		s := p.cfg.Settings()
		p.set(&s, now)
		err = p.cfg.Fleets.Add(pool.FleetConfig{Account: one.Account, Name: one.Name, Settings: s})
	}
	if err != nil { // the next look tries again
		p.cfg.Logger.Warn("capacity provider's fleet not kept", "account", one.Account, "provider", one.Name, "error", err)
		return
	}
	p.mu.Lock()
	p.fleets[id] = now
	p.mu.Unlock()
}

// ProviderReady reports whether a provider's fleet serves.
func (p *Provisioning) ProviderReady(one *registry.Provider) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.fleets[fleetID(one)]
	return ok
}

// set puts into a fleet's settings what its provider asks for.
func (p *Provisioning) set(s *manager.Settings, a asked) {
	base := p.cfg.Settings()
	s.InstancesMax = a.max
	s.Shapes = shapes(base.Shapes, a.provider)
	s.ConsolidationUtilisation = base.ConsolidationUtilisation
	if a.provider.Utilisation > 0 {
		s.ConsolidationUtilisation = a.provider.Utilisation
	}
	s.Warming = nil
	left := a.max - 1 // one instance at least for what the warm ones do not serve
	for _, w := range base.Warming {
		if left <= 0 || !slices.Contains(a.runtimes, w.Configuration.Runtime) {
			continue
		}
		w.Minimum = min(w.Minimum, left)
		left -= w.Minimum
		w.Configuration.Shape = s.Shapes[0]
		s.Warming = append(s.Warming, w)
	}
}

// shapes gives those of the operator's shapes that a provider may have; all, when it may have none of them.
func shapes(all []kiln.Shape, one *registry.Provider) []kiln.Shape {
	own := slices.DeleteFunc(slices.Clone(all), func(s kiln.Shape) bool {
		return len(one.Shapes) > 0 && !slices.Contains(one.Shapes, s.MemoryMiB) || one.MaxCPUs > 0 && s.CPUs > float64(one.MaxCPUs)
	})
	if len(own) == 0 {
		return all
	}
	return own
}

// mostInstances is how many instances a provider may have by its own maximum: never more processors, and one at least.
func (p *Provisioning) mostInstances(one *registry.Provider) int {
	if one.MaxCPUs == 0 {
		return p.cfg.ProviderInstances
	}
	greatest := 0.0
	for _, s := range shapes(p.cfg.Settings().Shapes, one) {
		greatest = max(greatest, s.CPUs)
	}
	return max(int(float64(one.MaxCPUs)/greatest), 1)
}

// runtimes gives the interpreters of the versions on a provider, sorted: its warm instances hold those and no others.
func (p *Provisioning) runtimes(one *registry.Provider) []string {
	names := map[string]struct{}{}
	for v := range p.cfg.Registry.OnProvider(one.Account, one.Name) {
		if name, ok := p.cfg.Runtime(v.Runtime); ok {
			names[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// letGo removes the fleet of a provider that was deleted, beside everything else, and then the provider.
func (p *Provisioning) letGo(ctx context.Context, one *registry.Provider) {
	id := fleetID(one)
	if p.leaving[id] {
		return
	}
	p.leaving[id] = true
	p.mu.Lock()
	delete(p.fleets, id)
	p.mu.Unlock()
	p.going.Go(func() {
		err := p.cfg.Fleets.Remove(ctx, id)
		if kiln.KindOf(err) == kiln.KindNotFound { // it never was, in this process
			err = nil
		}
		if err == nil {
			err = p.cfg.Registry.RemoveProvider(ctx, id.Account, id.Name)
		}
		if err != nil && ctx.Err() == nil {
			p.cfg.Logger.Warn("capacity provider not removed", "account", id.Account, "provider", id.Name, "error", err)
		}
		select {
		case p.left <- id:
		case <-ctx.Done():
		}
	})
}

func fleetID(one *registry.Provider) pool.FleetID {
	return pool.FleetID{Account: one.Account, Name: one.Name}
}
