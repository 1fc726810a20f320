package retention

import "math/bits"

// The features, in the order of the table. All are known before the minute that is asked about.
const (
	fElapsed = iota // minutes since the last call
	fGap1           // the last gaps
	fGap2
	fGap3
	fAfter1 // elapsed less each of them
	fAfter2
	fAfter3
	fCalls // minutes with a call so far
	fAge   // minutes since the first call
	fMedian5
	fSpread5
	fMedian20
	fSpread20
	fAfterMedian5
	fAfterMedian20
	fLongest // of the gaps known
	fOwn     // hazard of the own gaps
	fRisk    // gaps, newer ones counted more, that lasted this long
	fRecent  // own hazard of the newest few
	fLike    // own hazard after gaps like the last one
	fLikeRisk
	fExact // gaps that ended in exactly this minute
	fNear  // within one minute of it
	fLonger
	fPhase60
	fPhase60Near
	fPhase30
	fPhase20
	fPhase15
	fPhase10
	fPhase5
	fAgo5
	fAgo10
	fAgo15
	fAgo30
	fAgo60
	fAgo120
	fLast10
	fLast60
	fLast180
	fLag
	fLagCount
	fLike2
	fLike2Risk
	fMinute
	nFeatures
)

// Features are the values of one minute.
type Features [nFeatures]float32

// Features fills f with what is known of the minute that lies elapsed minutes after the last call.
func (h *History) Features(f *Features, elapsed uint32) {
	minute := h.last + elapsed
	n := h.known()
	t := int(elapsed)
	f[fElapsed], f[fCalls], f[fAge] = float32(elapsed), float32(h.calls), float32(minute-h.first)
	for i := range 3 {
		gap, after := float32(-1), float32(-4000)
		if i < n {
			gap = float32(h.gaps[i])
			after = float32(t - int(h.gaps[i]))
		}
		f[fGap1+i], f[fAfter1+i] = gap, after
	}
	h.spread(f, n, t)
	h.own(f, n, t)
	h.clock(f, minute)
	h.activity(f, elapsed)
}

// spread tells the middle and the width of the newest gaps.
func (h *History) spread(f *Features, n, t int) {
	var sorted [20]uint16
	m := min(n, len(sorted))
	f[fMedian5], f[fSpread5], f[fMedian20], f[fSpread20], f[fAfterMedian5], f[fAfterMedian20] = -1, -1, -1, -1, -4000, -4000
	for i := range m {
		g := h.gaps[i]
		j := i
		for ; j > 0 && sorted[j-1] > g; j-- {
			sorted[j] = sorted[j-1]
		}
		sorted[j] = g
		if i == min(m, 5)-1 {
			f[fMedian5] = float32(sorted[i/2])
			f[fSpread5] = float32(sorted[i] - sorted[0])
			f[fAfterMedian5] = float32(t) - f[fMedian5]
		}
	}
	if m > 0 {
		f[fMedian20] = float32(sorted[m/2])
		f[fSpread20] = float32(sorted[m-1-m/10] - sorted[m/10])
		f[fAfterMedian20] = float32(t) - f[fMedian20]
	}
}

// own tells what the own gaps say of a minute that lies t after the last.
func (h *History) own(f *Features, n, t int) {
	var hits, risk, recentHits, recentRisk, likeHits, likeRisk, like2Hits, like2Risk, longest float32
	exact, near, longer := 0, 0, 0
	weight, recent := float32(1), float32(1)
	first, second := int(h.gaps[0]), int(h.gaps[1])
	firstWide, secondWide := first/20+1, second/20+1
	for i := range n {
		g := int(h.gaps[i])
		longest = max(longest, float32(g))
		wide := (3*g + 50) / 100
		if g+wide >= t {
			share := float32(1)
			if g-wide < t {
				share = float32(g+wide-t+1) / float32(2*wide+1)
			}
			hit := float32(0)
			if g-wide <= t {
				hit = 1 / float32(2*wide+1)
			}
			hits += weight * hit
			risk += weight * share
			recentHits += recent * hit
			recentRisk += recent * share
			if i+1 < n && within(int(h.gaps[i+1]), first, firstWide) {
				likeHits += weight * hit
				likeRisk += weight * share
				if i+2 < n && within(int(h.gaps[i+2]), second, secondWide) {
					like2Hits += weight * hit
					like2Risk += weight * share
				}
			}
			switch d := g - t; {
			case d == 0:
				exact++
				near++
			case d == 1 || d == -1:
				near++
			}
			if g > t {
				longer++
			}
		}
		weight *= 0.97
		recent *= 0.75
	}
	f[fOwn], f[fRisk] = ratio(hits, risk), risk
	f[fRecent] = ratio(recentHits, recentRisk)
	f[fLike], f[fLikeRisk] = ratio(likeHits, likeRisk), likeRisk
	f[fLike2], f[fLike2Risk] = ratio(like2Hits, like2Risk), like2Risk
	f[fExact], f[fNear], f[fLonger], f[fLongest] = float32(exact), float32(near), float32(longer), longest
}

func within(a, b, wide int) bool { return a-b <= wide && b-a <= wide }

// ratio is -1 when nothing is known.
func ratio(a, b float32) float32 {
	if b == 0 {
		return -1
	}
	return a / b
}

// clock tells how often there were calls at the minute's place in past hours and parts of them.
func (h *History) clock(f *Features, minute uint32) {
	phase := int(minute % 60)
	f[fMinute] = float32(phase)
	hours := float32(minute-h.since)/60 + 0.01
	count := func(step int) (n float32) {
		for m := phase % step; m < 60; m += step {
			n += float32(h.phase[m])
		}
		return n / max(1, hours*float32(60/step))
	}
	f[fPhase60] = float32(h.phase[phase]) / max(1, hours)
	f[fPhase60Near] = float32(max(h.phase[(phase+59)%60], h.phase[(phase+1)%60])) / max(1, hours)
	f[fPhase30], f[fPhase20], f[fPhase15], f[fPhase10], f[fPhase5] = count(30), count(20), count(15), count(10), count(5)
}

// activity tells what was called how long before the minute.
func (h *History) activity(f *Features, elapsed uint32) {
	ago := func(minutes uint32) float32 {
		if minutes >= elapsed && h.calledBefore(minutes-elapsed) {
			return 1
		}
		return 0
	}
	f[fAgo5], f[fAgo10], f[fAgo15], f[fAgo30], f[fAgo60], f[fAgo120] = ago(5), ago(10), ago(15), ago(30), ago(60), ago(120)
	f[fLast10], f[fLast60], f[fLast180] = h.within(10, elapsed), h.within(60, elapsed), h.within(180, elapsed)
	best := uint8(0)
	for word := range lagMax / 64 {
		for rest := h.called[word]; rest != 0; rest &= rest - 1 {
			lag := uint32(word*64+bits.TrailingZeros64(rest)) + elapsed
			if lag >= lagMax {
				break
			}
			best = max(best, h.pairs[lag])
		}
	}
	f[fLag], f[fLagCount] = float32(best)/float32(h.paired), float32(best)
}

// within counts the minutes with a call among the last so many before the minute asked about.
func (h *History) within(minutes, elapsed uint32) float32 {
	if elapsed > minutes {
		return 0
	}
	n, left := 0, int(minutes-elapsed)+1 // bits from 0
	for word := 0; left > 0; word, left = word+1, left-64 {
		b := h.called[word]
		if left < 64 {
			b &= 1<<left - 1
		}
		n += bits.OnesCount64(b)
	}
	return float32(n)
}
