package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kiln"
)

// running opens an engine on a directory and runs it until the test ends; broken gets Run's error.
func running(t *testing.T, cfg Config) (*Engine, <-chan error) {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	e, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() { defer close(done); ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, ended
}

// written asks until a write is taken.
func written(t *testing.T, d *Documents, key string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := d.Create(t.Context(), key, []byte("v"))
		if err == nil || kiln.KindOf(err) == kiln.KindConflict { // taken by an earlier try whose answer was lost
			return
		}
		select {
		case <-deadline:
			t.Fatalf("no write is taken any more: %v", err)
		case <-again.C:
		}
	}
}

// An embedded server that dies is started anew: what was written is there, is told to the hook once, and writes go on.
func TestDeadServerIsStartedAnew(t *testing.T) {
	e, _ := running(t, Config{Dir: t.TempDir()})
	told := map[string]int{}
	d := documents(t, e, "things", func(c Change) { told[c.Key]++ })
	other := documents(t, e, "others", nil)
	for i := range 20 {
		if _, err := d.Create(t.Context(), fmt.Sprintf("k%02d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		e.current().server.Shutdown()
		if _, ok := d.Get("k07"); !ok {
			t.Fatal("a document cannot be read while the server is down")
		}
		written(t, d, fmt.Sprintf("after%d", round))
		written(t, other, fmt.Sprintf("after%d", round))
	}
	n := 0
	for range d.Each("") {
		n++
	}
	if n != 22 {
		t.Errorf("%d documents are listed, want 22", n)
	}
	if d.link.Load().backend != e.current() {
		t.Error("the documents hang on another server than the one in use")
	}
	if told["k07"] != 1 || told["after0"] != 1 {
		t.Errorf("the hook was told %d and %d times, want once each", told["k07"], told["after0"])
	}
}

// A server that cannot be started again ends Run with an error that says what to look at.
func TestDeadServerEndsRun(t *testing.T) {
	dir := t.TempDir()
	e, ended := running(t, Config{Dir: filepath.Join(dir, "engine")})
	d := documents(t, e, "things", nil)
	if _, err := d.Create(t.Context(), "a", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "engine"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "engine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.current().server.Shutdown()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Run ended without an error")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run goes on with a store that has lost everything")
	}
}
