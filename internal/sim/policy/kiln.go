package policy

import (
	"strconv"
	"time"

	"kiln/internal/retention"
	"kiln/internal/trace"
)

// Kiln is Kiln's own policy, the very code that runs live, in paper mode: each function is one unit of a GB.
type Kiln struct {
	Worth  float64
	fitted *Fitted
}

// Fitted are the tables of the learned hazard, and which of them each function of the trace is decided by.
type Fitted struct {
	Tables []*retention.Table
	Of     []int // by function; nil: the first decides about all
}

// NewKiln makes the policy at a worth of a cold start in GB-seconds, 0 for the usual one.
func NewKiln(worth float64, fitted *Fitted) Kiln {
	if worth == 0 {
		worth = PaperWorth
	}
	return Kiln{worth, fitted}
}

// Table gives the table that decides about the function at an index of the trace; nil when none was fitted.
func (p Kiln) Table(index int) *retention.Table {
	switch {
	case p.fitted == nil:
		return nil
	case p.fitted.Of == nil:
		return p.fitted.Tables[0]
	}
	return p.fitted.Tables[p.fitted.Of[index]]
}

// Crossed says whether each function has a table that was not shown it.
func (p Kiln) Crossed() bool { return p.fitted != nil && p.fitted.Of != nil }

// Tables gives all tables, and of each function which one decides about it.
func (p Kiln) Tables() ([]*retention.Table, []int) { return p.fitted.Tables, p.fitted.Of }

// With gives the policy with fitted tables.
func (p Kiln) With(fitted *Fitted) Kiln { return Kiln{p.Worth, fitted} }

// Least is where its frontier begins: so much lower than the worth it is made with.
func (p Kiln) Least() float64 { return p.Worth * 125 / PaperWorth }

// Name is kiln.
func (p Kiln) Name() string { return "kiln" }

// Value is the worth of a cold start avoided, in GB-seconds.
func (p Kiln) Value() float64 { return p.Worth }

// Keeper makes the history of one function, decided about by the first table.
func (p Kiln) Keeper(*trace.Function) Keeper { return p.KeeperAt(0) }

// KeeperAt is Keeper for the function at an index of the trace.
func (p Kiln) KeeperAt(index int) Keeper {
	return &kilns{policy: retention.NewLearned(retention.Settings{Table: p.Table(index), Worth: p.Worth})}
}

// PaperWorth is where the policy stands in paper mode unless told: at about the idle memory of the hybrid histogram.
const PaperWorth = 11_000

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
	k.history.Follow(plan)
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

// rounded gives a value to three figures.
func rounded(v float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		return v
	}
	return short
}
