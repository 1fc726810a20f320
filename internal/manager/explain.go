package manager

import (
	"fmt"
	"strings"
	"time"

	"kiln"
)

// Explanation is why a function is or is not kept warm now.
type Explanation struct {
	// Containers holds how many containers of it there are, by their states; those of promises are counted in Promised too.
	Containers [kiln.ContainerGone + 1]int
	Promised   int
	PerHour    int // requests in the last hour, about
	// Until is when the first of its idle containers is let go if no request comes; zero when none is, or that is open.
	Until time.Time
	// Load is when it is loaded before a request that is due; zero when no request is expected.
	Load time.Time
	// Reason is the policy's, and Sentence all of this in one.
	Reason   string
	Sentence string
}

// Explain says why a function is or is not kept warm. False when nothing is known of it.
func (m *Manager) Explain(now time.Time, account kiln.AccountID, name string) (Explanation, bool) {
	f := m.functions[functionKey{account, name}]
	if f == nil {
		return Explanation{}, false
	}
	e := Explanation{PerHour: f.perHour(now), Load: f.load}
	for _, g := range f.groups {
		if p := g.promise; p != nil {
			e.Promised += p.given
		}
		if c := longest(g); c != nil && !c.until.IsZero() {
			e.Until = earlier(e.Until, c.until)
			e.Reason = c.why.String()
		}
	}
	for in := m.oldest; in != nil; in = in.younger {
		for _, c := range in.containers {
			if c.group != nil && c.group.function == f {
				e.Containers[c.state]++
			}
		}
	}
	if e.Reason == "" && f.last != nil { // asked apart, so that whoever looks changes nothing
		e.Reason = m.policy.Plan(&f.history, now, m.cost(f.last, 1, now)).Reason.String()
	}
	e.Sentence = e.sentence(now, f)
	return e, true
}

// sentence puts an explanation into words.
func (e *Explanation) sentence(now time.Time, f *function) string {
	var there []string
	warm := 0
	for state := kiln.ContainerPreparing; state < kiln.ContainerGone; state++ {
		if n := e.Containers[state]; n > 0 {
			there = append(there, fmt.Sprintf("%d %s", n, state))
			warm += n
		}
	}
	var b strings.Builder
	if warm == 0 {
		b.WriteString("It is not kept warm now")
	} else {
		fmt.Fprintf(&b, "It is kept warm now: %d container%s (%s)", warm, strings.Repeat("s", min(warm-1, 1)), strings.Join(there, ", "))
	}
	if e.Promised > 0 {
		fmt.Fprintf(&b, ", %d of them by provisioned concurrency", e.Promised)
	}
	fmt.Fprintf(&b, "; there were %s", f.volume(now))
	if e.Reason != "" {
		fmt.Fprintf(&b, "; %s", e.Reason)
	}
	switch {
	case warm == 0 && !e.Load.IsZero():
		fmt.Fprintf(&b, "; it is loaded again at %s", e.Load.UTC().Format(time.TimeOnly))
	case warm > 0 && !e.Until.IsZero():
		fmt.Fprintf(&b, "; without a request it is decided again at the latest at %s", e.Until.UTC().Format(time.TimeOnly))
	}
	b.WriteString(".")
	return b.String()
}
