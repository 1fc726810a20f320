package capacity

import (
	"testing"
	"time"

	"kiln"
)

// What is missing to the target is booted; after failures one at a time, later and later; a success forgets them (R20).
func TestFixed(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	python := kiln.Configuration{Runtime: "python3.11"}
	f := NewFixed()
	f.Set(python, 3)
	missing := func(have, want int) {
		t.Helper()
		if n, _ := f.Missing(now, python, have); n != want {
			t.Errorf("%d missing beside %d, want %d", n, have, want)
		}
	}
	missing(0, 3)
	missing(2, 1)
	missing(4, 0)
	f.Booted(now, python, false)
	missing(0, 0)
	if _, retry := f.Missing(now, python, 0); !retry.Equal(now.Add(BackoffFirst)) {
		t.Errorf("retry at %s", retry)
	}
	now = now.Add(BackoffFirst)
	missing(0, 1)
	f.Booted(now, python, false)
	now = now.Add(BackoffFirst)
	missing(0, 0)
	for range 40 {
		f.Booted(now, python, false)
	}
	if _, retry := f.Missing(now, python, 0); !retry.Equal(now.Add(BackoffMax)) {
		t.Errorf("retry at %s after many", retry)
	}
	f.Booted(now, python, true)
	missing(0, 3)
	if n, _ := f.Missing(now, kiln.Configuration{}, 0); n != 0 || f.Target(kiln.Configuration{}) != 0 {
		t.Error("a configuration without a target is booted")
	}
}
