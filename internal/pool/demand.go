package pool

import (
	"context"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/manager"
)

// Demand is what a warming pool's target follows, as operations shows it.
type Demand struct {
	Requests Rates `json:"requests"`
	// Expected is the rate of requests a second that is usual now, by its Basis: this time of day, or the last hour.
	Expected float64 `json:"expected"`
	Basis    string  `json:"basis"`
	// Surge is true while the rate meets the threshold condition: each instance taken adds the second number.
	Surge bool `json:"surge"`
	// Takes are the instances asked for, warm or not; Forecast is their rate when one booted now will be warm.
	Takes        Rates   `json:"takes"`
	Forecast     float64 `json:"forecast"`
	RefillMillis float64 `json:"refillMs"`
	// Minimum, Maximum and Pinned are the bounds in force.
	Minimum int  `json:"minimum"`
	Maximum int  `json:"maximum"`
	Pinned  bool `json:"pinned"`
	// Reason says what the target was chosen for.
	Reason string `json:"reason"`
	// Added counts the instances booted since the start, by what called for them.
	Added Added `json:"added"`
}

// Rates are how many a second over four windows, and by how much that grows each second.
type Rates struct {
	Short  float64 `json:"10s"`
	Minute float64 `json:"1m"`
	Long   float64 `json:"5m"`
	Hour   float64 `json:"1h"`
	Slope  float64 `json:"slope"`
}

// Added counts instances booted for a warming pool: the first number, the second number, and what the target lacked.
type Added struct {
	First  int `json:"first"`
	Second int `json:"second"`
	Target int `json:"target"`
}

// Rate is how often something is asked for, as operations lists it.
type Rate struct {
	ID    string `json:"id"`    // scope and what it is of
	Scope string `json:"scope"` // total, configuration, code
	Fleet string `json:"fleet"`
	// Configuration is set in its scope, Account, Function and Version in the scope code.
	Configuration string         `json:"configuration"`
	Account       kiln.AccountID `json:"account"`
	Function      string         `json:"function"`
	Version       string         `json:"version"`
	// Minute is requests a second over the last minute; Requests and Expected are told of a configuration and in total.
	Minute   float64  `json:"perSecond"`
	Requests *Rates   `json:"requests,omitempty"`
	Expected *float64 `json:"expected,omitempty"`
}

func demandOf(s *capacity.State) *Demand {
	return &Demand{
		Requests: Rates(s.Requests), Expected: s.Expected, Basis: s.Basis, Surge: s.Surging, Takes: Rates(s.Takes),
		Forecast: s.Forecast, RefillMillis: float64(s.Refill) / float64(time.Millisecond),
		Minimum: s.Bounds.Minimum, Maximum: max(s.Bounds.Minimum, s.Bounds.Maximum), Pinned: s.Bounds.Pinned,
		Reason: s.Reason, Added: Added(s.Added),
	}
}

// shareEvery is the time between two tellings of what other fleets serve.
const shareEvery = time.Second

// share tells each of the operator's fleets what the others serve, while that is anything, until ctx ends.
func (p *Pool) share(ctx context.Context) {
	ticker := time.NewTicker(shareEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.shareOnce()
	}
}

func (p *Pool) shareOnce() {
	var fleets []*fleet
	for _, f := range p.all() {
		if f.id.Account == "" {
			fleets = append(fleets, f)
		}
	}
	if len(fleets) < 2 {
		return
	}
	served := make([][]capacity.Elsewhere, len(fleets))
	for i, f := range fleets {
		for _, d := range f.tally().demands {
			if d.Requests.Minute > 0 || d.Expected > 0 {
				served[i] = append(served[i], capacity.Elsewhere{Configuration: d.Configuration, Rate: d.Requests.Minute, Expected: d.Expected})
			}
		}
	}
	for i, f := range fleets {
		var elsewhere []capacity.Elsewhere
		for j := range fleets {
			if j != i {
				elsewhere = append(elsewhere, served[j]...)
			}
		}
		if len(elsewhere) > 0 || f.told {
			f.step(manager.Event{Kind: manager.Elsewhere, Elsewhere: elsewhere})
		}
		f.told = len(elsewhere) > 0
	}
}

// Rates lists the rates of requests: in total, by configuration, and by code for what was asked for in the last minute.
func (p *Pool) Rates() []Rate {
	var list []Rate
	var total capacity.Rates
	var expected float64
	for _, f := range p.all() {
		for _, d := range f.tally().demands {
			total.Add(d.Requests)
			expected += d.Expected
			r, of := Rates(d.Requests), d.Expected
			list = append(list, Rate{
				ID: "configuration/" + f.id.String() + "/" + d.Configuration.String(), Scope: "configuration", Fleet: f.id.String(),
				Configuration: d.Configuration.String(), Minute: r.Minute, Requests: &r, Expected: &of,
			})
		}
		list = append(list, f.codeRates()...)
	}
	r := Rates(total)
	return append(list, Rate{ID: "total", Scope: "total", Minute: r.Minute, Requests: &r, Expected: &expected})
}

// codeRates lists the rates of a fleet's versions, those at several amounts summed.
func (f *fleet) codeRates() []Rate {
	var list []Rate
	at := map[string]int{}
	mark := 0
	for more := true; more; {
		f.mu.Lock()
		page, another := f.manager.CodePage(time.Now(), &mark, nil)
		f.mu.Unlock()
		more = another
		for _, c := range page {
			v := c.Version
			id := "code/" + f.id.String() + "/" + string(v.Account) + "/" + v.Function + "/" + v.Number
			i, ok := at[id]
			if !ok {
				i = len(list)
				at[id] = i
				list = append(list, Rate{ID: id, Scope: "code", Fleet: f.id.String(), Account: v.Account, Function: v.Function, Version: v.Number})
			}
			list[i].Minute += c.Minute
		}
	}
	return list
}
