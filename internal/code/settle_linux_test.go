package code

import (
	"context"
	"os"
	"testing"
	"time"

	"kiln"
)

// A program is not handed out while any process holds it open for writing: the kernel would refuse to execute it.
func TestSettleWaitsForWriters(t *testing.T) {
	dir := t.TempDir()
	writer, err := os.OpenFile(dir+"/bootstrap", os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := settle(short, root, "bootstrap"); kiln.KindOf(err) != kiln.KindUnavailable {
		t.Fatalf("with a writer: %v", err)
	}
	settled := make(chan error, 1)
	go func() { settled <- settle(t.Context(), root, "bootstrap") }()
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; err != nil {
		t.Errorf("after the writer went: %v", err)
	}
}
