package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"kiln"
)

const (
	// settlers is how many functions are verified at once.
	settlers = 4
	// settleTries bounds the tries to settle one function when something needed is out of reach. After the last it fails.
	settleTries = 8
	// settlePause is the pause after the first of them; each further one is twice as long.
	settlePause = 100 * time.Millisecond
)

// What AWS says of a function that is being made, or could not be.
const (
	creatingReason = "The function is being created."
	creatingCode   = "Creating"
	failedCode     = "InvalidZipFileException"
	ourFaultCode   = "InternalError"
)

// Run verifies the packages of new and updated functions and makes them active, or failed, until ctx ends. Those that a
// process before this one left unsettled come first. It returns nil when all it started has ended.
func (r *Registry) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range settlers {
		workers.Go(func() { r.settleAll(ctx) })
	}
	workers.Wait()
	return nil
}

// settleAll settles functions as they come.
func (r *Registry) settleAll(ctx context.Context) {
	for {
		f, ok := r.nextUnsettled()
		if ok {
			r.settleOrGiveUp(ctx, f)
			continue
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// nextUnsettled takes a function from those that wait.
func (r *Registry) nextUnsettled() (id, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for f := range r.unsettled {
		delete(r.unsettled, f)
		return f, true
	}
	return id{}, false
}

// wakeOne lets a worker look. A full channel means that all of them will.
func (r *Registry) wakeOne() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// settleOrGiveUp settles a function, trying again when something needed is out of reach.
func (r *Registry) settleOrGiveUp(ctx context.Context, f id) {
	pause := settlePause
	for try := 1; ; try++ {
		err := r.settle(ctx, f, try == settleTries)
		if err == nil || ctx.Err() != nil || kiln.KindOf(err) == kiln.KindNotFound {
			return
		}
		if try == settleTries {
			r.cfg.Logger.Error("registry function not settled", "account", f.account, "function", f.name, "error", err)
			return
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return
		}
	}
}

// settle verifies what a function waits for and writes what came of it. An error means: try again. In the last try a package
// out of reach fails the function, which could not be changed as long as it waits.
func (r *Registry) settle(ctx context.Context, f id, last bool) error {
	const op = "registry: settle function"
	e := r.entry(f.account, f.name)
	if e == nil || !e.head.unsettled() {
		return nil
	}
	checked := e.head.current()
	verdict := r.cfg.Verify(ctx, checked.Package)
	if verdict != nil && (ctx.Err() != nil || mayPass(verdict) && !last) {
		return verdict
	}
	_, err := r.change(ctx, op, f.account, f.name, func(f *Function) (*kiln.Version, error) {
		if !f.unsettled() || f.current().Revision != checked.Revision {
			return nil, errNothing // something else waits by now, and has a place of its own in the line
		}
		f.settled(verdict)
		return nil, nil
	})
	return err
}

// mayPass reports whether an error of Verify says nothing about the package.
func mayPass(err error) bool {
	k := kiln.KindOf(err)
	return err != nil && (k == kiln.KindUnavailable || k == kiln.KindInternal)
}

// settled writes down that the package a function waited for is good, with a nil verdict, or why it is not.
func (f *Function) settled(verdict error) {
	reason := ""
	if verdict != nil {
		reason = "The package could not be verified."
	}
	if e, ok := errors.AsType[*kiln.Error](verdict); ok {
		reason = e.Message
	}
	state, code := StateActive, failedCode
	if verdict != nil {
		state = StateFailed
	}
	if mayPass(verdict) {
		code = ourFaultCode
	}
	waited := f.current().Package
	for i := range f.Versions {
		if p := &f.Versions[i]; p.State == StatePending && p.Package == waited {
			p.State, p.StateReason = state, reason
		}
	}
	f.LatestPublished.settled(state, reason)
	updated := f.Next != nil
	if updated && verdict == nil {
		f.Latest = f.Next
	}
	f.Next = nil
	switch {
	case verdict == nil:
		f.Status = Status{State: StateActive, LastUpdate: UpdateSuccessful}
	case updated: // what ran before still does
		f.LastUpdate, f.LastUpdateReason, f.LastUpdateReasonCode = UpdateFailed, reason, code
	default:
		f.Status = Status{State: StateFailed, StateReason: reason, StateReasonCode: code,
			LastUpdate: UpdateFailed, LastUpdateReason: reason, LastUpdateReasonCode: code}
	}
}
