// Package retention decides how long what is idle is kept.
//
// It ends nothing: package manager asks it when a container or an instance becomes idle, and again when the time given
// is over. It reads no clock and is used by one goroutine at a time.
//
// For now the times are the operator's. A policy per code fits behind the same methods: the version is told.
package retention

import (
	"time"

	"kiln"
)

// Fixed keeps everything idle for a fixed time.
type Fixed struct {
	container time.Duration
	instance  time.Duration
}

// NewFixed makes the policy. An instance is never let go before its containers.
func NewFixed(container, instance time.Duration) Fixed {
	return Fixed{container: container, instance: max(instance, container)}
}

// Container is how long an idle container of this version is kept.
func (f Fixed) Container(*kiln.Version) time.Duration { return f.container }

// Spare is how long an assigned instance keeps a prepared container after its last execution.
func (f Fixed) Spare() time.Duration { return f.container }

// Instance is how long an assigned instance is kept after its last execution, once it holds no bound container.
func (f Fixed) Instance() time.Duration { return f.instance }
