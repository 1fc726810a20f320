package pool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
)

// high is the second fleet of these tests.
var high = FleetID{Name: kiln.FleetHighVolume}

// twoFleets starts a pool with a second fleet, to which functions go whose name begins with "hot".
func twoFleets(t testing.TB, config fake.Config, change func(*manager.Settings)) *bench {
	b := newBench(t, config, change)
	b.pool.config.Route = func(n Need) FleetID {
		if strings.HasPrefix(n.Version.Function, "hot") {
			return high
		}
		return FleetID{}
	}
	settings := b.pool.all()[0].manager.Settings()
	if err := b.pool.AddFleet(FleetConfig{Name: high.Name, Settings: settings}); err != nil {
		t.Fatal(err)
	}
	return b
}

// where lists the instances of a fleet.
func (b *bench) where(fleet string) (ids []kiln.InstanceID) {
	for _, i := range b.pool.Instances() {
		if i.Fleet == fleet {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// A fleet added while the pool runs boots its own warm instances and serves what is routed to it on them; the fleets have
// no instance in common, and one function's burst leaves the other fleet's warming pool as it was. // R50 R56
func TestFleetsAreDisjoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{Handle: busy(time.Second)}, func(s *manager.Settings) { s.InstancesMax = 4 })
		defer b.stop()
		time.Sleep(time.Second)
		low, other := b.where(kiln.FleetLowVolume), b.where(high.Name)
		if len(low) != 2 || len(other) != 2 || slices.ContainsFunc(low, func(i kiln.InstanceID) bool { return slices.Contains(other, i) }) {
			t.Fatalf("low-volume has %v, high-volume %v", low, other)
		}
		burst := make(chan []result, 1)
		go func() { burst <- b.many(b.version("a", "cold"), 200) }()
		time.Sleep(500 * time.Millisecond)
		hot := b.invoke(b.version("b", "hot"))
		if hot.err != nil || hot.lease.Path != kiln.PathWarmingPool || hot.lease.Fleet != high.Name || !slices.Contains(other, hot.lease.Instance) {
			t.Errorf("while low-volume is full: %v, by %s of %s on %s", hot.err, hot.lease.Path, hot.lease.Fleet, hot.lease.Instance)
		}
		for _, r := range <-burst {
			if r.err == nil && slices.Contains(b.where(high.Name), r.lease.Instance) {
				t.Errorf("a request of low-volume ran on %s of high-volume", r.lease.Instance)
			}
		}
		for _, f := range b.pool.Fleets() {
			if f.InstancesMax != 4 || f.Manager != ManagerRunning || f.Instances == 0 {
				t.Errorf("fleet %+v", f)
			}
		}
	})
}

// A fleet whose manager is stopped refuses what comes and what waits, naming itself, boots nothing, and lets executions
// end; the other goes on; started again it serves and refills. // R50
func TestManagerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{Handle: busy(5 * time.Second)}, nil)
		defer b.stop()
		b.store.pause = 500 * time.Millisecond
		time.Sleep(time.Second)
		under := make(chan result, 2)
		go func() { under <- b.invoke(b.version("a", "hot")) }()
		time.Sleep(time.Second)
		boots := b.kinds(kiln.EventInstanceCreate)
		go func() { under <- b.invoke(b.version("c", "hot-later")) }() // waits for its package
		synctest.Wait()
		if err := b.pool.StopManager(high); err != nil {
			t.Fatal(err)
		}
		if refused := <-under; kiln.KindOf(refused.err) != kiln.KindUnavailable || !strings.Contains(refused.err.Error(), high.Name) {
			t.Errorf("what waited: %v", refused.err)
		}
		if r := b.invoke(b.version("a", "hot")); kiln.KindOf(r.err) != kiln.KindUnavailable || !strings.Contains(r.err.Error(), high.Name) {
			t.Errorf("what came: %v", r.err)
		}
		if r := b.invoke(b.version("a", "cold")); r.err != nil || r.lease.Fleet != kiln.FleetLowVolume {
			t.Errorf("the other fleet: %v on %s", r.err, r.lease.Fleet)
		}
		if r := <-under; r.err != nil || r.answer.Failure != nil {
			t.Errorf("the execution under way: %v %+v", r.err, r.answer.Failure)
		}
		for _, id := range b.where(high.Name) {
			if err := b.pool.DeleteInstance(id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if n := b.where(high.Name); len(n) != 0 {
			t.Errorf("a stopped fleet made %v", n)
		}
		if made := b.kinds(kiln.EventInstanceCreate) - boots; made > 2 { // one taken for the one that waited, one refill of the other fleet
			t.Errorf("%d instances were made meanwhile", made)
		}
		if err := b.pool.StartManager(high); err != nil {
			t.Fatal(err)
		}
		if r := b.invoke(b.version("a", "hot")); r.err != nil || r.lease.Fleet != high.Name {
			t.Errorf("started again: %v on %s", r.err, r.lease.Fleet)
		}
		time.Sleep(time.Second)
		if n := b.where(high.Name); len(n) != 3 {
			t.Errorf("started again it has %v, want its two warm ones and the one in use", n)
		}
	})
}

// A fleet that is removed lets its executions end and leaves nothing; another of its name may follow; what cannot be asked
// of fleets is refused. // R50
func TestFleetIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{Handle: busy(5 * time.Second)}, nil)
		defer b.stop()
		time.Sleep(time.Second)
		under := make(chan result, 1)
		go func() { under <- b.invoke(b.version("a", "hot")) }()
		time.Sleep(time.Second)
		removed := make(chan error, 2)
		for range 2 {
			go func() { removed <- b.pool.RemoveFleet(t.Context(), high) }()
		}
		time.Sleep(time.Second)
		if r := b.invoke(b.version("a", "hot")); kiln.KindOf(r.err) != kiln.KindUnavailable {
			t.Errorf("while it is removed: %v", r.err)
		}
		if err := b.pool.AddFleet(FleetConfig{Name: high.Name}); kiln.KindOf(err) != kiln.KindConflict {
			t.Errorf("added while it is removed: %v", err)
		}
		if f := b.pool.Fleets(); len(f) != 2 || f[1].Manager != ManagerRemoving {
			t.Errorf("fleets %+v", f)
		}
		if err := b.pool.StartManager(high); kiln.KindOf(err) != kiln.KindConflict {
			t.Errorf("started while it is removed: %v", err)
		}
		if r := <-under; r.err != nil || r.answer.Failure != nil {
			t.Errorf("the execution under way: %v %+v", r.err, r.answer.Failure)
		}
		for range 2 {
			if err := <-removed; err != nil && kiln.KindOf(err) != kiln.KindNotFound {
				t.Error(err)
			}
		}
		if i, _, _ := b.driver.Alive(); i != 2 || len(b.where(high.Name)) != 0 || len(b.pool.Fleets()) != 1 {
			t.Errorf("%d instances are left, of them %v", i, b.where(high.Name))
		}
		if r := b.invoke(b.version("a", "hot")); kiln.KindOf(r.err) != kiln.KindUnavailable {
			t.Errorf("without a fleet: %v", r.err)
		}
		for _, err := range []error{b.pool.RemoveFleet(t.Context(), high), b.pool.StopManager(high), b.pool.Change(high, func(*manager.Settings) {})} {
			if kiln.KindOf(err) != kiln.KindNotFound {
				t.Errorf("of no fleet: %v", err)
			}
		}
		if err := b.pool.RemoveFleet(t.Context(), FleetID{Name: kiln.FleetLowVolume}); kiln.KindOf(err) != kiln.KindConflict {
			t.Errorf("the first fleet: %v", err)
		}
		if err := b.pool.AddFleet(FleetConfig{Name: high.Name, Settings: b.pool.all()[0].manager.Settings()}); err != nil {
			t.Error(err)
		}
		if r := b.invoke(b.version("a", "hot")); r.err != nil || r.lease.Fleet != high.Name {
			t.Errorf("added again: %v", r.err)
		}
	})
}

// When nobody waits any longer for the executions of a fleet that is removed, they are ended.
func TestRemovalIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{Handle: busy(time.Hour)}, nil)
		defer b.stop()
		time.Sleep(time.Second)
		under := make(chan result, 1)
		go func() { under <- b.invoke(b.version("a", "hot")) }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := b.pool.RemoveFleet(ctx, high); err != nil || time.Since(began) > 4*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if r := <-under; r.answer.Failure == nil {
			t.Errorf("its execution ended with %+v", r.answer)
		}
	})
}

// Fleets come and go while all are used: nobody waits for ever, and nothing is left.
func TestFleetsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{Handle: busy(50 * time.Millisecond)}, nil)
		defer b.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		settings := b.pool.all()[0].manager.Settings()
		done := make(chan int)
		for worker := range 8 {
			go func() {
				served := 0
				for ctx.Err() == nil {
					r := b.invoke(b.version(fmt.Sprint(worker), []string{"hot", "cold"}[worker%2]))
					if r.err == nil {
						served++
					} else {
						time.Sleep(10 * time.Millisecond)
					}
				}
				done <- served
			}()
		}
		for ctx.Err() == nil {
			time.Sleep(time.Second)
			if err := b.pool.RemoveFleet(t.Context(), high); err != nil {
				t.Error(err)
			}
			time.Sleep(200 * time.Millisecond)
			if err := b.pool.AddFleet(FleetConfig{Name: high.Name, Settings: settings}); err != nil {
				t.Error(err)
			}
		}
		for range 8 {
			if served := <-done; served < 100 {
				t.Errorf("a worker was served %d times", served)
			}
		}
	})
}

// The fleet that lost a function lets its idle containers go within two minutes, whatever its retention, and loads nothing
// for it; an execution under way ends by itself, a request that was on its way changes nothing, and a function that is
// served there again is kept. // R54 R55
func TestMovedFunctionIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Handle: busy(time.Second)}, func(s *manager.Settings) { s.Warming = nil })
		defer b.stop()
		low := FleetID{Name: kiln.FleetLowVolume}
		holding := func(function string) (n int) {
			for _, c := range b.pool.Containers() {
				if c.Function == function {
					n++
				}
			}
			return n
		}
		for _, function := range []string{"gone", "back", "stays"} {
			b.many(b.version("a", function), 2)
		}
		under := make(chan result, 1)
		go func() { under <- b.invoke(b.version("a", "gone")) }()
		time.Sleep(500 * time.Millisecond)
		b.pool.Moved(low, "a", "gone")
		b.pool.Moved(low, "a", "back")
		b.pool.Moved(low, "a", "never heard of")
		if r := <-under; r.err != nil || r.answer.Failure != nil {
			t.Errorf("the execution under way: %v %+v", r.err, r.answer.Failure)
		}
		b.invoke(b.version("a", "gone"))
		time.Sleep(30 * time.Second)
		b.invoke(b.version("a", "back"))
		if n := holding("gone"); n == 0 {
			t.Error("let go at once")
		}
		time.Sleep(90 * time.Second)
		if n := holding("gone"); n != 0 {
			t.Errorf("%d containers are left of a function that another fleet serves", n)
		}
		if n := holding("back"); n == 0 {
			t.Error("a function that came back was let go")
		}
		if n := holding("stays"); n == 0 {
			t.Error("a function that stayed was let go")
		}
	})
}

// Requests that near the threshold have high-volume keep one instance of their configuration warm, and only that; the first
// request there is assigned it; when none come any more it is let go. // R50 R55
func TestHighVolumeIsWarmedByTheApproach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{}, nil)
		defer b.stop()
		if err := b.pool.Change(high, func(s *manager.Settings) { s.Warming[0].Bounds = capacity.Bounds{Maximum: 2} }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := b.where(high.Name); len(n) != 0 {
			t.Fatalf("without demand there are %v", n)
		}
		near := func() {
			lease, err := b.pool.Acquire(t.Context(), Need{RequestID: "r", Version: b.version("a", "cold"), MemoryMiB: 128, Near: true})
			if err != nil || lease.Fleet != kiln.FleetLowVolume {
				t.Fatal(lease.Fleet, err)
			}
			b.pool.Release(&lease, false)
		}
		for range 100 {
			near()
		}
		time.Sleep(time.Second)
		warm := b.where(high.Name)
		if len(warm) != 1 {
			t.Fatalf("after the approach there are %v, want one", warm)
		}
		if hot := b.invoke(b.version("a", "hot")); hot.lease.Path != kiln.PathWarmingPool || hot.lease.Instance != warm[0] {
			t.Errorf("the first request came by %s on %s", hot.lease.Path, hot.lease.Instance)
		}
		for range 30 {
			time.Sleep(time.Minute)
			near()
		}
		if warm := b.warmOf(high.Name); warm != 1 {
			t.Errorf("%d warm ones while functions are near", warm)
		}
		time.Sleep(time.Hour)
		if warm := b.warmOf(high.Name); warm != 0 {
			t.Errorf("%d warm ones an hour after the last such request", warm)
		}
	})
}

// warmOf counts a fleet's warm instances.
func (b *bench) warmOf(fleet string) (n int) {
	for _, i := range b.pool.Instances() {
		if i.Fleet == fleet && i.State == kiln.InstanceWarm {
			n++
		}
	}
	return n
}
