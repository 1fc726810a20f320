// Package promise decides how many containers of each version the pools are to have ready for their owners: what was
// provisioned, when settings change it (a schedule, a target of utilisation), and how long what an alias pointed to before
// is kept. It divides what the operator gives to capacity providers among them.
//
// It keeps no promise itself: package provisioning asks it now and then and tells the pools, and registry keeps what was
// asked for. It reads no clock and is used by one goroutine at a time.
package promise

import (
	"maps"
	"slices"
	"time"

	"kiln"
)

// HoldMax is how long a version is kept ready, at the longest, while the one that takes its place cannot be made so.
const HoldMax = 10 * time.Minute

// Function names a function.
type Function struct {
	Account kiln.AccountID
	Name    string
}

// Wanted is how many containers of a version its owner was promised.
type Wanted struct {
	Function   Function
	Version    *kiln.Version
	Containers int
}

// Change is what the pools are to be told: so many containers of a version are promised from now on, 0 for none.
type Change struct {
	Version    *kiln.Version
	Containers int
}

// Book is what the pools were told. The zero value is empty; use it by its address.
type Book struct {
	held map[kiln.VersionID]*entry
	// moving is since when a function has a version that is not as ready as it was promised, while others give theirs up.
	moving map[Function]time.Time
}

// entry is a version the pools were told of.
type entry struct {
	function   Function
	version    *kiln.Version
	containers int
}

// Settle takes all that is wanted now and gives what the pools are to be told. A version that is wanted less, of a function
// of which another is wanted that is not ready in full yet, is kept as it was: so an alias is not without ready containers
// while it moves. ready is how many containers of a version are ready. A version for which gone is true is let go at once.
func (b *Book) Settle(now time.Time, wanted []Wanted, ready func(kiln.VersionID) int, gone func(*kiln.Version) bool) []Change {
	if b.held == nil {
		b.held, b.moving = map[kiln.VersionID]*entry{}, map[Function]time.Time{}
	}
	want := make(map[kiln.VersionID]int, len(wanted))
	unready := map[Function]bool{}
	var changes []Change
	for _, w := range wanted {
		id := w.Version.ID()
		want[id] = w.Containers
		if ready(id) < w.Containers {
			unready[w.Function] = true
		}
		if e := b.held[id]; e == nil || e.containers < w.Containers {
			b.held[id] = &entry{w.Function, w.Version, w.Containers}
			changes = append(changes, Change{w.Version, w.Containers})
		}
	}
	maps.DeleteFunc(b.moving, func(f Function, _ time.Time) bool { return !unready[f] })
	for _, id := range slices.Sorted(maps.Keys(b.held)) {
		e := b.held[id]
		if e.containers == want[id] {
			continue
		}
		if unready[e.function] && !gone(e.version) && b.replaced(want, e) && b.hold(now, e.function) {
			continue
		}
		e.containers = want[id]
		changes = append(changes, Change{e.version, e.containers})
		if e.containers == 0 {
			delete(b.held, id)
		}
	}
	return changes
}

// Refused takes that the pools did not take what they were told of a version last: Settle tells them again.
func (b *Book) Refused(id kiln.VersionID) { delete(b.held, id) }

// hold reports whether a function's old versions are still to be kept, and begins to count.
func (b *Book) hold(now time.Time, f Function) bool {
	since, ok := b.moving[f]
	if !ok {
		b.moving[f] = now
		return true
	}
	return now.Sub(since) < HoldMax
}

// replaced reports whether another version of the entry's function is wanted in its place: one that is wanted at all, and
// not the entry's own.
func (b *Book) replaced(want map[kiln.VersionID]int, e *entry) bool {
	for id, n := range want {
		if o := b.held[id]; n > 0 && o != nil && o != e && o.function == e.function {
			return true
		}
	}
	return false
}

// Fair divides what there is among those who want a part, each of whom has some already: the least wishes are filled
// first, and what one does not want goes to the others (max-min fairness). Who has more than its part is given its part
// alone, and as long as it has more, that is taken from what the others may grow by: so however the parts are used, the sum
// never exceeds total, but by what it exceeded it already.
func Fair(total int, want, have []int) []int {
	fair := make([]int, len(want))
	rest, open := total, make([]int, 0, len(want))
	for i := range want {
		open = append(open, i)
	}
	slices.SortStableFunc(open, func(a, b int) int { return want[a] - want[b] })
	for k, i := range open {
		fair[i] = min(want[i], rest/(len(open)-k))
		rest -= fair[i]
	}
	// What somebody has beyond its part is taken from what the others may grow by.
	over := 0
	for i := range fair {
		over += max(have[i]-fair[i], 0)
	}
	free := rest
	for i := range fair {
		if grow := fair[i] - have[i]; grow > 0 {
			cut := min(grow, max(over-free, 0))
			fair[i] -= cut
			over -= cut
		}
	}
	return fair
}
