package ledger_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/ledger"
)

func open(t *testing.T, dir string, config ledger.Config) *ledger.Ledger {
	t.Helper()
	config.Logger = discard()
	l, err := ledger.Open(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func find(l *ledger.Ledger, id kiln.RequestID) (kiln.Record, bool) {
	r, err := l.Execution(context.Background(), id)
	return r, err == nil
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// runFor runs the ledger until the function it gives is called.
func runFor(l *ledger.Ledger) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

// run runs the ledger; end ends it in order.
func run(t *testing.T, l *ledger.Ledger) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return end
}

func sync(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func requestID(i int) kiln.RequestID {
	return kiln.RequestID(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i))
}

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func record(i int) *kiln.Record {
	at := func(ms int) kiln.Time {
		return kiln.Time{Time: epoch.Add(time.Duration(i)*time.Second + time.Duration(ms)*time.Millisecond)}
	}
	return &kiln.Record{RequestID: requestID(i), Account: "000000000000", Function: fmt.Sprintf("f%d", i%3),
		VersionAsked: "$LATEST", VersionExecuted: "$LATEST", Trigger: kiln.TriggerInvoke, Fleet: kiln.FleetLowVolume,
		Node: "n", Instance: "i-0", Container: "c-0", Driver: "fake", Path: kiln.PathContainer, Outcome: kiln.OutcomeSuccess,
		Times:      kiln.Times{Received: at(0), Admitted: at(1), Acquired: at(2), CodeStart: at(3), CodeEnd: at(13), Answered: at(14)},
		DurationMs: kiln.Millis(10 * time.Millisecond), BilledMs: kiln.Millis(10 * time.Millisecond)}
}

// A record is readable the moment Append returns, also when nothing is ever written.
// R101
func TestRecordIsReadableAtOnce(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Config{})
	for i := range 1000 {
		l.Append(record(i))
		if r, ok := find(l, requestID(i)); !ok || r.Function != fmt.Sprintf("f%d", i%3) {
			t.Fatalf("record %d: %v %v", i, r, ok)
		}
	}
	if _, ok := find(l, "nobody"); ok {
		t.Fatal("found what was never appended")
	}
}

// What was appended is in the files 100 ms later, so that the next process finds it however this one ended.
// R101
func TestRecordsAreWrittenWithin100ms(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, dir, ledger.Config{})
		run(t, l)
		time.Sleep(time.Hour)
		l.Append(record(1))
		l.AppendEvent(kiln.Event{Kind: kiln.EventCodeFetch, Account: "000000000000"})
		l.Log("000000000000", "f").Write(ledger.Line{Time: epoch, Text: "hello"})
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		next := open(t, dir, ledger.Config{}) // as after kill -9: the first one was not ended
		if r, ok := find(next, requestID(1)); !ok || r.Times.CodeEnd != record(1).Times.CodeEnd {
			t.Errorf("record: %+v %v", r, ok)
		}
		if events, _ := next.Events(context.Background(), ledger.EventFilter{}); len(events) != 1 {
			t.Errorf("events: %v", events)
		}
		if lines := next.Log("000000000000", "f").Tail(ledger.Tail{}); len(lines) != 1 || lines[0].Text != "hello" {
			t.Errorf("lines: %v", lines)
		}
	})
}

// The list is newest first, filtered, in pages that leave nothing out and give nothing twice, whether records wait or are
// written, also after a restart.
// R101
func TestExecutionsInPages(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Config{})
	end := run(t, l)
	for i := range 700 {
		l.Append(record(i))
	}
	sync(t, l)
	for i := 700; i < 1000; i++ {
		l.Append(record(i))
	}
	check := func(l *ledger.Ledger) {
		t.Helper()
		var got []string
		next, pages := "", 0
		for {
			items, more := l.Executions(context.Background(), ledger.Filter{Account: "000000000000", Function: "f1", Limit: 40, Next: next})
			for _, r := range items {
				got = append(got, string(r.RequestID))
			}
			if next, pages = more, pages+1; next == "" {
				break
			}
		}
		if len(got) != 333 || got[0] != string(requestID(997)) || got[332] != string(requestID(1)) || pages < 9 {
			t.Fatalf("%d records in %d pages", len(got), pages)
		}
		for i := range got[1:] {
			if got[i] <= got[i+1] {
				t.Fatalf("%s before %s", got[i], got[i+1])
			}
		}
		items, _ := l.Executions(context.Background(), ledger.Filter{Since: epoch.Add(10 * time.Second), Until: epoch.Add(12 * time.Second)})
		if len(items) != 2 || items[0].RequestID != requestID(11) {
			t.Fatalf("since and until: %d", len(items))
		}
		if items, next := l.Executions(context.Background(), ledger.Filter{Account: "111111111111"}); len(items) != 0 || next != "" {
			t.Fatalf("another account sees %d records", len(items))
		}
		if items, next := l.Executions(context.Background(), ledger.Filter{Next: "no token"}); len(items) != 0 || next != "" {
			t.Fatal("a strange token gives records")
		}
	}
	check(l)
	end()
	check(open(t, dir, ledger.Config{}))
}

// Events get growing numbers, listed oldest first in pages, and no number is used twice, also after a kill.
func TestEventsAreNumbered(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	total := 0
	for round := range 3 {
		l := open(t, dir, ledger.Config{})
		end := run(t, l)
		for i := range 500 {
			id := l.AppendEvent(kiln.Event{Kind: kiln.EventInstanceCreate, Instance: kiln.InstanceID(fmt.Sprintf("i-%d", i%2))})
			if id <= last {
				t.Fatalf("round %d: id %d after %d", round, id, last)
			}
			last = id
			if i == 250 {
				sync(t, l)
			}
		}
		if round == 1 {
			end()
		} else {
			sync(t, l) // and no end: killed, with an event just seen and most likely not written
			last = l.AppendEvent(kiln.Event{Kind: kiln.EventInstanceCreate, Instance: "i-2"})
		}
		total += 250
		seen := map[uint64]bool{}
		next, before := "", uint64(0)
		for {
			events, more := l.Events(context.Background(), ledger.EventFilter{Instance: "i-1", Limit: 33, Next: next})
			for _, e := range events {
				if seen[e.ID] || e.ID <= before {
					t.Fatalf("event %d after %d", e.ID, before)
				}
				seen[e.ID], before = true, e.ID
			}
			if next = more; next == "" {
				break
			}
		}
		if len(seen) != total {
			t.Fatalf("round %d: %d events, want %d", round, len(seen), total)
		}
	}
}

// A line torn by a kill costs that line alone, and so does damage in the middle.
// R101
func TestTornFiles(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Config{})
	run(t, l)
	for i := range 10 {
		l.Append(record(i))
	}
	sync(t, l)
	files, _ := filepath.Glob(filepath.Join(dir, "records", "*.jsonl"))
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	lines[4] = "\x00\x00{broken\n"
	torn := strings.Join(lines[:10], "")
	if err := os.WriteFile(files[0], []byte(torn[:len(torn)-20]), 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, ledger.Config{})
	run(t, l)
	for i := 10; i < 15; i++ {
		l.Append(record(i))
	}
	sync(t, l)
	for _, l := range []*ledger.Ledger{l, open(t, dir, ledger.Config{})} {
		items, _ := l.Executions(context.Background(), ledger.Filter{})
		if len(items) != 13 || items[0].RequestID != requestID(14) {
			t.Fatalf("%d records", len(items))
		}
		for i := range 15 {
			if _, ok := find(l, requestID(i)); ok != (i != 4 && i != 9) {
				t.Errorf("record %d: found %v", i, ok)
			}
		}
	}
}
