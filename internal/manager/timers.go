package manager

import "time"

// timer is one wish to be called. The zero value is not set.
type timer struct {
	at    time.Time
	index int // in the heap, from 1; 0 when not set
	order uint64
	fire  func(now time.Time)
}

// timers is a heap of them, the earliest first, equal ones in the order they were set.
type timers struct {
	heap  []*timer
	count uint64
}

// set makes t fire at a time, instead of the one it had.
func (h *timers) set(t *timer, at time.Time) {
	t.at = at
	if t.index == 0 {
		h.count++
		t.order = h.count
		h.heap = append(h.heap, t)
		t.index = len(h.heap)
	}
	h.up(t.index - 1)
	h.down(t.index - 1)
}

// stop makes t not fire.
func (h *timers) stop(t *timer) {
	if t.index == 0 {
		return
	}
	i, last := t.index-1, len(h.heap)-1
	h.swap(i, last)
	h.heap[last] = nil
	h.heap = h.heap[:last]
	t.index = 0
	if i < last {
		h.up(i)
		h.down(i)
	}
}

// due takes out the earliest timer whose time has come, nil when there is none.
func (h *timers) due(now time.Time) *timer {
	if len(h.heap) == 0 || h.heap[0].at.After(now) {
		return nil
	}
	t := h.heap[0]
	h.stop(t)
	return t
}

func (h *timers) less(i, j int) bool {
	a, b := h.heap[i], h.heap[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.order < b.order
}

func (h *timers) swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].index, h.heap[j].index = i+1, j+1
}

func (h *timers) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *timers) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.heap); child++ {
			if h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
