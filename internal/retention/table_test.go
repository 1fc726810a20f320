package retention

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// The shipped table is one of this version, and comes back from its bytes as it was (R40).
func TestShipped(t *testing.T) {
	table, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if table.Trees() < 50 || string(table.Bytes()) != shipped {
		t.Errorf("%d trees, the same bytes: %v", table.Trees(), string(table.Bytes()) == shipped)
	}
	p := NewLearned(Settings{Table: table})
	c := Cost{MemoryMiB: 256}
	if kept := loaded(p, everyMinutes(20, 30), c, 40); !kept[20] || kept[10] || kept[15] || kept[25] {
		t.Errorf("called every 20 minutes, loaded in the minutes after the last call: %v", kept)
	}
	if n := testing.AllocsPerRun(100, func() { p.Plan(everyMinutes20, at(3), c) }); n != 0 {
		t.Errorf("%v allocations a plan", n)
	}
}

var everyMinutes20 = everyMinutes(20, 30)

// A job that comes once a day is loaded in its minute after some days, although no trace that was learned from is longer than
// one, and hardly in others (R40 R63).
func TestDaily(t *testing.T) {
	table, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	p := NewLearned(Settings{Table: table})
	const day = 24 * 60
	kept := loaded(p, everyMinutes(day, 8), Cost{MemoryMiB: 512}, day+60)
	n := 0
	for _, k := range kept[30:] {
		if k {
			n++
		}
	}
	if !kept[day] || n > 5 {
		t.Errorf("loaded in its minute: %v; in %d minutes of the day", kept[day], n)
	}
}

// Trees are walked as they were made: to the left up to the edge (R40).
func TestTable(t *testing.T) {
	table := NewTable(0)
	table.Add([]Split{{Feature: fElapsed, Edge: 10, Left: 1, Right: -1}, {Feature: fCalls, Edge: 3, Left: -2, Right: -3}}, []float32{-4, 1, 2})
	table.Add(nil, []float32{0.5})
	back, err := ParseTable(table.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ elapsed, calls, want float64 }{{11, 0, -3.5}, {10, 3, 1.5}, {10, 4, 2.5}} {
		var f Features
		f[fElapsed], f[fCalls] = float32(c.elapsed), float32(c.calls)
		want := 1 / (1 + math.Exp(-c.want))
		if got := back.Hazard(&f); math.Abs(got-want) > 1e-6 {
			t.Errorf("elapsed %v, calls %v: %v, want %v", c.elapsed, c.calls, got, want)
		}
	}
}

// Whatever bytes are given for a table: it is refused, or a plan made with it ends and its table gives the same bytes.
func FuzzTable(f *testing.F) {
	f.Add([]byte(shipped[:200]))
	table := NewTable(0)
	table.Add([]Split{{Feature: fElapsed, Edge: 10, Left: 1, Right: -1}, {Feature: fCalls, Edge: 3, Left: -2, Right: -3}}, []float32{-4, 1, 2})
	f.Add(table.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ParseTable(b)
		if err != nil {
			return
		}
		if !bytes.Equal(table.Bytes(), b) {
			t.Error("other bytes")
		}
		NewLearned(Settings{Table: table}).Plan(everyMinutes20, at(3), Cost{MemoryMiB: 1})
	})
}

// BenchmarkPlan is what one decision costs: at most 5 µs.
func BenchmarkPlan(b *testing.B) {
	table, err := Shipped()
	if err != nil {
		b.Fatal(err)
	}
	p := NewLearned(Settings{Table: table})
	h := called()
	for m := 0; m < 600; m += 1 + m*m%11 {
		h.Arrived(at(m))
	}
	now := startOf(h.last)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		h.Follow(p.Plan(h, now.Add(time.Duration(i%50)*time.Minute), Cost{MemoryMiB: 256}))
	}
}

// BenchmarkArrived is what a request costs that opens a minute.
func BenchmarkArrived(b *testing.B) {
	h, now := called(), start
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(7 * time.Minute)
		h.Arrived(now)
	}
}
