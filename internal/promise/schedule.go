package promise

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln"
)

// Tags of a function that change its provisioned concurrency by themselves.
const (
	// ScheduleTag sets it at times of the week: "live: mon-fri 08:00=10 / mon-fri 18:00=1".
	ScheduleTag = "kiln:provisioned-schedule"
	// TargetTag makes it follow its utilisation: "live: 0.7 1-50".
	TargetTag = "kiln:provisioned-target"
)

// Bounds of the tags, for what a value may hold (256 characters) bounds them already.
const (
	separator = " / "
	// executionsMax bounds a number a tag may ask for.
	executionsMax = 1_000_000
)

// Moment is a time of the week at which provisioned concurrency is set. Times are in UTC.
type Moment struct {
	Day        time.Weekday
	Minute     int // of the day
	Executions int
}

// Schedule is the moments of each qualifier.
type Schedule map[string][]Moment

// ParseSchedule reads the tag ScheduleTag: entries "DAYS HH:MM=EXECUTIONS" with " / " between them, the first, and each that
// is for another alias or version, with "QUALIFIER:" before it. DAYS is daily, one of mon tue wed thu fri sat sun, two with
// - between them, or several with +. AWS's tags can hold no comma and no star, which is why this is no cron expression.
// Kinds: KindInvalid.
func ParseSchedule(text string) (Schedule, error) {
	s := Schedule{}
	for q, entry := range entries(text) {
		if q == "" {
			return nil, wrong(ScheduleTag, entry, "say first which alias or version it is for: live: "+strings.TrimSpace(entry))
		}
		days, rest, ok := strings.Cut(entry, " ")
		clock, number, ok2 := strings.Cut(strings.TrimSpace(rest), "=")
		at, err := time.Parse("15:04", strings.TrimSpace(clock))
		n, ok3 := executions(number)
		week, ok4 := weekdays(days)
		switch {
		case !ok || !ok2:
			return nil, wrong(ScheduleTag, entry, "give DAYS HH:MM=EXECUTIONS, such as mon-fri 08:00=10")
		case !ok4:
			return nil, wrong(ScheduleTag, entry, "days are daily, mon, mon-fri or sat+sun")
		case err != nil:
			return nil, wrong(ScheduleTag, entry, "a time of the day is HH:MM, in UTC")
		case !ok3:
			return nil, wrong(ScheduleTag, entry, "a number of executions is 0 or more")
		}
		for _, day := range week {
			s[q] = append(s[q], Moment{day, at.Hour()*60 + at.Minute(), n})
		}
	}
	if len(s) == 0 {
		return nil, wrong(ScheduleTag, text, "give QUALIFIER: DAYS HH:MM=EXECUTIONS, such as live: mon-fri 08:00=10 / mon-fri 18:00=1")
	}
	return s, nil
}

// Latest gives what the moments of a qualifier last set, at or before now, and when: false without any.
func (s Schedule) Latest(qualifier string, now time.Time) (executions int, at time.Time, ok bool) {
	now = now.UTC()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for _, m := range s[qualifier] {
		back := (int(now.Weekday()) - int(m.Day) + 7) % 7
		t := midnight.AddDate(0, 0, -back).Add(time.Duration(m.Minute) * time.Minute)
		if t.After(now) {
			t = t.AddDate(0, 0, -7)
		}
		if !ok || !t.Before(at) { // of two at the same minute, the one written last
			executions, at, ok = m.Executions, t, true
		}
	}
	return executions, at, ok
}

// entries walks the entries of a tag's value with the qualifier each is for, empty when none was named yet.
func entries(text string) func(yield func(qualifier, entry string) bool) {
	return func(yield func(string, string) bool) {
		qualifier := ""
		for entry := range strings.SplitSeq(text, separator) {
			entry = strings.TrimSpace(entry)
			if name, rest, ok := strings.Cut(entry, ": "); ok {
				qualifier, entry = strings.TrimSpace(name), strings.TrimSpace(rest)
			}
			if entry != "" && !yield(qualifier, entry) {
				return
			}
		}
	}
}

// dayNames is the days as a schedule writes them, in Go's order.
func dayNames() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

// weekdays reads days: daily, mon, mon-fri, sat+sun.
func weekdays(text string) (days []time.Weekday, ok bool) {
	names := dayNames()
	if text == "daily" {
		text = "sun-sat"
	}
	for part := range strings.SplitSeq(text, "+") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		from, to := slices.Index(names, first), slices.Index(names, last)
		if from < 0 || to < 0 {
			return nil, false
		}
		for day := from; ; day = (day + 1) % len(names) {
			days = append(days, time.Weekday(day))
			if day == to {
				break
			}
		}
	}
	return days, true
}

// executions reads a number of executions.
func executions(text string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	return n, err == nil && n >= 0 && n <= executionsMax
}

// wrong is the refusal of a tag's value.
func wrong(tag, text, hint string) error {
	return kiln.Errorf(kiln.KindInvalid, "promise: read tag", "The tag %s cannot be read at %q: %s.", tag, text, hint)
}
