package policy

import (
	"time"

	"kiln/internal/retention"
	"kiln/internal/trace"
)

// Kiln is Kiln's own policy, the very code that runs live, in paper mode: each function is one unit of a GB.
type Kiln struct {
	Worth float64
	Model *retention.Learned
}

// NewKiln makes the policy at a worth of a cold start in GB-seconds; 0 for the usual one.
func NewKiln(worth float64) Kiln {
	if worth == 0 {
		worth = retention.DefaultWorth
	}
	return Kiln{worth, retention.NewLearned(retention.Settings{Worth: worth})}
}

// Name is kiln.
func (p Kiln) Name() string { return "kiln" }

// Value is the worth of a cold start avoided, in GB-seconds.
func (p Kiln) Value() float64 { return p.Worth }

// Keeper makes the history of one function.
func (p Kiln) Keeper(*trace.Function) Keeper { return &kilns{policy: p.Model} }

// kilnEpoch is when traces begin: midnight, so that a minute of the hour is one.
const kilnEpoch = 1_700_006_400

// paperCost is a unit's: 1 GB, a start as long as the worth is told for.
func paperCost() retention.Cost {
	return retention.Cost{MemoryMiB: 1024, Start: retention.TypicalStart}
}

type kilns struct {
	policy  *retention.Learned
	history retention.History
	until   time.Time // loaded until then
}

func clock(at time.Duration) time.Time { return time.Unix(kilnEpoch, 0).Add(at) }

func (k *kilns) Called(at time.Duration, _ int) {
	now := clock(at)
	k.history.Arrived(now)
	k.until = now.Add(time.Minute) // the call has loaded it
}

// Next asks for the plan in the minute before: it decides the next.
func (k *kilns) Next(at time.Duration) (Span, time.Duration) {
	now := clock(at - time.Minute)
	plan := k.policy.Plan(&k.history, now, paperCost())
	from := at
	switch {
	case now.Before(k.until):
		k.until = plan.Until
	case !plan.Load.IsZero():
		k.until = plan.Until
		from = max(at, plan.Load.Sub(clock(0)))
	}
	again := Never
	if !plan.Review.IsZero() {
		again = plan.Review.Sub(clock(0)).Truncate(time.Minute) + time.Minute
	}
	return Span{from, min(k.until.Sub(clock(0)), again) - 1}, again
}
