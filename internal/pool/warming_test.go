package pool

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
)

// kept is a Store in memory.
type kept struct {
	mu   sync.Mutex
	docs map[string][]byte
	err  error
}

func (k *kept) Read(key string) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, ok := k.docs[key]
	return b, ok
}

func (k *kept) Write(_ context.Context, key string, value []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.docs[key] = value
	}
	return k.err
}

func (k *kept) Delete(_ context.Context, key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.docs, key)
	return nil
}

// followed bounds the warming pool by 1 and 40, with instances given back as soon as their account asks for nothing.
func followed(s *manager.Settings) {
	s.Warming[0].Bounds = capacity.Bounds{Minimum: 1, Maximum: 40}
	s.InstancesMax = 500
	s.RetentionContainer, s.RetentionInstance = time.Second, 2*time.Second
}

// newcomers has so many new accounts ask at once, and gives how many found no warm instance.
func (b *bench) newcomers(n int) (missed int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range n {
		b.mu.Lock()
		b.ids++
		account := fmt.Sprint("newcomer ", b.ids)
		b.mu.Unlock()
		wg.Go(func() {
			r := b.invoke(b.version(account, "f"))
			mu.Lock()
			defer mu.Unlock()
			if r.err != nil {
				b.t.Error(r.err)
			} else if r.lease.Path != kiln.PathWarmingPool {
				missed++
			}
		})
	}
	wg.Wait()
	return missed
}

func (b *bench) warmingPool() Counts {
	for _, c := range b.pool.Pools() {
		if c.Pool == kiln.PoolWarming {
			return c
		}
	}
	b.t.Fatal("there is no warming pool")
	return Counts{}
}

// As the demand rises the warming pool grows ahead of it, so that nine of ten first requests at least find a warm instance; a spike
// makes it no larger; as the demand falls it shrinks again. // R62
func TestWarmingFollowsTheDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, followed)
		defer b.stop()
		<-b.pool.Ready()
		b.newcomers(25)
		time.Sleep(10 * time.Minute)
		if c := b.warmingPool(); c.Target > 2 || c.Instances > 4 {
			t.Errorf("ten minutes after a spike the target is %d, %d instances: %s", c.Target, c.Instances, c.Demand.Reason)
		}
		missed, asked := 0, 0
		for minute := range 12 { // bursts grow from one to twelve
			for range 6 {
				time.Sleep(10 * time.Second)
				missed += b.newcomers(minute + 1)
				asked += minute + 1
			}
		}
		up := b.warmingPool()
		if up.Target < 11 || up.Target > 40 {
			t.Errorf("at bursts of 12 the target is %d: %s", up.Target, up.Demand.Reason)
		}
		if missed*10 > asked {
			t.Errorf("%d of %d first requests found no warm instance", missed, asked)
		}
		if r := up.Demand.Requests.Minute; r < 0.9 || r > 1.4 {
			t.Errorf("72 requests a minute are told as %g a second", r)
		}
		time.Sleep(2 * time.Hour)
		if c := b.warmingPool(); c.Target != 1 || c.Instances != 1 {
			t.Errorf("two hours later the target is %d, %d instances: %s", c.Target, c.Instances, c.Demand.Reason)
		}
	})
}

// A job that takes ten instances at once, each day at the same time, finds them warm from the third day on, though the
// server was started anew in between; between its runs the stock is small. // R63
func TestDailyJobFindsItsInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{docs: map[string][]byte{}}
		for day := range 4 {
			b := newLoggedBench(t, nil, fake.Config{}, followed, func(c *Config) { c.Store = store })
			<-b.pool.Ready()
			began := time.Now()
			for time.Since(began) < 9*time.Hour {
				time.Sleep(30 * time.Minute)
				if c := b.warmingPool(); c.Instances > 2 && time.Since(began) < 9*time.Hour-5*time.Minute {
					t.Errorf("day %d, after %s: %d warm instances: %s", day, time.Since(began), c.Instances, c.Demand.Reason)
				}
			}
			missed := b.newcomers(10)
			if day >= 2 && missed > 0 {
				t.Errorf("day %d: %d of 10 found no warm instance", day, missed)
			}
			if day == 0 && missed == 0 {
				t.Error("the first time all ten found a warm instance: the test shows nothing")
			}
			time.Sleep(began.Add(24*time.Hour - time.Second).Sub(time.Now()))
			if c := b.warmingPool(); c.Instances != 1 {
				t.Errorf("day %d: %d warm instances in the evening", day, c.Instances)
			}
			b.stop()
			time.Sleep(time.Until(began.Add(24 * time.Hour)))
		}
	})
}

// The operator's knobs hold at once and over a restart, until they are taken back; what contradicts itself, names no pool
// or could not be kept changes nothing. // R66
func TestKnobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{docs: map[string][]byte{}}
		n := func(n int) *int { return &n }
		start := func() *bench {
			b := newLoggedBench(t, nil, fake.Config{}, followed, func(c *Config) { c.Store = store })
			<-b.pool.Ready()
			return b
		}
		b := start()
		id := b.warmingPool().ID
		turn := func(k capacity.Knobs) error {
			err := b.pool.Turn(t.Context(), id, func(capacity.Knobs) capacity.Knobs { return k })
			time.Sleep(time.Second)
			return err
		}
		holds := func(target int) {
			t.Helper()
			if c := b.warmingPool(); c.Target != target || c.Instances != target {
				t.Errorf("target %d, %d instances, want %d: %s", c.Target, c.Instances, target, c.Demand.Reason)
			}
		}
		holds(1)
		if err := turn(capacity.Knobs{Target: n(5)}); err != nil {
			t.Fatal(err)
		}
		holds(5)
		b.stop()
		b = start()
		time.Sleep(time.Second)
		holds(5)
		if err := turn(capacity.Knobs{Minimum: n(3)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		holds(3)
		if err := turn(capacity.Knobs{Minimum: n(3), Maximum: n(2)}); kiln.KindOf(err) != kiln.KindInvalid {
			t.Errorf("a minimum above the maximum: %v", err)
		}
		store.err = kiln.Errorf(kiln.KindUnavailable, "test", "full")
		if err := turn(capacity.Knobs{Target: n(9)}); kiln.KindOf(err) != kiln.KindUnavailable {
			t.Errorf("what cannot be kept: %v", err)
		}
		holds(3)
		store.err = nil
		if err := turn(capacity.Knobs{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		holds(1)
		id = "low-volume/warming/fake/none/1MiB/1cpu"
		if err := turn(capacity.Knobs{}); kiln.KindOf(err) != kiln.KindNotFound {
			t.Errorf("no such pool: %v", err)
		}
		b.stop()
	})
}

// Requests that another of the operator's fleets serves count to the threshold condition: code that became frequent leaves
// the fleet where new code takes its instances. // R61
func TestRatesOfOtherFleetsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLoggedBench(t, nil, fake.Config{}, followed, func(c *Config) {
			other := c.Fleets[0]
			other.Name = kiln.FleetHighVolume
			c.Fleets = append(c.Fleets, other)
			c.Route = func(n Need) FleetID {
				if n.Version.Function == "frequent" {
					return FleetID{Name: kiln.FleetHighVolume}
				}
				return FleetID{Name: kiln.FleetLowVolume}
			}
		})
		defer b.stop()
		<-b.pool.Ready()
		surges := func() bool { return b.warmingPool().Demand.Surge }
		for range 300 {
			b.invoke(b.version("a", "frequent"))
			time.Sleep(100 * time.Millisecond)
		}
		if !surges() {
			t.Error("ten requests a second in the other fleet are no surge in this one")
		}
		time.Sleep(2 * time.Minute)
		if surges() {
			t.Error("still a surge two minutes after the last request")
		}
	})
}

// Of a fleet that is removed nothing is kept, neither its knobs nor what it learned, also when it is not there any more: the
// next of its name begins anew. // R66
func TestRemovedFleetIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{docs: map[string][]byte{}}
		b := newLoggedBench(t, nil, fake.Config{}, followed, func(c *Config) { c.Store = store })
		defer b.stop()
		<-b.pool.Ready()
		id, five := FleetID{"a", "own"}, 5
		add := func() int {
			t.Helper()
			settings := b.pool.all()[0].manager.Settings()
			settings.Turned = nil
			if err := b.pool.AddFleet(FleetConfig{Account: id.Account, Name: id.Name, Settings: settings}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			return len(b.pool.find(id).manager.Settings().Turned)
		}
		add()
		warming := ""
		for _, c := range b.pool.Pools() {
			if c.Pool == kiln.PoolWarming && strings.HasPrefix(c.ID, id.String()+"/") {
				warming = c.ID
			}
		}
		if err := b.pool.Turn(t.Context(), warming, func(capacity.Knobs) capacity.Knobs { return capacity.Knobs{Target: &five} }); err != nil {
			t.Fatal(err)
		}
		store.docs[learnedKey(id)] = []byte(`{}`)
		if _, ok := store.Read(operatedKey(id)); !ok {
			t.Fatal("the knobs were not kept: the test shows nothing")
		}
		if err := b.pool.RemoveFleet(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, ok := store.Read(learnedKey(id)); ok {
			t.Error("what it learned is kept")
		}
		if n := add(); n != 0 {
			t.Errorf("the next of its name inherits %d knobs", n)
		}
		if err := b.pool.RemoveFleet(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		store.docs[operatedKey(id)] = []byte(`{}`)
		if err := b.pool.RemoveFleet(t.Context(), id); kiln.KindOf(err) != kiln.KindNotFound {
			t.Error(err)
		}
		if _, ok := store.Read(operatedKey(id)); ok {
			t.Error("what was kept of a fleet that is not there is kept still")
		}
	})
}
