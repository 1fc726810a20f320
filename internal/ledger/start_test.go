package ledger

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kiln"
)

// A start beyond its path's bound is counted and leaves an event that tells its stages; one within it, one on a path
// without a bound and one whose code never started do not.
// R33
func TestStartBreach(t *testing.T) {
	l, err := Open(t.TempDir(), Config{Logger: slog.New(slog.DiscardHandler),
		StartBounds: StartBounds{5 * time.Millisecond, time.Second, 0, time.Second, 0}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int) kiln.Time { return kiln.Time{Time: time.UnixMilli(int64(1000 + ms))} }
	start := func(id string, path kiln.Path, started int) {
		l.Append(&kiln.Record{RequestID: kiln.RequestID(id), Account: "1", Function: "f", VersionExecuted: "3", Outcome: kiln.OutcomeSuccess, Path: path,
			InitMs: kiln.Millis(2 * time.Millisecond), Choice: kiln.Choice{Waited: kiln.Millis(time.Millisecond)}, Container: "c", Instance: "i",
			Times: kiln.Times{Received: at(0), Admitted: at(1), Acquired: at(4), CodeStart: at(started), CodeEnd: at(started + 1), Answered: at(started + 2)}})
	}
	start("within", kiln.PathContainer, 5)
	start("late", kiln.PathContainer, 6)
	start("unbound", kiln.PathAccountInstance, 9000)
	start("booted", kiln.PathInstantiated, 9000)
	l.Append(&kiln.Record{RequestID: "never", Path: kiln.PathContainer, Times: kiln.Times{Received: at(0), Answered: at(9000)}})
	events, _ := l.Events(context.Background(), EventFilter{Kind: kiln.EventStartBreach, Limit: 10})
	if len(events) != 1 || events[0].RequestID != "late" || events[0].Function != "f" || events[0].Version != "3" || events[0].Container != "c" {
		t.Fatalf("breaches: %+v", events)
	}
	const want = "code started after 6.000 ms, the bound for container is 5.000 ms: admit 1.000, acquire 3.000, of it in line 1.000, " +
		"of it the function's own initialisation 2.000, deliver 2.000"
	if !strings.HasPrefix(events[0].Cause, want) {
		t.Errorf("cause is %q, want %q", events[0].Cause, want)
	}
	if got := counted(t, l, "kiln_start_breaches_total"); got != 1 {
		t.Errorf("%v breaches are counted, want 1", got)
	}
}
