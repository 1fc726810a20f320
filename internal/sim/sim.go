// Package sim is the policy simulator: it runs recorded requests against a policy and counts what it cost, in cold starts
// and in idle memory.
//
// Paper mode (paper.go) counts as the papers do: executions take no time, memory has no bound, each function is one
// unit, time comes in minutes. System mode runs the live cores in virtual time. Both are single-threaded, and one seed is
// one history. It stands beside the house: kiln simulate calls Run, tests call the rest. It judges no policy and learns
// nothing.
package sim

import (
	"context"
	"slices"

	"kiln"
	"kiln/internal/retention"
	"kiln/internal/sim/policy"
	"kiln/internal/trace"
	"kiln/internal/train"
)

// The modes.
const (
	ModePaper  = "paper"
	ModeSystem = "system"
)

// Options says what to run.
type Options struct {
	Trace    *trace.Trace
	Mode     string
	Policies []string // names; "all" for all there are
	Seed     uint64
	Frontier bool // each policy at its operating points
	Shift    bool // the copies of functions of weight over 1 are turned, each by a time of its own
	// Instances is how many instances the nodes have room for, in system mode; 0 for as many as are wanted.
	Instances int
	Faults    Faults
	Folds     int // Kiln's own policy is fitted without the fold that is scored; 0: the shipped one is taken
}

// Result is one policy at one operating point. The names of the keys are kiln simulate's.
type Result struct {
	Policy   string  `json:"policy"`
	Mode     string  `json:"mode"`
	Value    float64 `json:"value"`
	Cold     int     `json:"cold"`
	Requests int     `json:"requests"`
	// Waste is the idle memory over that of a fixed keep-alive of 10 minutes.
	Waste float64 `json:"waste"`
	// ColdP50App and so on are percentiles over the apps of the part of its requests that was cold, in percent.
	ColdP50App float64 `json:"coldP50App"`
	ColdP75App float64 `json:"coldP75App"`
	ColdP90App float64 `json:"coldP90App"`
	// LatencyP50Ms and so on are percentiles over the requests of the time added to their execution.
	LatencyP50Ms  float64 `json:"latencyP50Ms"`
	LatencyP99Ms  float64 `json:"latencyP99Ms"`
	LatencyP999Ms float64 `json:"latencyP999Ms"`
	IdleGBs       float64 `json:"idleGBs"`
	// RUM is the cost of both in seconds: 0.808 for a cold start and one for 99.69 idle GB-seconds (FeMux).
	RUM   float64 `json:"rum"`
	Drops int     `json:"drops"`
	// What follows is system mode's. ColdP50App5 and so on are over the apps with 5 requests or more.
	ColdP50App5 float64        `json:"coldP50App5,omitzero"`
	ColdP75App5 float64        `json:"coldP75App5,omitzero"`
	ColdP90App5 float64        `json:"coldP90App5,omitzero"`
	Paths       map[string]int `json:"paths,omitzero"` // requests by acquisition path
	// InstancesOver and InstancesUnder are the mean numbers of instances beyond and below what executions need.
	InstancesOver  float64 `json:"instancesOver,omitzero"`
	InstancesUnder float64 `json:"instancesUnder,omitzero"`
	// WorsePart is the part of the functions with more than twice the cold starts, and more than 2 more, than under a fixed
	// keep-alive of 10 minutes.
	WorsePart float64 `json:"worsePart,omitzero"`
}

// RUM's weights (FeMux): a mean cold start, and the idle memory that is worth a second.
const (
	rumCold  = 0.808
	rumGBs   = 99.69
	usualMiB = 170.0 // of a container where the trace does not say
)

func rum(colds, idleGBs float64) float64 { return rumCold*colds + idleGBs/rumGBs }

// FoldsMax bounds the parts Kiln's own policy is fitted in: each is a fit of its own.
const FoldsMax = 20

// Run gives the results of every policy asked for, at each of its operating points, in the order asked. KindInvalid for a
// policy or mode there is not.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if o.Folds < 0 || o.Folds == 1 || o.Folds > FoldsMax {
		return nil, kiln.Errorf(kiln.KindInvalid, "sim: run", "%d folds cannot be made; say 2 to %d, or 0 for the table that is shipped.", o.Folds, FoldsMax)
	}
	if o.Instances < 0 {
		return nil, kiln.Errorf(kiln.KindInvalid, "sim: run", "There cannot be %d instances; say 0 for as many as are wanted.", o.Instances)
	}
	if o.Shift {
		o.Trace = o.Trace.Expanded(o.Seed, true)
	}
	points, err := o.points(ctx)
	if err != nil {
		return nil, err
	}
	switch o.Mode {
	case ModePaper:
		return o.paper(ctx, points)
	case ModeSystem:
		o.Trace = o.Trace.Expanded(o.Seed, false)
		return o.system(ctx, points)
	}
	return nil, kiln.Errorf(kiln.KindInvalid, "sim: run", "There is no mode %q; say paper or system.", o.Mode)
}

func (o *Options) paper(ctx context.Context, points []policy.Policy) ([]Result, error) {
	base := paper(o.Trace, policy.Fixed{Keep: wasteOne})
	var results []Result
	for _, p := range points {
		if err := context.Cause(ctx); err != nil {
			return nil, kiln.Wrap(kiln.KindUnavailable, "sim: run", "The simulation was broken off.", err)
		}
		results = append(results, paper(o.Trace, p).result(p, o.Trace, base))
	}
	return results, nil
}

func (o *Options) system(ctx context.Context, points []policy.Policy) ([]Result, error) {
	fixed := policy.Policy(policy.Fixed{Keep: wasteOne})
	base, err := o.runSystem(ctx, fixed, nil)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, p := range points {
		m := base
		if p != fixed {
			if m, err = o.runSystem(ctx, p, base); err != nil {
				return nil, err
			}
		}
		results = append(results, m.result(p, base))
	}
	return results, nil
}

// points gives the policies asked for, each at its operating points.
func (o *Options) points(ctx context.Context) ([]policy.Policy, error) {
	names := o.Policies
	if slices.Contains(names, "all") {
		names = policy.Names()
	}
	fitted, err := o.fit(ctx)
	if err != nil {
		return nil, err
	}
	var points []policy.Policy
	for _, name := range names {
		p, err := policy.Parse(name)
		if err != nil {
			return nil, err
		}
		if ours, is := p.(policy.Kiln); is {
			p = ours.With(fitted)
			if o.Mode == ModeSystem {
				p = policy.NewKiln(retention.DefaultWorth, fitted)
			}
		}
		if o.Frontier {
			points = append(points, policy.Frontier(p)...)
		} else {
			points = append(points, p)
		}
	}
	return points, nil
}

// fit gives the tables Kiln's own policy decides by: the shipped one or, with folds, one for each that was not shown the
// functions it decides about.
func (o *Options) fit(ctx context.Context) (*policy.Fitted, error) {
	if o.Folds < 2 {
		shipped, err := retention.Shipped()
		return &policy.Fitted{Tables: []*retention.Table{shipped}}, err
	}
	tables, of, err := train.Crossed(ctx, o.Trace, o.Folds, train.Options{Seed: o.Seed})
	if o.Mode == ModeSystem && err == nil { // which expands the trace
		var each []int
		for i, fold := range of {
			each = append(each, slices.Repeat([]int{fold}, o.Trace.Functions[i].Weight)...)
		}
		of = each
	}
	return &policy.Fitted{Tables: tables, Of: of}, err
}
