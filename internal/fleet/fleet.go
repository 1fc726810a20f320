// Package fleet keeps how often each code was asked for over a sliding window and decides by it which fleet serves the
// code: low-volume, where all code starts, or high-volume.
//
// It is a core: what happened and the time come in, the standing of a code goes out. It reads no clock, keeps nothing on
// disk (package usage does) and is used by one goroutine at a time. A request costs the same however many codes there
// are, and the memory is bounded: by codesMax codes of at most arrivalsMax entries of 8 bytes.
//
// Code is an account's function, whichever version of it is asked for. It goes to high-volume with the request that makes
// Enter within the window and comes back once fewer than Leave are, which Tick tells when nobody asks any more.
//
// As long as a code has no more than arrivalsMax calls in its window each is remembered to the millisecond, and so the
// count is exact. Beyond it neighbours are merged that lie within a cell, one 32nd of the window, and go with the latest
// of them: then the count may be too large by what came within one cell.
package fleet

import (
	"time"

	"kiln"
)

// Bounds of what is remembered.
const (
	// arrivalsMax is how many instants of one code are remembered apart.
	arrivalsMax = 64
	// cells is how many cells the window has once neighbours are merged.
	cells = 32
	// WindowMin and WindowMax bound the window.
	WindowMin = time.Second
	WindowMax = 7 * 24 * time.Hour
	// dropped is how many silent codes are forgotten with one request, at most, and droppedTick with one Tick.
	dropped     = 2
	droppedTick = 1024
)

// Class is the fleet that serves a code. The zero value is low-volume.
type Class uint8

// The classes.
const (
	Low Class = iota
	High
)

// String gives the fleet's name.
func (c Class) String() string {
	if c == High {
		return kiln.FleetHighVolume
	}
	return kiln.FleetLowVolume
}

// Pin is what the owner of a code has to say about its fleet. The zero value leaves it to the usage.
type Pin uint8

// The pins.
const (
	Free Pin = iota
	PinLow
	PinHigh
	// PinProvider is of code on a capacity provider: it is counted, but none of the two fleets serves it. It is called Low, and
	// so is never near high-volume and never changes.
	PinProvider
)

// Pinned gives the pin to a fleet named by a tag; false when there is no fleet of that name.
func Pinned(name string) (Pin, bool) {
	switch name {
	case kiln.FleetLowVolume:
		return PinLow, true
	case kiln.FleetHighVolume:
		return PinHigh, true
	}
	return Free, false
}

// Of gives the class under a pin of code that has another by its usage.
func (p Pin) Of(byUsage Class) Class {
	switch p {
	case PinLow, PinProvider:
		return Low
	case PinHigh:
		return High
	}
	return byUsage
}

// Code is what is counted.
type Code struct {
	Account  kiln.AccountID `json:"account"`
	Function string         `json:"function"`
}

// Settings is how often is often.
type Settings struct {
	// Window is how far back requests count.
	Window time.Duration
	// Enter is how many of them bring a code to high-volume; with fewer than Leave it goes back to low-volume.
	Enter, Leave int
}

// Near is how many requests within the window announce that a code may soon go to high-volume: two thirds of Enter.
func (s Settings) Near() int { return max((2*s.Enter+2)/3, 1) }

// Standing is where a code stands.
type Standing struct {
	Requests int // within the window
	ByUsage  Class
	Pin      Pin
	// Serves is the fleet that serves it: ByUsage unless pinned. It says nothing under PinProvider.
	Serves Class
	// Changed says that another fleet served it before this request.
	Changed bool
	// Near says that high-volume serves it, or will if it goes on.
	Near bool
	Last time.Time // the latest request, to the millisecond
}

// Usage is how often each code was asked for. Make it with NewUsage.
type Usage struct {
	settings Settings
	window   int64 // ms
	codesMax int
	codes    map[Code]*code
	// newest and oldest end the list of codes by their latest request.
	newest, oldest *code
	high           heap
}

// code is one code's requests.
type code struct {
	id       Code
	base     int64     // ms since 1970; arrivals count from it
	arrivals []arrival // oldest first
	requests int       // their sum
	last     int64     // ms since 1970
	byUsage  Class
	serves   Class
	pin      Pin
	newer    *code
	older    *code
	fall     int64 // ms since 1970: not before then are there too few for high-volume
	place    int   // in high, from 1; 0 when it is not there
}

// arrival is a number of requests in one millisecond, or in one cell.
type arrival struct {
	at uint32 // ms after base
	n  uint32
}

// NewUsage makes a store for at most codesMax codes; beyond it the one not asked for the longest is forgotten.
func NewUsage(s Settings, codesMax int) *Usage {
	return &Usage{settings: s, window: s.Window.Milliseconds(), codesMax: codesMax, codes: make(map[Code]*code)}
}

// Arrived counts a request and gives where its code stands with it. Times must not go back.
func (u *Usage) Arrived(now time.Time, id Code, pin Pin) Standing {
	ms := now.UnixMilli()
	c := u.codes[id]
	if c == nil {
		u.makeRoom()
		c = &code{id: id, base: ms}
		u.codes[id] = c
	} else {
		u.unlink(c)
	}
	u.link(c)
	c.prune(ms - u.window)
	if c.byUsage == High && c.requests < u.settings.Leave { // it fell, and no Tick has told yet
		c.byUsage = Low
		u.high.remove(c)
	}
	c.add(ms, u.window)
	if c.byUsage == Low && c.requests >= u.settings.Enter {
		c.byUsage = High
	}
	if c.byUsage == High && c.place == 0 {
		c.fall = c.fallsAt(u.settings.Leave, u.window)
		u.high.push(c)
	}
	before := c.serves
	c.pin, c.serves = pin, pin.Of(c.byUsage)
	u.dropSilent(ms, dropped)
	s := u.standing(c)
	s.Changed = c.serves != before
	return s
}

func (u *Usage) standing(c *code) Standing {
	return Standing{
		Requests: c.requests, ByUsage: c.byUsage, Pin: c.pin, Serves: c.serves, Last: time.UnixMilli(c.last),
		Near: c.serves == High || c.pin == Free && c.requests >= u.settings.Near(),
	}
}

// Look gives where a code stands now; the zero Standing for one that was not asked for within the window.
func (u *Usage) Look(now time.Time, id Code) Standing {
	c := u.codes[id]
	if c == nil {
		return Standing{}
	}
	c.prune(now.UnixMilli() - u.window)
	return u.standing(c)
}

// Each calls yield with every code asked for within the window, the latest first. Like Look it changes no class: that a
// code has fallen, the next Tick tells.
func (u *Usage) Each(now time.Time, yield func(Code, Standing)) {
	for c := u.newest; c != nil; c = c.older {
		if c.prune(now.UnixMilli() - u.window); c.requests > 0 {
			yield(c.id, u.standing(c))
		}
	}
}

// Change is a code that another fleet serves from now on.
type Change struct {
	Code     Code
	Standing Standing
}

// Tick gives the codes that have gone back to low-volume since nobody asked for them often enough, in the order they did,
// and forgets those silent for a whole window. It looks only at what may have changed.
func (u *Usage) Tick(now time.Time) []Change {
	ms := now.UnixMilli()
	var changes []Change
	for c := u.high.first(); c != nil && c.fall <= ms; c = u.high.first() {
		c.prune(ms - u.window)
		if c.requests >= u.settings.Leave { // it was asked for since
			c.fall = c.fallsAt(u.settings.Leave, u.window)
			u.high.fix(c)
			continue
		}
		c.byUsage = Low
		u.high.remove(c)
		before := c.serves
		c.serves = c.pin.Of(Low)
		if c.serves != before {
			s := u.standing(c)
			s.Changed = true
			changes = append(changes, Change{c.id, s})
		}
	}
	u.dropSilent(ms, droppedTick)
	return changes
}

// Forget forgets a code: it is new when it comes again.
func (u *Usage) Forget(id Code) {
	if c := u.codes[id]; c != nil {
		u.drop(c)
	}
}

// Len is how many codes are remembered.
func (u *Usage) Len() int { return len(u.codes) }

// makeRoom forgets the code not asked for the longest when there are as many as may be.
func (u *Usage) makeRoom() {
	if len(u.codes) >= u.codesMax {
		u.drop(u.oldest)
	}
}

// dropSilent forgets codes of which nothing is in the window any more, at most so many.
func (u *Usage) dropSilent(ms int64, most int) {
	for range most {
		c := u.oldest
		if c == nil || c.last > ms-u.window || c.place != 0 { // Tick tells first that it fell
			return
		}
		u.drop(c)
	}
}

func (u *Usage) drop(c *code) {
	u.high.remove(c)
	u.unlink(c)
	delete(u.codes, c.id)
}

func (u *Usage) link(c *code) {
	c.older, c.newer = u.newest, nil
	if u.newest != nil {
		u.newest.newer = c
	} else {
		u.oldest = c
	}
	u.newest = c
}

func (u *Usage) unlink(c *code) {
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		u.newest = c.older
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		u.oldest = c.newer
	}
}
