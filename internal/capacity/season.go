package capacity

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"kiln"
)

// The seasons: what is usual at a time of the day and of the week, in slots counted from 1970 in UTC. A week is long
// enough to tell working days from the others, and a slot short enough that what is prepared for a known peak is not kept
// for long beside it.
const (
	slotWidth = 5 * time.Minute
	daySlots  = int64(24 * time.Hour / slotWidth)
	hourSlots = int64(time.Hour / slotWidth)
	weekHours = 7 * 24
	// slotLead counts what comes just before a slot begins to the slot: clocks of those who call are not all exact.
	slotLead = 5 * time.Second
	// usualMemory bounds the weight of the past in a mean: each new day, or week, weighs a quarter at least.
	usualMemory = 4
	// peaksKept is how many days' peaks are remembered of each slot, and peakMax the greatest that is told apart.
	peaksKept = 3
	peakMax   = 255
	// peakQuarters are the slots of a week for which the last two weeks' peaks are remembered: quarters of an hour.
	peakQuarters = 7 * 24 * 4
	quarterSlots = 3
)

// slotOf is the number of the slot a time lies in.
func slotOf(now time.Time) int64 { return now.Add(slotLead).UnixNano() / int64(slotWidth) }

// slotBegins is when a slot begins.
func slotBegins(slot int64) time.Time {
	return time.Unix(0, slot*int64(slotWidth)).Add(-slotLead)
}

// usual is a mean that was learned on so many days, or in so many weeks.
type usual struct {
	mean float32
	seen uint8
}

func (u *usual) learn(value float32) {
	if u.seen < usualMemory {
		u.seen++
	}
	u.mean += (value - u.mean) / float32(u.seen)
}

// season is what is known of one configuration's days and weeks: the usual rate of requests, and the peaks of demand for
// instances. It takes the same memory, some five kilobytes, however long it learns.
type season struct {
	day   [daySlots]usual
	week  [weekHours]usual
	peaks [daySlots][peaksKept]uint8 // the newest first
	weeks [peakQuarters][2]uint8     // this week's and the last one's
	hour  float32                    // the rates of the slots of the hour under way, together; not written down
	slots int                        // how many they are
}

// learn takes what was seen in a slot that is over: requests a second, and the most instances asked for within one refill.
func (s *season) learn(slot int64, rate float64, peak int) {
	s.day[slot%daySlots].learn(float32(rate))
	s.hour += float32(rate)
	s.slots++
	if (slot+1)%hourSlots == 0 {
		s.week[slot/hourSlots%weekHours].learn(s.hour / float32(s.slots))
		s.hour, s.slots = 0, 0
	}
	capped := uint8(min(peak, peakMax))
	p := &s.peaks[slot%daySlots]
	copy(p[1:], p[:])
	p[0] = capped
	w := &s.weeks[slot/quarterSlots%peakQuarters]
	if slot%quarterSlots == 0 {
		w[1], w[0] = w[0], capped
	} else {
		w[0] = max(w[0], capped)
	}
}

// expected is the usual rate in a slot. The same hour of the week counts the more, the more weeks it was seen; false when
// nothing is known.
func (s *season) expected(slot int64) (rate float64, known bool) {
	d, w := s.day[slot%daySlots], s.week[slot/hourSlots%weekHours]
	if d.seen == 0 {
		return 0, false
	}
	weeks := float64(w.seen)
	return (float64(d.mean) + weeks*float64(w.mean)) / (1 + weeks), true
}

// peak is the demand for instances that is known of a slot: what came on two of the last three days, or in both of the
// last two weeks. What came once is no season.
func (s *season) peak(slot int64) int {
	days := slices.Clone(s.peaks[slot%daySlots][:])
	slices.Sort(days)
	known := days[peaksKept-2]
	if most := days[peaksKept-1]; known > 0 && int(known)*2 >= int(most) {
		known = most
	}
	w := s.weeks[slot/quarterSlots%peakQuarters]
	return int(max(known, min(w[0], w[1])))
}

// empty says that nothing but silence was learned.
func (s *season) empty() bool { return *s == season{} || s.silent() }

func (s *season) silent() bool {
	for _, d := range s.day {
		if d.mean != 0 {
			return false
		}
	}
	return s.peaks == [daySlots][peaksKept]uint8{} && s.weeks == [peakQuarters][2]uint8{}
}

// seasonBytes is the length of a season written down.
const seasonBytes = int(daySlots)*5 + weekHours*5 + int(daySlots)*peaksKept + peakQuarters*2

// append writes a season down.
func (s *season) append(b []byte) []byte {
	for _, list := range [][]usual{s.day[:], s.week[:]} {
		for _, u := range list {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(u.mean))
			b = append(b, u.seen)
		}
	}
	for i := range s.peaks {
		b = append(b, s.peaks[i][:]...)
	}
	for i := range s.weeks {
		b = append(b, s.weeks[i][:]...)
	}
	return b
}

// read takes over what append wrote. False when it is not that.
func (s *season) read(b []byte) bool {
	if len(b) != seasonBytes {
		return false
	}
	for _, list := range [][]usual{s.day[:], s.week[:]} {
		for i := range list {
			mean := math.Float32frombits(binary.LittleEndian.Uint32(b))
			if !(mean >= 0) || math.IsInf(float64(mean), 0) {
				return false
			}
			list[i] = usual{mean, min(b[4], usualMemory)}
			b = b[5:]
		}
	}
	for i := range s.peaks {
		b = b[copy(s.peaks[i][:], b):]
	}
	for i := range s.weeks {
		b = b[copy(s.weeks[i][:], b):]
	}
	return true
}

// History is what was learned of the days and weeks, to be kept and handed back to the next run.
type History struct {
	Seasons []Season `json:"seasons"`
}

// Season is one configuration's part of a History.
type Season struct {
	Configuration kiln.Configuration `json:"configuration"`
	// Learned is in a form of this package's own.
	Learned []byte `json:"learned"`
}
