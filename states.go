package kiln

import (
	"fmt"
	"slices"
)

// InstanceState is where an instance stands in its life:
//
//	booting → warm → assigned → draining → gone, and from every state → gone.
type InstanceState uint8

// The states of an instance. A booting instance counts to the warming pool; a draining one to the active pool.
const (
	InstanceBooting InstanceState = iota + 1
	InstanceWarm
	InstanceAssigned
	InstanceDraining
	InstanceGone
)

// ContainerState is where a container stands in its life:
//
//	preparing → prepared → binding → idle ⇄ busy, idle ⇄ paused, → draining → gone, and from every state → gone.
type ContainerState uint8

// The states of a container. Prepared: the language runtime is up and waits to be told which version it is.
// Binding: code, environment and limits are put in and the function's own initialisation runs.
const (
	ContainerPreparing ContainerState = iota + 1
	ContainerPrepared
	ContainerBinding
	ContainerIdle
	ContainerBusy
	ContainerPaused
	ContainerDraining
	ContainerGone
)

var instanceNames = [...]string{"", "booting", "warm", "assigned", "draining", "gone"}

var containerNames = [...]string{"", "preparing", "prepared", "binding", "idle", "busy", "paused", "draining", "gone"}

// instanceMoves is the table of an instance's permitted moves, apart from those to gone.
var instanceMoves = map[InstanceState][]InstanceState{
	InstanceBooting:  {InstanceWarm},
	InstanceWarm:     {InstanceAssigned},
	InstanceAssigned: {InstanceDraining},
}

// containerMoves is the table of a container's permitted moves, apart from those to gone. A container that must start
// afresh for its function goes from preparing to binding: there is nothing prepared to wait in between.
var containerMoves = map[ContainerState][]ContainerState{
	ContainerPreparing: {ContainerPrepared, ContainerBinding},
	ContainerPrepared:  {ContainerBinding},
	ContainerBinding:   {ContainerIdle, ContainerBusy},
	ContainerIdle:      {ContainerBusy, ContainerPaused, ContainerDraining},
	ContainerBusy:      {ContainerIdle, ContainerDraining},
	ContainerPaused:    {ContainerIdle, ContainerDraining},
}

// String gives the state's word, as the API, the logs and the command line show it.
func (s InstanceState) String() string { return stateName(instanceNames[:], int(s)) }

// String gives the state's word, as the API, the logs and the command line show it.
func (s ContainerState) String() string { return stateName(containerNames[:], int(s)) }

// MarshalText gives the state's word.
func (s InstanceState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText gives the state's word.
func (s ContainerState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// CanMove reports whether an instance may go from s to next.
func (s InstanceState) CanMove(next InstanceState) bool {
	return canMove(instanceMoves[s], s, next, InstanceGone)
}

// CanMove reports whether a container may go from s to next.
func (s ContainerState) CanMove(next ContainerState) bool {
	return canMove(containerMoves[s], s, next, ContainerGone)
}

// Pool is the pool an instance in this state belongs to.
func (s InstanceState) Pool() Pool {
	switch s {
	case InstanceBooting, InstanceWarm:
		return PoolWarming
	case InstanceAssigned, InstanceDraining:
		return PoolActive
	}
	return ""
}

func canMove[S comparable](moves []S, from, next, gone S) bool {
	if next == gone {
		return from != gone
	}
	return slices.Contains(moves, next)
}

func stateName(names []string, i int) string {
	if i <= 0 || i >= len(names) {
		return fmt.Sprintf("invalid(%d)", i)
	}
	return names[i]
}

// Pool names the set an instance is in: exactly one at any time.
type Pool string

// The pools.
const (
	// PoolWarming holds booted instances with runtimes loaded, owned by nobody.
	PoolWarming Pool = "warming"
	// PoolActive holds instances assigned to an account.
	PoolActive Pool = "active"
)

// Path says which step of the ladder served a request, the cheapest first.
type Path string

// The acquisition paths, in the order they are tried.
const (
	// PathContainer: an idle container already holding the version, or one that was waited for.
	PathContainer Path = "container"
	// PathCodeCache: a new container on an instance of the account that holds the package.
	PathCodeCache Path = "code-cache"
	// PathAccountInstance: a new container on another instance of the account with room.
	PathAccountInstance Path = "account-instance"
	// PathWarmingPool: an instance taken from the warming pool and assigned to the account.
	PathWarmingPool Path = "warming-pool"
	// PathInstantiated: an instance made for the request.
	PathInstantiated Path = "instantiated"
)

// Paths lists the acquisition paths from the cheapest to the dearest.
var Paths = [...]Path{PathContainer, PathCodeCache, PathAccountInstance, PathWarmingPool, PathInstantiated}
