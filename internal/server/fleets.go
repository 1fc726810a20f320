package server

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/fleet"
	"kiln/internal/ledger"
	"kiln/internal/manager"
	"kiln/internal/pool"
	"kiln/internal/provisioning"
	"kiln/internal/usage"
)

// openUsage makes the store of how often functions are asked for, which picks the fleet.
func (s *server) openUsage(ctx context.Context) (err error) {
	s.usage, err = usage.Open(ctx, s.engine, usage.Config{
		Node:     s.dir.node,
		Settings: fleet.Settings{Window: s.cfg.FleetWindow, Enter: s.cfg.FleetEnter, Leave: s.cfg.FleetLeave},
		Requests: func(since time.Time, yield func(fleet.Code, time.Time)) {
			s.ledger.Requests(since, func(r ledger.Request) { yield(fleet.Code{Account: r.Account, Function: r.Function}, r.At) })
		},
		Function: func(c fleet.Code) (fleet.Pin, bool) { return s.registry.Pin(c.Account, c.Function) },
		Changed:  s.fleetChanged, Logger: s.log.With("room", "usage"),
	})
	return err
}

// fleetChanged tells of a function that another fleet serves from now on: in an event, and to the fleet that lost it.
func (s *server) fleetChanged(c fleet.Change) {
	lost := fleet.High
	if c.Standing.Serves == fleet.High {
		lost = fleet.Low
	}
	why := fmt.Sprintf("%d requests within %s", c.Standing.Requests, s.cfg.FleetWindow)
	if c.Standing.Pin != fleet.Free {
		why = "pinned by its owner"
	}
	s.ledger.AppendEvent(kiln.Event{
		Time: kiln.Time{Time: time.Now()}, Kind: kiln.EventFleetChange, Account: c.Code.Account, Function: c.Code.Function, Node: s.dir.node,
		Cause: fmt.Sprintf("from %s to %s: %s", lost, c.Standing.Serves, why),
	})
	s.pool.Moved(pool.FleetID{Name: lost.String()}, c.Code.Account, c.Code.Function)
}

// route picks the fleet of a request: its version's capacity provider, or what its function's usage or owner picks.
func route(need pool.Need) pool.FleetID {
	if id := provisioning.FleetOf(need.Version); id != (pool.FleetID{}) {
		return id
	}
	return pool.FleetID{Name: need.Fleet}
}

// provision has so many containers of a version promised by the fleet that its function's owner or usage picks now.
func (s *server) provision(v *kiln.Version, containers int) error {
	pin, _ := s.registry.Pin(v.Account, v.Function) // of a function deleted meanwhile, none: its promise goes
	class := pin.Of(s.usage.Of(fleet.Code{Account: v.Account, Function: v.Function}).ByUsage)
	return s.pool.Provision(v, class.String(), containers)
}

// providersMax is how many capacity providers there may be: each has one instance at least, and a fleet beside the operator's two.
func (c *Config) providersMax() int { return min(c.ProvidersInstancesMax, pool.FleetsMax-2) }

// fixedRetention is how long the policy fixed keeps an idle container where nothing else is said.
const fixedRetention = 10 * time.Minute

// settings gives the settings of the fleet where all code starts, low-volume: every runtime found is kept warm in the first
// shape. The others' are made from them.
func (s *server) settings() manager.Settings {
	set := manager.Settings{
		InstancesMax: cmp.Or(s.cfg.LowVolumeInstances, s.cfg.InstancesMax), Shapes: s.cfg.InstancesShapes, AllowanceMiB: s.cfg.InstancesAllowance,
		PauseAfter: s.cfg.PauseAfter, Learned: s.cfg.RetentionPolicy == "learned", Worth: s.cfg.RetentionWorth, Behind: s.cfg.RetentionBehind,
		RetentionContainer: s.cfg.RetentionContainer, RetentionInstance: s.cfg.RetentionInstance,
		WaitMax: s.cfg.WaitMax, WaitingMax: s.cfg.WaitRequests, Capacity: s.cfg.capacity(),
		ConsolidationUtilisation: s.cfg.ConsolidationUtilisation, ConsolidationAfter: s.cfg.ConsolidationAfter,
	}
	if !set.Learned && set.RetentionContainer == 0 {
		set.RetentionContainer = fixedRetention
	}
	for _, r := range s.images.List() {
		set.Warming = append(set.Warming, manager.WarmingTarget{
			Configuration: kiln.Configuration{Driver: s.node.Capabilities().Name, Runtime: r.Name, Shape: s.cfg.InstancesShapes[0]},
			Bounds:        capacity.Bounds{Minimum: s.cfg.WarmingInstances, Maximum: s.cfg.warmingMaximum()},
		})
	}
	return set
}

// highVolumeWorth is how many times retention.worth a cold start avoided is worth in high-volume: the memory that code keeps
// there is used, and whoever waits for a start is one of many.
const highVolumeWorth = 10

// highVolume gives the settings of the fleet for code that is asked for often. Nothing is warm there before there is such
// code; what it holds is kept as if cold starts were worth more, and by a fixed time at least as long as code is thought to
// be asked for often.
func (s *server) highVolume() manager.Settings {
	set := s.settings()
	set.InstancesMax = cmp.Or(s.cfg.HighVolumeInstances, s.cfg.InstancesMax)
	set.Worth *= highVolumeWorth
	if set.RetentionContainer > 0 {
		set.RetentionContainer = max(set.RetentionContainer, s.cfg.FleetWindow)
	}
	set.RetentionInstance = max(set.RetentionInstance, set.RetentionContainer)
	for i := range set.Warming {
		set.Warming[i].Minimum = 0
	}
	return set
}

// capacity gives how the demand for warm instances is followed.
func (c *Config) capacity() capacity.Config {
	return capacity.Config{
		First: c.SurgeFirst, Second: c.SurgeSecond, Threshold: c.SurgeThreshold, Shortfall: c.WarmingShortfall,
		Window: c.WarmingWindow, Release: c.WarmingRelease, Maximum: c.warmingMaximum(),
	}
}

// warmingMaximum is the most warm instances of a configuration.
func (c *Config) warmingMaximum() int {
	return max(cmp.Or(c.WarmingMaximum, warmingFactor*c.WarmingInstances), c.WarmingInstances)
}

// warmingFactor makes the maximum of warm instances from the minimum where none is set.
const warmingFactor = 8
