package pool

import (
	"time"

	"kiln"
)

// Explanation is why a function is or is not kept warm now, in one fleet.
type Explanation struct {
	Function string `json:"function"`
	Fleet    string `json:"fleet"` // empty when no fleet was ever asked for it
	Sentence string `json:"sentence"`
	Reason   string `json:"reason"`
	// Warm counts its containers, and Provisioned those of them that were promised.
	Warm            int `json:"warm"`
	Provisioned     int `json:"provisioned"`
	RequestsPerHour int `json:"requestsPerHour"`
	// Until is when an idle container goes if no request comes, Load when one is made before a request that is due.
	Until kiln.Time `json:"until,omitzero"`
	Load  kiln.Time `json:"load,omitzero"`
}

// neverAsked is said of a function that is not remembered.
const neverAsked = "It is not kept warm: since this server started it was not asked for, or others were asked for so much that it was forgotten."

// Explain says why a function is or is not kept warm now: one explanation for each fleet that was asked for it, one that says
// so where none was.
func (p *Pool) Explain(account kiln.AccountID, function string) []Explanation {
	var list []Explanation
	now := time.Now()
	for _, f := range p.all() {
		f.mu.Lock()
		e, known := f.manager.Explain(now, account, function)
		f.mu.Unlock()
		if !known {
			continue
		}
		shown := Explanation{
			Function: function, Fleet: f.id.Name, Sentence: e.Sentence, Reason: e.Reason, Provisioned: e.Promised,
			RequestsPerHour: e.PerHour, Until: kiln.Time{Time: e.Until}, Load: kiln.Time{Time: e.Load},
		}
		for _, n := range e.Containers[:kiln.ContainerGone] {
			shown.Warm += n
		}
		list = append(list, shown)
	}
	if list == nil {
		list = []Explanation{{Function: function, Sentence: neverAsked}}
	}
	return list
}
