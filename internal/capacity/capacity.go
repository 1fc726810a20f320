// Package capacity decides how many warm instances wait for their first account.
//
// It boots nothing: package manager asks it after every change and boots or lets go what is missing or too much. It
// reads no clock and is used by one goroutine at a time.
//
// For now the target is the operator's, and what is taken is refilled. A policy that follows the rate of requests fits
// behind the same two methods: it is told of every take, and asked for the target.
package capacity

import (
	"time"

	"kiln"
)

// Back-off after a boot of the warming pool failed: doubled each time up to the greatest, forgotten after a success.
const (
	BackoffFirst = 200 * time.Millisecond
	BackoffMax   = 30 * time.Second
)

// Fixed keeps a fixed number of warm instances per configuration.
type Fixed struct {
	order   []kiln.Configuration
	targets map[kiln.Configuration]*target
}

type target struct {
	instances int
	failures  int
	retry     time.Time // no boot before
}

// NewFixed makes a policy without targets.
func NewFixed() *Fixed { return &Fixed{targets: make(map[kiln.Configuration]*target)} }

// Set makes instances the target of a configuration. Configurations keep the order in which they were first set.
func (f *Fixed) Set(c kiln.Configuration, instances int) {
	t := f.targets[c]
	if t == nil {
		t = &target{}
		f.targets[c] = t
		f.order = append(f.order, c)
	}
	t.instances = instances
}

// Configurations lists the configurations that ever had a target, in the order they were set.
func (f *Fixed) Configurations() []kiln.Configuration { return f.order }

// Target is how many instances of a configuration are to be warm.
func (f *Fixed) Target(c kiln.Configuration) int {
	if t := f.targets[c]; t != nil {
		return t.instances
	}
	return 0
}

// Missing is how many instances to boot now when so many are warm or booting; retry is when to ask again while boots
// fail, zero otherwise.
func (f *Fixed) Missing(now time.Time, c kiln.Configuration, have int) (boot int, retry time.Time) {
	t := f.targets[c]
	if t == nil || have >= t.instances {
		return 0, time.Time{}
	}
	if now.Before(t.retry) {
		return 0, t.retry
	}
	if t.failures > 0 {
		return 1, time.Time{} // one at a time until one succeeds
	}
	return t.instances - have, time.Time{}
}

// Booted tells that a boot of the configuration succeeded, or failed.
func (f *Fixed) Booted(now time.Time, c kiln.Configuration, ok bool) {
	t := f.targets[c]
	if t == nil {
		return
	}
	if ok {
		t.failures, t.retry = 0, time.Time{}
		return
	}
	wait := BackoffFirst << min(t.failures, 20)
	t.failures++
	t.retry = now.Add(min(wait, BackoffMax))
}
