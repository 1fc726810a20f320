package record

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/manager"
)

func create(t *testing.T) (*Recorder, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "record")
	r, err := Create(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r, path
}

// A record is never written over an existing file.
func TestCreateRefusesAFile(t *testing.T) {
	_, path := create(t)
	if _, err := Create(path, slog.New(slog.DiscardHandler)); kiln.KindOf(err) != kiln.KindConflict || !strings.Contains(err.Error(), path) {
		t.Errorf("over an existing file: %v", err)
	}
}

// A record that is full says so in its last line, and nothing follows; replaying tells.
func TestBounded(t *testing.T) {
	r, path := create(t)
	r.mu.Lock()
	r.written = MaxBytes
	r.mu.Unlock()
	f, _ := r.New("", manager.Config{Node: "n"})
	f.Step(manager.Event{Kind: manager.Tick})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines != 2 {
		t.Errorf("%d lines: %s", lines, text)
	}
	got, err := Replay(t.Context(), strings.NewReader(string(text)))
	if err != nil || got.Ended == "" || got.Steps != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What a manager is made of and asked is all in the record: a new field has to be put there, or named here as the answer's. A
// Policy of its own is the simulator's, and none in a server.
func TestEverythingIsRecorded(t *testing.T) {
	fields := func(of any) (names []string) {
		for f := range reflect.TypeOf(of).Fields() {
			if f.IsExported() {
				names = append(names, f.Name)
			}
		}
		return names
	}
	if got, want := fields(manager.Config{}), []string{"Fleet", "Node", "Settings", "History", "Table", "Policy", "NewInstance", "NewContainer"}; !slices.Equal(got, want) {
		t.Errorf("a manager is made of %v, and what is recorded is %v", got, want)
	}
	of := []string{"ID", "Version", "MemoryMiB", "Driver", "Runtime", "Fresh", "Holder", // Holder is the shell's
		"Container", "Instance", "Configuration", "Path", "Choice", "Amounts", "Init", "Resume", "Provisioned", "Err"}
	if got := fields(manager.Request{}); !slices.Equal(got, of) {
		t.Errorf("a request has %v, and what is recorded is %v", got, of)
	}
}

// What is no record, or a broken one, is refused with its line.
func TestReplayMistakes(t *testing.T) {
	begin := `{"format":"kiln-record-1","start":"2026-01-01T00:00:00Z"}` + "\n"
	for text, want := range map[string]string{
		"":                                "empty",
		"id,weight\n":                     "first line",
		begin + "{}\n":                    "Line 2",
		begin + `{"step":1}` + "\n":       "Line 2",
		begin + `{"fleet":2}` + "\n":      "fleet 2 follows 0",
		begin + `{"version":7}` + "\n":    "version 7 follows 0",
		begin + "nothing\n" + begin:       "Line 2",
		begin + `{"fleet":"one"}` + "\n{": "Line 2",
	} {
		if _, err := Replay(t.Context(), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Whatever a file holds, reading it ends with an answer or an error.
func FuzzReplay(f *testing.F) {
	begin := `{"format":"kiln-record-1","start":"2026-01-01T00:00:00Z"}` + "\n"
	f.Add(begin + `{"fleet":1,"name":"f","node":"n","settings":{}}` + "\n" + `{"step":1,"at":1,"event":{"Kind":15},"digest":1}` + "\n")
	f.Add(begin + `{"version":1,"of":{}}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = Replay(t.Context(), strings.NewReader(text))
	})
}
