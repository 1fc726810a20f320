// Package capacity decides how many warm instances of each configuration wait for their first account: from the rate of
// requests and its trend, from what instances were asked for lately, and from what is usual at this time of the day and of
// the week.
//
// It boots nothing: package manager tells it of every request and every instance taken, asks it for the targets, and boots
// or lets go what is missing or too much. It reads no clock and is used by one goroutine at a time.
//
// A target is the stock that is enough with a chosen probability until what was taken is booted again, and is the greatest
// of three: for the rate of takes and its trend, for bursts like those seen lately, and for the peak that came at this time
// before. One spike alone raises none of them. docs/pools.md has the formulas.
package capacity

import (
	"cmp"
	"fmt"
	"time"

	"kiln"
)

// Bounds of the policy itself.
const (
	// BackoffFirst and BackoffMax bound the pause after a boot of the warming pool failed: doubled each time, forgotten
	// after a success.
	BackoffFirst = 200 * time.Millisecond
	BackoffMax   = 30 * time.Second
	// DemandsMax bounds the configurations whose demand is remembered; requests of more are counted under the first.
	DemandsMax = 256
	// rateFloor is the rate, in requests a second, that is always expected: less is no surge whatever was usual.
	rateFloor = 1.0
	// prepareAhead is how long before a known peak its instances are prepared.
	prepareAhead = time.Minute
)

// Reasons for a target that no demand gave.
const (
	reasonBounds   = "the minimum"
	reasonPinned   = "set by the operator"
	reasonExpected = "functions that call for it are asked for more and more often, or often"
)

// Config is what the operator sets for all configurations.
type Config struct {
	// First is how many instances are booted for each one taken, Second while the rate of requests is more than Threshold
	// times what is expected.
	First, Second int
	Threshold     float64
	// Shortfall is the probability with which the stock may run out before it is refilled.
	Shortfall float64
	// Window is how far back demand is remembered, beside the time of day.
	Window time.Duration
	// Release is how long stock above the target is kept.
	Release time.Duration
	// Maximum bounds the stock of configurations that have no bounds of their own.
	Maximum int
}

// Defaults of Config's fields where they are zero.
const (
	DefaultFirst     = 1
	DefaultSecond    = 2
	DefaultThreshold = 1.5
	DefaultShortfall = 0.01
	DefaultWindow    = time.Hour
	DefaultRelease   = 2 * time.Minute
)

func (c Config) filled() Config {
	c.First, c.Second = cmp.Or(c.First, DefaultFirst), cmp.Or(c.Second, DefaultSecond)
	c.Threshold, c.Shortfall = cmp.Or(c.Threshold, DefaultThreshold), cmp.Or(c.Shortfall, DefaultShortfall)
	c.Window, c.Release = cmp.Or(c.Window, DefaultWindow), cmp.Or(c.Release, DefaultRelease)
	return c
}

// Bounds are one configuration's. A Maximum below the Minimum counts as the Minimum: the stock is then fixed.
type Bounds struct {
	Minimum int
	Maximum int
	// Pinned makes Target the target, whatever the demand.
	Pinned bool
	Target int
}

// Knobs are what the operator turned at run time: each that is set replaces what is configured.
type Knobs struct {
	Minimum *int `json:"minimum"`
	Maximum *int `json:"maximum"`
	Target  *int `json:"target"`
}

// Turned gives bounds with the knobs turned.
func (b Bounds) Turned(k Knobs) Bounds {
	if k.Minimum != nil {
		b.Minimum = *k.Minimum
	}
	if k.Maximum != nil {
		b.Maximum = *k.Maximum
	}
	if k.Target != nil {
		b.Pinned, b.Target = true, *k.Target
	}
	return b
}

// Warming decides for all configurations of a fleet. Make it with New.
type Warming struct {
	config  Config
	order   []*Demand // in the order they were first heard of
	demands map[kiln.Configuration]*Demand
	past    map[kiln.Configuration][]byte // of the last run, until the configuration is heard of
	kept    []Season                      // the same, in the order they were handed over
	slot    int64                         // of the season under way
}

// Demand is what is known of one configuration.
type Demand struct {
	warming       *Warming
	Configuration kiln.Configuration
	bounds        Bounds
	requests      meters
	inSlot        int // requests in the slot of the season under way
	takes         meters
	demand        demand
	season        season
	since         time.Time // the first request or take
	elsewhere     Elsewhere // what other managers serve of the driver and runtime
	wanted        time.Time // until then one is wanted whatever was taken

	target   int
	reason   string
	surplus  time.Time // since when there is more than the target
	least    int       // the least that was too much since then
	failures int
	retry    time.Time // no boot before
	added    Added
}

// Added counts the instances booted for the warming pool by what asked for them.
type Added struct{ First, Second, Target int }

// New makes a policy that knows of no configuration.
func New(config Config) *Warming {
	return &Warming{config: config.filled(), demands: make(map[kiln.Configuration]*Demand)}
}

// Change takes over what the operator set anew. Configurations not among those set from now on have the maximum alone.
func (w *Warming) Change(config Config) {
	w.config = config.filled()
	for _, d := range w.order {
		d.bound(Bounds{Maximum: w.config.Maximum})
	}
}

// Set gives a configuration its bounds.
func (w *Warming) Set(c kiln.Configuration, b Bounds) {
	if d := w.Demand(c); d.Configuration == c {
		d.bound(b)
	}
}

// Turn replaces a configuration's bounds by what the operator turned.
func (w *Warming) Turn(c kiln.Configuration, k Knobs) {
	if d := w.Demand(c); d.Configuration == c {
		d.bound(d.bounds.Turned(k))
	}
}

// bound gives new bounds, which hold at once; the demand is looked at with the next Tick.
func (d *Demand) bound(b Bounds) {
	d.bounds = b
	d.target, d.reason = min(max(d.target, b.Minimum), d.Most()), reasonBounds
	if b.Pinned {
		d.target, d.reason = b.Target, reasonPinned
	}
}

// Demand gives what is known of a configuration, made when it is new.
func (w *Warming) Demand(c kiln.Configuration) *Demand {
	d := w.demands[c]
	if d == nil {
		if len(w.order) >= DemandsMax {
			return w.order[0]
		}
		d = &Demand{warming: w, Configuration: c, bounds: Bounds{Maximum: w.config.Maximum}, requests: newMeters(), takes: newMeters()}
		d.demand.refill = refillPrior
		if past, ok := w.past[c]; ok && !d.season.read(past) {
			d.season = season{}
		}
		w.demands[c] = d
		w.order = append(w.order, d)
	}
	return d
}

// Demands lists the configurations heard of, in the order they were.
func (w *Warming) Demands() []*Demand { return w.order }

// Period is the time between two calls of Tick.
func (w *Warming) Period() time.Duration { return max(w.config.Window/periods, periodMin) }

// Tick looks at every configuration's demand again. It costs nothing by request, function or instance.
func (w *Warming) Tick(now time.Time) {
	slot := slotOf(now)
	for _, d := range w.order {
		if w.slot != 0 && slot > w.slot {
			d.season.learn(w.slot, float64(d.inSlot)/slotWidth.Seconds(), d.demand.peak)
			for gap := max(w.slot+1, slot-daySlots); gap < slot; gap++ {
				d.season.learn(gap, 0, 0)
			}
			d.inSlot, d.demand.peak = 0, 0
		}
		d.demand.advance(now, w.Period())
		d.look(now)
	}
	w.slot = max(w.slot, slot)
}

// look finds the target from the demand.
func (d *Demand) look(now time.Time) {
	c := d.warming.config
	most := d.Most()
	rate := d.demand.rate(d.warming.Period())
	steady := d.demand.steady(rate, c.Shortfall, most)
	bursty := d.demand.bursty(now, c.Window, c.Shortfall, most)
	known := d.known(now)
	d.target, d.reason = d.bounds.Minimum, reasonBounds
	if d.target < 1 && now.Before(d.wanted) {
		d.target, d.reason = 1, reasonExpected
	}
	if steady > d.target {
		d.target, d.reason = steady, fmt.Sprintf("%.2f instances are taken a second, and a refill takes %s", rate, d.demand.refill.Round(time.Millisecond))
	}
	if bursty > d.target {
		d.target, d.reason = bursty, fmt.Sprintf("bursts of the last %s took as many at once", c.Window)
	}
	if known > d.target {
		d.target, d.reason = known, "a peak came at this time before"
	}
	if d.target > most {
		d.target, d.reason = most, "the maximum: "+d.reason
	}
	if d.bounds.Pinned {
		d.target, d.reason = d.bounds.Target, reasonPinned
	}
}

// known is the peak that is to be prepared for: of the slots that begin soon, and of the one under way unless it has come.
func (d *Demand) known(now time.Time) int {
	slot := slotOf(now)
	peak := d.season.peak(slot)
	if 2*d.demand.peak >= peak {
		peak = 0
	}
	if next := slotOf(now.Add(prepareAhead)); next != slot {
		peak = max(peak, d.season.peak(next))
	}
	return peak
}

// Elsewhere is what other managers of the same machine serve of a configuration: requests a second over the last minute,
// and those expected now.
type Elsewhere struct {
	Configuration kiln.Configuration `json:"configuration"`
	Rate          float64            `json:"rate"`
	Expected      float64            `json:"expected"`
}

// Elsewhere takes over what is served elsewhere from now on. It counts to the threshold condition of every configuration of
// the same driver and runtime: code that became frequent is served by another fleet, in other shapes, and its requests are
// requests all the same.
func (w *Warming) Elsewhere(list []Elsewhere) {
	for _, d := range w.order {
		d.elsewhere = Elsewhere{}
		for _, e := range list {
			if e.Configuration.Driver == d.Configuration.Driver && e.Configuration.Runtime == d.Configuration.Runtime {
				d.elsewhere.Rate += e.Rate
				d.elsewhere.Expected += e.Expected
			}
		}
	}
}

// Expect has at least one instance warm until a time: requests are about to come that nothing here was asked for yet.
func (d *Demand) Expect(until time.Time) {
	if until.After(d.wanted) {
		d.wanted = until
	}
	if !d.bounds.Pinned && d.target < 1 && d.Most() > 0 {
		d.target, d.reason = 1, reasonExpected
	}
}

// Requested counts a request that this configuration serves.
func (d *Demand) Requested(now time.Time) {
	d.requests.add(now)
	d.inSlot++
}

// Asked counts an instance that was asked for, whether there was a warm one or not.
func (d *Demand) Asked(now time.Time) {
	if d.since.IsZero() {
		d.since = now
	}
	d.takes.add(now)
	d.demand.took(now, d.warming.Period())
}

// Took gives how many instances to boot because one was taken from the warming pool, and why.
func (d *Demand) Took(now time.Time) (add Added, cause string) {
	if d.bounds.Pinned || now.Before(d.retry) {
		return Added{}, ""
	}
	rate, expected, surging := d.surge(now)
	if surging {
		return Added{Second: d.warming.config.Second}, fmt.Sprintf("one was taken at %.2f requests a second, more than %g times the %.2f expected: the second number",
			rate, d.warming.config.Threshold, expected)
	}
	return Added{First: d.warming.config.First}, fmt.Sprintf("one was taken at %.2f requests a second, %.2f expected: the first number", rate, expected)
}

// surge compares the rate of the last minute with what is expected.
func (d *Demand) surge(now time.Time) (rate, expected float64, surging bool) {
	rate = d.requests.seconds.Rate(now, RateMinute) + d.elsewhere.Rate
	expected, _ = d.expected(now)
	expected += d.elsewhere.Expected
	return rate, expected, rate > d.warming.config.Threshold*max(expected, rateFloor)
}

// expected is the rate of requests that is usual now: at this time of day and week or, before that is known, in the last
// hour but for its last minute.
func (d *Demand) expected(now time.Time) (rate float64, basis string) {
	if rate, known := d.season.expected(slotOf(now)); known {
		return rate, "this time of day"
	}
	hour, covered := d.requests.minutes.count(now, RateHour)
	minute, _ := d.requests.seconds.count(now, RateMinute)
	if d.since.IsZero() || now.Sub(d.since) < 2*RateMinute {
		return 0, "nothing known yet"
	}
	covered = min(covered, now.Sub(d.since)) - RateMinute
	return max(hour-minute, 0) / covered.Seconds(), "the last hour"
}

// Target is how many instances are to be warm.
func (d *Demand) Target() int { return d.target }

// Most is the most that may be warm.
func (d *Demand) Most() int {
	if d.bounds.Pinned {
		return d.bounds.Target
	}
	return max(d.bounds.Maximum, d.bounds.Minimum)
}

// Missing is how many instances to boot now when so many are warm or booting; retry is when to ask again while boots
// fail, zero otherwise.
func (d *Demand) Missing(now time.Time, have int) (boot int, retry time.Time) {
	return d.Allowed(now, d.target-have)
}

// Allowed is how many of the instances that are missing may be booted now, and retry as for Missing.
func (d *Demand) Allowed(now time.Time, missing int) (boot int, retry time.Time) {
	switch {
	case missing <= 0:
		return 0, time.Time{}
	case now.Before(d.retry):
		return 0, d.retry
	case d.failures > 0:
		return 1, time.Time{} // one at a time until one succeeds
	}
	return missing, time.Time{}
}

// Surplus is how many warm instances to let go when so many are warm or booting: those that were too much for Release, and
// those above the maximum, or the operator's target, at once.
func (d *Demand) Surplus(now time.Time, have int) int {
	if have <= d.target {
		d.surplus = time.Time{}
		return 0
	}
	extra := have - d.target
	if d.surplus.IsZero() {
		d.surplus, d.least = now, extra
	}
	d.least = min(d.least, extra)
	release := max(have-d.Most(), 0)
	if now.Sub(d.surplus) >= d.warming.config.Release {
		release = max(release, d.least)
		d.surplus = time.Time{}
	}
	return release
}

// Booted tells that an instance of the warming pool became warm after so long, or failed.
func (d *Demand) Booted(now time.Time, ok bool, took time.Duration) {
	if ok {
		d.failures, d.retry = 0, time.Time{}
		d.demand.refilled(took)
		return
	}
	wait := BackoffFirst << min(d.failures, 20)
	d.failures++
	d.retry = now.Add(min(wait, BackoffMax))
}

// Count notes instances booted by what asked for them.
func (d *Demand) Count(a Added) {
	d.added.First += a.First
	d.added.Second += a.Second
	d.added.Target += a.Target
}

// State is one configuration's demand as it is shown.
type State struct {
	Configuration kiln.Configuration
	Bounds        Bounds
	Target        int
	Reason        string // for the target
	Requests      Rates
	Expected      float64 // requests a second
	Basis         string  // of the expectation
	Surging       bool
	Takes         Rates   // instances asked for
	Forecast      float64 // instances asked for a second by the time one asked for now is warm
	Refill        time.Duration
	Added         Added
}

// State shows a configuration's demand.
func (d *Demand) State(now time.Time) State {
	s := State{
		Configuration: d.Configuration, Bounds: d.bounds, Target: d.target, Reason: d.reason, Requests: d.requests.rates(now),
		Takes: d.takes.rates(now), Refill: d.demand.refill, Added: d.added,
	}
	_, _, s.Surging = d.surge(now)
	s.Expected, s.Basis = d.expected(now)
	s.Forecast = d.demand.rate(d.warming.Period())
	return s
}

// History gives what was learned of days and weeks.
func (w *Warming) History() History {
	var h History
	for _, d := range w.order {
		if !d.season.empty() {
			h.Seasons = append(h.Seasons, Season{d.Configuration, d.season.append(nil)})
		}
	}
	for _, s := range w.kept { // what this run has not heard of is for the next
		if w.demands[s.Configuration] == nil {
			h.Seasons = append(h.Seasons, s)
		}
	}
	return h
}

// Restore takes over what was learned by an earlier run. What cannot be read is learned anew.
func (w *Warming) Restore(h History) {
	w.past = make(map[kiln.Configuration][]byte, len(h.Seasons))
	w.kept = h.Seasons[:min(len(h.Seasons), DemandsMax)]
	for _, s := range w.kept {
		w.past[s.Configuration] = s.Learned
		if d := w.demands[s.Configuration]; d != nil && !d.season.read(s.Learned) {
			d.season = season{}
		}
	}
}

// Reason says what the target was chosen for.
func (d *Demand) Reason() string { return d.reason }

// Failing says whether the last boot failed: the next waits for its time.
func (d *Demand) Failing() bool { return d.failures > 0 }
