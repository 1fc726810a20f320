package policy

import (
	"math"
	"testing"
	"time"

	"kiln/internal/trace"
)

// after tells a keeper of calls in these minutes and gives the minutes after the last in which it keeps.
func after(k Keeper, until int, called ...int) []int {
	for i, m := range called {
		k.Called(minutes(float64(m)), 1)
		if i+1 < len(called) { // as the simulator asks
			k.Next(minutes(float64(m + 1)))
		}
	}
	last := called[len(called)-1]
	var kept []int
	for m := last + 1; m <= until; m++ {
		span, _ := k.Next(minutes(float64(m)))
		if at := minutes(float64(m)); !span.Empty() && span.From <= at && at <= span.Until {
			kept = append(kept, m-last)
		}
	}
	return kept
}

func span(from, to int) []int {
	var out []int
	for m := from; m <= to; m++ {
		out = append(out, m)
	}
	return out
}

func every(gap, n int) []int {
	var out []int
	for i := range n {
		out = append(out, i*gap)
	}
	return out
}

// Each policy keeps a container in the minutes that its definition says, on histories made by hand (R67).
func TestKeepers(t *testing.T) {
	rows := []struct {
		name   string
		policy Policy
		called []int
		want   []int
	}{
		{"a window", Fixed{10 * time.Minute}, []int{3}, span(1, 10)},
		{"a window counts from the last call", Fixed{2 * time.Minute}, []int{3, 4}, span(1, 2)},
		{"knative: the window and the grace, 90 s", Knative{KnativeWindow}, []int{3}, span(1, 1)},
		{"target tracking: 15 minutes", TargetTracking{TargetTrackingIn}, []int{3}, span(1, 15)},
		{"stem cells: 10 minutes", StemCells{2}, []int{3}, span(1, 10)},
		{"hybrid before its first gap", NewHybrid(4*time.Hour, false), []int{3}, span(1, 15)},
		{"hybrid: head 20 × 0.9, tail 20 × 1.1", NewHybrid(4*time.Hour, false), every(20, 9), span(18, 22)},
		{"hybrid: most gaps out of range, mean of five × 0.85 … 1.15", NewHybrid(time.Hour, false), every(100, 9), span(85, 115)},
		{"hybrid: the forecast of a steady gap is the gap", NewHybrid(time.Hour, true), every(100, 19), span(85, 115)},
	}
	for _, row := range rows {
		got := after(row.policy.Keeper(&trace.Function{}), row.called[len(row.called)-1]+300, row.called...)
		if len(got) != len(row.want) || len(got) > 0 && (got[0] != row.want[0] || got[len(got)-1] != row.want[len(row.want)-1]) {
			t.Errorf("%s: kept %v, want %v", row.name, got, row.want)
		}
	}
}

// A histogram whose bins are all alike says nothing: the container is kept for the whole range (R67).
func TestHybridWithoutPattern(t *testing.T) {
	k := NewHybrid(20*time.Minute, false).Keeper(&trace.Function{})
	var called []int
	for round, at := 0, 0; round < 4; round++ {
		for gap := 1; gap <= 20; gap++ {
			called = append(called, at)
			at += gap
		}
	}
	if got := after(k, called[len(called)-1]+60, called...); len(got) != 20 || got[0] != 1 {
		t.Errorf("kept %v, want all 20 minutes of the range", got)
	}
}

// The forecast sees a trend in the gaps, which a mean does not (R67).
func TestForecast(t *testing.T) {
	var gaps []float64
	for i := range 12 {
		gaps = append(gaps, 100+10*float64(i))
	}
	if got := forecast(gaps); math.Abs(got-220) > 2 {
		t.Errorf("after 100, 110, … 210 it forecasts %.1f, want 220", got)
	}
	if got := forecast([]float64{30, 30}); got != 30 {
		t.Errorf("of two gaps it forecasts %.1f, want their mean", got)
	}
}

// The oracle holds a container in the very minutes of the calls to come (R67).
func TestOracle(t *testing.T) {
	f := &trace.Function{Calls: []trace.Call{{Minute: 2, Count: 1}, {Minute: 30, Count: 1}, {Minute: 31, Count: 4}}}
	k := Oracle{}.Keeper(f)
	if got := after(k, 40, 2); len(got) != 1 || got[0] != 28 {
		t.Errorf("after the first call: %v", got)
	}
	if got := after(k, 40, 30); len(got) != 1 || got[0] != 1 {
		t.Errorf("after the second: %v", got)
	}
	if got := after(k, 40, 31); got != nil {
		t.Errorf("after the last: %v", got)
	}
}

// The forecasts follow a call every minute and one every half an hour, and give up after two hours without (R67).
func TestFeMux(t *testing.T) {
	k := FeMux{FeMuxThreshold}.Keeper(&trace.Function{})
	got := after(k, 400, span(0, 100)...)
	if len(got) == 0 || got[0] != 1 || got[len(got)-1] > femuxHistory {
		t.Errorf("called every minute: kept %v", got)
	}
	// A period that divides the history is what a Fourier transform is for: few minutes kept, the right one among them.
	k = FeMux{0.5}.Keeper(&trace.Function{})
	kf := k.(*femux)
	for i := range 900 {
		if i%30 == 0 {
			kf.Called(minutes(float64(i)), 1)
		} else {
			kf.Next(minutes(float64(i + 1)))
		}
	}
	best, at := 0.0, -1
	for i := range 30 {
		kf.Next(minutes(float64(901 + i)))
		if v := kf.values[3]; v > best {
			best, at = v, (kf.now)%30
		}
	}
	if at != 0 {
		t.Errorf("called every 30 minutes, the Fourier transform sees the next call %d minutes after one", at)
	}
}

// Greedy-dual lets go of what has the least priority, clock + calls × cost ÷ size, and its clock goes on (R67).
func TestGreedyDual(t *testing.T) {
	c := NewCache(3)
	call := func(key int, cost, size float64, loaded bool, gone ...int) {
		t.Helper()
		l, g := c.Call(key, cost, size)
		if l != loaded || len(g) != len(gone) || len(g) > 0 && g[0] != gone[0] {
			t.Errorf("call of %d: loaded %v, let go %v; want %v and %v", key, l, g, loaded, gone)
		}
	}
	call(1, 1, 1, false)
	call(2, 5, 1, false)
	call(3, 1, 1, false)
	call(1, 1, 1, true)     // priority 2
	call(4, 1, 1, false, 3) // 3 had 1; the clock is 1 now, and 4 gets 2
	call(5, 9, 2, false, 1, 4)
	call(2, 5, 1, true)
	if c.Len() != 2 {
		t.Errorf("%d loaded", c.Len())
	}
	call(6, 1, 9, false, 5, 2) // too large for all there is
	if c.Len() != 0 {
		t.Errorf("%d loaded beside what does not fit", c.Len())
	}
}

// Knative wants load over target, panics at a burst, lets nothing go while it does, and the last one goes after window and
// grace (R67).
func TestKnativeScaler(t *testing.T) {
	k := Knative{KnativeWindow}.Scaler()
	now := time.Duration(0)
	tick := func(mean float64, have int) int { now += knativeTick; return k.Tick(now, mean, 0, have) }
	for range 40 {
		tick(1.4, 2)
	}
	if got := tick(1.4, 2); got != 2 {
		t.Errorf("1.4 executions at once: %d containers, want 2", got)
	}
	got := 0
	for range 3 {
		got = tick(14, 2)
	}
	if got != 20 {
		t.Errorf("14 at once for 6 s: %d, want 20 by the panic window", got)
	}
	for range 20 {
		got = tick(0, 20)
	}
	if got != 20 {
		t.Errorf("40 s after the burst %d, want 20 still: it panics for 60 s", got)
	}
	for range 20 {
		got = tick(0, 1)
	}
	if got != 1 {
		t.Errorf("in the grace: %d, want 1", got)
	}
	for range 60 {
		got = tick(0, 1)
	}
	if got != -1 {
		t.Errorf("long after: %d, want none", got)
	}
}

// Target tracking provides by the use at once after three minutes, and lets go after fifteen (R67).
func TestTargetTrackingScaler(t *testing.T) {
	k := TargetTracking{TargetTrackingIn}.Scaler()
	for range 2 {
		if got := k.Tick(0, 0, 7, 7); got != 7 {
			t.Errorf("%d, want 7", got)
		}
	}
	if got := k.Tick(0, 0, 7, 7); got != 10 {
		t.Errorf("7 of 7 in use for 3 minutes: %d, want 10", got)
	}
	for range 14 {
		if got := k.Tick(0, 0, 0, 10); got != 7 {
			t.Errorf("%d within 15 minutes, want 7", got)
		}
	}
	if got := k.Tick(0, 0, 0, 7); got != -1 {
		t.Errorf("%d after 15 minutes, want none", got)
	}
}

// Every policy has its name and operating points, and no other name is one (R67).
func TestParse(t *testing.T) {
	for _, n := range Names() {
		p, err := Parse(n)
		if err != nil || p.Name() != n {
			t.Errorf("%s: %v, %v", n, p, err)
			continue
		}
		points := Frontier(p)
		if n != "oracle" && len(points) < 20 {
			t.Errorf("%s has %d operating points, want 20", n, len(points))
		}
		for _, q := range points {
			if q.Name() == "" {
				t.Errorf("%s at %g has no name", n, q.Value())
			}
		}
	}
	for _, n := range []string{"", "fixed-m", "fixed-0m", "hybrid-4", "Kiln"} {
		if _, err := Parse(n); err == nil {
			t.Errorf("%q is taken for a policy", n)
		}
	}
}
