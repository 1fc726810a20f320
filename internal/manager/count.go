package manager

import (
	"cmp"
	"slices"
	"strings"

	"kiln"
)

// Count is one pool of one configuration, counted.
type Count struct {
	Pool          kiln.Pool
	Configuration kiln.Configuration
	// Account is for whom the instances of a warming pool are kept; empty for the common ones, and of an active pool.
	Account kiln.AccountID
	// Instances and Containers are counted by their states.
	Instances  [kiln.InstanceGone + 1]int
	Containers [kiln.ContainerGone + 1]int
	ShapeMiB   int // the shapes summed
	GivenMiB   int // of it, given to containers
}

// counted names a Count.
type counted struct {
	pool          kiln.Pool
	configuration kiln.Configuration
	account       kiln.AccountID
}

// Counts lists what is counted of each pool that ever had an instance, in a fixed order. It costs nothing by instance.
func (m *Manager) Counts() []Count {
	list := make([]Count, 0, len(m.counts))
	for _, c := range m.counts {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(strings.Compare(a.Configuration.String(), b.Configuration.String()),
			strings.Compare(string(a.Pool), string(b.Pool)), strings.Compare(string(a.Account), string(b.Account)))
	})
	return list
}

// settleIn counts an instance with all it holds to the pool its state puts it in, and no longer to the one it was in. One
// that is gone is counted nowhere.
func (m *Manager) settleIn(in *instance, to kiln.InstanceState) {
	if in.count != nil {
		in.count.add(in, -1)
	}
	if in.place.State == kiln.InstanceAssigned {
		m.disown(in)
	} else if to == kiln.InstanceAssigned {
		m.own(in)
	}
	in.place.State, in.count = to, nil
	if to == kiln.InstanceGone {
		return
	}
	key := counted{pool: to.Pool(), configuration: in.place.Configuration}
	if key.pool == kiln.PoolWarming {
		key.account = in.place.Reserved
	}
	in.count = m.counts[key]
	if in.count == nil {
		in.count = &Count{Pool: key.pool, Configuration: key.configuration, Account: key.account}
		m.counts[key] = in.count
	}
	in.count.add(in, 1)
}

func (c *Count) add(in *instance, n int) {
	c.Instances[in.place.State] += n
	size := in.place.Configuration.Shape.MemoryMiB
	c.ShapeMiB += n * size
	c.GivenMiB += n * (size - in.place.FreeMiB)
	for _, o := range in.containers {
		c.Containers[o.state] += n
	}
}

// count counts a container, or with -1 no longer, to where its instance is.
func (c *container) count(n int) {
	if count := c.in.count; count != nil {
		count.Containers[c.state] += n
	}
}

// give takes memory of an instance, or gives it back when negative. The caller brings the index up to date.
func (in *instance) give(memoryMiB int) {
	in.place.FreeMiB -= memoryMiB
	if in.count != nil {
		in.count.GivenMiB += memoryMiB
	}
}
