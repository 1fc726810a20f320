package capacity

import (
	"testing"
	"time"
)

// What is usual at an hour of the week counts beside what was usual on the last days: after weeks with quiet weekends, a
// Sunday is expected to be quiet and a Monday busy. // R63
func TestWeekends(t *testing.T) {
	var s season
	monday := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for at := monday; at.Before(monday.AddDate(0, 0, 28)); at = at.Add(slotWidth) {
		rate := 10.0
		if day := at.Weekday(); day == time.Saturday || day == time.Sunday {
			rate = 0
		}
		s.learn(slotOf(at), rate, 0)
	}
	noon := monday.AddDate(0, 0, 28).Add(12 * time.Hour)
	if rate, known := s.expected(slotOf(noon)); !known || rate < 7 {
		t.Errorf("%.1f a second are expected on a Monday", rate)
	}
	for at := monday.AddDate(0, 0, 28); at.Before(monday.AddDate(0, 0, 34)); at = at.Add(slotWidth) {
		rate := 10.0
		if at.Weekday() == time.Saturday {
			rate = 0
		}
		s.learn(slotOf(at), rate, 0)
	}
	if rate, known := s.expected(slotOf(noon.AddDate(0, 0, 6))); !known || rate > 3 {
		t.Errorf("%.1f a second are expected on a Sunday", rate)
	}
}

// What was learned of a configuration that this run has not heard of is handed on to the next. // R63
func TestHistoryOutlivesARunThatDoesNotAsk(t *testing.T) {
	w := New(Config{})
	var s season
	s.learn(5, 3, 1)
	w.Restore(History{Seasons: []Season{{python, s.append(nil)}}})
	if h := w.History(); len(h.Seasons) != 1 || h.Seasons[0].Configuration != python {
		t.Errorf("handed on: %+v", h)
	}
	w.Demand(python)
	if h := w.History(); len(h.Seasons) != 1 {
		t.Errorf("handed on once it was asked for: %+v", h)
	}
}
