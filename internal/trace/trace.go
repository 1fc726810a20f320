// Package trace holds recorded requests: which function was called when, how long it took and how much memory it used.
//
// It reads the public traces that capacity policies are compared on (see Read) and makes small ones of its own (see Make).
// It simulates nothing and learns nothing: packages sim and train do. Traces are not changed once read, and may then be
// used by several goroutines.
package trace

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Trace is a set of functions and their calls over one span of time.
type Trace struct {
	// Name is the file's, without folder and endings.
	Name string
	// Minutes is the length of the span.
	Minutes int
	// Functions are in the file's order.
	Functions []Function
}

// Function is one function and its calls.
type Function struct {
	Account, App, Name, Trigger string
	// Weight is how many functions are just like this one, at least 1.
	Weight int
	// Calls are the minutes with calls, in order.
	Calls []Call
	// Times are the single calls' times since the beginning, in order, where the trace has them.
	Times []time.Duration
	// Duration is what executions take; its zero value when not known.
	Duration Duration
	// MemoryMiB is what a container of it uses on average, 0 when not known.
	MemoryMiB float64
}

// Call is how often a function was called in a minute.
type Call struct {
	Minute int32
	Count  int32
}

// Duration is how long executions take.
type Duration struct {
	Average     time.Duration
	Percentiles [len(Ranks)]time.Duration
}

// Ranks are the percentiles that Duration has, in hundredths; the last is the greatest seen.
var Ranks = [...]float64{1, 25, 50, 75, 99, 100}

// Known says whether anything is known of the durations.
func (d Duration) Known() bool { return d.Average > 0 }

// At gives the duration at a rank between 0 and 1, straight between the percentiles known.
func (d Duration) At(rank float64) time.Duration {
	at := 100 * min(max(rank, 0), 1)
	if at <= Ranks[0] {
		return d.Percentiles[0]
	}
	for i := 1; i < len(Ranks); i++ {
		if at <= Ranks[i] {
			part := (at - Ranks[i-1]) / (Ranks[i] - Ranks[i-1])
			low, high := d.Percentiles[i-1], d.Percentiles[i]
			return low + time.Duration(part*float64(high-low))
		}
	}
	return d.Percentiles[len(Ranks)-1]
}

// Requests counts the calls.
func (f *Function) Requests() int {
	n := 0
	for _, c := range f.Calls {
		n += int(c.Count)
	}
	return n
}

// Requests counts the calls of all functions, each as often as it weighs.
func (t *Trace) Requests() int {
	n := 0
	for i := range t.Functions {
		n += t.Functions[i].Weight * t.Functions[i].Requests()
	}
	return n
}

// Expanded gives a trace whose functions all weigh 1: a function of weight n stands there n times. With shift each copy
// is turned by a time of its own, as the seed says: what leaves the end comes in again at the beginning.
func (t *Trace) Expanded(seed uint64, shift bool) *Trace {
	out := &Trace{Name: t.Name, Minutes: t.Minutes}
	chance := rand.New(rand.NewPCG(seed, 0x7368696674))
	for _, f := range t.Functions {
		for copied := range f.Weight {
			g := f
			g.Weight = 1
			if f.Weight > 1 {
				g.Name += "#" + strconv.Itoa(copied)
				if g.App != "" {
					g.App += "#" + strconv.Itoa(copied)
				}
				if shift {
					g = turned(g, t.Minutes, chance.IntN(t.Minutes))
				}
			}
			out.Functions = append(out.Functions, g)
		}
	}
	return out
}

// turned gives f with all its calls so many minutes later, around the end.
func turned(f Function, minutes, by int) Function {
	calls := make([]Call, len(f.Calls))
	for i, c := range f.Calls {
		calls[i] = Call{Minute: int32((int(c.Minute) + by) % minutes), Count: c.Count}
	}
	slices.SortFunc(calls, func(a, b Call) int { return int(a.Minute) - int(b.Minute) })
	f.Calls = calls
	length := time.Duration(minutes) * time.Minute
	times := make([]time.Duration, len(f.Times))
	for i, at := range f.Times {
		times[i] = (at + time.Duration(by)*time.Minute) % length
	}
	slices.Sort(times)
	f.Times = times
	return f
}

// Cut gives the trace of some minutes, counted from the first of them, without the functions that are not called in them.
func (t *Trace) Cut(from, minutes int) *Trace {
	to := min(from+minutes, t.Minutes)
	out := &Trace{Name: t.Name, Minutes: to - from}
	for _, f := range t.Functions {
		g := f
		g.Calls, g.Times = nil, nil
		for _, c := range f.Calls {
			if int(c.Minute) >= from && int(c.Minute) < to {
				g.Calls = append(g.Calls, Call{c.Minute - int32(from), c.Count})
			}
		}
		for _, at := range f.Times {
			if at >= time.Duration(from)*time.Minute && at < time.Duration(to)*time.Minute {
				g.Times = append(g.Times, at-time.Duration(from)*time.Minute)
			}
		}
		if len(g.Calls) > 0 {
			out.Functions = append(out.Functions, g)
		}
	}
	return out
}

// Folds parts the functions into k folds of like size, as the seed says; each function's fold.
func (t *Trace) Folds(k int, seed uint64) []int {
	order := rand.New(rand.NewPCG(seed, 0x666f6c6473)).Perm(len(t.Functions))
	folds := make([]int, len(t.Functions))
	for place, i := range order {
		folds[i] = place % k
	}
	return folds
}

// Only gives the trace of the functions that keep says.
func (t *Trace) Only(keep func(i int) bool) *Trace {
	out := &Trace{Name: t.Name, Minutes: t.Minutes}
	for i, f := range t.Functions {
		if keep(i) {
			out.Functions = append(out.Functions, f)
		}
	}
	return out
}

// Owner is whoever is called as one thing in statistics by app: the app, or the function where none is known.
func (f *Function) Owner() string {
	if f.App != "" {
		return f.App
	}
	return f.Name
}

// millis reads a number of milliseconds; what cannot be a duration is none.
func millis(v float64) time.Duration {
	if math.IsNaN(v) || v < 0 || v > 1e12 {
		return 0
	}
	return time.Duration(v * float64(time.Millisecond))
}
