// Package admission counts the executions an account and its functions have at once, and refuses what is over a limit.
//
// It does not queue, and knows nothing of capacity: a request that waits for a container counts like one that executes
// (R36). Package invoke calls it behind a lock of its own. It reads no clock and is used by one goroutine at a time.
package admission

import "kiln"

// Limits of AWS Lambda, mid 2026.
const (
	// DefaultAccountLimit is how many executions an account may have at once.
	DefaultAccountLimit = 1000
	// UnreservedMin is how much of the account's limit must stay unreserved.
	UnreservedMin = 100
)

// AWS's reasons for a refusal.
const (
	ReasonAccount  = "ConcurrentInvocationLimitExceeded"
	ReasonFunction = "ReservedFunctionConcurrentInvocationLimitExceeded"
)

// Counter counts one account. Make it with NewCounter.
type Counter struct {
	limit      int
	reserved   int // the sum of the functions' reservations
	unreserved int // executions at once of functions without a reservation
	functions  map[string]*function
}

// function is one function with a reservation, or with executions begun under one.
type function struct {
	reserved int // -1 without
	running  int
}

// NewCounter makes a counter for an account that may have limit executions at once.
func NewCounter(limit int) *Counter {
	return &Counter{limit: limit, functions: make(map[string]*function)}
}

// Limit is the account's limit.
func (c *Counter) Limit() int { return c.limit }

// Unreserved is what the account's limit leaves to functions without a reservation.
func (c *Counter) Unreserved() int { return c.limit - c.reserved }

// Running is how many executions the account has now.
func (c *Counter) Running() int {
	n := c.unreserved
	for _, f := range c.functions {
		n += f.running
	}
	return n
}

// SetLimit changes the account's limit. Executions over a lowered one end by themselves.
func (c *Counter) SetLimit(limit int) { c.limit = limit }

// Grant is one execution admitted; give it back with Release, once.
type Grant struct{ function *function }

// Acquire admits an execution of a function, or refuses with KindThrottled and AWS's reason.
func (c *Counter) Acquire(name string) (Grant, error) {
	if f := c.functions[name]; f != nil && f.reserved >= 0 {
		if f.running >= f.reserved {
			return Grant{}, refuse(ReasonFunction)
		}
		f.running++
		return Grant{f}, nil
	}
	if c.unreserved >= c.Unreserved() {
		return Grant{}, refuse(ReasonAccount)
	}
	c.unreserved++
	return Grant{}, nil
}

// Release gives a grant back.
func (c *Counter) Release(g Grant) {
	counted := &c.unreserved
	if g.function != nil {
		counted = &g.function.running
	}
	if *counted <= 0 {
		panic("admission: released more than was acquired")
	}
	*counted--
}

// Reserve sets a function's reservation: at most so many executions at once, and kept free for it. KindInvalid when less
// than UnreservedMin of the account's limit would be left.
func (c *Counter) Reserve(name string, executions int) error {
	before := 0
	f := c.functions[name]
	if f != nil {
		before = max(f.reserved, 0)
	}
	if executions < 0 || c.limit-(c.reserved-before+executions) < UnreservedMin {
		e := kiln.Errorf(kiln.KindInvalid, "admission: reserve concurrency",
			"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", UnreservedMin)
		e.Reason = "InvalidParameterValueException"
		return e
	}
	if f == nil {
		f = &function{}
		c.functions[name] = f
	}
	f.reserved = executions
	c.reserved += executions - before
	return nil
}

// Unreserve takes a function's reservation away. Executions begun under it are counted by their grants to the end.
func (c *Counter) Unreserve(name string) {
	if f := c.functions[name]; f != nil {
		c.reserved -= max(f.reserved, 0)
		delete(c.functions, name)
	}
}

func refuse(reason string) error {
	e := kiln.Errorf(kiln.KindThrottled, "admission: admit", "Rate Exceeded.")
	e.Reason = reason
	return e
}
