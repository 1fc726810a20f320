package policy

import (
	"math"
	"slices"
	"time"

	"kiln/internal/trace"
)

// FeMux's settings (ubc-cirrus-lab/femux): forecasts for each minute, the forecaster chosen by what its mistakes cost.
const (
	// FeMuxThreshold is the forecast from which a container is kept for the next minute.
	FeMuxThreshold = 0.15

	femuxHistory   = 120 // minutes that forecasts look back
	femuxEvery     = 60  // minutes between two choices of a forecaster
	femuxAverage   = 10  // minutes of the moving average
	femuxSmoothing = 0.2
	femuxHarmonics = 10
	femuxStates    = 4
	femuxForget    = 0.5 // of what mistakes cost, at each choice
	// femuxColdMinutes is what a cold start weighs, in minutes of an idle container: 0.808 s against 170 MiB at 99.69 GB-s/s.
	femuxColdMinutes = 0.808 * 99.69 / (0.166 * 60)
)

// FeMux forecasts for every minute whether there will be calls: by a moving average, exponential smoothing, a Markov chain
// and the largest harmonics of a Fourier transform. Each app uses the forecaster whose mistakes would have cost it least.
type FeMux struct{ Threshold float64 }

func (p FeMux) Name() string   { return "femux" }
func (p FeMux) Value() float64 { return p.Threshold }

// Keeper makes the four forecasters of one function. The function is the app here: it is what is kept.
func (p FeMux) Keeper(*trace.Function) Keeper {
	k := &femux{threshold: p.Threshold}
	k.fourier.turn()
	return k
}

// femux knows the last minutes; minutes before the first call are not part of them.
type femux struct {
	threshold float64
	began     bool
	now       int                   // the minute not yet in the history
	ring      [femuxHistory]float64 // calls: 1 or none in paper mode, as many as at once in system mode
	length    int
	smooth    float64
	chain     [femuxStates][femuxStates]float64
	state     int
	fourier   fourier
	values    [4]float64 // what each forecaster said of minute now
	foreseen  [4]bool    // whether that was enough
	cost      [4]float64
	chosen    int
	silent    int // minutes since the last call
}

func (k *femux) Called(at time.Duration, _ int) {
	minute := int(at / time.Minute)
	if !k.began {
		k.began, k.now = true, minute
	}
	for k.now < minute {
		k.pass(0)
	}
	if k.now == minute {
		k.pass(1)
	}
}

// Next says whether the chosen forecaster sees a call in the minute of at. After as long a silence as the history is nobody
// sees any.
func (k *femux) Next(at time.Duration) (Span, time.Duration) {
	minute := int(at / time.Minute)
	for k.now < minute {
		k.pass(0)
	}
	again := time.Duration(minute+1) * time.Minute
	if k.silent >= femuxHistory {
		return None(), Never
	}
	if !k.foreseen[k.chosen] {
		return None(), again
	}
	return Span{at, again - 1}, again
}

// pass takes in what the minute now was and forecasts the next.
func (k *femux) pass(calls float64) {
	for i, seen := range k.foreseen {
		if seen {
			k.cost[i]++
		} else if calls > 0 {
			k.cost[i] += femuxColdMinutes
		}
	}
	k.silent++
	if calls > 0 {
		k.silent = 0
	}
	if k.length > 0 && k.length%femuxEvery == 0 {
		k.choose()
	}
	slot := k.length % femuxHistory
	k.fourier.slide(calls - k.ring[slot])
	k.ring[slot] = calls
	k.length++
	k.now++
	k.smooth += femuxSmoothing * (calls - k.smooth)
	k.advance(calls)
	k.values = [4]float64{k.average(), k.smooth, k.expect(), k.fourier.next(min(k.length, femuxHistory))}
	for i, value := range k.values {
		k.foreseen[i] = value >= k.threshold
	}
}

func (k *femux) choose() {
	best := 0
	for i := range k.cost {
		if k.cost[i] < k.cost[best] {
			best = i
		}
	}
	k.chosen = best
	for i := range k.cost {
		k.cost[i] *= femuxForget
	}
}

func (k *femux) average() float64 {
	n := min(k.length, femuxAverage)
	sum := 0.0
	for i := 1; i <= n; i++ {
		sum += k.ring[(k.length-i)%femuxHistory]
	}
	return sum / float64(n)
}

// advance moves the Markov chain. Its states are how many minutes ago the last call was: this one, up to 4, up to 15, more.
func (k *femux) advance(float64) {
	to := femuxStates - 1
	switch {
	case k.silent == 0:
		to = 0
	case k.silent <= 4:
		to = 1
	case k.silent <= 15:
		to = 2
	}
	k.chain[k.state][to]++
	k.state = to
}

// expect is the chance of a call in the next minute by the chain.
func (k *femux) expect() float64 {
	row := k.chain[k.state]
	sum := 0.5 * femuxStates
	for _, n := range row {
		sum += n
	}
	return (row[0] + 0.5) / sum
}

// fourier is the discrete Fourier transform of the last minutes, brought along by each.
type fourier struct {
	bins    [femuxHistory/2 + 1]complex128
	turns   [femuxHistory/2 + 1]complex128
	largest [femuxHistory/2 + 1]int
	drift   int
}

func (f *fourier) turn() {
	for i := range f.turns {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / femuxHistory)
		f.turns[i] = complex(cos, sin)
		f.largest[i] = i
	}
}

// slide lets the oldest minute go and the newest come; change is the difference of the two.
func (f *fourier) slide(change float64) {
	for i := range f.bins {
		f.bins[i] = (f.bins[i] + complex(change, 0)) * f.turns[i]
	}
}

// next extrapolates the largest harmonics by a minute: as the transform is periodic, to what was a whole history ago.
func (f *fourier) next(length int) float64 {
	if length < femuxHistory/4 {
		return 0
	}
	order := f.largest[1:]
	slices.SortFunc(order, func(a, b int) int {
		x, y := power(f.bins[a]), power(f.bins[b])
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return a - b
	})
	value := real(f.bins[0])
	for _, i := range order[:femuxHarmonics] {
		part := 2.0
		if i == femuxHistory/2 {
			part = 1
		}
		value += part * real(f.bins[i])
	}
	return value / float64(femuxHistory)
}

func power(c complex128) float64 { return real(c)*real(c) + imag(c)*imag(c) }
