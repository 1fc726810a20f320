package policy

import (
	"time"

	"kiln/internal/trace"
)

// Fixed keeps every container for the same time after its last call.
type Fixed struct{ Keep time.Duration }

func (p Fixed) Name() string                  { return name("fixed", p.Keep, "m") }
func (p Fixed) Value() float64                { return p.Keep.Minutes() }
func (p Fixed) Keeper(*trace.Function) Keeper { return &window{keep: p.Keep} }

// window keeps for a time after the last call.
type window struct{ keep, last time.Duration }

func (k *window) Called(at time.Duration, _ int) { k.last = at }

func (k *window) Next(time.Duration) (Span, time.Duration) {
	return Span{k.last, k.last + k.keep}, Never
}

// What Knative's autoscaler does by default (knative.dev, "Supported autoscaler types" and "Scale to zero").
const (
	// KnativeWindow is the stable window: the load is the mean of it.
	KnativeWindow = 60 * time.Second
	// KnativePanicWindow is the window in which a burst shows: a tenth of the stable one.
	KnativePanicWindow = 6 * time.Second
	// KnativePanic is the factor over what there is at which only the panic window counts, and nothing is let go.
	KnativePanic = 2.0
	// KnativeTarget is the part of a container's concurrency that is aimed at.
	KnativeTarget = 0.7
	// KnativeGrace is how long the last container is kept after nothing more is wanted.
	KnativeGrace = 30 * time.Second
)

// Knative scales by the mean concurrency of a window. With one container that executes nothing for longer than the
// window and the grace, it is let go.
type Knative struct{ Window time.Duration }

func (p Knative) Name() string                  { return "knative" }
func (p Knative) Value() float64                { return p.Window.Seconds() }
func (p Knative) Keeper(*trace.Function) Keeper { return &window{keep: p.Window + KnativeGrace} }

// What target tracking of provisioned concurrency does (AWS Application Auto Scaling, LambdaProvisionedConcurrencyUtilization).
const (
	// TargetTrackingUse is the part of the provisioned concurrency in use that is aimed at.
	TargetTrackingUse = 0.7
	// TargetTrackingIn is how long the use must be below before some are let go: 15 datapoints of a minute.
	TargetTrackingIn = 15 * time.Minute
	// TargetTrackingOut is how long the use must be above before more are made: 3 datapoints of a minute.
	TargetTrackingOut = 3 * time.Minute
)

// TargetTracking holds the use of what is provisioned at 0.7: one container is enough in paper mode, and goes after In
// without a call.
type TargetTracking struct{ In time.Duration }

func (p TargetTracking) Name() string                  { return "target-tracking" }
func (p TargetTracking) Value() float64                { return p.In.Minutes() }
func (p TargetTracking) Keeper(*trace.Function) Keeper { return &window{keep: p.In} }

// What OpenWhisk does by default (core/invoker, runtimes.json).
const (
	// StemCellsKeep is how long an idle container is kept.
	StemCellsKeep = 10 * time.Minute
	// StemCellsUsual is how many containers without code are ready for each runtime.
	StemCellsUsual = 2
	// StemCellMiB is the memory of one.
	StemCellMiB = 256
)

// StemCells keeps containers for 10 minutes and beside them containers without code: a request that finds none of its
// own takes one of those, which is still a cold start, though a shorter one.
type StemCells struct{ Cells int }

func (p StemCells) Name() string                  { return "stem-cells" }
func (p StemCells) Value() float64                { return float64(p.Cells) }
func (p StemCells) Keeper(*trace.Function) Keeper { return &window{keep: StemCellsKeep} }

// Oracle loads just in time: the least idle memory at which no call but the first is cold.
type Oracle struct{}

func (Oracle) Name() string   { return "oracle" }
func (Oracle) Value() float64 { return 0 }

// Keeper makes one that knows the function's calls.
func (Oracle) Keeper(f *trace.Function) Keeper { return &oracle{calls: f.Calls} }

type oracle struct {
	calls []trace.Call
	next  int // the first call not told yet
}

func (k *oracle) Called(at time.Duration, _ int) {
	for k.next < len(k.calls) && time.Duration(k.calls[k.next].Minute)*time.Minute <= at {
		k.next++
	}
}

func (k *oracle) Next(time.Duration) (Span, time.Duration) {
	if k.next == len(k.calls) {
		return None(), Never
	}
	due := time.Duration(k.calls[k.next].Minute) * time.Minute
	return Span{due, due}, Never
}
