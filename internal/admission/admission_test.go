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
		g, err := c.Acquire("f", "1")
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
	if _, err := c.Acquire("g", "1"); err != nil {
		t.Error(err)
	}
}

// A reservation limits its function, is kept free for it, and leaves the others the rest; when it is taken away, what runs
// counts to the others (R36).
func TestReserved(t *testing.T) {
	c := NewCounter(110)
	c.Set("f", Terms{Reserved: 2})
	c.Set("f", Terms{Reserved: 10}) // changed from 2
	for range 100 {
		if _, err := c.Acquire("other", "1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Acquire("other", "1"); err == nil || err.(*kiln.Error).Reason != ReasonAccount {
		t.Errorf("over the unreserved: %v", err)
	}
	var held Grant
	for range 10 {
		g, err := c.Acquire("f", "1")
		if err != nil {
			t.Fatal(err)
		}
		held = g
	}
	if _, err := c.Acquire("f", "1"); err == nil || err.(*kiln.Error).Reason != ReasonFunction {
		t.Errorf("over the reservation: %v", err)
	}
	c.Set("f", Terms{Reserved: None})
	c.Release(held) // begun under the reservation
	if c.Unreserved() != 110 || c.Running() != 109 {
		t.Errorf("%d unreserved, %d running", c.Unreserved(), c.Running())
	}
	if _, err := c.Acquire("other", "1"); err != nil {
		t.Error("one place was free:", err)
	}
	if _, err := c.Acquire("f", "1"); err == nil {
		t.Error("admitted over the account's limit")
	}
}

// What runs when a reservation is made counts to it, so that the function never has more at once; and what runs of a
// deleted function counts to the account until it ends (R36).
func TestReservedWhileRunning(t *testing.T) {
	c := NewCounter(200)
	var grants []Grant
	for range 3 {
		g, err := c.Acquire("f", "1")
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, g)
	}
	c.Set("f", Terms{Reserved: 4})
	if _, err := c.Acquire("f", "1"); err != nil {
		t.Fatal("the fourth of four:", err)
	}
	if _, err := c.Acquire("f", "1"); err == nil {
		t.Error("a fifth of four was admitted")
	}
	c.Forget("f")
	if c.Running() != 4 || c.Unreserved() != 200 {
		t.Errorf("%d running, %d unreserved after the function was deleted", c.Running(), c.Unreserved())
	}
	if _, err := c.Acquire("f", "1"); err != nil {
		t.Error("a new function of the name:", err)
	}
	for _, g := range grants {
		c.Release(g)
	}
	if c.Running() != 2 {
		t.Errorf("%d running, want 2", c.Running())
	}
}

// A function with a reservation of nothing is never admitted.
func TestReservedNothing(t *testing.T) {
	c := NewCounter(DefaultAccountLimit)
	c.Set("f", Terms{Reserved: 0})
	if _, err := c.Acquire("f", "1"); err == nil {
		t.Error("admitted")
	}
}

// An account keeps a hundred executions unreserved, or all of a lower limit; a reservation of nothing is always possible.
func TestCheckReserve(t *testing.T) {
	for _, c := range []struct {
		limit, others, provisioned, executions int
		refused                                bool
	}{
		{1000, 0, 0, 900, false}, {1000, 0, 0, 901, true}, {1000, 500, 0, 400, false}, {1000, 500, 0, 401, true},
		{50, 0, 0, 0, false}, {50, 0, 0, 1, true}, {1000, 0, 0, -1, true}, {1000, 0, 10, 9, true}, {1000, 0, 10, 10, false},
	} {
		err := CheckReserve(c.limit, c.others, c.provisioned, c.executions)
		if refused := kiln.KindOf(err) == kiln.KindInvalid && err != nil; refused != c.refused {
			t.Errorf("of %d, others %d: %d gives %v", c.limit, c.others, c.executions, err)
		}
	}
}
