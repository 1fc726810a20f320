package manager

import "time"

// What the steps of a start are thought to take until they were seen.
const (
	bootPrior    = 60 * time.Millisecond
	preparePrior = 40 * time.Millisecond
	bindPrior    = 10 * time.Millisecond
)

// mean is a decaying mean of durations: each new one weighs an eighth.
type mean struct {
	value time.Duration
	known bool
}

func (m *mean) add(d time.Duration) {
	d = max(d, 0)
	if !m.known {
		m.value, m.known = d, true
		return
	}
	m.value += (d - m.value) / 8
}

// costs are the mean times of the steps of a start.
type costs struct {
	boot, bind mean
	prepares   map[string]*mean // by runtime; as many as the node has
}

func newCosts() costs {
	return costs{boot: mean{value: bootPrior}, bind: mean{value: bindPrior}, prepares: make(map[string]*mean)}
}

func (c *costs) prepare(runtime string) *mean {
	p := c.prepares[runtime]
	if p == nil {
		p = &mean{value: preparePrior}
		c.prepares[runtime] = p
	}
	return p
}
