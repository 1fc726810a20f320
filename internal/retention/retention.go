// Package retention decides how long what is idle is kept, and when what was let go is loaded again.
//
// It ends and loads nothing: package manager asks it when a container becomes idle, and again when the plan says so. It
// remembers what it must know of a function's past in a History, which its owner keeps and hands in. Nothing here reads a
// clock or holds on to what it was given; a policy is never changed after it was made and may be shared, a History is used
// by one goroutine at a time.
//
// One rule covers keep-alive, loading ahead of a periodic call and letting go (Learned): with h(t) the probability that
// the function is called in minute t, given all that is known before, a container is kept loaded in minute t exactly when
// h(t) ≥ c/V, c being the cost of a minute of its memory and V the worth of one cold start avoided. Fixed is the
// operator's: one time for all.
package retention

import (
	"time"

	"kiln"
)

// Cost is what is weighed.
type Cost struct {
	// MemoryMiB is the memory that keeping takes.
	MemoryMiB int
	// Start is how much longer a request waits when nothing is kept. Zero: as long as TypicalStart.
	Start time.Duration
	// Further says that it is not the container that the function needs first: it may be as cold as it is worth.
	Further bool
	// Since is when the container became idle; zero: now. Only Fixed asks.
	Since time.Time
}

// Plan is what is to be done about a function's idle container if no request comes first.
type Plan struct {
	// Until is when it is let go, if it is loaded; not after now: at once.
	Until time.Time
	// Load is when it is loaded, if it is not; zero: not.
	Load time.Time
	// Review is when to ask again at the latest; zero: only after the next request. A plan holds until then. Until lies
	// behind Review while the container is worth its memory, so that asking a little late lets nothing go.
	Review time.Time
	// Reason says why, in a sentence, for kiln explain.
	Reason Reason

	judged // what History.Follow remembers
}

// Fixed keeps everything idle for a fixed time.
type Fixed struct {
	container time.Duration
	instance  time.Duration
}

// NewFixed makes the policy. An instance is never let go before its containers.
func NewFixed(container, instance time.Duration) Fixed {
	return Fixed{container: container, instance: max(instance, container)}
}

// Plan keeps an idle container for the fixed time after it became idle, and loads none.
func (f Fixed) Plan(_ *History, now time.Time, c Cost) Plan {
	since := now
	if !c.Since.IsZero() {
		since = c.Since
	}
	return Plan{Until: since.Add(f.container), Reason: Reason{rule: ruleFixed, kept: f.container}}
}

// Container is how long an idle container of this version is kept.
func (f Fixed) Container(*kiln.Version) time.Duration { return f.container }

// Spare is how long an assigned instance keeps a prepared container after its last execution.
func (f Fixed) Spare() time.Duration { return f.container }

// Instance is how long an assigned instance is kept after its last execution, once it holds no bound container.
func (f Fixed) Instance() time.Duration { return f.instance }
