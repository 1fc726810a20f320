//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"kiln"
	"kiln/internal/placement"
)

// placementSizes are the numbers of containers; a fifth as many instances hold them.
var placementSizes = []int{1_000, 10_000, 100_000}

const (
	placementRate   = 200_000 // choices a second on one core, at least, at the largest size
	placementGrowth = 3       // the cost at the largest size, as a ratio to the smallest
	perAccount      = 20      // instances of one account
	perInstance     = 5       // containers and packages of one instance
)

// placementField is an index full of instances, and what is asked of it: the place for a container of a version that has
// none idle, by accounts, packages and amounts at random.
type placementField struct {
	index     *placement.Index
	instances []*placement.Instance
	accounts  []kiln.AccountID
	digests   []kiln.Digest
	chance    *rand.Rand
	taken     []taken // a ring
	next      int
}

type taken struct {
	instance  *placement.Instance
	memoryMiB int
}

// measurePlacement measures choices of a place in a process of its own kind: this one, which does nothing else meanwhile.
func measurePlacement(ctx context.Context, b *bench) error {
	slice := scale(b, 200*time.Millisecond, 60*time.Millisecond)
	fields := make([]*placementField, len(placementSizes))
	for i, n := range placementSizes {
		fields[i] = newPlacementField(n)
	}
	largest := len(fields) - 1
	costs, steps, growth := make([][]float64, len(fields)), make([][]float64, len(fields)), []float64{}
	for range b.rounds(7) {
		for i, f := range fields {
			if err := quiet(ctx); err != nil {
				return err
			}
			costs[i] = append(costs[i], f.cost(slice, f.choose))
			steps[i] = append(steps[i], f.cost(slice, f.step))
		}
		n := len(costs[0]) - 1
		growth = append(growth, costs[largest][n]/costs[0][n])
	}
	for i, n := range placementSizes {
		r := Result{Name: fmt.Sprintf("placement.%d", n), Value: 1e9 / median(costs[i]), Unit: "choices/s", AtLeast: true}
		if i == largest {
			r.Bound = placementRate
		}
		b.add(r)
		b.add(Result{Name: r.Name + ".upkeep", Value: 1e9 / median(steps[i]), Unit: "choices/s, each taken and one given back", AtLeast: true})
	}
	b.add(Result{Name: "placement.growth", Value: median(costs[largest]), Unit: "ns", Rival: "at 1,000", Against: median(costs[0]),
		Ratio: median(growth), Bound: placementGrowth})
	return nil
}

func newPlacementField(containers int) *placementField {
	shapes := []kiln.Shape{{MemoryMiB: 2048, CPUs: 1}, {MemoryMiB: 10240, CPUs: 5}}
	n := containers / perInstance
	f := &placementField{index: placement.New(shapes), chance: rand.New(rand.NewPCG(1, uint64(containers))), taken: make([]taken, min(n, 4096))}
	for i := range max(1, n/perAccount) {
		f.accounts = append(f.accounts, kiln.AccountID(fmt.Sprintf("%012d", i)))
	}
	for i := range 8 * perAccount {
		f.digests = append(f.digests, kiln.Digest(fmt.Sprintf("%064x", i)))
	}
	for i := range n {
		in := &placement.Instance{
			ID: kiln.InstanceID(fmt.Sprintf("i-%016x", i)), Sequence: uint64(i), State: kiln.InstanceAssigned, Account: f.accounts[i%len(f.accounts)],
			Configuration: kiln.Configuration{Driver: "container", Runtime: "python3.11", Shape: shapes[0]},
		}
		for range perInstance {
			in.FreeMiB += 128 * f.chance.IntN(4)
			f.index.Hold(in, f.digests[f.chance.IntN(4*perAccount)])
		}
		f.index.Update(in)
		f.instances = append(f.instances, in)
	}
	return f
}

// cost gives the nanoseconds one do takes, over a while.
func (f *placementField) cost(during time.Duration, do func(*placement.Code, placement.Need)) float64 {
	// What is asked for is made before the clock starts.
	needs := make([]placement.Need, 1<<14)
	for i := range needs {
		needs[i] = placement.Need{Account: f.accounts[f.chance.IntN(len(f.accounts))], Driver: "container", Runtime: "python3.11",
			Package: f.digests[f.chance.IntN(len(f.digests))], MemoryMiB: 128 * (1 + f.chance.IntN(8))}
	}
	var code placement.Code
	choices := 0
	begin := time.Now()
	for time.Since(begin) < during {
		for range 256 {
			do(&code, needs[choices%len(needs)])
			choices++
		}
	}
	return float64(time.Since(begin)) / float64(choices)
}

// choose makes one choice and leaves it at that.
func (f *placementField) choose(code *placement.Code, need placement.Need) {
	f.index.Choose(code, need)
}

// step makes one choice, takes the memory there and gives an earlier choice's back, so that the index has to keep up.
func (f *placementField) step(code *placement.Code, need placement.Need) {
	c, ok := f.index.Choose(code, need)
	if !ok || c.Instance == nil {
		return // no room: another instance would be made
	}
	c.Instance.FreeMiB -= need.MemoryMiB
	f.index.Update(c.Instance)
	old := &f.taken[f.next%len(f.taken)]
	if old.instance != nil {
		old.instance.FreeMiB += old.memoryMiB
		f.index.Update(old.instance)
	}
	*old = taken{c.Instance, need.MemoryMiB}
	f.next++
}
