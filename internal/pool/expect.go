package pool

import (
	"maps"
	"sync/atomic"
	"time"

	"kiln"
	"kiln/internal/manager"
)

// Functions whose usage nears the threshold, and those beyond it, have the fleet high-volume keep an instance warm, so that
// the first of their requests there finds one.
const (
	// expectFor is how long one is kept warm after the last such request.
	expectFor = 10 * time.Minute
	// tellEvery is how often the fleet is told at most, of one kind of request.
	tellEvery = 10 * time.Second
	// awaitedMax bounds the kinds of request remembered; then they are forgotten, and told of again.
	awaitedMax = 1000
)

// awaited is a kind of request: what picks the configuration that serves it.
type awaited struct {
	runtime   string
	memoryMiB int
}

// expect tells the fleet high-volume of a kind of request that comes to it, or soon may. Only one of many calls takes a lock.
func (p *Pool) expect(runtime string, need Need) {
	kind, now := awaited{runtime, need.MemoryMiB}, time.Now()
	var again *atomic.Int64
	known := p.awaited.Load()
	if known != nil {
		again = (*known)[kind]
	}
	if again == nil {
		next := map[awaited]*atomic.Int64{}
		if known != nil && len(*known) < awaitedMax {
			next = maps.Clone(*known)
		}
		again = new(atomic.Int64)
		next[kind] = again
		p.awaited.CompareAndSwap(known, &next) // who loses the race tells all the same, once too often
	}
	due := again.Load()
	if now.UnixNano() < due || !again.CompareAndSwap(due, now.Add(tellEvery).UnixNano()) {
		return
	}
	if f := p.find(FleetID{Name: kiln.FleetHighVolume}); f != nil {
		f.step(manager.Event{Kind: manager.Expected, At: now.Add(expectFor),
			Request: &manager.Request{Version: need.Version, Driver: f.driver, Runtime: runtime, MemoryMiB: need.MemoryMiB}})
	}
}
