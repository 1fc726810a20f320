// Package placement chooses the place for an execution: an index of instances and containers, and the ladder of
// requirements R23–R29 as one choice over it.
//
// It does not act, wait or remember why: the instance manager (package manager) owns the instances and containers, tells
// the index of every change, and carries a choice out. It reads no clock and is used by one goroutine at a time.
//
// A choice costs a few steps down flat trees, whatever the number of instances: least free memory that still fits
// comes first, so that instances fill up and others empty.
package placement

import (
	"slices"

	"kiln"
)

// Instance is what placement knows of an instance. The manager writes the fields and calls Index.Update after any change
// of State, Account or FreeMiB.
type Instance struct {
	ID            kiln.InstanceID
	Configuration kiln.Configuration
	State         kiln.InstanceState
	// Account owns the instance; a booting one with an account is claimed: it will be assigned as soon as it is up.
	Account kiln.AccountID
	// Reserved is the account the instance is kept for while it is nobody's; empty for the common warming pool.
	Reserved kiln.AccountID
	// FreeMiB is the shape's memory not yet given to containers, in MiB.
	FreeMiB int
	// Sequence orders instances by age; equal candidates are taken oldest first. Never used twice.
	Sequence uint64
	// Holder is the manager's own record of the instance.
	Holder any

	spot     spot
	room     *slot   // in its account's tree; nil when not placeable
	packages []*slot // the code cache: in their packages' trees while assigned
	queue    *queue  // the list of warm or booting instances it is in
	previous *Instance
	next     *Instance
}

// spot is where in the index an instance stands.
type spot uint8

const (
	spotNone     spot = iota
	spotBooting       // unclaimed and booting: by configuration
	spotWarm          // by configuration
	spotStarting      // claimed and booting: by account
	spotAssigned      // by account and by package
)

// Container is what placement knows of a bound container.
type Container struct {
	ID       kiln.ContainerID
	Instance *Instance
	// Holder is the manager's own record of the container.
	Holder any

	code     *Code // the list it is idle in, nil otherwise
	previous *Container
	next     *Container
}

// Code holds containers of one version at one amount that can take a request, the most recently used first: the idle ones,
// or, in another, the busy ones with a place free. The zero value is empty.
type Code struct {
	first, last *Container
	idle        int
	// Bound counts the containers that hold the version, whatever they do. The manager keeps it.
	Bound int
}

// Need is what a request needs of an instance.
type Need struct {
	Account   kiln.AccountID
	Driver    string
	Runtime   string // the interpreter's own name
	Package   kiln.Digest
	MemoryMiB int
	// Home, from Index.Home for this need, spares a choice looking up where its candidates are; it may be left out.
	Home Home
}

// Home is where the candidates for a need are: its account's instances and those of them that hold its package.
type Home struct {
	house    *household
	packages *tree
}

// Choice is the place chosen.
type Choice struct {
	Path kiln.Path
	// Container is set on PathContainer.
	Container *Container
	// Instance is set on every other path but for an instance that must be made.
	Instance *Instance
	// Configuration is what an instance made for the need is of, the smallest that fits. The one chosen may have another; it
	// is not looked at, which would cost more than all the rest where there are many.
	Configuration kiln.Configuration
	Reason        string
	// Passed counts per rung the candidates that could not serve.
	Passed [len(kiln.Paths)]int32
}

// The reasons for a choice, one constant each.
const (
	ReasonIdle     = "idle container holds the version"
	ReasonOpen     = "container that holds the version has a place free"
	ReasonPackage  = "instance of the account holds the package and has room"
	ReasonAccount  = "instance of the account has room"
	ReasonWarm     = "no instance of the account has room; warm instance of the configuration"
	ReasonReserved = "no instance of the account has room; warm instance kept for the account"
	ReasonStarting = "instance of the account is booting and will have room"
	ReasonBooting  = "no warm instance; one of the configuration is booting"
	ReasonNew      = "no instance has room and none is warm; one is made"
)

// owner finds an account's instances that can serve a runtime.
type owner struct {
	account         kiln.AccountID
	driver, runtime string
}

// household is all instances of one owner: those assigned and those on their way.
type household struct {
	rooms, starting tree
	users           int // trees of packages that name it, and homes
}

// parcel is a package that some instance holds.
type parcel struct {
	digest kiln.Digest
	users  int // trees that name it
}

// holding names an owner's instances that hold a package. Two pointers in place of four strings: where there are a hundred
// thousand containers, what a choice costs is the memory it reads.
type holding struct {
	house  *household
	parcel *parcel
}

// Index is the index of instances. Make it with New.
type Index struct {
	shapes   []kiln.Shape // smallest first
	houses   map[owner]*household
	parcels  map[kiln.Digest]*parcel
	packages map[holding]*tree
	warm     map[unowned]*queue
	booting  map[unowned]*queue
	kept     map[unowned]bool // those kept for an account; true where it takes nothing else
}

// unowned names the instances that are nobody's yet, of one configuration: all's, or kept for one account.
type unowned struct {
	kiln.Configuration
	reserved kiln.AccountID
}

// New makes an empty index.
func New(shapes []kiln.Shape) *Index {
	x := &Index{
		houses:   make(map[owner]*household),
		parcels:  make(map[kiln.Digest]*parcel),
		packages: make(map[holding]*tree),
		warm:     make(map[unowned]*queue),
		booting:  make(map[unowned]*queue),
		kept:     make(map[unowned]bool),
	}
	x.SetShapes(shapes)
	return x
}

// SetShapes changes the shapes instances are made in.
func (x *Index) SetShapes(shapes []kiln.Shape) {
	x.shapes = slices.SortedFunc(slices.Values(shapes), func(a, b kiln.Shape) int {
		if a.MemoryMiB != b.MemoryMiB {
			return a.MemoryMiB - b.MemoryMiB
		}
		return int(1000*a.CPUs) - int(1000*b.CPUs)
	})
}

// Fit gives the smallest shape with memoryMiB or more. False when no shape is large enough.
func (x *Index) Fit(memoryMiB int) (kiln.Shape, bool) {
	for _, s := range x.shapes {
		if s.MemoryMiB >= memoryMiB {
			return s, true
		}
	}
	return kiln.Shape{}, false
}

// Place chooses the instance for a new container: R24 to R29. False when no shape is large enough.
func (x *Index) Place(need Need) (Choice, bool) {
	smallest, ok := x.Fit(need.MemoryMiB)
	if !ok {
		return Choice{}, false
	}
	c := Choice{Configuration: kiln.Configuration{Driver: need.Driver, Runtime: need.Runtime, Shape: smallest}}

	house, holders := need.Home.house, need.Home.packages
	if house == nil {
		if house = x.houses[need.owner()]; house != nil {
			holders = x.packages[holding{house, x.parcels[need.Package]}]
		}
	}
	if in := holders.fit(need.MemoryMiB); in != nil {
		return c.on(in, kiln.PathCodeCache, ReasonPackage), true
	}
	c.Passed[1] = holders.len()

	if house != nil {
		if in := house.rooms.fit(need.MemoryMiB); in != nil {
			return c.on(in, kiln.PathAccountInstance, ReasonAccount), true
		}
		c.Passed[2] = house.rooms.len()
	}
	own, common := unowned{c.Configuration, need.Account}, unowned{Configuration: c.Configuration}
	sealed, kept := x.kept[own]
	if in := x.keptFor(x.warm, own, need.MemoryMiB, kept); in != nil {
		return c.on(in, kiln.PathWarmingPool, ReasonReserved), true
	}
	if in := x.head(x.warm, common, need.MemoryMiB); !sealed && in != nil {
		return c.on(in, kiln.PathWarmingPool, ReasonWarm), true
	}
	if house != nil {
		if in := house.starting.fit(need.MemoryMiB); in != nil {
			return c.on(in, kiln.PathInstantiated, ReasonStarting), true
		}
	}
	if in := x.keptFor(x.booting, own, need.MemoryMiB, kept); in != nil {
		return c.on(in, kiln.PathInstantiated, ReasonBooting), true
	}
	if in := x.head(x.booting, common, need.MemoryMiB); !sealed && in != nil {
		return c.on(in, kiln.PathInstantiated, ReasonBooting), true
	}
	c.Path, c.Reason = kiln.PathInstantiated, ReasonNew
	return c, true
}

// Choose goes down the whole ladder: an idle container of the code, else a place for a new one.
func (x *Index) Choose(code *Code, need Need) (Choice, bool) {
	if code.first != nil {
		return Choice{Path: kiln.PathContainer, Container: code.first, Reason: ReasonIdle}, true
	}
	c, ok := x.Place(need)
	c.Passed[0] = int32(code.Bound)
	return c, ok
}

func (c Choice) on(in *Instance, path kiln.Path, reason string) Choice {
	c.Instance, c.Path, c.Reason = in, path, reason
	return c
}

// keptFor is head where something is kept.
func (x *Index) keptFor(queues map[unowned]*queue, own unowned, memoryMiB int, kept bool) *Instance {
	if !kept {
		return nil
	}
	return x.head(queues, own, memoryMiB)
}

// head gives the oldest instance of the smallest shape that fits and has one.
func (x *Index) head(queues map[unowned]*queue, from unowned, memoryMiB int) *Instance {
	for _, s := range x.shapes {
		if s.MemoryMiB < memoryMiB {
			continue
		}
		from.Shape = s
		if q := queues[from]; q != nil && q.first != nil {
			return q.first
		}
	}
	return nil
}

// Idle puts a container at the head of its code's idle ones.
func (code *Code) Idle(c *Container) {
	if c.code != nil {
		panic("placement: container is idle already: " + string(c.ID))
	}
	c.code, c.previous, c.next = code, nil, code.first
	if code.first != nil {
		code.first.previous = c
	} else {
		code.last = c
	}
	code.first = c
	code.idle++
}

// Take takes a container out of its code's idle ones; no harm when it is in none.
func (c *Container) Take() {
	code := c.code
	if code == nil {
		return
	}
	if c.previous != nil {
		c.previous.next = c.next
	} else {
		code.first = c.next
	}
	if c.next != nil {
		c.next.previous = c.previous
	} else {
		code.last = c.previous
	}
	c.code, c.previous, c.next = nil, nil, nil
	code.idle--
}

// First is the most recently used idle container, nil when there is none.
func (code *Code) First() *Container { return code.first }

// Last is the idle container that was not used for the longest time, nil when there is none.
func (code *Code) Last() *Container { return code.last }

// Newer is the idle container of the same code that was used next after c, nil when c was used last.
func (c *Container) Newer() *Container { return c.previous }

// Len counts the idle containers.
func (code *Code) Len() int { return code.idle }
