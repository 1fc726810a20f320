package promise

import (
	"time"
)

// Settings are what a function's tags ask of its provisioned concurrency. The zero value asks for nothing.
type Settings struct {
	Schedule Schedule
	Targets  map[string]Target
}

// Read reads the values of the tags ScheduleTag and TargetTag, each empty when the function has none. Kinds: KindInvalid.
func (s *Settings) Read(schedule, target string) (err error) {
	if schedule != "" {
		if s.Schedule, err = ParseSchedule(schedule); err != nil {
			return err
		}
	}
	if target != "" {
		s.Targets, err = ParseTarget(target)
	}
	return err
}

// Wanted is how much is to be provisioned for a qualifier now, when so much is, and its owner put it at a time: a schedule
// acts from its next moment after that, as a scheduled action of AWS does. With a target too, what the schedule set is the
// least, and the target's most still holds. tracker is nil without a target.
func (s Settings) Wanted(qualifier string, now time.Time, provisioned int, put time.Time, tracker *Tracker) int {
	scheduled, at, ok := s.Schedule.Latest(qualifier, now)
	ok = ok && at.After(put)
	target, tracks := s.Targets[qualifier]
	switch {
	case tracks && ok:
		target.Min = min(max(target.Min, scheduled), target.Max)
		return tracker.Wanted(target, provisioned)
	case tracks:
		return tracker.Wanted(target, provisioned)
	case ok:
		return scheduled
	}
	return provisioned
}
