// Package policy holds the policies that Kiln's own is compared with: when a function's container is kept loaded, and when
// it is let go. docs/policies.md says of each where it comes from and what was read into it.
//
// A policy sees what it would see live: the calls there were, never those to come (the oracle alone is told them). It acts
// on nothing: package sim asks it, in paper mode and in system mode. A Keeper is used by one goroutine at a time; policies
// do not change once made.
package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"kiln"
	"kiln/internal/trace"
)

// Span is a time for which a container is kept loaded, both ends included. A span that ends before it begins is none.
type Span struct{ From, Until time.Duration }

// None is no span: the container is not wanted again before the next call.
func None() Span { return Span{0, -1} }

// Empty says whether there is none.
func (s Span) Empty() bool { return s.Until < s.From }

// Never is a time that does not come.
const Never = time.Duration(math.MaxInt64)

// Keeper decides about one function. Times are since the beginning of the trace.
type Keeper interface {
	// Called tells that the function was called n times in the minute that begins at a time.
	Called(at time.Duration, n int)
	// Next gives the next span from a time on, provided that no call comes before it, and when to ask again if none came
	// till then: Never for not before the next call. Times asked about only grow.
	Next(at time.Duration) (s Span, again time.Duration)
}

// Policy is one policy at one operating point.
type Policy interface {
	// Name is how it is called on the command line.
	Name() string
	// Value is its operating point: what is turned to walk along its frontier.
	Value() float64
	// Keeper makes what decides about one function. Only the oracle looks at its calls.
	Keeper(f *trace.Function) Keeper
}

// Names lists the policies that are compared when all are asked for.
func Names() []string {
	return []string{"kiln", "fixed-5m", "fixed-10m", "fixed-20m", "fixed-40m", "fixed-60m", "fixed-120m", "hybrid-4h", "hybrid-4h-ar",
		"greedy-dual", "knative", "target-tracking", "femux", "stem-cells", "oracle"}
}

// Parse gives the policy of a name at its usual operating point. KindInvalid when there is none.
func Parse(name string) (Policy, error) {
	if minutes, ok := number(name, "fixed-", "m"); ok {
		return Fixed{time.Duration(minutes) * time.Minute}, nil
	}
	if hours, ok := number(name, "hybrid-", "h-ar"); ok {
		return NewHybrid(time.Duration(hours)*time.Hour, true), nil
	}
	if hours, ok := number(name, "hybrid-", "h"); ok {
		return NewHybrid(time.Duration(hours)*time.Hour, false), nil
	}
	switch name {
	case "kiln":
		return NewKiln(0, nil), nil
	case "greedy-dual":
		return GreedyDual{}, nil
	case "knative":
		return Knative{KnativeWindow}, nil
	case "target-tracking":
		return TargetTracking{TargetTrackingIn}, nil
	case "femux":
		return FeMux{FeMuxThreshold}, nil
	case "stem-cells":
		return StemCells{StemCellsUsual}, nil
	case "oracle":
		return Oracle{}, nil
	}
	return nil, kiln.Errorf(kiln.KindInvalid, "policy: parse", "There is no policy %q; there are %s, and fixed-Nm and hybrid-Nh for other N.",
		name, strings.Join(Names(), ", "))
}

func number(name, before, after string) (int, bool) {
	text, begins := strings.CutPrefix(name, before)
	text, ends := strings.CutSuffix(text, after)
	n, err := strconv.Atoi(text)
	return n, begins && ends && err == nil && n >= 1 && n <= 10_000
}

// Frontier gives a policy at its operating points, from the least idle memory to the most.
func Frontier(p Policy) []Policy {
	var out []Policy
	switch p := p.(type) {
	case Kiln:
		for i := range 29 { // in paper mode a minute of a GB is kept at a chance of a call of 1/2 … 1/1000
			out = append(out, NewKiln(rounded(p.Least()*math.Pow(1.25, float64(i))), p.fitted))
		}
	case Fixed:
		for _, m := range []int{1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 180, 240} {
			out = append(out, Fixed{time.Duration(m) * time.Minute})
		}
	case Hybrid:
		for _, m := range []int{5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 105, 120, 150, 180, 210, 240, 300, 360, 420, 480} {
			out = append(out, NewHybrid(time.Duration(m)*time.Minute, p.forecast))
		}
	case GreedyDual:
		for i := range 20 {
			out = append(out, GreedyDual{Waste: 0.4 + 0.06*float64(i)})
		}
	case Knative:
		for _, k := range []int{1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 180} {
			out = append(out, Knative{time.Duration(k) * KnativeWindow})
		}
	case TargetTracking:
		for _, k := range []int{1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 180} {
			out = append(out, TargetTracking{time.Duration(k) * time.Minute})
		}
	case FeMux:
		for _, v := range []float64{.9, .7, .5, .4, .3, .25, .2, .17, .15, .13, .11, .1, .08, .06, .05, .04, .03, .02, .01, .005} {
			out = append(out, FeMux{v})
		}
	case StemCells:
		for n := range 20 {
			out = append(out, StemCells{n})
		}
	default:
		out = append(out, p)
	}
	return out
}

// mean is the mean of the last n values.
func mean(values []float64, n int) float64 {
	tail := values[max(0, len(values)-n):]
	sum := 0.0
	for _, v := range tail {
		sum += v
	}
	return sum / float64(len(tail))
}

// name joins a policy's name and a time.
func name(kind string, d time.Duration, suffix string) string {
	switch {
	case d%time.Hour == 0 && suffix != "m":
		return fmt.Sprintf("%s-%d%s", kind, d/time.Hour, suffix)
	case suffix == "m":
		return fmt.Sprintf("%s-%dm", kind, d/time.Minute)
	}
	return fmt.Sprintf("%s-%dm%s", kind, d/time.Minute, strings.TrimPrefix(suffix, "h"))
}
