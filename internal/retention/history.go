package retention

import (
	"encoding/binary"
	"math/bits"
	"time"

	"kiln"
)

// What a History remembers, at most.
const (
	gapsKept   = 64        // gaps between minutes with a request, newest first
	gapMax     = 1<<16 - 1 // minutes (45 days); a longer gap counts as this long
	minuteBits = 256       // minutes before the last request of which it is known whether there was one
	lagMax     = 128       // minutes between requests, not only neighbouring ones, that are counted
	hourMax    = 250       // hours counted at one minute of the hour before all are halved
)

// History is what is remembered of one function's requests: under 500 bytes, a fixed effort for each request. The zero
// value is a function never called. It is a plain value: a copy is a snapshot. Time is told in whole minutes, since that
// is how finely anything is decided.
type History struct {
	first, last uint32 // minutes since 1970; they say nothing while calls is 0
	calls       uint32 // minutes with a request
	since       uint32 // the minute phase is counted from, moved forward when its counts are halved
	gaps        [gapsKept]uint16
	phase       [60]uint8               // by minute of the hour: hours with a request in it
	called      [minuteBits / 64]uint64 // bit i: there was a request i minutes before last
	pairs       [lagMax]uint8           // by minutes: requests that had another so many minutes before
	paired      uint8                   // requests that pairs was counted over
	score       score                   // how its plans turned out
}

// Never reports whether nothing was ever called.
func (h *History) Never() bool { return h.calls == 0 }

// Arrived notes a request that found the function loaded when the plan that is followed said so. It does nothing for a
// request in a minute that has one already, or in a minute gone by.
func (h *History) Arrived(now time.Time) {
	p := h.score.pending
	h.ArrivedTo(now, p.keep && p.minute == minuteOf(now))
}

// ArrivedTo is Arrived where it is known whether the function was loaded: it may have been, by a request so shortly before
// that no plan was made for this minute.
func (h *History) ArrivedTo(now time.Time, loaded bool) {
	minute := minuteOf(now)
	if h.calls > 0 && minute > h.last {
		h.score.request(minute, minute-h.last, loaded)
	}
	h.Recall(now)
}

// Recall is Arrived for a request of which it is not known what it found, such as one of before a restart: it tells how the
// function is called, and nothing of how good the plans were.
func (h *History) Recall(now time.Time) {
	minute := minuteOf(now)
	if h.calls == 0 {
		h.first, h.since = minute, minute
	} else {
		if minute <= h.last {
			return
		}
		h.gap(minute - h.last)
	}
	h.pair()
	h.called[0] |= 1
	h.last = minute
	h.calls++
	h.mark(minute)
}

// gap notes the minutes since the request before.
func (h *History) gap(g uint32) {
	copy(h.gaps[1:], h.gaps[:gapsKept-1])
	h.gaps[0] = uint16(min(g, gapMax))
	words, rest := g/64, g%64
	for i := len(h.called) - 1; i >= 0; i-- {
		var moved uint64
		if from := i - int(min(words, minuteBits)); from >= 0 {
			moved = h.called[from] << rest
			if rest > 0 && from > 0 {
				moved |= h.called[from-1] >> (64 - rest)
			}
		}
		h.called[i] = moved
	}
}

// pair counts how long before this request there were others. The calls are as seen from now, without now's.
func (h *History) pair() {
	if h.paired == hourMax {
		for i := range h.pairs {
			h.pairs[i] /= 2
		}
		h.paired /= 2
	}
	h.paired++
	for word := range lagMax / 64 {
		for rest := h.called[word]; rest != 0; rest &= rest - 1 {
			h.pairs[word*64+bits.TrailingZeros64(rest)]++
		}
	}
}

// mark counts an hour with a request at this minute of it.
func (h *History) mark(minute uint32) {
	at := &h.phase[minute%60]
	if *at == hourMax {
		for i := range h.phase {
			h.phase[i] /= 2
		}
		h.since = minute - (minute-h.since)/2
	}
	*at++
}

// known is how many gaps are remembered.
func (h *History) known() int {
	if h.calls == 0 {
		return 0
	}
	return int(min(h.calls-1, gapsKept))
}

// calledBefore reports whether there was a request this many minutes before the last one.
func (h *History) calledBefore(minutes uint32) bool {
	return minutes < minuteBits && h.called[minutes/64]>>(minutes%64)&1 == 1
}

// minuteOf gives the minute since 1970 that a time lies in.
func minuteOf(t time.Time) uint32 { return uint32(t.Unix() / 60) }

// startOf gives the time a minute begins.
func startOf(minute uint32) time.Time { return time.Unix(int64(minute)*60, 0).UTC() }

// The binary form of a History: a version, then its fields in order, little endian. A younger version reads all older ones.
const (
	historyVersion = 1
	historyBytes   = 1 + 4*4 + 2*gapsKept + 60 + minuteBits/8 + lagMax + 1 + 3*4
)

// AppendBinary appends the history's form on disk.
func (h *History) AppendBinary(b []byte) ([]byte, error) {
	return binary.Append(append(b, historyVersion), binary.LittleEndian, &stored{h.first, h.last, h.calls, h.since, h.gaps,
		h.phase, h.called, h.pairs, h.paired, h.score.gain, h.score.cold, h.score.fixed})
}

// MarshalBinary gives the history's form on disk. A plan that is being followed is not part of it.
func (h *History) MarshalBinary() ([]byte, error) {
	return h.AppendBinary(make([]byte, 0, historyBytes))
}

// UnmarshalBinary reads what MarshalBinary gave. What it cannot read leaves the history as it was.
func (h *History) UnmarshalBinary(b []byte) error {
	if len(b) != historyBytes || b[0] != historyVersion {
		return kiln.Errorf(kiln.KindInternal, "retention: read history", "%d bytes are no history of requests; forget them: it builds up again", len(b))
	}
	var s stored
	if _, err := binary.Decode(b[1:], binary.LittleEndian, &s); err != nil {
		return kiln.Wrap(kiln.KindInternal, "retention: read history", "it is no history of requests", err)
	}
	*h = History{s.First, s.Last, s.Calls, s.Since, s.Gaps, s.Phase, s.Called, s.Pairs, s.Paired,
		score{gain: s.Gain, cold: s.Cold, fixed: s.Fixed}}
	return nil
}

// stored is a History as encoding/binary wants it.
type stored struct {
	First, Last, Calls, Since uint32
	Gaps                      [gapsKept]uint16
	Phase                     [60]uint8
	Called                    [minuteBits / 64]uint64
	Pairs                     [lagMax]uint8
	Paired                    uint8
	Gain, Cold, Fixed         float32
}
