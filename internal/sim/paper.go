package sim

import (
	"math"
	"slices"
	"time"

	"kiln/internal/sim/policy"
	"kiln/internal/trace"
)

// wasteOne is the fixed keep-alive whose idle memory is called 1.
const wasteOne = 10 * time.Minute

// tally is what a policy cost on a trace, in paper mode.
type tally struct {
	cold    int
	idle    int     // container-minutes loaded and without a call, the minute of the hit among them
	idleGBs float64 // by the functions' own memory
	apps    map[string]*appTally
}

// appTally is an app's part of it.
type appTally struct{ cold, requests, weight int }

// paper counts a policy as the papers do.
func paper(t *trace.Trace, p policy.Policy) *tally {
	if greedy, is := p.(policy.GreedyDual); is {
		return paperGreedy(t, greedy)
	}
	total := &tally{apps: make(map[string]*appTally)}
	for i := range t.Functions {
		f := &t.Functions[i]
		k := p.Keeper(f)
		if ours, is := p.(policy.Kiln); is {
			k = ours.KeeperAt(i)
		}
		cold, idle := paperFunction(k, f, t.Minutes)
		total.add(f, cold, idle)
	}
	if cells, is := p.(policy.StemCells); is { // ready all the time; each a unit
		total.idle += cells.Cells * t.Minutes
		total.idleGBs += float64(cells.Cells) * float64(t.Minutes) * 60 * policy.StemCellMiB / 1024
	}
	return total
}

// add counts a function.
func (t *tally) add(f *trace.Function, cold, idle int) {
	t.cold += f.Weight * cold
	t.idle += f.Weight * idle
	t.idleGBs += float64(f.Weight*idle) * 60 * memoryMiB(f) / 1024
	app := t.apps[f.Owner()]
	if app == nil {
		app = &appTally{weight: f.Weight}
		t.apps[f.Owner()] = app
	}
	app.cold += cold
	app.requests += f.Requests()
}

func memoryMiB(f *trace.Function) float64 {
	if f.MemoryMiB > 0 {
		return f.MemoryMiB
	}
	return usualMiB
}

// paperFunction counts one function: a call is cold when the container is not loaded in its minute, and every minute from
// the one after a call to the next call's, this included, in which it is loaded is idle; nothing after the trace's end.
func paperFunction(k policy.Keeper, f *trace.Function, minutes int) (cold, idle int) {
	for i, call := range f.Calls {
		if i == 0 {
			cold++
		}
		at := int(call.Minute)
		next, end := math.MaxInt, minutes-1
		if i+1 < len(f.Calls) {
			next = int(f.Calls[i+1].Minute)
			end = next
		}
		k.Called(time.Duration(at)*time.Minute, int(call.Count))
		loaded, hit := keep(k, at+1, end)
		idle += loaded
		if next != math.MaxInt && !hit {
			cold++
		}
	}
	return cold, idle
}

// keep counts the minutes from one to another, both included, in which a keeper holds its container when no call comes
// before the last of them; hit says whether it does in that one.
func keep(k policy.Keeper, from, to int) (loaded int, hit bool) {
	for from <= to {
		span, again := k.Next(time.Duration(from) * time.Minute)
		if !span.Empty() {
			first := max(int((span.From+time.Minute-1)/time.Minute), from)
			last := to
			if span.Until < time.Duration(to)*time.Minute {
				last = int(span.Until / time.Minute)
			}
			if last >= first {
				loaded += last - first + 1
				from = last + 1
				hit = last == to
			}
		}
		if again == policy.Never {
			break
		}
		from = max(from, int((again+time.Minute-1)/time.Minute))
	}
	return loaded, hit
}

// paperGreedy counts greedy-dual with as much memory as makes its idle time what was asked for.
func paperGreedy(t *trace.Trace, p policy.GreedyDual) *tally {
	t = t.Expanded(0, false)
	want := p.Value() * float64(paper(t, policy.Fixed{Keep: wasteOne}).idle)
	calls := inOrder(t)
	low, high := 1, len(t.Functions)
	for low < high { // the most memory that is not idle for longer
		middle := (low + high + 1) / 2
		if float64(greedyWith(t, calls, middle).idle) <= want {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return greedyWith(t, calls, low)
}

// moment is a function's call in a minute.
type moment struct{ minute, function int32 }

func inOrder(t *trace.Trace) []moment {
	var all []moment
	for i := range t.Functions {
		for _, c := range t.Functions[i].Calls {
			all = append(all, moment{c.Minute, int32(i)})
		}
	}
	slices.SortFunc(all, func(a, b moment) int {
		if a.minute != b.minute {
			return int(a.minute - b.minute)
		}
		return int(a.function - b.function)
	})
	return all
}

func greedyWith(t *trace.Trace, calls []moment, units int) *tally {
	cache := policy.NewCache(float64(units))
	cold, idle := make([]int, len(t.Functions)), make([]int, len(t.Functions))
	since := make(map[int]int32) // loaded since
	for _, c := range calls {
		loaded, gone := cache.Call(int(c.function), 1, 1)
		if !loaded {
			cold[c.function]++
			since[int(c.function)] = c.minute
		}
		for _, f := range gone {
			idle[f] += int(c.minute - since[f])
			delete(since, f)
		}
	}
	for f, minute := range since {
		idle[f] += t.Minutes - 1 - int(minute)
	}
	total := &tally{apps: make(map[string]*appTally)}
	for i := range t.Functions {
		total.add(&t.Functions[i], cold[i], idle[i])
	}
	return total
}

// result makes the figures of it.
func (t *tally) result(p policy.Policy, tr *trace.Trace, base *tally) Result {
	r := Result{Policy: p.Name(), Mode: ModePaper, Value: p.Value(), Cold: t.cold, Requests: tr.Requests(), IdleGBs: t.idleGBs}
	if base.idle > 0 {
		r.Waste = float64(t.idle) / float64(base.idle)
	}
	r.RUM = rum(float64(t.cold), t.idleGBs)
	shares := make([]share, 0, len(t.apps))
	for _, a := range t.apps {
		if a.requests > 0 {
			shares = append(shares, share{100 * float64(a.cold) / float64(a.requests), a.weight})
		}
	}
	r.ColdP50App, r.ColdP75App, r.ColdP90App = percentile(shares, 0.5), percentile(shares, 0.75), percentile(shares, 0.9)
	return r
}

// share is a value that counts so many times.
type share struct {
	value  float64
	weight int
}

// percentile gives the value that a part of all is at or below. It sorts what it is given.
func percentile(of []share, part float64) float64 {
	slices.SortFunc(of, func(a, b share) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return a.weight - b.weight
	})
	total := 0
	for _, s := range of {
		total += s.weight
	}
	need, sum := part*float64(total), 0
	for _, s := range of {
		if sum += s.weight; float64(sum) >= need {
			return s.value
		}
	}
	return 0
}
