package capacity

import (
	"math"
	"time"
)

// How demand is looked at.
const (
	// periods is how many samples of the demand make Config.Window, and periodMin the shortest sample.
	periods   = 360
	periodMin = 250 * time.Millisecond
	// levelWeight and trendWeight are how much of a new sample the level, and of a new difference the trend, takes over:
	// Holt's double exponential smoothing. The trend is damped, since no ramp goes on for ever.
	levelWeight = 0.3
	trendWeight = 0.2
	trendDamped = 0.9
	// clipped is by how many standard deviations a single sample may exceed the level; the rest of it is taken for a spike.
	clipped = 3
	// burstsKept bounds the bursts remembered.
	burstsKept = 64
	// refillPrior is what booting and preparing an instance is thought to take before it was seen. refillMin and refillMax
	// bound what it is thought to take ever: a refill that waits in a line of refills takes longer the more are wanted, and
	// a target that followed it would lengthen the line further.
	refillPrior = 200 * time.Millisecond
	refillMin   = 50 * time.Millisecond
	refillMax   = 3 * time.Second
	// refillDrift is how much of a longer refill is taken over; a shorter one is believed at once: it did not wait.
	refillDrift = 32
)

// demand is what is known of the instances asked for of one configuration: recently, in bursts, and as a trend.
type demand struct {
	refill time.Duration

	recent []time.Time // takes within one refill time; at most peakMax
	bursts [burstsKept]burst
	newest int // of bursts

	sample int64   // number of the sample under way
	count  int     // of takes in it
	level  float64 // takes a sample
	trend  float64 // growth of the level a sample
	peak   int     // greatest demand within one refill time in the slot of the season under way
}

// burst is a run of takes, each within one refill time of the one before.
type burst struct {
	began, last time.Time
	peak        int // most takes within one refill time
}

// took counts a take.
func (d *demand) took(now time.Time, period time.Duration) {
	keep := d.recent[:0]
	for _, t := range d.recent {
		if now.Sub(t) < d.refill {
			keep = append(keep, t)
		}
	}
	d.recent = keep
	if len(d.recent) < peakMax {
		d.recent = append(d.recent, now)
	}
	n := len(d.recent)
	b := &d.bursts[d.newest]
	if b.began.IsZero() || now.Sub(b.last) >= d.refill || now.Sub(b.began) >= period {
		d.newest = (d.newest + 1) % burstsKept
		b = &d.bursts[d.newest]
		*b = burst{began: now}
	}
	b.last, b.peak = now, max(b.peak, n)
	d.count++
	d.peak = max(d.peak, n)
}

// refilled takes what a refill took.
func (d *demand) refilled(took time.Duration) {
	took = min(max(took, refillMin), refillMax)
	if took < d.refill {
		d.refill = took
		return
	}
	d.refill += (took - d.refill) / refillDrift
}

// advance ends the samples that are over at now.
func (d *demand) advance(now time.Time, period time.Duration) {
	to := now.UnixNano() / int64(period)
	if d.sample == 0 {
		d.sample = to
	}
	if to-d.sample > 4*periods { // nothing of before is left after so long
		d.sample, d.count, d.level, d.trend = to, 0, 0, 0
	}
	for ; d.sample < to; d.sample++ {
		x := min(float64(d.count), d.level+clipped*math.Sqrt(d.level+1))
		before := d.level
		d.level = max(levelWeight*x+(1-levelWeight)*(d.level+d.trend), 0)
		d.trend = trendWeight*(d.level-before) + (1-trendWeight)*trendDamped*d.trend
		d.count = 0
	}
}

// rate is the takes a second that the trend leads to by the time an instance asked for now is warm.
func (d *demand) rate(period time.Duration) float64 {
	ahead := 1 + float64(d.refill)/float64(period)
	return max(d.level+ahead*max(d.trend, -d.level/ahead), 0) / period.Seconds()
}

// steady is the stock that demand at a rate exceeds within one refill time with a probability below shortfall: arrivals
// are independent (Poisson).
func (d *demand) steady(rate, shortfall float64, most int) int {
	mean := rate * d.refill.Seconds()
	p := math.Exp(-mean)
	sum := p
	for k := range most {
		if 1-sum <= shortfall {
			return k
		}
		p *= mean / float64(k+1)
		sum += p
	}
	return most
}

// bursty is the stock of which the bursts of the window would have missed less than the share shortfall of their takes. The
// greatest burst is left out: one spike is none to keep stock for.
func (d *demand) bursty(now time.Time, window time.Duration, shortfall float64, most int) int {
	greatest, all := 0, 0
	for _, b := range d.bursts {
		if b.peak > 0 && now.Sub(b.last) <= window {
			greatest = max(greatest, b.peak)
			all += b.peak
		}
	}
	all -= greatest
	for k := range most {
		missed := -max(greatest-k, 0)
		for _, b := range d.bursts {
			if b.peak > k && now.Sub(b.last) <= window {
				missed += b.peak - k
			}
		}
		if float64(missed) <= shortfall*float64(all) {
			return k
		}
	}
	return most
}
