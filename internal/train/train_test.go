package train

import (
	"context"
	"slices"
	"testing"

	"kiln"
	"kiln/internal/trace"
)

// small is quick to fit.
var small = Options{Seed: 7, Trees: 12}

// The same traces and seed give the same bytes, another seed others (R40).
func TestRepeatable(t *testing.T) {
	made := trace.Make(3, 40, 300)
	fit := func(o Options) []byte {
		table, err := Fit(context.Background(), []*trace.Trace{made}, o)
		if err != nil {
			t.Fatal(err)
		}
		return table.Bytes()
	}
	once := fit(small)
	if !slices.Equal(once, fit(small)) {
		t.Error("two fits differ")
	}
	if other := (Options{Seed: 8, Trees: 12}); slices.Equal(once, fit(other)) {
		t.Error("two seeds give the same")
	}
}

// What is fitted knows a minute with a call from one without, for functions it was not shown (R40).
func TestCrossed(t *testing.T) {
	made := trace.Make(4, 60, 400)
	tables, table, err := Crossed(context.Background(), made, 3, small)
	if err != nil {
		t.Fatal(err)
	}
	var with, without, calls, others float64
	for i := range made.Functions {
		var c cases
		c.function(calledIn(&made.Functions[i], made.Minutes, 0), 1, constant{})
		for j := range c.features {
			if h := tables[table[i]].Hazard(&c.features[j]); c.call[j] {
				with, calls = with+h, calls+1
			} else {
				without, others = without+h, others+1
			}
		}
	}
	if with/calls < 3*without/others {
		t.Errorf("mean hazard %.3f in minutes with a call, %.3f in others", with/calls, without/others)
	}
}

// Copies of one function are in one part, and the parts are of like size (R40).
func TestParts(t *testing.T) {
	made := trace.Make(5, 30, 60)
	for i := range made.Functions {
		made.Functions[i].Weight = 1 + i%4
	}
	whole, copies := parts(made, 5, 1), parts(made.Expanded(1, true), 5, 1)
	at := 0
	size := make([]int, 5)
	for i, f := range made.Functions {
		size[whole[i]]++
		for range f.Weight {
			if copies[at] != whole[i] {
				t.Errorf("function %d is in part %d, a copy of it in %d", i, whole[i], copies[at])
			}
			at++
		}
	}
	if slices.Max(size)-slices.Min(size) > 1 {
		t.Errorf("sizes %v", size)
	}
}

// Where there is nothing to learn from, that is said (R40).
func TestNothing(t *testing.T) {
	_, err := Fit(context.Background(), []*trace.Trace{{Minutes: 10}}, Options{})
	if kiln.KindOf(err) != kiln.KindInvalid {
		t.Errorf("error %v", err)
	}
}

// constant is a chance that keeps every case.
type constant struct{}

func (constant) Float64() float64 { return 0 }
