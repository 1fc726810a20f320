package capacity

import "time"

// Windows of the rates that are shown, each with its slots: the shorter from seconds, the longer from minutes.
const (
	RateShort  = 10 * time.Second
	RateMinute = time.Minute
	RateLong   = 5 * time.Minute
	RateHour   = time.Hour

	// codeWidth is the slot of a single code's meter: its rate is told over RateMinute alone, in little memory.
	codeWidth = 5 * time.Second
)

// Meter counts what happens in slots of one width, and tells the rate over the last of them. The oldest slot
// counts with the part of it that lies in the window, so that a load is told exactly however the window lies on the slots.
type Meter struct {
	width time.Duration
	slots []uint32
	last  int64 // the number of the slot counted into
}

// NewMeter makes a meter that can tell rates over windows up to so long.
func NewMeter(width, longest time.Duration) Meter {
	return Meter{width: width, slots: make([]uint32, longest/width+1)}
}

// NewCodeMeter makes the meter of one code.
func NewCodeMeter() Meter { return NewMeter(codeWidth, RateMinute) }

// Add counts one at a time. A time before the last one counts to the last one's slot.
func (m *Meter) Add(now time.Time) {
	m.advance(now)
	m.slots[m.last%int64(len(m.slots))]++
}

// Rate is how many a second there were over the window that ends now.
func (m *Meter) Rate(now time.Time, window time.Duration) float64 {
	n, covered := m.count(now, window)
	return n / covered.Seconds()
}

// count gives how many there were in the window, and the time it covers. Of the slot that the window begins in, the part
// counts that lies within it. It changes nothing, so that who only looks leaves no trace.
func (m *Meter) count(now time.Time, window time.Duration) (n float64, covered time.Duration) {
	to := max(now.UnixNano()/int64(m.width), m.last)
	all := int64(len(m.slots))
	back := min(int64(window/m.width), all-1)
	oldest := to - back
	for slot := max(oldest, m.last-all+1, 0); slot <= m.last; slot++ {
		n += float64(m.slots[slot%all])
	}
	if oldest > m.last-all && oldest >= 0 && oldest <= m.last {
		within := min(max(time.Duration(now.UnixNano()-to*int64(m.width)), 0), m.width)
		n -= float64(m.slots[oldest%all]) * within.Seconds() / m.width.Seconds()
	}
	return n, time.Duration(back) * m.width
}

// advance makes the slot of now the last one, and empties those between.
func (m *Meter) advance(now time.Time) {
	to := now.UnixNano() / int64(m.width)
	if to <= m.last {
		return
	}
	if to-m.last >= int64(len(m.slots)) {
		clear(m.slots)
	} else {
		for slot := m.last + 1; slot <= to; slot++ {
			m.slots[slot%int64(len(m.slots))] = 0
		}
	}
	m.last = to
}

// Rates are requests a second over four windows, and their trend.
type Rates struct {
	Short  float64 // RateShort
	Minute float64 // RateMinute
	Long   float64 // RateLong
	Hour   float64 // RateHour
	// Slope is the trend: by how many requests a second the rate grows, or falls, each second.
	Slope float64
}

// Add sums rates up: those of all configurations are the total.
func (r *Rates) Add(o Rates) {
	r.Short += o.Short
	r.Minute += o.Minute
	r.Long += o.Long
	r.Hour += o.Hour
	r.Slope += o.Slope
}

// meters count one configuration's requests for all windows.
type meters struct{ seconds, minutes Meter }

func newMeters() meters {
	return meters{seconds: NewMeter(time.Second, RateMinute), minutes: NewMeter(time.Minute, RateHour)}
}

func (m *meters) add(now time.Time) {
	m.seconds.Add(now)
	m.minutes.Add(now)
}

// rates tells the rates. The mean of a minute is that of its middle, half a minute ago, that of five minutes lies two and a
// half back: what they differ by came in the two minutes between.
func (m *meters) rates(now time.Time) Rates {
	r := Rates{
		Short: m.seconds.Rate(now, RateShort), Minute: m.seconds.Rate(now, RateMinute),
		Long: m.minutes.Rate(now, RateLong), Hour: m.minutes.Rate(now, RateHour),
	}
	r.Slope = (r.Minute - r.Long) / ((RateLong - RateMinute) / 2).Seconds()
	return r
}
