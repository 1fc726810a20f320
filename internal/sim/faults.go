package sim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln"
	"kiln/internal/manager"
)

// Faults is what goes wrong. The zero value is nothing.
type Faults struct {
	// Boot, Prepare, Bind, Init, Pause and Delete are the chances that one of these fails.
	Boot, Prepare, Bind, Init, Pause, Delete float64
	// Slow is the chance that the store of packages is slow, SlowBy at most how much.
	Slow   float64
	SlowBy time.Duration
	// Crash is the chance that an execution takes its container with it.
	Crash float64
	// LostNode is the mean time between two losses of the node: every instance ends at once. Zero: never.
	LostNode time.Duration
	// LostInstance is the mean time between two instances ending by themselves. Zero: never.
	LostInstance time.Duration
	// Operator is the mean time between two things an operator does: settings changed, instances drained, containers
	// deleted, versions superseded, callers gone. Zero: never.
	Operator time.Duration

	check func() error // after every step, when set
}

// ParseFaults reads what goes wrong from words and values, as kiln simulate takes them: chances for boot, prepare, bind, init,
// pause, delete, crash and slow, times for slow-by, lost-node and lost-instance. KindInvalid for any other.
func ParseFaults(given map[string]string) (Faults, error) {
	f := Faults{SlowBy: slowUsual}
	chances := map[string]*float64{"boot": &f.Boot, "prepare": &f.Prepare, "bind": &f.Bind, "init": &f.Init, "pause": &f.Pause,
		"delete": &f.Delete, "crash": &f.Crash, "slow": &f.Slow}
	times := map[string]*time.Duration{"slow-by": &f.SlowBy, "lost-node": &f.LostNode, "lost-instance": &f.LostInstance}
	for word, text := range given {
		chance, err := strconv.ParseFloat(text, 64)
		took, wrong := time.ParseDuration(text)
		switch {
		case chances[word] != nil && err == nil && chance >= 0 && chance <= maxChance:
			*chances[word] = chance
		case times[word] != nil && wrong == nil && took > 0:
			*times[word] = took
		default:
			words := slices.Concat(slices.Sorted(maps.Keys(chances)), slices.Sorted(maps.Keys(times)))
			return f, kiln.Errorf(kiln.KindInvalid, "sim: read faults", "%s=%s is no fault: give one of %s, with a chance up to %g or a time like 1h.",
				word, text, strings.Join(words, " "), maxChance)
		}
	}
	return f, nil
}

const (
	// slowUsual is by how much a slow store is slow at most, unless told.
	slowUsual = 5 * time.Second
	// maxChance is the greatest chance of a fault: nothing would ever succeed otherwise.
	maxChance = 0.9
)

// hits draws whether something happens. Nothing is drawn for what never does.
func (f *Faults) hits(w *world, chance float64) bool {
	return chance > 0 && w.chance.Float64() < chance
}

// strikes is an error when something fails.
func (f *Faults) strikes(w *world, chance float64, text string) error {
	if !f.hits(w, chance) {
		return nil
	}
	return kiln.Errorf(kiln.KindInternal, "sim: node", "%s.", text)
}

// slow is how much longer the store takes.
func (f *Faults) slow(w *world) time.Duration {
	if !f.hits(w, f.Slow) {
		return 0
	}
	return time.Duration(w.chance.Int64N(int64(f.SlowBy) + 1))
}

// plan puts what goes wrong by itself on the agenda until a time.
func (f *Faults) plan(w *world, until time.Duration) {
	again := func(mean time.Duration, strike func()) {
		if mean <= 0 {
			return
		}
		for at := time.Duration(0); ; {
			at += time.Duration(w.chance.ExpFloat64() * float64(mean))
			if at >= until {
				return
			}
			w.events.push(happening{at: at, kind: happensDo, do: strike})
		}
	}
	again(f.LostNode, func() {
		for _, in := range w.machines() {
			w.lose(in)
		}
	})
	again(f.LostInstance, func() {
		if all := w.machines(); len(all) > 0 {
			w.lose(all[w.chance.IntN(len(all))])
		}
	})
}

// lose ends an instance by itself.
func (w *world) lose(in *machine) {
	if in.gone {
		return
	}
	for _, b := range slices.Clone(in.boxes) {
		for _, c := range slices.Clone(b.running) { // the execution tells of its loss itself, as it would live
			w.end(c, true)
		}
	}
	w.step(manager.Event{Kind: manager.Exited, Instance: in.id, Cause: "the node was lost"})
}

// machines gives the instances there are, oldest first.
func (w *world) machines() []*machine {
	w.lined = slices.DeleteFunc(w.lined, func(in *machine) bool { return in.gone })
	return slices.Clone(w.lined)
}
