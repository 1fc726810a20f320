package policy

import (
	"math"
	"time"

	"kiln/internal/trace"
)

// The hybrid histogram's settings (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, section 4 and 5.1).
const (
	hybridHead        = 0.05 // the percentile of the gaps at which the container is loaded again
	hybridTail        = 0.99 // the percentile of the gaps until which it is kept
	hybridMargin      = 0.1  // by which both are widened
	hybridVariation   = 2.0  // the histogram tells something when its bins vary by more (standard deviation over mean)
	hybridOutside     = 0.5  // the part of the gaps out of the range from which gaps are forecast instead
	hybridAround      = 0.15 // the part of a forecast gap that the container is loaded before it and kept after it
	hybridGapsKept    = 20   // for the forecast
	hybridForecastOf  = 5    // gaps whose mean is the forecast
	hybridFirst       = 15 * time.Minute
	hybridBin         = time.Minute
	hybridFirstMinute = 1 // a head below it is none: there is nothing to gain by unloading
)

// Hybrid is the hybrid histogram policy: of each function the gaps between calls are counted in bins of a minute, and the
// container is loaded shortly before the shortest usual gap is over and kept until after the longest. Make it with NewHybrid.
type Hybrid struct {
	bins     int
	forecast bool
}

// NewHybrid makes the policy for gaps up to a range. Where most gaps are longer they are forecast: as the mean of the last
// five, or by an autoregressive model as the paper has it.
func NewHybrid(within time.Duration, autoregressive bool) Hybrid {
	return Hybrid{bins: int(within / hybridBin), forecast: autoregressive}
}

// Name is hybrid-4h, or hybrid-4h-ar with the autoregressive forecast.
func (p Hybrid) Name() string {
	if p.forecast {
		return name("hybrid", time.Duration(p.bins)*hybridBin, "h-ar")
	}
	return name("hybrid", time.Duration(p.bins)*hybridBin, "h")
}

// Value is the range in minutes.
func (p Hybrid) Value() float64 { return float64(p.bins) }

// Keeper makes one histogram.
func (p Hybrid) Keeper(*trace.Function) Keeper {
	return &hybrid{policy: p, bins: make([]int, p.bins+1), span: None()}
}

type hybrid struct {
	policy  Hybrid
	bins    []int // gaps by whole minutes
	inside  int
	squares int       // of the bins, summed
	outside int       // gaps out of range
	gaps    []float64 // the last ones, in minutes
	called  bool
	last    time.Duration
	span    Span
}

func (k *hybrid) Called(at time.Duration, _ int) {
	if k.called {
		k.count(at - k.last)
	}
	k.called, k.last = true, at
	load, until := k.plan()
	k.span = Span{at + load, at + until}
}

func (k *hybrid) count(gap time.Duration) {
	if len(k.gaps) == hybridGapsKept {
		k.gaps = append(k.gaps[:0], k.gaps[1:]...)
	}
	k.gaps = append(k.gaps, gap.Minutes())
	bin := int(gap / hybridBin)
	if bin >= len(k.bins) {
		k.outside++
		return
	}
	k.squares += 2*k.bins[bin] + 1
	k.bins[bin]++
	k.inside++
}

// plan gives when to load and until when to keep, after a call.
func (k *hybrid) plan() (load, until time.Duration) {
	total := k.inside + k.outside
	switch {
	case total == 0:
		return 0, hybridFirst
	case float64(k.outside) > hybridOutside*float64(total):
		gap := mean(k.gaps, hybridForecastOf)
		if k.policy.forecast {
			gap = forecast(k.gaps)
		}
		return minutes(gap * (1 - hybridAround)), minutes(gap * (1 + hybridAround))
	}
	bins := float64(k.policy.bins)
	average := float64(k.inside) / bins
	if variation := math.Sqrt(float64(k.squares)/bins-average*average) / average; variation < hybridVariation {
		return 0, time.Duration(k.policy.bins) * hybridBin
	}
	head, tail := k.percentile(hybridHead), k.percentile(hybridTail)
	first := math.Floor((1 - hybridMargin) * float64(head))
	if first <= hybridFirstMinute {
		first = 0
	}
	return minutes(first), minutes(math.Ceil((1 + hybridMargin) * float64(tail)))
}

// percentile gives the bin at which a part of the gaps within range is reached.
func (k *hybrid) percentile(part float64) int {
	need, sum := part*float64(k.inside)-1e-9, 0
	for bin, n := range k.bins {
		if sum += n; n > 0 && float64(sum) >= need {
			return bin
		}
	}
	return k.policy.bins
}

func (k *hybrid) Next(time.Duration) (Span, time.Duration) { return k.span, Never }

// minutes gives a time to the second.
func minutes(n float64) time.Duration { return time.Duration(math.Round(n*60)) * time.Second }

// forecast gives the next value of a series by an autoregressive model with up to two terms, of the values or of their
// differences, whichever explains the series best for its number of terms (Akaike's criterion): a small ARIMA(p,d,0).
func forecast(values []float64) float64 {
	best, next := math.Inf(1), mean(values, hybridForecastOf)
	for d := range 2 {
		series := values
		if d == 1 {
			series = differences(values)
		}
		for p := range 3 {
			if len(series) < 2*p+4 {
				continue
			}
			criterion, value := autoregression(series, p)
			if d == 1 {
				value += values[len(values)-1]
			}
			if criterion < best && value > 0 {
				best, next = criterion, value
			}
		}
	}
	return next
}

func differences(values []float64) []float64 {
	out := make([]float64, 0, len(values))
	for i := 1; i < len(values); i++ {
		out = append(out, values[i]-values[i-1])
	}
	return out
}

// autoregression fits a series to its last p values by least squares and gives Akaike's criterion and the next value.
func autoregression(series []float64, p int) (criterion, next float64) {
	size := p + 1
	var a [3][4]float64 // the normal equations
	row := func(at int) (x [3]float64) {
		x[0] = 1
		for j := 1; j <= p; j++ {
			x[j] = series[at-j]
		}
		return x
	}
	for at := p; at < len(series); at++ {
		x := row(at)
		for i := range size {
			for j := range size {
				a[i][j] += x[i] * x[j]
			}
			a[i][3] += x[i] * series[at]
		}
	}
	for i := range size {
		a[i][i] += 1e-6 // constant series have no other solution
	}
	c := solve(a, size)
	apply := func(x [3]float64) float64 { return c[0]*x[0] + c[1]*x[1] + c[2]*x[2] }
	rest := 0.0
	for at := p; at < len(series); at++ {
		e := series[at] - apply(row(at))
		rest += e * e
	}
	n := float64(len(series) - p)
	return n*math.Log(rest/n+1e-3) + 2*float64(size+1), apply(row(len(series)))
}

// solve solves up to three linear equations; the right side is in the last column.
func solve(a [3][4]float64, size int) (x [3]float64) {
	for i := range size {
		for j := i + 1; j < size; j++ {
			part := a[j][i] / a[i][i]
			for k := i; k < size; k++ {
				a[j][k] -= part * a[i][k]
			}
			a[j][3] -= part * a[i][3]
		}
	}
	for i := size - 1; i >= 0; i-- {
		x[i] = a[i][3]
		for j := i + 1; j < size; j++ {
			x[i] -= a[i][j] * x[j]
		}
		x[i] /= a[i][i]
	}
	return x
}
