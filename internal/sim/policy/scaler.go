package policy

import (
	"math"
	"time"
)

// Scaler decides how many containers a function has, at every tick, in system mode.
type Scaler interface {
	// Tick tells of the time since the last tick: the mean number of executions at once, the greatest, and how many
	// containers there are now. It gives how many to have; less than 0 for none, and no more ticks before the next call.
	Tick(now time.Duration, mean float64, peak, have int) int
}

// Scaling is a policy that scales in system mode.
type Scaling interface {
	Policy
	Scaler() Scaler
	// Every is the time between two ticks.
	Every() time.Duration
}

// knativeTick is how often Knative's autoscaler decides.
const knativeTick = 2 * time.Second

func (p Knative) Every() time.Duration { return knativeTick }

func (p Knative) Scaler() Scaler {
	return &knative{stable: make([]float64, max(int(p.Window/knativeTick), 1))}
}

type knative struct {
	stable []float64 // the means of the last ticks, a ring
	ticks  int
	panics time.Duration // until then
	most   int           // wanted while it panics
	zero   time.Duration // since nothing is wanted
	silent bool
}

func (k *knative) Tick(now time.Duration, mean float64, _, have int) int {
	k.stable[k.ticks%len(k.stable)] = mean
	k.ticks++
	stable := k.last(len(k.stable))
	short := k.last(min(int(KnativePanicWindow/knativeTick), len(k.stable)))
	want, burst := containers(stable), containers(short)
	if burst > 0 && float64(burst) >= KnativePanic*float64(max(have, 1)) {
		if now >= k.panics {
			k.most = have
		}
		k.panics = now + time.Duration(len(k.stable))*knativeTick
	}
	if now < k.panics {
		k.most = max(k.most, burst, want)
		want = k.most
	}
	if want > 0 {
		k.silent = false
		return want
	}
	if !k.silent {
		k.silent, k.zero = true, now
	}
	if now < k.zero+KnativeGrace {
		return min(1, have)
	}
	return -1
}

// last is the mean of the last n ticks.
func (k *knative) last(n int) float64 {
	n = min(n, k.ticks)
	sum := 0.0
	for i := 1; i <= n; i++ {
		sum += k.stable[(k.ticks-i)%len(k.stable)]
	}
	return sum / float64(n)
}

// containers is how many executions at once ask for at Knative's target. What is left of a window by rounding is none.
func containers(concurrency float64) int { return int(math.Ceil(concurrency/KnativeTarget - 1e-9)) }

func (p TargetTracking) Every() time.Duration { return time.Minute }

func (p TargetTracking) Scaler() Scaler {
	return &tracking{peaks: make([]int, max(int(p.In/time.Minute), 1))}
}

type tracking struct {
	peaks []int // of the last minutes, a ring
	ticks int
	above int // minutes in a row with the use above the target
}

func (k *tracking) Tick(_ time.Duration, _ float64, peak, have int) int {
	k.peaks[k.ticks%len(k.peaks)] = peak
	k.ticks++
	if float64(peak) > TargetTrackingUse*float64(have) {
		k.above++
	} else {
		k.above = 0
	}
	most := 0
	for _, n := range k.peaks {
		most = max(most, n)
	}
	switch {
	case most == 0:
		return -1
	case k.above >= int(TargetTrackingOut/time.Minute):
		return int(math.Ceil(float64(most) / TargetTrackingUse))
	}
	return most
}

func (p FeMux) Every() time.Duration { return time.Minute }

func (p FeMux) Scaler() Scaler {
	k := &femux{threshold: p.Threshold}
	k.fourier.turn()
	return k
}

// Tick forecasts the greatest number of executions at once in the next minute.
func (k *femux) Tick(_ time.Duration, _ float64, peak, _ int) int {
	k.pass(float64(peak))
	if k.silent >= femuxHistory {
		return -1
	}
	if !k.foreseen[k.chosen] {
		return 0
	}
	return max(1, int(math.Ceil(k.values[k.chosen]-0.5)))
}
