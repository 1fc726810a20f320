package admission

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"kiln"
)

// admitted asks for n executions and gives those admitted.
func admitted(c *Counter, n int, name, version string) (grants []Grant) {
	for range n {
		if g, err := c.Acquire(name, version); err == nil {
			grants = append(grants, g)
		}
	}
	return grants
}

// What is provisioned for a version is kept for it: a burst of others takes the account's rest and not that; the version
// itself goes beyond with what is left of the rest. // R36
func TestProvisionedIsKept(t *testing.T) {
	c := NewCounter(120)
	c.Set("f", Terms{Reserved: None, Provisioned: map[string]int{"3": 20}})
	if n := len(admitted(c, 500, "other", Latest)); n != 100 {
		t.Errorf("%d of others admitted, 100 are nobody's", n)
	}
	if n := len(admitted(c, 500, "f", Latest)); n != 0 {
		t.Errorf("%d of a version with nothing provisioned", n)
	}
	grants := admitted(c, 500, "f", "3")
	if len(grants) != 20 || c.Running() != 120 || c.Executing("f", "3") != 20 {
		t.Errorf("%d of the version, %d in all", len(grants), c.Running())
	}
	_, err := c.Acquire("f", "3")
	if e, ok := err.(*kiln.Error); !ok || e.Reason != ReasonAccount {
		t.Errorf("beyond what is provisioned: %v", err)
	}
	c.Set("f", Terms{Reserved: None, Provisioned: map[string]int{"4": 20}}) // the alias moved to version 4
	if n := len(admitted(c, 500, "f", "4")); n != 20 {
		t.Errorf("%d of the version it moved to", n)
	}
	for _, g := range grants {
		c.Release(g)
	}
	if n := len(admitted(c, 500, "f", "3")); n != 0 {
		t.Errorf("%d of the version it left, with the rest taken", n)
	}
}

// Within a reservation the provisioned part is kept for its version, and the others have what it leaves: nothing, when all
// of it is provisioned, which stops $LATEST as on AWS. // R36
func TestProvisionedWithinReserved(t *testing.T) {
	c := NewCounter(200)
	c.Set("f", Terms{Reserved: 30, Provisioned: map[string]int{"1": 10}})
	if n := len(admitted(c, 100, "f", Latest)); n != 20 {
		t.Errorf("%d of $LATEST, 20 are left for it", n)
	}
	if n := len(admitted(c, 100, "f", "1")); n != 10 {
		t.Errorf("%d of the provisioned version", n)
	}
	_, err := c.Acquire("f", "1")
	if e, ok := err.(*kiln.Error); !ok || e.Reason != ReasonFunction {
		t.Errorf("beyond the reservation: %v", err)
	}
	c = NewCounter(200)
	c.Set("f", Terms{Reserved: 10, Provisioned: map[string]int{"1": 10}})
	if n := len(admitted(c, 1, "f", Latest)); n != 0 {
		t.Error("$LATEST was admitted, with all that is reserved provisioned for another version")
	}
}

// A version with a most has no more at once, whatever else is free; with nothing, none. // R36
func TestMost(t *testing.T) {
	c := NewCounter(200)
	c.Set("f", Terms{Reserved: None, Most: map[string]int{"1": 3, "2": 0}})
	if one, two, latest := len(admitted(c, 10, "f", "1")), len(admitted(c, 10, "f", "2")), len(admitted(c, 10, "f", Latest)); one != 3 || two != 0 || latest != 10 {
		t.Errorf("%d, %d and %d admitted", one, two, latest)
	}
}

// Whatever is asked and ended in any order under any terms: what is admitted never exceeds the limit,
// a version never gets less than is provisioned for it, and when all has ended nothing is counted. // R36
func TestAnyTerms(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		const limit = 40
		c := NewCounter(limit)
		for range 4 {
			var grants []Grant
			kept := 0
			terms := map[string]Terms{}
			for i := range 3 {
				t := Terms{Reserved: None, Provisioned: map[string]int{"1": chance.IntN(4), "2": chance.IntN(4)}}
				if chance.IntN(2) == 0 {
					t.Reserved = t.provisioned() + chance.IntN(4)
				}
				name := fmt.Sprint("f", i)
				terms[name] = t
				kept += t.Total()
				c.Set(name, t)
			}
			if c.Unreserved() != limit-kept {
				t.Fatalf("%d unreserved, want %d", c.Unreserved(), limit-kept)
			}
			for range 150 {
				name, version := fmt.Sprint("f", chance.IntN(4)), fmt.Sprint(chance.IntN(3))
				if len(grants) > 0 && chance.IntN(3) == 0 {
					i := chance.IntN(len(grants))
					c.Release(grants[i])
					grants[i] = grants[len(grants)-1]
					grants = grants[:len(grants)-1]
					continue
				}
				before, running := c.Executing(name, version), c.Running()
				g, err := c.Acquire(name, version)
				if err == nil {
					grants = append(grants, g)
				}
				switch promised := terms[name].Provisioned[version]; {
				case err != nil && before < promised:
					t.Fatalf("%s:%s refused at %d of %d provisioned", name, version, before, promised)
				case err == nil && before >= promised && running >= limit:
					t.Fatalf("admitted at %d of %d", running, limit)
				}
			}
			for _, g := range grants {
				c.Release(g)
			}
			if c.Running() != 0 || c.unreserved != 0 {
				t.Fatalf("%d running, %d unreserved at the end", c.Running(), c.unreserved)
			}
		}
	}
}

// Latest stands for a version with no terms.
const Latest = kiln.Latest

// Provisioned concurrency stays within a reservation, or leaves the account a hundred unreserved. // R36
func TestCheckProvision(t *testing.T) {
	for _, c := range []struct {
		limit, others, reserved, total int
		refused                        bool
	}{
		{1000, 0, None, 900, false}, {1000, 0, None, 901, true}, {1000, 500, None, 401, true},
		{1000, 900, 10, 10, false}, {1000, 900, 10, 11, true}, {50, 0, None, 1, true},
	} {
		err := CheckProvision(c.limit, c.others, c.reserved, c.total)
		if refused := err != nil; refused != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// However many versions of a function were ever executed, few are counted.
func TestPartsAreSwept(t *testing.T) {
	c := NewCounter(100)
	c.Set("f", Terms{Reserved: None, Most: map[string]int{"1": 1}})
	for i := range 10 * partsSwept {
		g, err := c.Acquire("f", fmt.Sprint(i+2))
		if err != nil {
			t.Fatal(err)
		}
		c.Release(g)
	}
	if n := len(c.functions["f"].parts); n > partsSwept {
		t.Errorf("%d versions are counted", n)
	}
	if n := len(admitted(c, 2, "f", "1")); n != 1 {
		t.Errorf("%d admitted of the version with a most of 1", n)
	}
}
