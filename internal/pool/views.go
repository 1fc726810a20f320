package pool

import (
	"kiln"
	"kiln/internal/manager"
)

// Instance is an instance as operations shows it.
type Instance struct {
	ID        kiln.InstanceID    `json:"id"`
	Node      kiln.NodeID        `json:"node"`
	Pool      kiln.Pool          `json:"pool"`
	State     kiln.InstanceState `json:"state"`
	Account   kiln.AccountID     `json:"account"` // empty while nobody's
	Fleet     string             `json:"fleet"`
	Driver    string             `json:"driver"`
	Runtimes  []string           `json:"runtimes"`
	Shape     kiln.Shape         `json:"shape"`
	FreeMiB   int                `json:"freeMiB"`
	BootID    string             `json:"bootId"`
	BootedAt  kiln.Time          `json:"bootedAt"`
	CodeCache []kiln.Digest      `json:"codeCache"`
}

// Container is a container as operations shows it.
type Container struct {
	ID        kiln.ContainerID    `json:"id"`
	Instance  kiln.InstanceID     `json:"instance"`
	State     kiln.ContainerState `json:"state"`
	Account   kiln.AccountID      `json:"account"`
	Function  string              `json:"function"`
	Version   string              `json:"version"`
	PID       int                 `json:"pid"`
	MemoryMiB int                 `json:"memoryMiB"` // 0 until bound
}

// Counts is one pool of one configuration, counted.
type Counts struct {
	ID            string     `json:"id"` // fleet/pool/driver/runtime/shape
	Fleet         string     `json:"fleet"`
	Pool          kiln.Pool  `json:"pool"`
	Driver        string     `json:"driver"`
	Runtime       string     `json:"runtime"`
	Shape         kiln.Shape `json:"shape"`
	Target        int        `json:"target"`    // warm instances wanted; 0 for an active pool
	Instances     int        `json:"instances"` // all in the pool
	Booting       int        `json:"booting"`
	Draining      int        `json:"draining"`
	Containers    int        `json:"containers"`
	Busy          int        `json:"busy"`
	MemoryMiB     int        `json:"memoryMiB"`     // shapes summed
	MemoryUsedMiB int        `json:"memoryUsedMiB"` // given to containers
}

// Instances lists all instances, oldest first.
func (p *Pool) Instances() []Instance {
	list := []Instance{}
	for _, f := range p.fleets {
		f.mu.Lock()
		for v := range f.manager.Instances {
			owner := v.Account
			if v.State.Pool() == kiln.PoolWarming {
				owner = "" // claimed for a request, and nobody's until it is assigned
			}
			list = append(list, Instance{
				ID: v.ID, Node: p.config.Node.ID(), Pool: v.State.Pool(), State: v.State, Account: owner, Fleet: f.name,
				Driver: v.Configuration.Driver, Runtimes: []string{v.Configuration.Runtime}, Shape: v.Configuration.Shape,
				FreeMiB: v.FreeMiB, BootID: v.BootID, BootedAt: kiln.Time{Time: v.BootedAt}, CodeCache: v.CodeCache,
			})
		}
		f.mu.Unlock()
	}
	return list
}

// Containers lists all containers, by instance, oldest first.
func (p *Pool) Containers() []Container {
	list := []Container{}
	for _, f := range p.fleets {
		f.mu.Lock()
		for v := range f.manager.Containers {
			c := Container{
				ID: v.ID, Instance: v.Instance, State: v.State, Account: v.Account, PID: v.PID, MemoryMiB: v.Amounts.MemoryMiB,
			}
			if v.Version != nil {
				c.Function, c.Version = v.Version.Function, v.Version.Number
			}
			list = append(list, c)
		}
		f.mu.Unlock()
	}
	return list
}

// Pools counts the instances of each pool, by configuration.
func (p *Pool) Pools() []Counts {
	list := []Counts{}
	for _, f := range p.fleets {
		list = append(list, f.counts()...)
	}
	return list
}

// counts counts a fleet's pools: each configuration that has a target or an instance.
func (f *fleet) counts() []Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Counts
	at := make(map[string]int)
	row := func(pool kiln.Pool, c kiln.Configuration) *Counts {
		id := f.name + "/" + string(pool) + "/" + c.String()
		i, ok := at[id]
		if !ok {
			i = len(list)
			at[id] = i
			list = append(list, Counts{ID: id, Fleet: f.name, Pool: pool, Driver: c.Driver, Runtime: c.Runtime, Shape: c.Shape})
		}
		return &list[i]
	}
	for _, c := range f.manager.Configurations() {
		row(kiln.PoolWarming, c).Target = f.manager.Target(c)
		row(kiln.PoolActive, c)
	}
	pools := make(map[kiln.InstanceID]*Counts)
	var places []manager.InstanceView
	for v := range f.manager.Instances {
		row(v.State.Pool(), v.Configuration)
		places = append(places, v)
	}
	for _, v := range places {
		r := row(v.State.Pool(), v.Configuration)
		pools[v.ID] = r
		r.Instances++
		r.MemoryMiB += v.Configuration.Shape.MemoryMiB
		r.MemoryUsedMiB += v.Configuration.Shape.MemoryMiB - v.FreeMiB
		switch v.State {
		case kiln.InstanceBooting:
			r.Booting++
		case kiln.InstanceDraining:
			r.Draining++
		}
	}
	for v := range f.manager.Containers {
		if r := pools[v.Instance]; r != nil {
			r.Containers++
			if v.State == kiln.ContainerBusy {
				r.Busy++
			}
		}
	}
	return list
}
