package manager

import (
	"fmt"
	"time"

	"kiln"
	"kiln/internal/capacity"
)

// look follows the demand, once a period.
func (m *Manager) look(now time.Time) {
	m.capacity.Tick(now)
	m.timers.set(&m.looking, now.Add(m.capacity.Period()))
}

// took boots what is to be booted because an instance was taken from the warming pool: the first number of instances or,
// in a surge, the second; then what the target still lacks.
func (m *Manager) took(now time.Time, in *instance) {
	if in.place.Reserved != "" { // of a sub-pool, which is as large as it was set
		return
	}
	c := in.place.Configuration
	d := m.capacity.Demand(c)
	add, cause := d.Took(now)
	have := m.index.Warm(c, "") + m.index.Booting(c, "")
	n := m.stock(now, c, min(add.First+add.Second, d.Most()-have), cause)
	d.Count(capacity.Added{First: min(n, add.First), Second: min(n, add.Second)})
	m.refill(now)
}

// stock boots so many instances for the warming pool, as far as the limit of instances allows, and gives how many.
func (m *Manager) stock(now time.Time, c kiln.Configuration, instances int, cause string) (booted int) {
	for !m.refusing && !m.halted && booted < instances && len(m.instances) < m.settings.InstancesMax {
		m.newInstance(now, c, "", cause, "", "")
		booted++
	}
	return booted
}

// refill boots what the warming pool lacks, and lets go what it has too much.
func (m *Manager) refill(now time.Time) {
	if m.refusing || m.halted || m.refilling { // letting one go asks to refill again
		return
	}
	m.refilling = true
	defer func() { m.refilling = false }()
	m.refillDedicated(now)
	for _, d := range m.capacity.Demands() {
		c := d.Configuration
		have := m.index.Warm(c, "") + m.index.Booting(c, "")
		missing, retry := d.Missing(now, have)
		m.refillAt(retry)
		if missing > 0 {
			n := m.stock(now, c, missing, fmt.Sprintf("warming pool below its target of %d: %s", d.Target(), d.Reason()))
			d.Count(capacity.Added{Target: n})
		}
		for surplus := d.Surplus(now, have); surplus > 0; surplus-- {
			in := m.index.Oldest(c, "")
			if in == nil {
				break
			}
			m.deleteInstance(now, in.Holder.(*instance), kiln.EventInstanceTerminate,
				fmt.Sprintf("warming pool above its target of %d: %s", d.Target(), d.Reason()))
		}
	}
}

// refillAt has the pools looked at again at a time, unless it is zero.
func (m *Manager) refillAt(retry time.Time) {
	if !retry.IsZero() && (m.refilled.index == 0 || retry.Before(m.refilled.at)) {
		m.timers.set(&m.refilled, retry)
	}
}

// Demands shows what is known of each configuration's demand, in the order they were heard of.
func (m *Manager) Demands(now time.Time) []capacity.State {
	list := make([]capacity.State, 0, len(m.capacity.Demands()))
	for _, d := range m.capacity.Demands() {
		list = append(list, d.State(now))
	}
	return list
}

// History gives what was learned of days and weeks, for the next run.
func (m *Manager) History() capacity.History { return m.capacity.History() }

// CodeRate is how often a version is asked for, at one amount.
type CodeRate struct {
	Version *kiln.Version
	// Minute is requests a second over the last minute.
	Minute float64
}

// CodePage appends the rates of the next versions that were asked for in the last minute, and moves the mark. False after
// the last. What comes or goes between two pages may be missed.
func (m *Manager) CodePage(now time.Time, mark *int, list []CodeRate) ([]CodeRate, bool) {
	end := min(*mark+pageRows, len(m.codes))
	for ; *mark < end; *mark++ {
		g := m.codes[*mark]
		if rate := g.rate.Rate(now, capacity.RateMinute); rate > 0 {
			list = append(list, CodeRate{g.version, rate})
		}
	}
	return list, *mark < len(m.codes)
}
