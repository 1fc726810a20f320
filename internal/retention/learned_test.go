package retention

import (
	"strings"
	"testing"
	"time"
)

// start is the top of an hour, so that minutes of the hour are plain to read.
var start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func at(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

// called gives the history of a function called in these minutes.
func called(minutes ...int) *History {
	var h History
	for _, m := range minutes {
		h.Arrived(at(m))
	}
	return &h
}

// everyMinutes gives the history of a function called n times with a fixed gap; the last call is in minute 0.
func everyMinutes(gap, n int) *History {
	var h History
	for i := n - 1; i >= 0; i-- {
		h.Arrived(at(-i * gap))
	}
	return &h
}

// loaded walks the plans through the minutes after the last call and gives those in which the function is loaded.
func loaded(p *Learned, h *History, c Cost, minutes int) []bool {
	kept := make([]bool, minutes+1)
	until, now := at(1), at(0)
	for {
		plan := p.Plan(h, now, c)
		h.Follow(plan)
		minute := int(now.Sub(start)/time.Minute) + 1
		if minute > minutes {
			return kept
		}
		if now.Before(until) { // it is loaded
			until = plan.Until
		} else if !plan.Load.IsZero() {
			until = plan.Until
		}
		kept[minute] = until.After(at(minute))
		if plan.Review.IsZero() {
			return kept
		}
		now = plan.Review
	}
}

// A function called every 20 minutes is let go after a call, loaded again before the next is due, and let go after that
// minute; one called every minute stays (R40 R63).
func TestPeriodic(t *testing.T) {
	p := NewLearned(Settings{})
	kept := loaded(p, everyMinutes(20, 30), Cost{MemoryMiB: 256}, 40)
	if !kept[20] || kept[10] || kept[15] || kept[25] || kept[40] {
		t.Errorf("called every 20 minutes, loaded in the minutes after the last call: %v", kept)
	}
	if kept = loaded(p, everyMinutes(1, 30), Cost{MemoryMiB: 256}, 3); !kept[1] {
		t.Errorf("called every minute, loaded in the minutes after the last call: %v", kept)
	}
}

// The container is loaded before its minute begins, by the lead, and the review comes early enough for that (R63).
func TestLead(t *testing.T) {
	p := NewLearned(Settings{Lead: 5 * time.Second})
	h := everyMinutes(20, 30)
	plan := p.Plan(h, at(19).Add(50*time.Second), Cost{MemoryMiB: 256})
	if want := at(20).Add(-5 * time.Second); !plan.Load.Equal(want) || !plan.Until.Equal(at(21)) {
		t.Errorf("load at %s until %s, want %s until %s", plan.Load, plan.Until, want, at(21))
	}
	if latest := at(21).Add(-5 * time.Second); !plan.Review.Before(latest) || !plan.Review.After(at(20)) {
		t.Errorf("review at %s, want within minute 20 and before %s", plan.Review, latest)
	}
}

// A greater worth keeps longer, a greater memory shorter, and a longer start longer (R40).
func TestWorth(t *testing.T) {
	h := called(-200, -110, -40, -25, 0)
	count := func(worth float64, c Cost) (n int) {
		for _, kept := range loaded(NewLearned(Settings{Worth: worth}), h, c, 120) {
			if kept {
				n++
			}
		}
		return n
	}
	base := count(400, Cost{MemoryMiB: 256})
	if more := count(4000, Cost{MemoryMiB: 256}); more <= base {
		t.Errorf("%d minutes at ten times the worth, %d before", more, base)
	}
	if less := count(400, Cost{MemoryMiB: 2560}); less >= base {
		t.Errorf("%d minutes at ten times the memory, %d before", less, base)
	}
	if more := count(400, Cost{MemoryMiB: 256, Start: 10 * TypicalStart}); more <= base {
		t.Errorf("%d minutes at ten times the start, %d before", more, base)
	}
}

// A plan is not paid for with garbage, and says its reason in a sentence only when asked (R40).
func TestPlan(t *testing.T) {
	p, h := NewLearned(Settings{}), everyMinutes(20, 30)
	if n := testing.AllocsPerRun(100, func() { p.Plan(h, at(3), Cost{MemoryMiB: 512}) }); n != 0 {
		t.Errorf("%v allocations a plan", n)
	}
	if reason := p.Plan(h, at(3), Cost{MemoryMiB: 512}).Reason.String(); !strings.Contains(reason, "not kept") {
		t.Errorf("reason %q", reason)
	}
	if plan := p.Plan(&History{}, at(3), Cost{}); !plan.Until.Equal(at(3)) || !plan.Review.IsZero() {
		t.Errorf("a function never called: %+v", plan)
	}
}

// A function that was kept too short several times is kept for ten minutes after each request, as many times more as the
// bound says, and this ends when a keep-alive of ten minutes would be as cold (R40).
func TestBehind(t *testing.T) {
	c := Cost{MemoryMiB: 4096}
	for _, bound := range []float64{2, 5, -1} {
		p := NewLearned(Settings{Behind: bound})
		h, cold := called(0), 0
		for i := 1; i <= 12; i++ { // every 8 minutes: with such a memory never worth it
			now := at(8 * (i - 1))
			for minute := 1; minute <= 8; minute++ {
				plan := p.Plan(h, now, c)
				h.Follow(plan)
				if minute == 8 && !plan.keep {
					cold++
				}
				now = now.Add(time.Minute)
			}
			h.Arrived(at(8 * i))
		}
		if want := int(bound); bound > 0 && cold != want || bound < 0 && cold < 10 {
			t.Errorf("%d cold starts with a bound of %v", cold, bound)
		}
	}
}

// A table that is wrong about a function is used for it no longer once that shows, and again for one it is right about; the
// function's own gaps decide instead, and the reason says so (R40).
func TestDistrust(t *testing.T) {
	p := NewLearned(Settings{Table: NewTable(-9), Behind: -1}) // nobody ever calls, it says
	c := Cost{MemoryMiB: 128}
	h := called(0)
	when := -1
	for i := range 40 {
		for minute := range 20 {
			plan := p.Plan(h, at(20*i+minute), c)
			h.Follow(plan)
			if minute == 19 && plan.keep && when < 0 {
				when = i
				if reason := plan.Reason.String(); !strings.Contains(reason, "its own gaps alone") {
					t.Errorf("reason %q", reason)
				}
			}
		}
		h.Arrived(at(20 * (i + 1)))
	}
	if when < 1 || when > 10 {
		t.Errorf("kept for the first time for call %d", when)
	}
	right := NewLearned(Settings{Table: NewTable(-3)})
	h = everyMinutes(20, 30)
	if plan := right.Plan(h, at(0), c); plan.Reason.rule != ruleLearned {
		t.Errorf("before anything is known: %s", plan.Reason)
	}
}

// A request in a minute for which no plan was made, because the one before was asked for later, is as cold as it was: it
// neither counts as cold when the function was loaded, nor breaks the promise of the minute after (R40).
func TestPromiseOfALaterMinute(t *testing.T) {
	h := everyMinutes(1, 5)
	h.score = score{gain: 1, pending: judged{minute: minuteOf(at(2)), learned: 0.9, own: 0.1, keep: true}}
	h.ArrivedTo(at(1), true)
	if h.score.cold != 0 || h.score.gain != scoreDecay || h.score.pending != (judged{}) {
		t.Errorf("loaded: %+v", h.score)
	}
	h.ArrivedTo(at(2), false)
	if h.score.cold != 1 {
		t.Errorf("not loaded: %+v", h.score)
	}
}

// The bound on cold starts is the first container's: a further one is kept for its worth alone (R40).
func TestFurtherContainersAreNotGuarded(t *testing.T) {
	p := NewLearned(Settings{})
	h := everyMinutes(9, 4)
	h.score.cold = 50
	now := at(1)
	c := Cost{MemoryMiB: 8192, Start: time.Millisecond}
	if plan := p.Plan(h, now, c); !plan.keep {
		t.Errorf("the first: %+v", plan)
	}
	c.Further = true
	if plan := p.Plan(h, now, c); plan.keep {
		t.Errorf("a further one: %+v", plan)
	}
}
