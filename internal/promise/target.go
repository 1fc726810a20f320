package promise

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// How target tracking looks back.
const (
	// outAfter is how long the executions at once are averaged over to have more provisioned: one request more is no reason.
	outAfter = time.Minute
	// inAfter is how long it must have been less to have less provisioned, as with AWS's target tracking.
	inAfter = 15 * time.Minute
	// slot is the time one mean stands for. inAfter / slot of them are kept.
	slot = 15 * time.Second
)

// slots is how many means a Tracker keeps.
const slots = int(inAfter / slot)

// Target is a share of the provisioned concurrency that is to be in use, between bounds.
type Target struct {
	Utilisation float64 // over 0, to 1
	Min, Max    int
}

// ParseTarget reads the tag TargetTag: entries "UTILISATION MIN-MAX" with " / " between them, each with "QUALIFIER:" before
// it. Kinds: KindInvalid.
func ParseTarget(text string) (map[string]Target, error) {
	targets := map[string]Target{}
	for q, entry := range entries(text) {
		share, bounds, ok := strings.Cut(entry, " ")
		low, high, ok2 := strings.Cut(strings.TrimSpace(bounds), "-")
		u, err := strconv.ParseFloat(share, 64)
		least, ok3 := executions(low)
		most, ok4 := executions(high)
		switch {
		case q == "":
			return nil, wrong(TargetTag, entry, "say first which alias or version it is for: live: "+entry)
		case !ok || !ok2 || !ok3 || !ok4 || least > most || most < 1:
			return nil, wrong(TargetTag, entry, "give UTILISATION MIN-MAX, such as 0.7 1-50")
		case err != nil || !(u >= 0.1 && u <= 1):
			return nil, wrong(TargetTag, entry, "a utilisation is 0.1 to 1")
		}
		if _, twice := targets[q]; twice {
			return nil, wrong(TargetTag, entry, "there is one target for an alias or a version")
		}
		targets[q] = Target{u, least, most}
	}
	if len(targets) == 0 {
		return nil, wrong(TargetTag, text, "give QUALIFIER: UTILISATION MIN-MAX, such as live: 0.7 1-50")
	}
	return targets, nil
}

// Tracker remembers how many executions at once there were of what has a target, for a quarter of an hour. The zero value
// remembers nothing.
type Tracker struct {
	means [slots]float64
	known int       // how many of means are of use
	next  int       // where the next mean goes
	begun time.Time // of the slot that is being filled
	sum   float64
	count int
}

// Observe takes how many executions there are now. It is to be called several times in a slot of 15 seconds.
func (t *Tracker) Observe(now time.Time, executing int) {
	if t.begun.IsZero() {
		t.begun = now
	}
	if now.Sub(t.begun) >= slot && t.count > 0 {
		t.means[t.next] = t.sum / float64(t.count)
		t.next = (t.next + 1) % slots
		t.known = min(t.known+1, slots)
		t.begun, t.sum, t.count = now, 0, 0
	}
	t.sum += float64(executing)
	t.count++
}

// Wanted is how much is to be provisioned by a target when so much is: more when the mean of the last minute asks for it,
// less when nothing of the last quarter of an hour asks for as much. Bounds hold at once.
func (t *Tracker) Wanted(target Target, provisioned int) int {
	n := provisioned
	const minute = int(outAfter / slot)
	if t.known >= minute {
		last := 0.0
		for i := range minute {
			last += t.means[(t.next-1-i+slots)%slots] / float64(minute)
		}
		n = max(n, need(last, target.Utilisation))
	}
	if t.known == slots {
		greatest := 0.0
		for _, m := range t.means {
			greatest = max(greatest, m)
		}
		n = min(n, max(need(greatest, target.Utilisation), 0))
	}
	return min(max(n, target.Min), target.Max)
}

// need is how many containers so many executions use to a share. The little that is taken off is what floating point adds.
func need(executing, utilisation float64) int {
	return int(math.Ceil(executing/utilisation - 1e-9))
}
