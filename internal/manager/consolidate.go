package manager

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"kiln"
)

// Consolidation: an account's executing instances of one runtime whose utilisation stays low give one of them up while it
// still executes. It takes no new work from then on and ends with its last execution.
const (
	// consolidationLooks is how often utilisation is looked at within Settings.ConsolidationAfter, at intervals between
	// the least and the most.
	consolidationLooks     = 10
	consolidationLookLeast = 100 * time.Millisecond
	consolidationLookMost  = 30 * time.Second
	// consolidatedMost is the utilisation of the others that giving one up may lead to, so that they do not need another
	// instance at once.
	consolidatedMost = 0.8
)

// owner names the instances that can serve an account's requests for a runtime.
type owner struct {
	account         kiln.AccountID
	driver, runtime string
}

// ownership is the assigned instances of one owner, the longest so first.
type ownership struct {
	owner
	instances []*instance
	below     time.Time        // since when utilisation was below the threshold at every look; zero when it was not
	several   link[*ownership] // in Manager.several while there are two or more
}

func (o *ownership) link() *link[*ownership] { return &o.several }

func (in *instance) owner() owner {
	return owner{in.place.Account, in.place.Configuration.Driver, in.place.Configuration.Runtime}
}

// own notes that an instance was assigned, disown that it is no longer: it drains, or is gone.
func (m *Manager) own(in *instance) {
	key := in.owner()
	o := m.owners[key]
	if o == nil {
		o = &ownership{owner: key}
		m.owners[key] = o
	}
	o.instances = append(o.instances, in)
	if len(o.instances) > 1 {
		m.several.push(o)
	}
}

func (m *Manager) disown(in *instance) {
	o := m.owners[in.owner()]
	o.instances = slices.DeleteFunc(o.instances, func(other *instance) bool { return other == in })
	if len(o.instances) < 2 {
		m.several.remove(o)
		o.below = time.Time{}
	}
	if len(o.instances) == 0 {
		delete(m.owners, o.owner)
	}
}

// consolidate looks at the owners of two or more instances.
func (m *Manager) consolidate(now time.Time) {
	if m.settings.ConsolidationAfter <= 0 || m.refusing {
		return
	}
	every := min(max(m.settings.ConsolidationAfter/consolidationLooks, consolidationLookLeast), consolidationLookMost)
	last := now.Add(-every)
	for o := range m.several.all() {
		m.consolidateOwner(now, last, o)
	}
	m.timers.set(&m.consolidating, now.Add(every))
}

// consolidateOwner gives an instance up when utilisation was below the threshold for long enough. Instances that have
// executed nothing since the last look do not count: retention lets them go.
func (m *Manager) consolidateOwner(now, last time.Time, o *ownership) {
	executing, used, size := 0, 0, 0
	for _, in := range o.instances {
		if in.active > 0 || in.rested.After(last) {
			executing++
			used += in.used()
			size += in.place.Configuration.Shape.MemoryMiB
		}
	}
	utilisation := float64(used) / float64(max(size, 1))
	if executing < 2 || utilisation >= m.settings.ConsolidationUtilisation {
		o.below = time.Time{}
		return
	}
	if o.below.IsZero() {
		o.below = now
	}
	if now.Sub(o.below) < m.settings.ConsolidationAfter {
		return
	}
	in := m.leastUsed(o)
	if in == nil || !in.spared(o, used, size) {
		return
	}
	o.below = time.Time{}
	m.consolidated++
	m.drain(now, in, fmt.Sprintf("consolidation: utilisation of %d executing instances was below %.0f %% for %s, now %.0f %%; it is the least used",
		executing, 100*m.settings.ConsolidationUtilisation, m.settings.ConsolidationAfter, 100*utilisation))
}

// leastUsed is the executing instance of which the smallest share is used, the youngest of several; nil when none executes.
// One that holds provisioned containers is not chosen: they are kept.
func (m *Manager) leastUsed(o *ownership) *instance {
	var least *instance
	share := func(in *instance) float64 {
		return float64(in.used()) / float64(in.place.Configuration.Shape.MemoryMiB)
	}
	for _, in := range o.instances {
		if in.active > 0 && in.promised == 0 && (least == nil || share(in) <= share(least)) {
			least = in
		}
	}
	return least
}

// used is the memory of the containers that execute or are being started.
func (in *instance) used() int {
	sum := 0
	for _, c := range in.containers {
		if c.state == kiln.ContainerBusy || c.start != nil {
			sum += c.amounts.MemoryMiB
		}
	}
	return sum
}

// spared says whether the owner's other instances have room for what executes in this one, each container where an idle
// one of its version waits or in memory not given away, so that nothing kept for requests to come is taken instead: used of
// size is what all that execute have in use now.
func (in *instance) spared(o *ownership, used, size int) bool {
	size -= in.place.Configuration.Shape.MemoryMiB
	if size <= 0 || float64(used) > consolidatedMost*float64(size) {
		return false
	}
	var free []int
	idle := map[*group]int{}
	for _, other := range o.instances {
		if other == in {
			continue
		}
		free = append(free, other.place.FreeMiB)
		for _, c := range other.containers {
			if c.resting() && !c.promised {
				idle[c.group]++
			}
		}
	}
	slices.Sort(free)
	moving := slices.Clone(in.containers)
	slices.SortStableFunc(moving, func(a, b *container) int { return cmp.Compare(b.amounts.MemoryMiB, a.amounts.MemoryMiB) })
	for _, c := range moving {
		if c.state != kiln.ContainerBusy && c.start == nil {
			continue
		}
		if idle[c.group] > 0 {
			idle[c.group]--
			continue
		}
		i := slices.IndexFunc(free, func(mib int) bool { return mib >= c.amounts.MemoryMiB })
		if i < 0 {
			return false
		}
		free[i] -= c.amounts.MemoryMiB
	}
	return true
}

// Consolidated counts the instances given up since the start.
func (m *Manager) Consolidated() int { return m.consolidated }
