package retention

import (
	"encoding/binary"
	"time"

	"kiln"
)

// What a History remembers, at most.
const (
	gapsKept   = 64        // gaps between minutes with a request, newest first
	gapMax     = 1<<16 - 1 // minutes (45 days); a longer gap counts as this long
	minuteBits = 128       // minutes before the last request of which it is known whether there was one
	hourMax    = 250       // hours counted at one minute of the hour before all are halved
)

// History is what is remembered of one function's requests: under 400 bytes, a fixed effort for each request. The zero
// value is a function never called. It is a plain value: a copy is a snapshot. Time is told in whole minutes, since that
// is how finely anything is decided.
type History struct {
	first, last uint32 // minutes since 1970; they say nothing while calls is 0
	calls       uint32 // minutes with a request
	since       uint32 // the minute phase is counted from, moved forward when its counts are halved
	gaps        [gapsKept]uint16
	phase       [60]uint8               // by minute of the hour: hours with a request in it
	called      [minuteBits / 64]uint64 // bit i: there was a request i minutes before last
}

// Never reports whether nothing was ever called.
func (h *History) Never() bool { return h.calls == 0 }

// Arrived notes a request. It does nothing for a request in a minute that has one already, or in a minute gone by.
func (h *History) Arrived(now time.Time) {
	minute := minuteOf(now)
	if h.calls == 0 {
		h.first, h.since = minute, minute
	} else {
		if minute <= h.last {
			return
		}
		h.gap(minute - h.last)
	}
	h.called[0] |= 1
	h.last = minute
	h.calls++
	h.mark(minute)
}

// gap notes the minutes since the request before.
func (h *History) gap(g uint32) {
	copy(h.gaps[1:], h.gaps[:gapsKept-1])
	h.gaps[0] = uint16(min(g, gapMax))
	high, low := h.called[1], h.called[0]
	switch {
	case g < 64:
		h.called = [2]uint64{low << g, high<<g | low>>(64-g)}
	case g < minuteBits:
		h.called = [2]uint64{0, low << (g - 64)}
	default:
		h.called = [2]uint64{}
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
	historyBytes   = 1 + 4*4 + 2*gapsKept + 60 + minuteBits/8
)

// AppendBinary appends the history's form on disk, some 220 bytes.
func (h *History) AppendBinary(b []byte) ([]byte, error) {
	return binary.Append(append(b, historyVersion), binary.LittleEndian, h.fields())
}

// MarshalBinary gives the history's form on disk.
func (h *History) MarshalBinary() ([]byte, error) {
	return h.AppendBinary(make([]byte, 0, historyBytes))
}

// UnmarshalBinary reads what MarshalBinary gave. What it cannot read leaves the history as it was.
func (h *History) UnmarshalBinary(b []byte) error {
	if len(b) != historyBytes || b[0] != historyVersion {
		return kiln.Errorf(kiln.KindInternal, "retention: read history", "%d bytes are no history of requests; forget them: it builds up again", len(b))
	}
	var f fields
	if _, err := binary.Decode(b[1:], binary.LittleEndian, &f); err != nil {
		return kiln.Wrap(kiln.KindInternal, "retention: read history", "it is no history of requests", err)
	}
	*h = History{first: f.First, last: f.Last, calls: f.Calls, since: f.Since, gaps: f.Gaps, phase: f.Phase, called: f.Called}
	return nil
}

// fields are a History's, as encoding/binary wants them.
type fields struct {
	First, Last, Calls, Since uint32
	Gaps                      [gapsKept]uint16
	Phase                     [60]uint8
	Called                    [minuteBits / 64]uint64
}

func (h *History) fields() *fields {
	return &fields{h.first, h.last, h.calls, h.since, h.gaps, h.phase, h.called}
}
