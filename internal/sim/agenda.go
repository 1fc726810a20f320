package sim

import (
	"math"
	"time"

	"kiln/internal/manager"
)

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// happening is something that happens at a time.
type happening struct {
	at    time.Duration
	order uint64
	kind  happens
	call  *call
	event manager.Event
	do    func()
}

type happens uint8

const (
	happensCall  happens = iota // call comes
	happensEnd                  // call's execution ends
	happensEvent                // the manager is told event
	happensDo                   // do
)

// agenda is what will happen, the earliest first, at one time in the order it was put in. Each entry is small: what
// happens stands elsewhere.
type agenda struct {
	heap  []entry
	slots []happening
	free  []int32
	count uint64
}

type entry struct {
	at    time.Duration
	order uint64
	slot  int32
}

func (e entry) before(o entry) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// at is when the next thing happens.
func (a *agenda) at() time.Duration {
	if len(a.heap) == 0 {
		return never
	}
	return a.heap[0].at
}

func (a *agenda) push(h happening) {
	a.count++
	var slot int32
	if n := len(a.free); n > 0 {
		slot = a.free[n-1]
		a.free = a.free[:n-1]
		a.slots[slot] = h
	} else {
		slot = int32(len(a.slots))
		a.slots = append(a.slots, h)
	}
	e := entry{h.at, a.count, slot}
	a.heap = append(a.heap, e)
	i := len(a.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(a.heap[up]) {
			break
		}
		a.heap[i] = a.heap[up]
		i = up
	}
	a.heap[i] = e
}

func (a *agenda) pop() happening {
	first := a.heap[0]
	last := len(a.heap) - 1
	e := a.heap[last]
	a.heap = a.heap[:last]
	i := 0
	for {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && a.heap[down+1].before(a.heap[down]) {
			down++
		}
		if !a.heap[down].before(e) {
			break
		}
		a.heap[i] = a.heap[down]
		i = down
	}
	if last > 0 {
		a.heap[i] = e
	}
	h := a.slots[first.slot]
	a.slots[first.slot] = happening{}
	a.free = append(a.free, first.slot)
	return h
}
