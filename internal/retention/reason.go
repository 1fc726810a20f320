package retention

import (
	"fmt"
	"time"
)

// rule is what a plan follows from.
type rule uint8

const (
	ruleFixed rule = iota + 1
	ruleNever
	ruleOwn
	ruleLearned
	ruleBehind
)

// Reason is why a plan is what it is. It is put into words only when someone reads it.
type Reason struct {
	rule         rule
	kept         time.Duration // by Fixed
	hazard, need float64
	elapsed      uint32 // minutes
	memoryMiB    int
	gaps         [3]uint16
}

// String is the reason in a sentence.
func (r Reason) String() string {
	switch r.rule {
	case ruleFixed:
		return fmt.Sprintf("everything idle is kept for %s", r.kept)
	case ruleNever:
		return "it was never called"
	case ruleBehind:
		return fmt.Sprintf("kept for %d minutes after each request, since it was colder lately than that would have made it", guardMinutes)
	}
	verb, by := "kept", "requests of functions like it"
	if r.hazard < r.need {
		verb = "not kept"
	}
	if r.rule == ruleOwn {
		by = "its own gaps alone"
	}
	return fmt.Sprintf("%s: by %s, a request comes in minute %d after the last with a probability of %s, and its %d MiB are worth keeping from %s%s",
		verb, by, r.elapsed, percent(r.hazard), r.memoryMiB, percent(r.need), r.last())
}

func percent(p float64) string { return fmt.Sprintf("%.2g %%", 100*p) }

// last tells the newest gaps.
func (r Reason) last() string {
	switch {
	case r.gaps[0] == 0:
		return "; it was called in one minute only"
	case r.gaps[1] == 0:
		return fmt.Sprintf("; its only gap was of %d minutes", r.gaps[0])
	case r.gaps[2] == 0:
		return fmt.Sprintf("; its last gaps were of %d and %d minutes", r.gaps[0], r.gaps[1])
	}
	return fmt.Sprintf("; its last gaps were of %d, %d and %d minutes", r.gaps[0], r.gaps[1], r.gaps[2])
}
