package manager

import (
	"time"

	"kiln"
	"kiln/internal/capacity"
)

// Settings is what the operator may change while the manager runs. All are shown by kiln config.
type Settings struct {
	// InstancesMax is the most instances the fleet may have, in both pools together.
	InstancesMax int
	// Shapes are the shapes instances come in. A request gets the smallest that fits its amount.
	Shapes []kiln.Shape
	// Warming bounds how many booted instances wait for their first account, per configuration, and Capacity says how the
	// demand for them is followed between the bounds.
	Warming  []WarmingTarget
	Capacity capacity.Config
	// Turned is what the operator turned at run time; it wins over Warming.
	Turned []Turned
	// Dedicated are the sub-pools kept for single accounts.
	Dedicated []Dedicated
	// ConsolidationUtilisation is the share of their memory that executes below which, for ConsolidationAfter, an account's
	// executing instances give one of them up. 0s: never.
	ConsolidationUtilisation float64
	ConsolidationAfter       time.Duration
	// AllowanceMiB is an instance's memory beyond its shape, for prepared containers and the boundary, in MiB.
	AllowanceMiB int
	// PauseAfter is how long a container is idle before it is paused; 0 for never.
	PauseAfter time.Duration
	// Learned keeps containers by what their function's requests were like, for RetentionContainer at most, or without such
	// a bound where that is 0; otherwise all are kept for RetentionContainer. Worth is what a cold start avoided is worth
	// to it, in GB-seconds; 0 for retention.DefaultWorth. Behind is how many cold starts more than with a keep-alive of
	// ten minutes a function may have by it; 0 for retention.DefaultBehind, below for no bound.
	Learned bool
	Worth   float64
	Behind  float64
	// RetentionContainer is how long an idle container is kept, RetentionInstance how long an instance without any.
	RetentionContainer time.Duration
	RetentionInstance  time.Duration
	// WaitMax is how long a request may wait for capacity before it is throttled. The function's own initialisation does
	// not count.
	WaitMax time.Duration
	// WaitingMax is how many requests of the fleet may wait at once, whatever they wait for. How many of them can be one
	// account's, the bound on its executions says.
	WaitingMax int
}

// WarmingTarget bounds the warm instances of one configuration.
type WarmingTarget struct {
	Configuration kiln.Configuration
	capacity.Bounds
}

// Turned is what the operator turned for one configuration's warm instances.
type Turned struct {
	Configuration kiln.Configuration `json:"configuration"`
	capacity.Knobs
}
