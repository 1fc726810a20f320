package fleet

import "slices"

// Saved is one code as it is kept outside.
type Saved struct {
	Code Code `json:"code"`
	High bool `json:"high,omitempty"` // by its usage
	// Base is in milliseconds since 1970; Arrivals are pairs, the oldest first: milliseconds since the one before, the first
	// since Base, and how many requests.
	Base     int64    `json:"base"`
	Arrivals []uint32 `json:"arrivals"`
}

// Save gives all that is remembered, the code not asked for the longest first, so that Restore in this order gives the same.
func (u *Usage) Save() []Saved {
	list := make([]Saved, 0, len(u.codes))
	for c := u.oldest; c != nil; c = c.newer {
		s := Saved{Code: c.id, High: c.byUsage == High, Base: c.base, Arrivals: make([]uint32, 0, 2*len(c.arrivals))}
		before := uint32(0)
		for _, a := range c.arrivals {
			s.Arrivals = append(s.Arrivals, a.at-before, a.n)
			before = a.at
		}
		list = append(list, s)
	}
	return list
}

// Restore puts a code back that Save gave, before anything arrives, under the pin it has now. What cannot have been saved is
// left out: false.
func (u *Usage) Restore(s Saved, pin Pin) bool {
	if u.codes[s.Code] != nil || len(s.Arrivals)%2 != 0 || len(s.Arrivals) > 2*arrivalsMax || len(s.Arrivals) == 0 {
		return false
	}
	c := &code{id: s.Code, base: s.Base, pin: pin, serves: pin.Of(Low)}
	at := uint64(0)
	for pair := range slices.Chunk(s.Arrivals, 2) {
		at += uint64(pair[0])
		if at > rebaseAfter || pair[1] == 0 {
			return false
		}
		c.arrivals = append(c.arrivals, arrival{uint32(at), pair[1]})
		c.requests += int(pair[1])
	}
	c.last = c.base + int64(at)
	u.makeRoom()
	u.codes[s.Code] = c
	u.link(c)
	if s.High {
		c.byUsage, c.serves = High, pin.Of(High)
		c.fall = c.fallsAt(u.settings.Leave, u.window)
		u.high.push(c)
	}
	return true
}
