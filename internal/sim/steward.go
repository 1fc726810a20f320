package sim

import (
	"slices"
	"time"

	"kiln/internal/capacity"
	"kiln/internal/manager"
	"kiln/internal/sim/policy"
)

// steward lets a policy that is not the manager's own govern its containers: it asks for those to be deleted that the
// policy does not keep, and for those to be loaded that it wants, by a request that executes nothing. The manager's own
// retention is turned off meanwhile; all else is the live code.
type steward struct {
	s      *system
	keeper func(*function) policy.Keeper
	scaler func(*function) policy.Scaler
	every  time.Duration
	active []*function // scaled, in the order they were first called
	greedy *greedy
	oracle bool
}

// greedy is greedy-dual's: what is loaded has a limit, and what is idle a priority.
type greedy struct {
	limitMiB int
	clock    float64
	idle     []*box
}

// kept is what a keeper's steward knows of a function.
type kept struct {
	keeper policy.Keeper
	called time.Duration // the last call
	span   policy.Span   // for which one is kept after it
	plan   uint64        // grows with each call, so that what was planned before is nothing
}

// scaled is what a scaler's steward knows of a function.
type scaled struct {
	scaler  policy.Scaler
	since   time.Duration // busy time is counted until then
	busyFor time.Duration
	peak    int
	listed  bool
	quiet   int
}

// govern sets a system up for a policy.
func govern(s *system, p policy.Policy, base *meter) {
	if _, ours := p.(policy.Kiln); ours {
		return
	}
	st := &steward{s: s}
	settings := s.settings
	settings.RetentionContainer = keptForEver
	switch p := p.(type) {
	case policy.Fixed: // the manager's own
		settings.RetentionContainer = p.Keep
		settings.RetentionInstance = 2 * p.Keep
		s.step(manager.Event{Kind: manager.Changed, Settings: &settings})
		return
	case policy.StemCells:
		settings.RetentionContainer = policy.StemCellsKeep
		for i := range settings.Warming {
			settings.Warming[i].Bounds = capacity.Bounds{Minimum: p.Cells, Maximum: p.Cells}
		}
		s.meter.idleMiB += p.Cells * (policy.StemCellMiB - preparedMiB)
		s.step(manager.Event{Kind: manager.Changed, Settings: &settings})
		return
	case policy.GreedyDual:
		st.greedy = &greedy{limitMiB: int(p.Value() * base.loadedMiBs / base.passed.Seconds())}
	case policy.Scaling:
		st.scaler = func(f *function) policy.Scaler { return p.Scaler() }
		st.every = p.Every()
		s.events.push(happening{at: st.every, kind: happensDo, do: st.tick})
	case policy.Oracle:
		st.oracle = true
		s.foresee = st.foresee
	default:
		st.keeper = func(f *function) policy.Keeper { return p.Keeper(f.of) }
	}
	s.step(manager.Event{Kind: manager.Changed, Settings: &settings})
	s.watch = st
}

// served follows a request that got its container.
func (st *steward) served(c *call) {
	f := c.of
	f.take(st.s.containers[c.request.Container])
	if c.ahead {
		return
	}
	now := st.s.clock
	switch {
	case st.keeper != nil:
		st.calledKept(now, f)
	case st.scaler != nil:
		st.count(now, f, f.busy-1)
	case st.greedy != nil:
		st.evict()
	}
}

// calledKept lets the keeper plan after a call.
func (st *steward) calledKept(now time.Duration, f *function) {
	k, _ := f.governs.(*kept)
	if k == nil {
		k = &kept{keeper: st.keeper(f)}
		f.governs = k
	}
	minute := now.Truncate(time.Minute)
	if k.plan > 0 && minute == k.called.Truncate(time.Minute) {
		k.called = now
		return // a minute counts once, as in paper mode
	}
	k.plan++
	k.called = now
	k.keeper.Called(minute, 1)
	k.span, _ = k.keeper.Next(minute + time.Minute)
	if k.span.Empty() || k.span.From <= minute+time.Minute {
		return
	}
	plan := k.plan
	st.s.events.push(happening{at: max(k.span.From, now), kind: happensDo, do: func() {
		if k.plan == plan && f.busy == 0 && len(f.idle) == 0 {
			st.load(f)
		}
	}})
}

// idled sees a container come to rest.
func (st *steward) idled(b *box) {
	f := b.owner
	f.rest(b)
	switch {
	case st.keeper != nil:
		k, _ := f.governs.(*kept)
		if k == nil {
			st.drop(b)
			return
		}
		until := st.s.clock // let go at once, when the next span is still to come
		if minute := k.called.Truncate(time.Minute); !k.span.Empty() && (k.span.From <= minute+time.Minute || k.span.From <= st.s.clock) {
			until += max(0, k.span.Until-k.called)
			if k.span.From > minute+time.Minute {
				until = k.span.Until
			}
		}
		st.dropAt(b, until)
	case st.scaler != nil:
		st.count(st.s.clock, f, f.busy+1)
	case st.greedy != nil:
		b.priority = st.greedy.clock + float64(f.requests)/float64(b.mib)
		if !b.listed {
			b.listed = true
			st.greedy.idle = append(st.greedy.idle, b)
		}
		st.evict()
	}
}

// evict lets go of the idle containers with the least priority until no more is loaded than may be. Those that were used
// since, or are gone, fall out on the way.
func (st *steward) evict() {
	g := st.greedy
	over := st.s.meter.loadedMiB - g.limitMiB
	if over <= 0 {
		return
	}
	g.idle = slices.DeleteFunc(g.idle, func(b *box) bool {
		b.listed = !b.gone && b.state == boxIdle && !b.leaving
		return !b.listed
	})
	for over > 0 && len(g.idle) > 0 {
		least := 0
		for i, b := range g.idle {
			if b.priority < g.idle[least].priority {
				least = i
			}
		}
		b := g.idle[least]
		g.idle[least] = g.idle[0]
		g.idle[0] = b
		g.clock = max(g.clock, b.priority)
		b.leaving = true
		st.drop(b)
		over -= b.mib
		g.idle = g.idle[1:]
	}
}

// dropAt lets a container go at a time, if it has been idle since now.
func (st *steward) dropAt(b *box, at time.Duration) {
	calls := b.calls
	st.s.events.push(happening{at: max(at, st.s.clock), kind: happensDo, do: func() {
		if b.calls == calls && b.state == boxIdle && !b.gone {
			st.drop(b)
		}
	}})
}

func (st *steward) drop(b *box) {
	st.s.events.push(happening{at: st.s.clock, kind: happensDo, do: func() {
		if b.state == boxIdle && !b.gone {
			st.s.step(manager.Event{Kind: manager.Asked, Container: b.id, Cause: "the policy lets it go"})
		}
	}})
}

func (st *steward) ended(b *box) {
	if b.owner != nil {
		b.owner.take(b)
	}
}

// load has a container made for nobody.
func (st *steward) load(f *function) {
	st.s.call(&call{of: f, ahead: true})
}

// count adds up how many executions there were at once: so many until now.
func (st *steward) count(now time.Duration, f *function, busy int) {
	g, _ := f.governs.(*scaled)
	if g == nil {
		g = &scaled{scaler: st.scaler(f), since: now}
		f.governs = g
	}
	if !g.listed {
		g.listed, g.quiet = true, 0
		st.active = append(st.active, f)
	}
	g.busyFor += time.Duration(busy) * (now - g.since)
	g.since = now
	g.peak = max(g.peak, f.busy, busy)
}

// tick scales every function in use.
func (st *steward) tick() {
	now := st.s.clock
	rest := st.active[:0]
	for _, f := range st.active {
		g := f.governs.(*scaled)
		st.count(now, f, f.busy)
		want := g.scaler.Tick(now, g.busyFor.Seconds()/st.every.Seconds(), g.peak, f.busy+len(f.idle))
		g.busyFor, g.peak = 0, f.busy
		if want < 0 && f.busy == 0 && len(f.idle) == 0 { // nothing is seen to come
			g.listed = false
			continue
		}
		rest = append(rest, f)
		st.scale(f, max(want, 0))
	}
	clear(st.active[len(rest):])
	st.active = rest
	st.s.events.push(happening{at: now + st.every, kind: happensDo, do: st.tick})
}

// scale brings a function's containers to a number, but for those that execute.
func (st *steward) scale(f *function, want int) {
	have := f.busy + len(f.idle)
	for i := 0; have > want && i < len(f.idle); i++ {
		st.drop(f.idle[i])
		have--
	}
	for ; have < want; have++ {
		st.load(f)
	}
}

// foresee loads what will be called in the minute to come, as many as will execute at once, and lets all else go. What was
// never called is not known: its first call is cold.
func (st *steward) foresee(calls []*call) {
	byFunction := make(map[*function][]*call)
	for _, c := range calls {
		byFunction[c.of] = append(byFunction[c.of], c)
	}
	for _, f := range st.s.functions {
		if f.requests > 0 {
			st.scale(f, atOnce(byFunction[f], st.executing(f)))
		}
	}
}

// executing gives a function's executions under way.
func (st *steward) executing(f *function) []*call {
	var out []*call
	if f.busy == 0 {
		return nil
	}
	for _, b := range st.s.boxes(f) {
		for _, c := range b.running {
			if !c.ahead {
				out = append(out, c)
			}
		}
	}
	return out
}

// atOnce gives how many of the calls will execute at once at most, beside those that do already.
func atOnce(calls, executing []*call) int {
	type edge struct {
		at   time.Duration
		more int
	}
	var edges []edge
	for _, c := range slices.Concat(calls, executing) {
		edges = append(edges, edge{c.at, 1}, edge{c.at + c.takes, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.at != b.at {
			return int(min(max(a.at-b.at, -1), 1))
		}
		return a.more - b.more
	})
	most, now := 0, 0
	for _, e := range edges {
		now += e.more
		most = max(most, now)
	}
	if len(calls) == 0 {
		return 0
	}
	return most
}
