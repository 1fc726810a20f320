// Package admission counts the executions an account and its functions have at once, and refuses what is over a limit.
//
// It does not queue, and knows nothing of capacity: a request that waits for a container counts like one that executes
// (R36). Package invoke counts by it, behind a lock of its own; registry asks it which reservations an account may make.
// It reads no clock and is used by one goroutine at a time.
package admission

import "kiln"

// Limits of AWS Lambda, mid 2026.
const (
	// DefaultAccountLimit is how many executions an account may have at once.
	DefaultAccountLimit = 1000
	// UnreservedMin is how much of an account's limit must stay unreserved; all of it, where the limit is lower.
	UnreservedMin = 100
)

// None is the reservation of a function that has none.
const None = -1

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

// function is one function that was executed or has a reservation.
type function struct {
	reserved int // None without
	running  int
}

// NewCounter makes a counter for an account that may have limit executions at once.
func NewCounter(limit int) *Counter {
	return &Counter{limit: limit, functions: make(map[string]*function)}
}

// Unreserved is what the account's limit leaves to functions without a reservation; below zero when the limit was lowered
// under what is reserved.
func (c *Counter) Unreserved() int { return c.limit - c.reserved }

// Grant is one execution admitted; give it back with Release, once.
type Grant struct{ function *function }

// Acquire admits an execution of a function, or refuses with KindThrottled and AWS's reason.
func (c *Counter) Acquire(name string) (Grant, error) {
	f := c.function(name)
	if f.reserved >= 0 {
		if f.running >= f.reserved {
			return Grant{}, refuse(ReasonFunction)
		}
		f.running++
		return Grant{f}, nil
	}
	if c.unreserved >= c.Unreserved() {
		return Grant{}, refuse(ReasonAccount)
	}
	f.running++
	c.unreserved++
	return Grant{f}, nil
}

// Release gives a grant back.
func (c *Counter) Release(g Grant) {
	f := g.function
	if f.running <= 0 {
		panic("admission: released more than was acquired")
	}
	f.running--
	if f.reserved < 0 {
		c.unreserved--
	}
}

// Reserve sets a function's reservation, None for none: at most so many executions at once, and kept free for it.
// Executions that run already count to it from now on. CheckReserve says which reservations an account may make.
func (c *Counter) Reserve(name string, executions int) {
	f := c.function(name)
	if f.reserved >= 0 {
		c.reserved -= f.reserved
	} else {
		c.unreserved -= f.running
	}
	f.reserved = max(executions, None)
	if f.reserved >= 0 {
		c.reserved += f.reserved
	} else {
		c.unreserved += f.running
	}
}

// Forget lets go of a deleted function and its reservation. Executions that still run count as unreserved to their end.
func (c *Counter) Forget(name string) {
	if c.functions[name] == nil {
		return
	}
	c.Reserve(name, None)
	delete(c.functions, name)
}

func (c *Counter) function(name string) *function {
	f := c.functions[name]
	if f == nil {
		f = &function{reserved: None}
		c.functions[name] = f
	}
	return f
}

// CheckReserve refuses a reservation that leaves an account with a limit, others of whose functions have reserved so many,
// less than it must have unreserved. Kinds: KindInvalid, with AWS's text.
func CheckReserve(limit, others, executions int) error {
	least := min(UnreservedMin, limit)
	if executions < 0 || limit-others-executions < least {
		return kiln.Errorf(kiln.KindInvalid, "admission: reserve concurrency",
			"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", least)
	}
	return nil
}

func refuse(reason string) error {
	e := kiln.Errorf(kiln.KindThrottled, "admission: admit", "Rate Exceeded.")
	e.Reason = reason
	return e
}
