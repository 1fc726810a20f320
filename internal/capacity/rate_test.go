package capacity

import (
	"math"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

// A steady load is told within 5 % over every window, at whatever moment it is asked for, and what stopped is forgotten
// when its window is over. // R60
func TestMeterTellsAKnownLoad(t *testing.T) {
	for _, perSecond := range []float64{0.5, 7, 900} {
		m := newMeters()
		gap := time.Duration(float64(time.Second) / perSecond)
		now := epoch
		for ; now.Before(epoch.Add(2 * time.Hour)); now = now.Add(gap) {
			m.add(now)
			if perSecond > 100 && now.Sub(epoch) > 2*time.Minute {
				break
			}
		}
		r := m.rates(now)
		got := map[string]float64{"10s": r.Short, "1m": r.Minute}
		if perSecond < 100 {
			got["5m"], got["1h"] = r.Long, r.Hour
		}
		for window, rate := range got {
			if math.Abs(rate-perSecond) > 0.05*perSecond+0.1 {
				t.Errorf("%g a second: %g over %s", perSecond, rate, window)
			}
		}
		if r := m.rates(now.Add(RateMinute + 2*time.Second)); r.Minute != 0 || r.Short != 0 {
			t.Errorf("a minute after the last: %+v", r)
		}
		if r := m.rates(now.Add(2 * RateHour)); r.Hour != 0 {
			t.Errorf("two hours after the last: %+v", r)
		}
	}
}

// A load of less than the window counts with what there was: 300 requests of 15 seconds are 5 a second over a minute. // R60
func TestMeterCountsTheWholeWindow(t *testing.T) {
	m := NewCodeMeter()
	for i := range 300 {
		m.Add(epoch.Add(time.Duration(i) * 50 * time.Millisecond))
	}
	if rate := m.Rate(epoch.Add(15*time.Second), RateMinute); math.Abs(rate-5) > 0.25 {
		t.Errorf("%g a second over a minute", rate)
	}
}

// The slope of a ramp is its own. // R62
func TestSlope(t *testing.T) {
	m := newMeters()
	now := epoch
	due := 0.0
	for s := range 900 { // the rate grows by a tenth of a request a second, each second
		for due += 0.1 * float64(s); due >= 1; due-- {
			m.add(now)
		}
		now = now.Add(time.Second)
	}
	if slope := m.rates(now).Slope; math.Abs(slope-0.1) > 0.01 {
		t.Errorf("slope %g", slope)
	}
}

// A clock that goes back loses no count and tells nothing twice.
func TestMeterClockGoesBack(t *testing.T) {
	m := newMeters()
	m.add(epoch)
	m.add(epoch.Add(-time.Hour))
	if r := m.rates(epoch.Add(time.Second)); math.Abs(r.Minute*61-2) > 0.05 {
		t.Errorf("%+v", r)
	}
}
