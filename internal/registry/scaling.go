package registry

import (
	"context"
	"slices"
	"strings"

	"kiln"
)

// Scaling bounds the containers of a published version on a capacity provider. Nil is not said: no least, no most.
type Scaling struct {
	Min *int `json:"min,omitempty"`
	Max *int `json:"max,omitempty"`
}

// PutScaling sets the bounds of a published version on a capacity provider and gives its state: with a most of 0 it is
// Deactivated. Kinds: KindNotFound, KindInvalid, KindConflict (an update is under way), KindUnavailable.
func (r *Registry) PutScaling(ctx context.Context, owner kiln.AccountID, name, number string, s Scaling) (State, error) {
	const op = "registry: put function scaling"
	if s.Min != nil && s.Max != nil && *s.Min > *s.Max {
		return "", invalid(op, "MinExecutionEnvironments (%d) must not be greater than MaxExecutionEnvironments (%d).", *s.Min, *s.Max)
	}
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) {
		if err := r.scalable(op, f, number); err != nil {
			return nil, err
		}
		if f.Scaling == nil {
			f.Scaling = map[string]*Scaling{}
		}
		f.Scaling[number] = &s
		return nil, nil
	})
	if err != nil {
		return "", err
	}
	c, err := r.Get(owner, name, number)
	return c.State, err
}

// Scaling gives the bounds of a published version on a capacity provider. Kinds: KindNotFound, KindInvalid.
func (r *Registry) Scaling(owner kiln.AccountID, name, number string) (Scaling, error) {
	const op = "registry: get function scaling"
	e := r.entry(owner, name)
	if e == nil {
		return Scaling{}, r.notFound(op, owner, name, "")
	}
	if err := r.scalable(op, e.head, number); err != nil {
		return Scaling{}, err
	}
	if s := e.head.Scaling[number]; s != nil {
		return *s, nil
	}
	return Scaling{}, nil
}

// scalable refuses a version that is not there, or not on a capacity provider.
func (r *Registry) scalable(op string, f *Function, number string) error {
	if !f.published(number) {
		return r.notFound(op, f.Account, f.Name, number)
	}
	if f.current().Provider == "" {
		return invalid(op, "The function %s is not on a capacity provider; its containers are bounded by reserved and provisioned concurrency.",
			kiln.FunctionARN(r.cfg.Region, f.Account, f.Name, ""))
	}
	return nil
}

// published reports whether a number is a published version's, $LATEST.PUBLISHED included.
func (f *Function) published(number string) bool {
	return f.find(number) >= 0 || number == kiln.LatestPublished && f.LatestPublished != nil
}

// deactivated reports whether a version's most is no container.
func (f *Function) deactivated(number string) bool {
	s := f.Scaling[number]
	return s != nil && s.Max != nil && *s.Max == 0
}

// mosts gives the most executions at once of each version that has a most of containers.
func (e *entry) mosts() map[string]int {
	var most map[string]int
	for number, s := range e.head.Scaling {
		if t, ok := e.versions[number]; ok && s.Max != nil {
			if most == nil {
				most = map[string]int{}
			}
			most[number] = *s.Max * t.version.Slots()
		}
	}
	return most
}

// publishLatest makes $LATEST.PUBLISHED of what $LATEST is, or is about to be.
func (r *Registry) publishLatest(op string, f *Function, description string) error {
	if f.current().Provider == "" {
		return invalid(op, "PublishTo is for functions on a capacity provider only.")
	}
	if f.LatestPublished == nil {
		if err := r.checkProvider(op, f.current(), true); err != nil {
			return err
		}
	}
	if err := r.checkStorage(op, f.Account, f.current().PackageBytes); err != nil {
		return err
	}
	v := copyVersion(f.current())
	r.stamp(v)
	v.Number = kiln.LatestPublished
	if description != "" {
		v.Description = description
	}
	p := f.LatestPublished
	switch {
	case p != nil && p.State == StateActive && f.unsettled():
		p.Next = v
	case f.unsettled():
		f.LatestPublished = &LatestPublished{Version: v, State: StatePending}
	default:
		f.LatestPublished = &LatestPublished{Version: v, State: f.State}
	}
	return nil
}

// LatestPublished is what $LATEST.PUBLISHED runs: of a function on a capacity provider, a version that each publishing to
// it replaces.
type LatestPublished struct {
	Version *kiln.Version `json:"version"`
	// Next takes its place once its package is verified; nil otherwise.
	Next        *kiln.Version `json:"next,omitempty"`
	State       State         `json:"state"`
	StateReason string        `json:"stateReason,omitempty"`
}

// current gives what was published last.
func (p *LatestPublished) current() *kiln.Version {
	if p.Next != nil {
		return p.Next
	}
	return p.Version
}

// settled takes that the package it waited for, if any, is good or, with another state, why it is not.
func (p *LatestPublished) settled(state State, reason string) {
	switch {
	case p == nil:
	case p.Next != nil && state == StateActive:
		p.Version, p.Next = p.Next, nil
	case p.Next != nil: // what ran before still does
		p.Next = nil
	case p.State == StatePending:
		p.State, p.StateReason = state, reason
	}
}

// leasts adds to a function's promises the least of its versions on a capacity provider.
func (e *entry) leasts(list []Promise) []Promise {
	for number, s := range e.head.Scaling {
		if t, ok := e.versions[number]; ok && t.state == StateActive && s.Min != nil && *s.Min > 0 {
			list = append(list, Promise{t.version, *s.Min})
		}
	}
	slices.SortFunc(list, func(a, b Promise) int { return strings.Compare(a.Version.Number, b.Version.Number) })
	return list
}
