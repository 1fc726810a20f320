// Package admission counts the executions an account and its functions have at once, and refuses what is over a limit.
//
// It does not queue, and knows nothing of capacity: a request that waits for a container counts like one that executes
// (R36). Package invoke counts by it, behind a lock of its own; registry asks it which reservations and which provisioned
// concurrency an account may have. It reads no clock and is used by one goroutine at a time.
//
// An account's limit is kept for its functions in three parts: what is reserved for a function, what is provisioned for
// the versions of a function without a reservation, and the rest, for whatever is over those. Within a reservation, what
// is provisioned for a version is kept for that version, and the other versions have what that leaves. So the parts never
// sum to more than the limit, and no part can be taken by another.
package admission

import "kiln"

// Limits of AWS Lambda, mid 2026.
const (
	// DefaultAccountLimit is how many executions an account may have at once.
	DefaultAccountLimit = 1000
	// UnreservedMin is how much of an account's limit must stay unreserved; all of it, where the limit is lower.
	UnreservedMin = 100
)

// None stands for no reservation, and for no most.
const None = -1

// partsSwept is how many versions of a function are counted before those that execute nothing and have no terms are let go.
const partsSwept = 64

// AWS's reasons for a refusal.
const (
	ReasonAccount  = "ConcurrentInvocationLimitExceeded"
	ReasonFunction = "ReservedFunctionConcurrentInvocationLimitExceeded"
)

// Terms are what a function and its versions may have of their account's executions.
type Terms struct {
	// Reserved is kept free for the function, and the most it may have; None without.
	Reserved int
	// Provisioned is kept free for a version, by its number.
	Provisioned map[string]int
	// Most is the most a version may have, by its number.
	Most map[string]int
}

// Total is what of an account's limit the terms keep for the function.
func (t Terms) Total() int {
	if t.Reserved >= 0 {
		return t.Reserved
	}
	return t.provisioned()
}

// provisioned is the sum over the versions.
func (t Terms) provisioned() (n int) {
	for _, p := range t.Provisioned {
		n += p
	}
	return n
}

// Counter counts one account. Make it with NewCounter.
type Counter struct {
	limit      int
	kept       int // the sum of the functions' terms
	unreserved int // executions at once that no function's terms keep a place for
	functions  map[string]*function
}

// function is one function that was executed or has terms.
type function struct {
	reserved    int // None without
	provisioned int // the sum of the parts'
	over        int // executions of parts beyond what is provisioned for them
	parts       map[string]*part
}

// part is one version of a function.
type part struct {
	of          *function
	running     int
	provisioned int
	most        int // None without
}

// over is how many executions of a part nothing is provisioned for.
func (p *part) over() int { return max(p.running-p.provisioned, 0) }

// NewCounter makes a counter for an account that may have limit executions at once.
func NewCounter(limit int) *Counter {
	return &Counter{limit: limit, functions: make(map[string]*function)}
}

// Unreserved is what the account's limit leaves to executions that nothing is kept for; below zero when the limit was
// lowered under what is kept.
func (c *Counter) Unreserved() int { return c.limit - c.kept }

// Grant is one execution admitted; give it back with Release, once.
type Grant struct{ part *part }

// Acquire admits an execution of a function's version, or refuses with KindThrottled and AWS's reason.
func (c *Counter) Acquire(name, version string) (Grant, error) {
	f := c.function(name)
	p := f.part(version)
	switch {
	case p.most >= 0 && p.running >= p.most:
		return Grant{}, refuse(ReasonFunction)
	case p.running < p.provisioned:
	case f.reserved >= 0 && f.over >= f.reserved-f.provisioned:
		return Grant{}, refuse(ReasonFunction)
	case f.reserved < 0 && c.unreserved >= c.Unreserved():
		return Grant{}, refuse(ReasonAccount)
	}
	c.count(p, 1)
	return Grant{p}, nil
}

// Release gives a grant back.
func (c *Counter) Release(g Grant) {
	if g.part.running <= 0 {
		panic("admission: released more than was acquired")
	}
	c.count(g.part, -1)
}

// count adds to the executions of a part.
func (c *Counter) count(p *part, n int) {
	before := p.over()
	p.running += n
	more := p.over() - before
	p.of.over += more
	if p.of.reserved < 0 {
		c.unreserved += more
	}
}

// Executing is how many executions a version has now.
func (c *Counter) Executing(name, version string) int {
	if f := c.functions[name]; f != nil && f.parts[version] != nil {
		return f.parts[version].running
	}
	return 0
}

// Set sets a function's terms. Executions that run already count to them from now on. CheckReserve and CheckProvision say
// which terms an account may have.
func (c *Counter) Set(name string, t Terms) {
	f := c.function(name)
	c.kept -= f.kept()
	if f.reserved < 0 {
		c.unreserved -= f.over
	}
	for number := range t.Provisioned {
		f.add(number)
	}
	for number := range t.Most {
		f.add(number)
	}
	f.reserved, f.provisioned, f.over = max(t.Reserved, None), 0, 0
	for number, p := range f.parts {
		p.provisioned, p.most = t.Provisioned[number], None
		if most, ok := t.Most[number]; ok {
			p.most = most
		}
		f.provisioned += p.provisioned
		f.over += p.over()
	}
	c.kept += f.kept()
	if f.reserved < 0 {
		c.unreserved += f.over
	}
}

// Forget lets go of a deleted function and its terms. Executions that still run count as unreserved to their end.
func (c *Counter) Forget(name string) {
	if c.functions[name] == nil {
		return
	}
	c.Set(name, Terms{Reserved: None})
	delete(c.functions, name)
}

func (c *Counter) function(name string) *function {
	f := c.functions[name]
	if f == nil {
		f = &function{reserved: None, parts: make(map[string]*part, 1)}
		c.functions[name] = f
	}
	return f
}

// kept is what of the account's limit is kept for the function.
func (f *function) kept() int {
	if f.reserved >= 0 {
		return f.reserved
	}
	return f.provisioned
}

// part gives a version's part.
func (f *function) part(version string) *part {
	if p := f.parts[version]; p != nil {
		return p
	}
	if len(f.parts) >= partsSwept {
		for number, p := range f.parts {
			if p.running == 0 && p.provisioned == 0 && p.most < 0 {
				delete(f.parts, number)
			}
		}
	}
	return f.add(version)
}

// add gives a version's part, made when there is none.
func (f *function) add(version string) *part {
	p := f.parts[version]
	if p == nil {
		p = &part{of: f, most: None}
		f.parts[version] = p
	}
	return p
}

// CheckReserve refuses a reservation, for a function of which so much is provisioned, that leaves an account with a limit,
// for others of whose functions so much is kept, less than it must have unreserved, or that is less than what is
// provisioned. Kinds: KindInvalid, with AWS's text.
func CheckReserve(limit, others, provisioned, executions int) error {
	const op = "admission: reserve concurrency"
	least := min(UnreservedMin, limit)
	if executions < 0 || limit-others-executions < least {
		return kiln.Errorf(kiln.KindInvalid, op,
			"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", least)
	}
	if executions < provisioned {
		return kiln.Errorf(kiln.KindInvalid, op,
			"ReservedConcurrentExecutions %d should not be lower than function's total provisioned concurrency [%d].", executions, provisioned)
	}
	return nil
}

// CheckProvision refuses provisioned concurrency that is, for all of a function, more than its reservation (None without)
// or leaves its account, for others of whose functions so much is kept, less than it must have unreserved. Kinds:
// KindInvalid, with AWS's text.
func CheckProvision(limit, others, reserved, total int) error {
	const op = "admission: provision concurrency"
	if reserved >= 0 {
		if total > reserved {
			return kiln.Errorf(kiln.KindInvalid, op, "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
		}
		return nil
	}
	if least := min(UnreservedMin, limit); limit-others-total < least {
		return kiln.Errorf(kiln.KindInvalid, op,
			"Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", least)
	}
	return nil
}

func refuse(reason string) error {
	e := kiln.Errorf(kiln.KindThrottled, "admission: admit", "Rate Exceeded.")
	e.Reason = reason
	return e
}
