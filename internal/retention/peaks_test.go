package retention

import "testing"

// The share of a rank follows how many of the last minutes with a request needed so many containers at once; minutes in
// which none was asked for count, and those long ago do not. // R40
func TestPeaks(t *testing.T) {
	var p Peaks
	if s := p.Share(0, 1); s != 0.5 {
		t.Errorf("of nothing known: %v", s)
	}
	for minute := range uint32(4) {
		p.Needed(minute+1, 3)
		p.Needed(minute+1, 1)
	}
	for rank, want := range map[int]float64{1: 4.5 / 5, 3: 4.5 / 5, 4: 0.5 / 5} {
		if s := p.Share(4, rank); s != want {
			t.Errorf("rank %d after four minutes of three: %v, want %v", rank, s, want)
		}
	}
	if s := p.Share(6, 3); s != 4.5/7 {
		t.Errorf("after two minutes without: %v", s)
	}
	if s := p.Share(100, 1); s != 0.5/9 {
		t.Errorf("long after: %v", s)
	}
}
