package retention

import (
	"testing"
	"testing/quick"
	"time"
	"unsafe"
)

// A history fits the space it may take, comes back from disk as it was, and refuses what it cannot be (R40).
func TestHistoryKept(t *testing.T) {
	const most = 1024
	if size := unsafe.Sizeof(History{}); size > most {
		t.Errorf("%d bytes a function, at most %d", size, most)
	}
	h := called(0, 1, 2, 30, 31, 95, 4000)
	b, err := h.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != historyBytes {
		t.Errorf("%d bytes on disk, want %d", len(b), historyBytes)
	}
	var back History
	if err := back.UnmarshalBinary(b); err != nil || back != *h {
		t.Errorf("back from disk: %v\n%+v\n%+v", err, back, *h)
	}
	for _, bad := range [][]byte{nil, b[:10], append([]byte{9}, b[1:]...)} {
		if back.UnmarshalBinary(bad) == nil || back != *h {
			t.Errorf("%d bytes are taken for a history, or changed it", len(bad))
		}
	}
}

// Minutes with a request are counted once, whatever comes in them; gaps, bits and phases agree with a plain list of the
// minutes (R40).
func TestHistoryCounts(t *testing.T) {
	check := func(gaps []uint8) bool {
		var h History
		minute := 0
		minutes := []int{minute}
		h.Arrived(at(minute))
		for _, g := range gaps {
			minute += int(g)
			h.Arrived(at(minute).Add(time.Duration(g) * time.Second / 5))
			h.Arrived(at(minute - int(g)/2)) // late: in a minute gone by
			if g > 0 {
				minutes = append(minutes, minute)
			}
		}
		if int(h.calls) != len(minutes) || h.known() != min(len(minutes)-1, gapsKept) {
			return false
		}
		for i := range h.known() {
			if n := len(minutes) - 1 - i; int(h.gaps[i]) != minutes[n]-minutes[n-1] {
				return false
			}
		}
		was := map[int]bool{}
		for _, m := range minutes {
			was[minute-m] = true
		}
		for i := range minuteBits {
			if h.calledBefore(uint32(i)) != was[i] {
				return false
			}
		}
		return true
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

// The counts of phase stay bounded, and speak of the newer half of the time when they were halved (R40).
func TestHistoryPhase(t *testing.T) {
	h := everyMinutes(60, 3*hourMax)
	hours := float64(h.last-h.since) / 60
	if share := float64(h.phase[0]) / hours; h.phase[0] > hourMax || share < 0.95 || share > 1.05 {
		t.Errorf("called in every hour: %d of %.0f hours", h.phase[0], hours)
	}
}
