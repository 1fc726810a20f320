package admission

import (
	"testing"

	"kiln"
)

// A burst of a thousand and more is admitted to the very limit, refused beyond with AWS's reason, and admitted again as
// executions end (R36).
func TestAccountLimit(t *testing.T) {
	c := NewCounter(DefaultAccountLimit)
	var grants []Grant
	refused := 0
	for range 1500 {
		g, err := c.Acquire("f")
		if err != nil {
			refused++
			if e := err.(*kiln.Error); e.Kind != kiln.KindThrottled || e.Reason != ReasonAccount {
				t.Fatalf("refused with %+v", e)
			}
			continue
		}
		grants = append(grants, g)
	}
	if len(grants) != 1000 || refused != 500 || c.Running() != 1000 {
		t.Errorf("%d admitted, %d refused, %d running", len(grants), refused, c.Running())
	}
	c.Release(grants[0])
	if _, err := c.Acquire("g"); err != nil {
		t.Error(err)
	}
}

// A reservation limits its function, is kept free for it, and leaves the others the rest (R36).
func TestReserved(t *testing.T) {
	c := NewCounter(110)
	if err := c.Reserve("f", 11); kiln.KindOf(err) != kiln.KindInvalid {
		t.Errorf("reserved below the minimum: %v", err)
	}
	if err := c.Reserve("f", 2); err != nil {
		t.Fatal(err)
	}
	if err := c.Reserve("f", 10); err != nil {
		t.Fatal("changed from 2:", err)
	}
	for range 100 {
		if _, err := c.Acquire("other"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Acquire("other"); err == nil || err.(*kiln.Error).Reason != ReasonAccount {
		t.Errorf("over the unreserved: %v", err)
	}
	var held Grant
	for range 10 {
		g, err := c.Acquire("f")
		if err != nil {
			t.Fatal(err)
		}
		held = g
	}
	if _, err := c.Acquire("f"); err == nil || err.(*kiln.Error).Reason != ReasonFunction {
		t.Errorf("over the reservation: %v", err)
	}
	c.Unreserve("f")
	c.Release(held) // begun under the reservation, ends without harm
	if c.Unreserved() != 110 || c.Running() != 100 {
		t.Errorf("%d unreserved, %d running", c.Unreserved(), c.Running())
	}
}

// A function with a reservation of nothing is never admitted.
func TestReservedNothing(t *testing.T) {
	c := NewCounter(DefaultAccountLimit)
	if err := c.Reserve("f", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Acquire("f"); err == nil {
		t.Error("admitted")
	}
}
