package trace

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Make makes a trace of its own: functions as the public traces have them (called by a timer, seldom, in bursts, all the
// time), entirely as the seed says. Tests and the demo use it, where the public traces are not at hand.
func Make(seed uint64, functions, minutes int) *Trace {
	chance := rand.New(rand.NewPCG(seed, 0x6d616465))
	t := &Trace{Name: "made-" + strconv.FormatUint(seed, 10), Minutes: minutes}
	for i := range functions {
		f := Function{
			Account: "account" + strconv.Itoa(i%7), App: "app" + strconv.Itoa(i/3), Name: "function" + strconv.Itoa(i), Weight: 1,
			MemoryMiB: float64([]int{64, 128, 170, 256, 512}[chance.IntN(5)]),
			Duration:  madeDuration(chance),
		}
		f.Calls, f.Trigger = madeCalls(chance, minutes)
		t.Functions = append(t.Functions, f)
	}
	return t
}

// madeDuration gives percentiles around a median between 3 ms and 20 s.
func madeDuration(chance *rand.Rand) Duration {
	median := math.Exp(chance.NormFloat64()*1.4 + math.Log(250))
	median = min(max(median, 3), 20_000)
	d := Duration{Average: millis(1.2 * median)}
	for i, part := range []float64{0.5, 0.8, 1, 1.4, 3, 5} {
		d.Percentiles[i] = millis(part * median)
	}
	return d
}

// madeCalls gives one function's calls and what made them.
func madeCalls(chance *rand.Rand, minutes int) ([]Call, string) {
	switch kind := chance.Float64(); {
	case kind < 0.35: // a timer
		period := []int{1, 5, 10, 15, 30, 60}[chance.IntN(6)]
		var calls []Call
		for m := chance.IntN(period); m < minutes; m += period {
			calls = append(calls, Call{int32(m), 1})
		}
		return calls, "timer"
	case kind < 0.75: // seldom, by chance
		return poisson(chance, minutes, math.Exp(chance.Float64()*5-6), 1), "http"
	case kind < 0.9: // bursts
		return poisson(chance, minutes, 0.01, 30), "queue"
	default: // all the time
		return poisson(chance, minutes, 2+10*chance.Float64(), 1), "event"
	}
}

// poisson gives calls by chance: so many arrivals a minute, each of up to burst calls.
func poisson(chance *rand.Rand, minutes int, rate float64, burst int) []Call {
	var calls []Call
	at := 0.0
	for {
		at += chance.ExpFloat64() / rate
		if at >= float64(minutes) {
			return calls
		}
		n := int32(1 + chance.IntN(burst))
		if last := len(calls) - 1; last >= 0 && calls[last].Minute == int32(at) {
			calls[last].Count += n
			continue
		}
		calls = append(calls, Call{int32(at), n})
	}
}

// Arrivals gives every call of a function with a time: its own where the trace has them, otherwise by chance within its
// minute. They are in order.
func (f *Function) Arrivals(chance *rand.Rand) []time.Duration {
	if len(f.Times) > 0 {
		return f.Times
	}
	out := make([]time.Duration, 0, f.Requests())
	for _, c := range f.Calls {
		begin := len(out)
		for range c.Count {
			out = append(out, time.Duration(c.Minute)*time.Minute+time.Duration(chance.Int64N(int64(time.Minute))))
		}
		slices.Sort(out[begin:])
	}
	return out
}
