package fleet

// rebaseAfter is how far arrivals may lie from the base they count from, in ms: far more than a window, and less than 32
// bits hold.
const rebaseAfter = 1 << 31

// add counts a request.
func (c *code) add(ms, window int64) {
	c.last = max(c.last, ms)
	c.requests++
	if len(c.arrivals) == 0 {
		c.base = ms
	}
	if ms-c.base > rebaseAfter {
		c.rebase()
	}
	at := uint32(max(ms-c.base, 0))
	if n := len(c.arrivals); n > 0 && c.arrivals[n-1].at >= at {
		c.arrivals[n-1].n++
		return
	}
	if len(c.arrivals) == arrivalsMax {
		c.merge(window)
	}
	c.arrivals = append(c.arrivals, arrival{at, 1})
}

// prune takes out what came at a time or before.
func (c *code) prune(until int64) {
	gone := 0
	for gone < len(c.arrivals) && c.base+int64(c.arrivals[gone].at) <= until {
		c.requests -= int(c.arrivals[gone].n)
		gone++
	}
	if gone > 0 {
		c.arrivals = c.arrivals[:copy(c.arrivals, c.arrivals[gone:])]
	}
}

// merge joins neighbours of one cell; they go with the latest.
func (c *code) merge(window int64) {
	cell := max(window/cells, 1)
	kept := c.arrivals[:1]
	for _, a := range c.arrivals[1:] {
		last := &kept[len(kept)-1]
		if (c.base+int64(last.at))/cell == (c.base+int64(a.at))/cell {
			last.at, last.n = a.at, last.n+a.n
			continue
		}
		kept = append(kept, a)
	}
	c.arrivals = kept
}

// rebase counts from the oldest arrival there is.
func (c *code) rebase() {
	shift := c.arrivals[0].at
	for i := range c.arrivals {
		c.arrivals[i].at -= shift
	}
	c.base += int64(shift)
}

// fallsAt is when fewer than leave are left in the window if nothing comes.
func (c *code) fallsAt(leave int, window int64) int64 {
	left := 0
	for i := len(c.arrivals) - 1; i >= 0; i-- {
		if left += int(c.arrivals[i].n); left >= leave {
			return c.base + int64(c.arrivals[i].at) + window
		}
	}
	return 0
}

// heap holds the codes of high-volume, the one that may fall first at the top. What comes for one only moves its time
// back, which is seen to when it is its turn.
type heap []*code

func (h heap) first() *code {
	if len(h) == 0 {
		return nil
	}
	return h[0]
}

func (h *heap) push(c *code) {
	*h = append(*h, c)
	c.place = len(*h)
	h.fix(c)
}

func (h *heap) remove(c *code) {
	if c.place == 0 {
		return
	}
	i, last := c.place-1, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	c.place = 0
	if i < last {
		h.fix((*h)[i])
	}
}

// fix finds the place of a code whose time has changed.
func (h *heap) fix(c *code) {
	for i := c.place - 1; i > 0 && c.before((*h)[(i-1)/2]); i = c.place - 1 {
		h.swap(i, (i-1)/2)
	}
	for {
		least := c.place - 1
		for child := 2*c.place - 1; child <= 2*c.place && child < len(*h); child++ {
			if (*h)[child].before((*h)[least]) {
				least = child
			}
		}
		if least == c.place-1 {
			return
		}
		h.swap(least, c.place-1)
	}
}

func (h *heap) swap(i, j int) {
	(*h)[i], (*h)[j] = (*h)[j], (*h)[i]
	(*h)[i].place, (*h)[j].place = i+1, j+1
}

// before orders codes by when they may fall, and then by name: nothing is left to chance.
func (c *code) before(o *code) bool {
	if c.fall != o.fall {
		return c.fall < o.fall
	}
	if c.id.Account != o.id.Account {
		return c.id.Account < o.id.Account
	}
	return c.id.Function < o.id.Function
}
