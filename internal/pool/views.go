package pool

import "kiln"

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
func (p *Pool) Instances() []Instance { return nil }

// Containers lists all containers, oldest first.
func (p *Pool) Containers() []Container { return nil }

// Pools counts the instances of each pool.
func (p *Pool) Pools() []Counts { return nil }
