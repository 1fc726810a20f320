package registry

import (
	"context"
	"iter"

	"kiln"
	"kiln/internal/admission"
)

// Reservation is what a function has of its account's executions at once.
type Reservation struct {
	Account  kiln.AccountID
	Function string
	// Executions is admission.None for a function without a reservation.
	Executions int
	// Deleted is true when the function is gone.
	Deleted bool
}

// Reserve sets how many executions a function may have at once and gives what is kept free for it. Kinds: KindNotFound,
// KindInvalid (the account would keep too few unreserved), KindUnavailable.
func (r *Registry) Reserve(ctx context.Context, owner kiln.AccountID, name string, executions int) error {
	const op = "registry: reserve concurrency"
	return r.changeReserved(ctx, op, owner, name, func(f *Function) error {
		others := r.reserved(owner)
		if f.Reserved != nil {
			others -= *f.Reserved
		}
		if err := admission.CheckReserve(r.cfg.ConcurrencyLimit, others, executions); err != nil {
			return err
		}
		f.Reserved = &executions
		return nil
	})
}

// Unreserve takes a function's reservation away; without one there is nothing to do. Kinds: KindNotFound, KindUnavailable.
func (r *Registry) Unreserve(ctx context.Context, owner kiln.AccountID, name string) error {
	const op = "registry: delete reserved concurrency"
	return r.changeReserved(ctx, op, owner, name, func(f *Function) error {
		if f.Reserved == nil {
			return errNothing
		}
		f.Reserved = nil
		return nil
	})
}

// changeReserved changes a function's reservation while no other one changes: the sum of an account's is checked against
// its limit before one of them is written.
func (r *Registry) changeReserved(ctx context.Context, op string, owner kiln.AccountID, name string, do func(*Function) error) error {
	select {
	case r.reserving <- struct{}{}:
		defer func() { <-r.reserving }()
	case <-ctx.Done():
		return kiln.Wrap(kiln.KindUnavailable, op, "the request was given up", ctx.Err())
	}
	_, err := r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) { return nil, do(f) })
	return err
}

// reserved gives the sum of an account's reservations.
func (r *Registry) reserved(owner kiln.AccountID) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.accounts[owner]; a != nil {
		return a.reserved
	}
	return 0
}

// Reserved gives a function's reservation, admission.None when it has none. Kinds: KindNotFound.
func (r *Registry) Reserved(owner kiln.AccountID, name string) (int, error) {
	e := r.entry(owner, name)
	if e == nil {
		return 0, r.notFound("registry: get reserved concurrency", owner, name, "")
	}
	return e.reserved(), nil
}

// Unreserved gives what an account's limit leaves to functions without a reservation.
func (r *Registry) Unreserved(owner kiln.AccountID) int {
	return max(r.cfg.ConcurrencyLimit-r.reserved(owner), 0)
}

// Reservations walks the reservations of all functions that have one, in no order.
func (r *Registry) Reservations() iter.Seq[Reservation] {
	return func(yield func(Reservation) bool) {
		r.mu.RLock()
		var all []Reservation
		for owner, a := range r.accounts {
			for name, e := range a.functions {
				if n := e.reserved(); n != admission.None {
					all = append(all, Reservation{Account: owner, Function: name, Executions: n})
				}
			}
		}
		r.mu.RUnlock()
		for _, one := range all {
			if !yield(one) {
				return
			}
		}
	}
}

// reserved gives a function's reservation. Of no function, none.
func (e *entry) reserved() int {
	if e == nil || e.head.Reserved == nil {
		return admission.None
	}
	return *e.head.Reserved
}

// noteReserved keeps the account's sum up to date and tells what has changed; false when nothing has. mu is held.
func (a *account) noteReserved(f id, old, now *entry) (Reservation, bool) {
	before, after := old.reserved(), now.reserved()
	a.reserved += max(after, 0) - max(before, 0)
	return Reservation{Account: f.account, Function: f.name, Executions: after, Deleted: now == nil}, before != after || now == nil
}
