package registry

import (
	"context"
	"iter"
	"maps"

	"kiln"
	"kiln/internal/admission"
)

// Reservation is what a function and its versions have of their account's executions at once.
type Reservation struct {
	Account  kiln.AccountID
	Function string
	Terms    admission.Terms
	// Deleted is true when the function is gone.
	Deleted bool
}

// Reserve sets how many executions a function may have at once and gives what is kept free for it. Kinds: KindNotFound,
// KindInvalid (the account would keep too few unreserved), KindUnavailable.
func (r *Registry) Reserve(ctx context.Context, owner kiln.AccountID, name string, executions int) error {
	const op = "registry: reserve concurrency"
	return r.changeReserved(ctx, op, owner, name, func(f *Function) error {
		terms := f.terms()
		others := r.reserved(owner) - terms.Total()
		terms.Reserved = admission.None
		if err := admission.CheckReserve(r.cfg.ConcurrencyLimit, others, terms.Total(), executions); err != nil {
			return err
		}
		f.Reserved = &executions
		return nil
	})
}

// Unreserve takes a function's reservation away; without one there is nothing to do. Kinds: KindNotFound, KindInvalid (the
// account has not what is provisioned of the function), KindUnavailable.
func (r *Registry) Unreserve(ctx context.Context, owner kiln.AccountID, name string) error {
	const op = "registry: delete reserved concurrency"
	return r.changeReserved(ctx, op, owner, name, func(f *Function) error {
		if f.Reserved == nil {
			return errNothing
		}
		others := r.reserved(owner) - *f.Reserved
		f.Reserved = nil
		if total := f.terms().Total(); total > 0 { // what is provisioned comes out of the account's rest from now on
			return admission.CheckProvision(r.cfg.ConcurrencyLimit, others, admission.None, total)
		}
		return nil
	})
}

// changeReserved changes a function's reservation while no other one changes: the sum of an account's is checked against
// its limit before one of them is written.
func (r *Registry) changeReserved(ctx context.Context, op string, owner kiln.AccountID, name string, do func(*Function) error) error {
	unlock, err := r.alone(ctx, op)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = r.change(ctx, op, owner, name, func(f *Function) (*kiln.Version, error) { return nil, do(f) })
	return err
}

// reserved gives what of an account's limit is kept for its functions: reserved, or provisioned without a reservation.
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
	return e.terms().Reserved, nil
}

// Unreserved gives what an account's limit leaves to functions without a reservation.
func (r *Registry) Unreserved(owner kiln.AccountID) int {
	return max(r.cfg.ConcurrencyLimit-r.reserved(owner), 0)
}

// Reservations walks the terms of all functions that have any, in no order.
func (r *Registry) Reservations() iter.Seq[Reservation] {
	return func(yield func(Reservation) bool) {
		r.mu.RLock()
		var all []Reservation
		for owner, a := range r.accounts {
			for name, e := range a.functions {
				if t := e.terms(); !plain(t) {
					all = append(all, Reservation{Account: owner, Function: name, Terms: t})
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

// terms gives a function's terms. Of no function, none.
func (e *entry) terms() admission.Terms {
	if e == nil {
		return admission.Terms{Reserved: admission.None}
	}
	t := e.head.terms()
	t.Most = e.mosts()
	return t
}

// plain reports whether terms are those of a function without any.
func plain(t admission.Terms) bool {
	return t.Reserved == admission.None && len(t.Provisioned) == 0 && len(t.Most) == 0
}

// noteReserved keeps the account's sum up to date and tells what has changed; false when nothing has. mu is held.
func (a *account) noteReserved(f id, old, now *entry) (Reservation, bool) {
	before, after := old.terms(), now.terms()
	a.reserved += after.Total() - before.Total()
	same := before.Reserved == after.Reserved && maps.Equal(before.Provisioned, after.Provisioned) && maps.Equal(before.Most, after.Most)
	return Reservation{Account: f.account, Function: f.name, Terms: after, Deleted: now == nil}, !same || now == nil
}
