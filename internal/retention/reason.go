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
	ruleHazard
)

// Reason is why a plan is what it is. It is put into words only when someone reads it.
type Reason struct {
	rule         rule
	kept         time.Duration
	hazard, need float64
	elapsed      uint32
	calls        uint32
	gap          uint16
}

// String is the reason in a sentence.
func (r Reason) String() string {
	switch r.rule {
	case ruleFixed:
		return fmt.Sprintf("everything idle is kept for %s", r.kept)
	case ruleNever:
		return "it was never called"
	case ruleHazard:
		verb := "kept"
		if r.hazard < r.need {
			verb = "not kept"
		}
		return fmt.Sprintf("%s: a request %d minutes after the last has a probability of %.2g %%, its memory is worth it from %.2g %%",
			verb, r.elapsed, 100*r.hazard, 100*r.need)
	}
	return ""
}
