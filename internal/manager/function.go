package manager

import (
	"fmt"
	"slices"
	"time"

	"kiln"
	"kiln/internal/retention"
)

// functionsMax bounds the functions whose requests are remembered: those called last.
const functionsMax = 100_000

// function is what is remembered of one function's requests, whatever the version: retention's history, and how many there
// were.
type function struct {
	key       functionKey
	history   retention.History
	groups    []*group       // those there are
	last      *group         // asked for last; it may be gone, and says how to make it again; nil when that is not known
	minute    int64          // of the last request, since 1970
	active    uint32         // minutes with a request
	counts    [2]int         // requests in the hour of the last one, and in the hour before that
	plan      retention.Plan // of the one container it needs first
	judged    int64          // the minute it was made in; 0 for none since the last request
	load      time.Time      // when to load it, while nothing is loaded; zero for not
	review    time.Time      // when to ask the policy again while nothing is loaded
	timer     timer
	left      time.Time       // since when another fleet serves it; zero while this one does
	departing timer           // when its idle containers go for that
	links     link[*function] // the functions, by their last request's minute
}

type functionKey struct {
	account kiln.AccountID
	name    string
}

func (f *function) link() *link[*function] { return &f.links }

// functionOf gives what is remembered of a function, at first nothing; the one not called for the longest is forgotten for it.
func (m *Manager) functionOf(key functionKey) *function {
	f := m.functions[key]
	if f != nil {
		return f
	}
	f = &function{key: key}
	f.timer.fire = func(now time.Time) { m.reviewed(now, f) }
	m.functions[key] = f
	m.known.push(f)
	for range m.known.count - functionsMax {
		if old := m.known.first; len(old.groups) > 0 {
			m.known.remove(old)
			m.known.push(old)
		} else {
			m.timers.stop(&old.timer)
			m.timers.stop(&old.departing)
			m.known.remove(old)
			delete(m.functions, old.key)
		}
	}
	return f
}

// arrived notes a request of a function. All but the first of a minute cost next to nothing.
func (m *Manager) arrived(now time.Time, g *group) {
	f := g.function
	f.last = g
	if minute := now.Unix() / 60; minute != f.minute {
		f.turn(minute)
		f.history.ArrivedTo(now, slices.ContainsFunc(f.groups, func(g *group) bool { return g.code.Bound > 0 }))
		m.known.remove(f)
		m.known.push(f)
	}
	f.counts[0]++
}

// turn begins another minute with a request.
func (f *function) turn(minute int64) {
	f.active++
	f.judged = 0
	switch minute/60 - f.minute/60 {
	case 0:
	case 1:
		f.counts = [2]int{0, f.counts[0]}
	default:
		f.counts = [2]int{}
	}
	f.minute = minute
}

// recall notes a request of before the manager was made, and what it asked for if that is still to be had.
func (m *Manager) recall(now time.Time, e Event) {
	f := m.functionOf(functionKey{e.Request.Version.Account, e.Request.Version.Function})
	if minute := e.At.Unix() / 60; minute > f.minute {
		f.turn(minute)
		f.history.Recall(e.At)
		m.known.remove(f)
		m.known.push(f)
	}
	f.counts[0]++
	if f.last == nil || m.groups[f.last.key] == nil {
		f.last = &group{key: keyOf(e.Request), version: e.Request.Version, fresh: e.Request.Fresh, function: f}
		f.last.need.Driver, f.last.need.Runtime = e.Request.Driver, e.Request.Runtime
	}
	if f.timer.index == 0 {
		m.timers.set(&f.timer, now.Add(keptAtLeast))
	}
}

// perHour is how many requests there were in the last hour, about: those of this hour, and the share of the last hour's that
// is not an hour ago.
func (f *function) perHour(now time.Time) int {
	minute := now.Unix() / 60
	rest := int(60 - minute%60)
	switch minute/60 - f.minute/60 {
	case 0:
		return f.counts[0] + f.counts[1]*rest/60
	case 1:
		return f.counts[0] * rest / 60
	}
	return 0
}

// volume tells perHour.
func (f *function) volume(now time.Time) string {
	if n := f.perHour(now); n != 1 {
		return fmt.Sprintf("%d requests in the last hour", n)
	}
	return "1 request in the last hour"
}

// share is how likely the function's next request needs the group's container of this rank, the first being 1.
func (g *group) share(rank int) float64 {
	if rank <= 1 && g.function.last == g {
		return 1
	}
	return g.peaks.Share(g.function.active, rank)
}

// drop takes a group off its function.
func (f *function) drop(g *group) {
	f.groups = slices.DeleteFunc(f.groups, func(o *group) bool { return o == g })
}
