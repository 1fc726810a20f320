package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"kiln"
)

// A disk that is really full (no reserve is kept here) costs no acknowledged write: while it is full writes fail and reads
// work, and when there is room again writes are taken by themselves.
// R102
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("KILN_REQUIRE_CONTAINER") == "1" {
			t.Fatal("KILN_REQUIRE_CONTAINER=1 and this needs root, to mount a small disk")
		}
		t.Skip("SKIPPED, NOT SHOWN: this needs root, to mount a small disk")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	e, _ := running(t, Config{Dir: filepath.Join(disk, "engine"), ReserveBytes: -1})
	d := documents(t, e, "things", nil)
	value := bytes.Repeat([]byte("x"), 64<<10)
	taken := 0
	var refused error
	for refused == nil && taken < 1000 {
		if _, refused = d.Create(t.Context(), fmt.Sprintf("k%04d", taken), value); refused == nil {
			taken++
		}
		if taken == 20 { // the rest of the disk is somebody else's
			fill(t, filepath.Join(disk, "filler"))
		}
	}
	if kiln.KindOf(refused) != kiln.KindUnavailable {
		t.Fatalf("after %d writes: %v", taken, refused)
	}
	t.Logf("%d writes taken, then: %v", taken, refused)
	for i := range taken {
		if _, ok := d.Get(fmt.Sprintf("k%04d", i)); !ok {
			t.Fatalf("document %d is lost", i)
		}
	}
	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	written(t, d, "afterwards")
	if n := len(d.keys); n < taken+1 || n > taken+2 { // the refused one may have been written
		t.Errorf("%d documents, want %d", n, taken+1)
	}
}

// fill takes all the space there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := 1 << 20; piece >= 512; {
		if _, err := f.Write(make([]byte, piece)); err != nil {
			piece /= 2
		}
	}
}
