package registry

import (
	"fmt"
	"sync"
	"testing"

	"kiln"
	"kiln/internal/admission"
)

// Reservations of many functions asked for at once never leave the account less than it must have unreserved; what is
// changed, deleted or goes with its function is told in order, and is there again after a restart. // R36
func TestReservations(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	var told []Reservation
	h.cfg.Reserved = func(r Reservation) { told = append(told, r) } // by the writers' own calls, one at a time
	const functions = 30
	for i := range functions {
		h.create(fmt.Sprintf("f%d", i), digest("a"))
	}
	var wg sync.WaitGroup
	refused := make(chan error, functions)
	for i := range functions {
		wg.Go(func() {
			if err := h.Reserve(t.Context(), owner, fmt.Sprintf("f%d", i), 100); err != nil {
				refused <- err
			}
		})
	}
	wg.Wait()
	if len(refused) != functions-9 || h.reserved(owner) != 900 || h.Unreserved(owner) != 100 {
		t.Fatalf("%d of %d refused, %d reserved", len(refused), functions, h.reserved(owner))
	}
	wants(t, <-refused, kiln.KindInvalid, "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
	if len(told) != 9 {
		t.Errorf("told of %d reservations", len(told))
	}
	first := told[0].Function
	if err := h.Reserve(t.Context(), owner, first, 0); err != nil {
		t.Error("lowered:", err)
	}
	if err := h.Unreserve(t.Context(), owner, told[1].Function); err != nil {
		t.Error(err)
	}
	if n, err := h.Reserved(owner, told[1].Function); n != admission.None || err != nil {
		t.Errorf("%d, %v after it was taken away", n, err)
	}
	if err := h.Delete(t.Context(), owner, told[2].Function, ""); err != nil {
		t.Error(err)
	}
	if last := told[len(told)-1]; !last.Deleted || last.Function != told[2].Function || h.reserved(owner) != 600 {
		t.Errorf("after a function was deleted: told %+v, %d reserved", last, h.reserved(owner))
	}
	wants(t, h.Reserve(t.Context(), owner, "absent", 1), kiln.KindNotFound, "Function not found: "+arn+"absent")
	h.engine.Close()
	h = open(t, dir)
	sum, n := 0, 0
	for r := range h.Reservations() {
		sum, n = sum+r.Terms.Reserved, n+1
	}
	if sum != 600 || n != 7 || h.reserved(owner) != 600 {
		t.Errorf("%d reservations of %d after a restart", n, sum)
	}
}
