package server

import (
	"os"
	"strings"
	"testing"

	"kiln/internal/driver/container"
)

func doctor(t *testing.T, driver string) string {
	t.Helper()
	var b strings.Builder
	if err := Doctor(t.Context(), Config{Driver: driver, Data: t.TempDir(), Runtimes: "nearest"}, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The doctor says of the driver asked for whether it works here, found out by doing it, and otherwise what to do.
func TestDoctorTriesTheDriver(t *testing.T) {
	for driver, want := range map[string][]string{
		"process": {"ok  driver          process: isolates nothing", "`kiln serve --driver process` runs functions here."},
		"microvm": {"no  driver          microvm is not served yet; use container", "`kiln serve --driver microvm` would not start here"},
	} {
		got := doctor(t, driver)
		for _, one := range append(want, "descriptors", "provided.al2023", "cgroups") {
			if !strings.Contains(got, one) {
				t.Errorf("%s: %q is missing in\n%s", driver, one, got)
			}
		}
	}
	can, err := container.Probe(t.Context())
	got := doctor(t, "auto")
	switch {
	case err == nil:
		if !strings.Contains(got, "ok  driver          container: one was made and taken away again") || !strings.Contains(got, "`kiln serve` runs functions here.") || !strings.Contains(got, "disks") {
			t.Errorf("got\n%s", got)
		}
		for _, note := range can.Notes {
			if !strings.Contains(got, note) {
				t.Errorf("the note %q is missing in\n%s", note, got)
			}
		}
	case os.Geteuid() != 0:
		if !strings.Contains(got, "no  driver          containers need root") {
			t.Errorf("got\n%s", got)
		}
	default:
		if !strings.Contains(got, err.Error()) || !strings.Contains(got, "`kiln serve` would not start here") {
			t.Errorf("got\n%s\nwant %v", got, err)
		}
	}
}

// What the driver misses is told as the driver tells it, and what it finds without PATH is found.
func TestDoctorTellsWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := container.Probe(t.Context())
	got := doctor(t, "container")
	switch {
	case os.Geteuid() != 0:
		if !strings.Contains(got, "need root") {
			t.Errorf("without root:\n%s", got)
		}
	case err == nil:
		if strings.Contains(got, "--driver process") {
			t.Errorf("the driver works, and the doctor says\n%s", got)
		}
	case !strings.Contains(got, err.Error()) || !strings.Contains(got, "--driver process"):
		t.Errorf("got\n%s\nwant %v", got, err)
	}
}
