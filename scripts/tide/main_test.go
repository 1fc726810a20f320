package main

import (
	"strings"
	"testing"
	"time"
)

// As many calls are due as the phases' rates make in the time that has passed, and the tide is over with the last of them;
// the whole takes about a minute.
func TestTide(t *testing.T) {
	phases := []phase{{2, 3 * time.Second}, {10, time.Second}, {0, 2 * time.Second}}
	for _, c := range []struct {
		after time.Duration
		calls int
		over  bool
	}{{0, 0, false}, {1500 * time.Millisecond, 3, false}, {3500 * time.Millisecond, 11, false}, {5 * time.Second, 16, false}, {6 * time.Second, 16, true}} {
		if calls, over := due(phases, c.after); calls != c.calls || over != c.over {
			t.Errorf("after %s: %d calls, over: %t; want %d, %t", c.after, calls, over, c.calls, c.over)
		}
	}
	if _, over := due(tide, 50*time.Second); over {
		t.Error("the tide is over before 50 s")
	}
	if _, over := due(tide, 65*time.Second); !over {
		t.Error("the tide is not over after 65 s")
	}
}

// A row stands under its headings, with a mark for each request a second.
func TestRow(t *testing.T) {
	got := row{at: 15 * time.Second, asked: 4.6, warm: 1, target: 2, active: 3, busy: 4, idle: 5, paused: 6, executions: 40, waited: 7, fleet: "high-volume"}.String()
	if want := "15s 4.6 ##### 1/2 3 4 5 6 7 of 40 high-volume"; strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("%q", got)
	}
}
