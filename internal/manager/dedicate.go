package manager

import (
	"fmt"
	"time"

	"kiln"
)

// Dedicated is a sub-pool: so many instances of one configuration are an account's, warm until it takes them. With SpillOver
// an account that needs more takes them from the common pool; without, its requests of that configuration wait for one of
// its own, and are throttled when none comes free in time.
type Dedicated struct {
	Account       kiln.AccountID     `json:"account"`
	Configuration kiln.Configuration `json:"configuration"`
	Instances     int                `json:"instances"`
	SpillOver     bool               `json:"spillOver"`
}

// dedicated names a sub-pool.
type dedicated struct {
	configuration kiln.Configuration
	account       kiln.AccountID
}

// dedication is a sub-pool and what it has.
type dedication struct {
	Dedicated
	count int // its instances, warm and the account's of the configuration, that are not gone
}

// dedicate takes over the sub-pools the operator set. What a sub-pool had that is no more is let go once it is warm.
func (m *Manager) dedicate(list []Dedicated) {
	for key := range m.dedications {
		m.index.NotKept(key.configuration, key.account)
	}
	before := m.dedicated
	m.dedicated, m.dedications = nil, make(map[dedicated]*dedication, len(list))
	for _, set := range list {
		m.addDedication(set)
	}
	for _, d := range before { // what is still there of it must be seen to
		if d.count > 0 {
			m.addDedication(Dedicated{Account: d.Account, Configuration: d.Configuration, SpillOver: true})
		}
	}
	for in := m.oldest; in != nil; in = in.younger {
		in.dedication = nil
		if in.place.State != kiln.InstanceGone {
			m.belong(in)
		}
	}
}

func (m *Manager) addDedication(set Dedicated) {
	key := dedicated{set.Configuration, set.Account}
	if m.dedications[key] != nil {
		return
	}
	d := &dedication{Dedicated: set}
	m.dedications[key] = d
	m.dedicated = append(m.dedicated, d)
	m.index.Keep(set.Configuration, set.Account, !set.SpillOver)
}

// belong counts an instance to the sub-pool of who has it or for whom it is kept.
func (m *Manager) belong(in *instance) {
	account := in.place.Account
	if account == "" {
		account = in.place.Reserved
	}
	if d := m.dedications[dedicated{in.place.Configuration, account}]; d != nil && in.dedication == nil && account != "" {
		in.dedication = d
		d.count++
	}
}

// leaveDedication counts an instance no longer: it is gone.
func (in *instance) leaveDedication() {
	if in.dedication != nil {
		in.dedication.count--
		in.dedication = nil
	}
}

// full says that a group's account may have no further instance of a configuration: its sub-pool is all it may take.
func (m *Manager) full(g *group, c kiln.Configuration) bool {
	d := m.dedications[dedicated{c, g.need.Account}]
	return d != nil && !d.SpillOver && d.count >= d.Instances
}

// makeOwnRoom lets something of the account's own sub-pool go for a group that found no room in it: idle containers, else
// an instance that executes nothing. One at a time.
func (m *Manager) makeOwnRoom(now time.Time, g *group, c kiln.Configuration) {
	if m.deleting > 0 && m.deleting >= m.blocked || m.reclaim(now, g) {
		return
	}
	for in := range m.resting.all() {
		if in.place.State == kiln.InstanceAssigned && in.place.Account == g.need.Account && in.place.Configuration.Shape == c.Shape && in.promised == 0 {
			m.deleteInstance(now, in, kiln.EventInstanceTerminate, "idle, and its room is needed")
			return
		}
	}
}

// refillDedicated boots what the sub-pools lack and lets go what they have too much.
func (m *Manager) refillDedicated(now time.Time) {
	for _, d := range m.dedicated {
		missing, retry := m.capacity.Demand(d.Configuration).Allowed(now, d.Instances-d.count)
		m.refillAt(retry)
		for ; missing > 0 && len(m.instances) < m.settings.InstancesMax; missing-- {
			m.newInstance(now, d.Configuration, "", fmt.Sprintf("%d instances are kept for account %s", d.Instances, d.Account), "", d.Account)
			m.dropped = true // its account may wait for it
		}
		for d.count > d.Instances {
			in := m.index.Oldest(d.Configuration, d.Account)
			if in == nil {
				break
			}
			m.deleteInstance(now, in.Holder.(*instance), kiln.EventInstanceTerminate,
				fmt.Sprintf("%d instances are kept for account %s, and there are more", d.Instances, d.Account))
		}
	}
}
