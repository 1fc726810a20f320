package pool

import (
	"slices"
	"time"

	"kiln"
	"kiln/internal/capacity"
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
	// Executions of Slots are under way in it; Slots is 0 until it has a version.
	Executions int `json:"executions"`
	Slots      int `json:"slots"`
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
	// Account is for whom a warming pool is kept, Target then the most it and the account's own have together; SpillOver
	// says whether the account may have more.
	Account   kiln.AccountID `json:"account"`
	SpillOver bool           `json:"spillOver"`
	// Demand is what a warming pool's target follows; nil for an active pool.
	Demand *Demand `json:"demand,omitempty"`
}

// Instances lists all instances, oldest first.
func (p *Pool) Instances() []Instance {
	list := []Instance{}
	for _, f := range p.all() {
		for _, v := range f.instances() {
			owner := v.Account
			if v.State.Pool() == kiln.PoolWarming {
				owner = "" // claimed for a request, and nobody's until it is assigned
			}
			slices.Sort(v.CodeCache)
			list = append(list, Instance{
				ID: v.ID, Node: p.config.Node.ID(), Pool: v.State.Pool(), State: v.State, Account: owner, Fleet: f.id.Name,
				Driver: v.Configuration.Driver, Runtimes: []string{v.Configuration.Runtime}, Shape: v.Configuration.Shape,
				FreeMiB: v.FreeMiB, BootID: v.BootID, BootedAt: kiln.Time{Time: v.BootedAt}, CodeCache: v.CodeCache,
			})
		}
	}
	return list
}

// Containers lists all containers, by instance, oldest first.
func (p *Pool) Containers() []Container {
	list := []Container{}
	for _, f := range p.all() {
		for _, v := range pages(f, f.manager.ContainerPage) {
			c := Container{
				ID: v.ID, Instance: v.Instance, State: v.State, Account: v.Account, PID: v.PID, MemoryMiB: v.Amounts.MemoryMiB,
				Executions: v.Executions, Slots: v.Slots,
			}
			if v.Version != nil {
				c.Function, c.Version = v.Version.Function, v.Version.Number
			}
			list = append(list, c)
		}
	}
	return list
}

// Size counts the instances and containers that are not gone. It costs the same however many there are.
func (p *Pool) Size() (instances, containers int) {
	for _, c := range p.Pools() {
		instances += c.Instances
		containers += c.Containers
	}
	return instances, containers
}

// Pools counts the instances of each pool, by configuration: each configuration that has a target or an instance. It
// costs the same however many there are.
func (p *Pool) Pools() []Counts {
	list := []Counts{}
	for _, f := range p.all() {
		list = append(list, f.pools()...)
	}
	return list
}

// instances lists a fleet's instances.
func (f *fleet) instances() []manager.InstanceView { return pages(f, f.manager.InstancePage) }

// pages lists page by page, so that no request waits for more than one.
func pages[V any](f *fleet, page func(*manager.Mark, []V) ([]V, bool)) []V {
	var list []V
	var mark manager.Mark
	for more := true; more; {
		f.mu.Lock()
		list, more = page(&mark, list)
		f.mu.Unlock()
	}
	return list
}

// tally is what a fleet's manager counts.
type tally struct {
	counts       []manager.Count
	demands      []capacity.State
	waiting      int
	dedicated    []manager.Dedicated
	consolidated int

	instancesMax    int
	refused, halted bool
}

// tally copies a fleet's counts.
func (f *fleet) tally() tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	return tally{
		counts: f.manager.Counts(), demands: f.manager.Demands(time.Now()), waiting: f.manager.Waiting(),
		instancesMax: f.manager.Settings().InstancesMax, dedicated: f.manager.Settings().Dedicated, consolidated: f.manager.Consolidated(), refused: f.refused, halted: f.manager.Halted(),
	}
}

// pools gives a fleet's pools, those whose demand is known first.
func (f *fleet) pools() []Counts {
	t := f.tally()
	var list []Counts
	at := make(map[string]int)
	row := func(pool kiln.Pool, c kiln.Configuration, account kiln.AccountID) *Counts {
		id := f.id.String() + "/" + string(pool) + "/" + c.String()
		if account != "" {
			id += "/" + string(account)
		}
		i, ok := at[id]
		if !ok {
			i = len(list)
			at[id] = i
			list = append(list, Counts{ID: id, Fleet: f.id.Name, Pool: pool, Driver: c.Driver, Runtime: c.Runtime, Shape: c.Shape, Account: account})
		}
		return &list[i]
	}
	for i := range t.demands {
		d := &t.demands[i]
		r := row(kiln.PoolWarming, d.Configuration, "")
		r.Target, r.Demand = d.Target, demandOf(d)
		row(kiln.PoolActive, d.Configuration, "")
	}
	for _, d := range t.dedicated {
		r := row(kiln.PoolWarming, d.Configuration, d.Account)
		r.Target, r.SpillOver = d.Instances, d.SpillOver
	}
	for _, c := range t.counts {
		instances := sum(c.Instances[:])
		if instances == 0 {
			continue
		}
		r := row(c.Pool, c.Configuration, c.Account)
		r.Instances, r.Booting, r.Draining = instances, c.Instances[kiln.InstanceBooting], c.Instances[kiln.InstanceDraining]
		r.MemoryMiB, r.MemoryUsedMiB = c.ShapeMiB, c.GivenMiB
		r.Containers, r.Busy = sum(c.Containers[:kiln.ContainerGone]), c.Containers[kiln.ContainerBusy]
	}
	return list
}

func sum(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
