package retention

import (
	"math"
	"time"
)

// TypicalStart is the cold start that Settings.Worth is the worth of; a start twice as long is worth twice as much. It is
// what a cold start takes on average in the traces of Azure Functions (RUM counts 0.808 s for each).
const TypicalStart = 808 * time.Millisecond

// What holds where Settings leave it open.
const (
	// DefaultWorth is in GB-seconds: 0.808 s, at 99.69 GB-s for a second, as RUM counts.
	DefaultWorth = 80.5
	// DefaultBehind is in cold starts.
	DefaultBehind = 2
)

// Settings are the operator's.
type Settings struct {
	// Table is the learned hazard; nil: the hazard of the function's own gaps decides.
	Table *Table
	// Worth is V, the worth of avoiding one cold start of TypicalStart, in GB-seconds of idle memory. The one number that
	// walks along the frontier of cold starts against idle memory. Zero: DefaultWorth.
	Worth float64
	// Lead is how long before its minute a container is loaded, so that it is there when the minute begins.
	Lead time.Duration
	// Behind bounds how much colder than with a keep-alive of 10 minutes a function may become: where one more cold
	// start would make it more than Behind of them more, and more than twice as many, it is kept for 10 minutes after
	// each request, whatever that costs. Counted over the newest requests. Zero: DefaultBehind; below zero: no bound.
	Behind float64
}

// Learned keeps a container loaded in the minutes in which a request is likely enough for its cost.
type Learned struct {
	settings Settings
}

// NewLearned makes the policy.
func NewLearned(s Settings) *Learned {
	if s.Worth <= 0 {
		s.Worth = DefaultWorth
	}
	if s.Behind == 0 {
		s.Behind = DefaultBehind
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
//
// It changes nothing: whoever carries a plan out tells the History so, by Follow.
func (p *Learned) Plan(h *History, now time.Time, c Cost) Plan {
	if h.Never() {
		return Plan{Until: now, Reason: Reason{rule: ruleNever}}
	}
	minute := minuteOf(now) + 1
	elapsed := uint32(1)
	if minute > h.last {
		elapsed = minute - h.last
	}
	plan := Plan{Until: startOf(minute), judged: judged{minute: minute}}
	r := &plan.Reason
	*r = Reason{need: p.threshold(c), elapsed: elapsed, memoryMiB: c.MemoryMiB, gaps: [3]uint16(h.gaps[:3])}
	plan.estimate(p.settings.Table, h, elapsed)
	plan.keep = r.hazard >= r.need
	if !plan.keep && !c.Further && elapsed <= guardMinutes && h.score.behind(p.settings.Behind) {
		plan.keep, r.rule = true, ruleBehind
	}
	if plan.keep {
		plan.Until = startOf(minute + 1)
		plan.Load = startOf(minute).Add(-p.settings.Lead)
	}
	plan.Review = p.review(h, now, elapsed, plan.keep)
	return plan
}

// estimate is the probability of a request in the plan's minute, by the table where it has shown to be good enough.
func (plan *Plan) estimate(t *Table, h *History, elapsed uint32) {
	plan.own = float32(h.ownHazard(elapsed))
	plan.learned = plan.own
	r := &plan.Reason
	r.rule, r.hazard = ruleOwn, float64(plan.own)
	if t == nil || elapsed > learnedMinutes {
		return
	}
	var f Features
	h.Features(&f, elapsed)
	plan.learned = float32(t.Hazard(&f))
	if h.score.trusted() {
		r.rule, r.hazard = ruleLearned, float64(plan.learned)
	}
}

const (
	// learnedMinutes is how long after the last request the table is asked; it has seen no gaps much longer than that.
	learnedMinutes = 18 * 60
	// everyMinutes is how long after the last request each minute is looked at.
	everyMinute = 120
	// stride is the part of the time since the last request that is passed over after that where nothing is notable.
	stride = 24
	// silentMinutes is how long after its last request a function is asked about: eight days, so that a weekly one is known.
	silentMinutes = 8 * 24 * 60
)

// review is when to ask again: within the minute before the next that is to be decided, at the same second of it as now if
// that leaves time to load. While a container is kept, and in the first two hours, each minute is decided.
func (p *Learned) review(h *History, now time.Time, elapsed uint32, keep bool) time.Time {
	next := elapsed + 1
	if !keep && elapsed >= everyMinute {
		next = h.notable(next, elapsed+max(1, elapsed/stride))
	}
	if next > silentMinutes {
		return time.Time{}
	}
	begin := minuteOf(now)
	second := min(now.Sub(startOf(begin)), max(0, time.Minute-p.settings.Lead-time.Second))
	return startOf(begin + next - elapsed).Add(second)
}

// notable gives the first of some minutes after the last call in which there is more reason for a call than before: an own
// gap that ends about there, or a place in the hour at which there were calls. It gives the last where there is none.
func (h *History) notable(from, to uint32) uint32 {
	best := to
	for _, gap := range h.gaps[:h.known()] {
		g := uint32(gap)
		if wide := kernel(g) + 1; g+wide >= from {
			best = min(best, max(from, g-min(g, wide)))
		}
	}
	for m := from; m < min(best, from+60); m++ {
		if h.phase[(h.last+m)%60] > 1 {
			return m
		}
	}
	return best
}

// The own gaps' hazard: the share of the gaps that lasted this long which ended in this minute, drawn towards that of all
// functions. A gap counts in its own minute alone, over one to each side, or over a part of it to each side, as much as
// gaps were like the ones before them: a job that comes once a day to the minute is known for it after a few days.
const (
	gapDecay    = 0.97 // how much less each older gap counts
	priorWeight = 1.5  // gaps that all functions' hazard counts for
	priorHazard = 0.3  // of all functions: this over the minutes since the last call, roughly, on the public traces
)

// kernel is how many minutes to each side a gap counts: 3 % of it.
func kernel(gap uint32) uint32 { return (3*gap + 50) / 100 }

// ownHazard is the probability of a request in the minute that is elapsed minutes after the last, by the own gaps alone.
func (h *History) ownHazard(elapsed uint32) float64 {
	t, n := int(elapsed), h.known()
	var hits, risk, like [3]float64 // in the minute, near it, about it
	weight, later, before := 1.0, 0.0, -gapMax
	for _, gap := range h.gaps[:n] {
		g := int(gap)
		switch about := max(1, int(kernel(uint32(gap)))); {
		case g-about > t:
			later += weight
		case g+about >= t:
			for i, wide := range [3]int{0, 1, about} {
				risk[i] += weight * over(g-wide, g+wide, t)
				hits[i] += weight * in(g-wide, g+wide, t)
			}
		}
		switch d := max(g-before, before-g); {
		case d == 0:
			like[0]++
		case d == 1:
			like[1]++
		}
		before = g
		weight *= gapDecay
	}
	exact, near := like[0]/float64(n+1), like[1]/float64(n+1)
	shares := [3]float64{exact, near + (1-exact-near)/2, (1 - exact - near) / 2}
	hit, at := priorWeight*priorHazard/float64(t+1), priorWeight+later
	for i, share := range shares {
		hit += share * hits[i]
		at += share * risk[i]
	}
	return min(1, hit/at)
}

// over is the part of the minutes from one to another, both included, that are not before t; in is what t is of them.
func over(from, to, t int) float64 {
	return float64(min(max(to-t+1, 0), to-from+1)) / float64(to-from+1)
}

func in(from, to, t int) float64 {
	if t < from || t > to {
		return 0
	}
	return 1 / float64(to-from+1)
}

// judged is what a plan promises of one minute.
type judged struct {
	minute       uint32
	learned, own float32 // the probabilities of a request in it
	keep         bool    // whether a container is loaded in it
}

// score is how the promises of one function turned out, newer ones counted more. A promise is scored by its log-likelihood.
type score struct {
	pending judged
	gain    float32 // of the learned hazard over the own gaps', in nats
	cold    float32 // requests for which nothing was kept
	fixed   float32 // requests for which a keep-alive of guardMinutes would have kept nothing
}

const (
	guardMinutes = 10
	// scoreDecay is what an older promise counts less with each newer one that is kept or broken by a request, and a cold
	// start with each newer request: the newest hundred or so count.
	scoreDecay = 0.99
	// distrust is how much worse the learned hazard must have been, in nats, not to be used: e to that times less likely.
	distrust = 10
	// surest bounds what a promise may lose.
	surest = 1e-4
)

// trusted reports whether the learned hazard has not been worse than that of the own gaps.
func (s *score) trusted() bool { return s.gain > -distrust }

// behind reports whether one more cold start would be more than the bound allows.
func (s *score) behind(bound float64) bool {
	return bound >= 0 && float64(s.cold)+1 > float64(s.fixed)+bound && s.cold+1 > 2*s.fixed
}

// settle scores the promise that is pending once it is known whether a request came in its minute.
func (s *score) settle(came bool) {
	p := s.pending
	s.pending = judged{}
	if p.minute == 0 || p.learned == p.own {
		return
	}
	learned, own := float64(p.learned), float64(p.own)
	if !came {
		learned, own = 1-learned, 1-own
	}
	s.gain += float32(math.Log(max(surest, learned) / max(surest, own)))
	s.gain = min(s.gain, distrust) // so that a change for the worse shows soon
}

// request settles what was promised of the minute of a request, which came some minutes after the one before.
// A promise of a later minute is not broken by it, but no longer meant.
func (s *score) request(minute, gap uint32, loaded bool) {
	if s.pending.minute > minute {
		s.pending = judged{}
	}
	s.settle(s.pending.minute == minute)
	s.gain *= scoreDecay
	s.cold *= scoreDecay
	s.fixed *= scoreDecay
	if !loaded {
		s.cold++
	}
	if gap > guardMinutes {
		s.fixed++
	}
}

// Follow notes that a plan is carried out, so that it can be told later whether it was right. Without it a plan is judged
// by nobody: the table is trusted, and a function is taken to be cold at each request. It is for the plan of the one
// container a function needs first.
func (h *History) Follow(p Plan) {
	if p.minute > h.score.pending.minute {
		if h.score.pending.minute > h.last {
			h.score.settle(false)
		}
		h.score.pending = p.judged
	}
}
