package policy

import (
	"container/heap"
	"time"

	"kiln/internal/trace"
)

// GreedyDual is FaasCache's policy (Fuerst and Sharma, ASPLOS 2021): nothing is let go before memory is short, then what
// has the least priority, clock + calls × start time ÷ size; the clock goes on to the priority of what was let go. How much
// memory there is, is chosen such that it is idle for Waste times as long as under keep-alive 10; 0 stands for 1.
//
// It decides about all functions together, so it makes no Keeper: package sim runs its Cache.
type GreedyDual struct{ Waste float64 }

func (p GreedyDual) Name() string { return "greedy-dual" }

// Value is the waste it is given.
func (p GreedyDual) Value() float64 {
	if p.Waste == 0 {
		return 1
	}
	return p.Waste
}

// Keeper keeps for ever: what goes, the cache says.
func (p GreedyDual) Keeper(*trace.Function) Keeper { return &window{keep: 1 << 60} }

// Cache is what greedy-dual decides with. Make it with NewCache.
type Cache struct {
	free    float64
	clock   float64
	entries map[int]*entry
	order   entries
	told    uint64
}

type entry struct {
	key      int
	calls    float64
	cost     float64
	size     float64
	priority float64
	told     uint64
	index    int
}

// NewCache makes an empty cache of a size.
func NewCache(size float64) *Cache { return &Cache{free: size, entries: make(map[int]*entry)} }

// Call tells that a function is called that costs a cold start and has a size; true when it was loaded. What had to go for
// it is let go, and said. What is larger than all there is is served and not kept.
func (c *Cache) Call(key int, cost, size float64) (loaded bool, gone []int) {
	c.told++
	e := c.entries[key]
	if e != nil {
		e.calls++
		e.priority, e.told = c.clock+e.calls*e.cost/e.size, c.told
		heap.Fix(&c.order, e.index)
		return true, nil
	}
	for c.free < size && len(c.order) > 0 {
		gone = append(gone, c.evict())
	}
	if c.free < size {
		return false, gone
	}
	c.free -= size
	e = &entry{key: key, calls: 1, cost: cost, size: size, priority: c.clock + cost/size, told: c.told}
	c.entries[key] = e
	heap.Push(&c.order, e)
	return false, gone
}

func (c *Cache) evict() int {
	e := heap.Pop(&c.order).(*entry)
	c.clock = e.priority
	c.free += e.size
	delete(c.entries, e.key)
	return e.key
}

// Len counts what is loaded.
func (c *Cache) Len() int { return len(c.order) }

// entries is a heap, the least priority first; of equals the one used longest ago.
type entries []*entry

func (h entries) Len() int { return len(h) }
func (h entries) Less(i, j int) bool {
	if h[i].priority != h[j].priority {
		return h[i].priority < h[j].priority
	}
	return h[i].told < h[j].told
}
func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *entries) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// StartUsual is what a cold start is said to take where nothing is known of it.
const StartUsual = 808 * time.Millisecond
