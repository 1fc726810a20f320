package server

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/record"
)

// A record that cannot be written any more ends itself, says so in the log, and ends nothing else. // R67
func TestRecordEndsAlone(t *testing.T) {
	var text strings.Builder
	s := &server{log: slog.New(slog.NewTextHandler(&text, nil)), failed: make(chan error, 4)}
	var err error
	if s.recorder, err = record.Create(filepath.Join(t.TempDir(), "record"), s.log); err != nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := s.recorder.Run(ended); err != nil { // which closes the file
		t.Fatal(err)
	}
	s.record(t.Context())
	if !strings.Contains(text.String(), "record ended") {
		t.Errorf("the log says %q", text.String())
	}
	if len(s.failed) > 0 {
		t.Errorf("the server ends: %v", <-s.failed)
	}
}
