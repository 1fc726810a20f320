package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
)

func openRunning(t *testing.T, dir string, config Config) *Ledger {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	l, err := Open(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func names(l *Ledger) map[string]bool {
	l.logs.mu.RLock()
	defer l.logs.mu.RUnlock()
	all := map[string]bool{}
	for name := range l.logs.all {
		all[name.function] = true
	}
	return all
}

// The log of a deleted function goes with its folder an hour after its last line, also when nobody writes anything any
// more; one that is empty goes at once, one that is followed stays, and who holds on to one that went can still write.
func TestLogsNobodyNeedsGo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := openRunning(t, dir, Config{Registered: func(_ kiln.AccountID, function string) bool { return function == "kept" || function == "asked" }})
		held := l.Log("000000000000", "deleted")
		for _, name := range []string{"kept", "deleted", "followed", ""} {
			l.Log("000000000000", name).Write(Line{Time: time.Now(), Text: "of " + name})
		}
		l.Log("000000000000", "asked").Tail(Tail{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := l.Log("000000000000", "followed").Follow(ctx, Tail{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(LogKept - SweepInterval)
		synctest.Wait()
		if got := names(l); len(got) != 4 || got["asked"] || !got["deleted"] {
			t.Errorf("before the hour: %v", got)
		}
		time.Sleep(3 * SweepInterval)
		synctest.Wait()
		if got := names(l); len(got) != 3 || got["deleted"] || !got["followed"] || !got[""] || !got["kept"] {
			t.Errorf("after the hour: %v", got)
		}
		if _, err := os.Stat(filepath.Join(dir, "logs", "000000000000", "deleted")); !os.IsNotExist(err) {
			t.Errorf("its folder: %v", err)
		}
		cancel()
		held.Write(Line{Time: time.Now(), Text: "late"})
		time.Sleep(time.Second)
		synctest.Wait()
		for _, l := range []*Ledger{l, openRunning(t, dir, Config{})} {
			for _, g := range []*Log{held, l.Log("000000000000", "deleted")} {
				if lines := g.Tail(Tail{}); len(lines) != 1 || lines[0].Text != "late" {
					t.Errorf("after a late line: %v", lines)
				}
			}
		}
		time.Sleep(2 * LogKept)
		synctest.Wait()
		if got := names(l); len(got) != 2 || got["followed"] {
			t.Errorf("at last: %v", got)
		}
	})
}

// There are never many more than MaxLogs logs; those of deleted functions give way first, then the quietest.
func TestLogsAreBoundedInNumber(t *testing.T) {
	dir := t.TempDir()
	l := openRunning(t, dir, Config{Registered: func(_ kiln.AccountID, function string) bool { return function < "g" }})
	write := func(name string) {
		l.Log("000000000000", name).Write(Line{Time: time.Now(), Text: "x"})
	}
	write("first")
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range MaxLogs + 10 {
		write(fmt.Sprintf("gone-%d", i))
		if i%1000 == 0 {
			if err := l.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(l); len(got) > MaxLogs || len(got) < MaxLogs/2 || !got["first"] {
		t.Errorf("%d logs, the registered one's among them: %v", len(got), got["first"])
	}
	entries, err := os.ReadDir(filepath.Join(dir, "logs", "000000000000"))
	if err != nil || len(entries) > MaxLogs {
		t.Errorf("%d folders, %v", len(entries), err)
	}
}
