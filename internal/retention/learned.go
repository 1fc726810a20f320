package retention

import (
	"math"
	"time"
)

// TypicalStart is the cold start that Settings.Worth is the worth of; a start twice as long is worth twice as much. It is
// what a cold start takes on average in the traces of Azure Functions (RUM counts 0.808 s for each).
const TypicalStart = 808 * time.Millisecond

// DefaultWorth is the worth of a cold start avoided, in GB-seconds: 0.808 s, at 99.69 GB-s for a second, as RUM counts.
const DefaultWorth = 80.5

// Settings are the operator's.
type Settings struct {
	// Worth is V, the worth of avoiding one cold start of TypicalStart, in GB-seconds of idle memory. The one number that
	// walks along the frontier of cold starts against idle memory.
	Worth float64
	// Lead is how long before its minute a container is loaded, so that it is there when the minute begins.
	Lead time.Duration
}

// Learned keeps a container loaded in the minutes in which a request is likely enough for its cost.
type Learned struct {
	settings Settings
}

// NewLearned makes the policy. A worth of zero is DefaultWorth.
func NewLearned(s Settings) *Learned {
	if s.Worth <= 0 {
		s.Worth = DefaultWorth
	}
	return &Learned{settings: s}
}

// threshold is c/V: the hazard from which a minute of keeping is worth it.
func (p *Learned) threshold(c Cost) float64 {
	start := c.Start
	if start <= 0 {
		start = TypicalStart
	}
	minute := float64(c.MemoryMiB) / 1024 * 60 // GB-seconds
	return minute / (p.settings.Worth * float64(start) / float64(TypicalStart))
}

// Plan decides the minute after now's: what is loaded stays until now's minute is over, and over the next when a request
// is likely enough in it; what is not is loaded for the next minute when one is. One estimate, so that a plan costs
// microseconds; the review is when the answer may be another. A function never called is given up at once.
func (p *Learned) Plan(h *History, now time.Time, c Cost) Plan {
	if h.Never() {
		return Plan{Until: now, Reason: Reason{rule: ruleNever}}
	}
	minute := minuteOf(now) + 1
	elapsed := uint32(1)
	if minute > h.last {
		elapsed = minute - h.last
	}
	hazard, need := p.hazard(h, minute, elapsed), p.threshold(c)
	plan := Plan{
		Until:  startOf(minute),
		minute: minute,
		keep:   hazard >= need,
		Reason: Reason{rule: ruleHazard, hazard: hazard, need: need, elapsed: elapsed, calls: h.calls, gap: h.gaps[0]},
	}
	if plan.keep {
		plan.Until = startOf(minute + 1)
		plan.Load = plan.Until.Add(-time.Minute - p.settings.Lead)
	}
	plan.Review = p.review(h, now, elapsed)
	return plan
}

// review is when to ask again: a minute later, at the same second of it if that leaves time to load before the next.
func (p *Learned) review(h *History, now time.Time, elapsed uint32) time.Time {
	if elapsed > silentMinutes {
		return time.Time{}
	}
	start := startOf(minuteOf(now) + 1)
	second := min(now.Sub(start)+time.Minute, max(0, time.Minute-p.settings.Lead-time.Second))
	return start.Add(second)
}

// silentMinutes is how long after its last request a function is asked about: eight days, so that a weekly one is known.
const silentMinutes = 8 * 24 * 60

// The own gaps' hazard: the share of the gaps that lasted this long which ended in this minute.
const (
	kernelShare = 0.03 // of a gap, to each side, over which it counts
	gapDecay    = 0.97 // how much less each older gap counts
	priorWeight = 1.5  // gaps that the population's hazard counts for
)

// hazard is the probability of a request in the minute that is elapsed minutes after the last.
func (p *Learned) hazard(h *History, minute, elapsed uint32) float64 {
	t := float64(elapsed)
	hits, risk, weight := 0.0, 0.0, 1.0
	for _, gap := range h.gaps[:h.known()] {
		g := float64(gap)
		wide := max(0.5, kernelShare*g)
		if g+wide > t {
			risk += weight
			if d := math.Abs(t - g); d < wide {
				hits += weight / (2 * wide)
			}
		}
		weight *= gapDecay
	}
	population := 0.3 / (t + 1)
	return min(1, (hits+priorWeight*population)/(risk+priorWeight))
}
