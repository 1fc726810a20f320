package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
)

// Provisioned containers are initialised before any request, told that they are, kept through the loss of their instance,
// and counted as they stand; a request of the version uses one. R36
func TestProvision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, pauseAfter)
		defer b.stop()
		v := b.version("a", "one")
		v.Number = "1"
		if err := b.pool.Provision(v, "", 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if p := b.pool.Provisioned(v.ID()); p.Requested != 3 || p.Available != 3 || p.Idle != 3 || p.Failure != "" {
			t.Errorf("%+v", p)
		}
		r := b.invoke(v)
		if !r.lease.Provisioned || r.lease.Path != kiln.PathContainer || r.lease.Init.Duration != 0 {
			t.Errorf("%+v", r.lease)
		}
		b.driver.KillInstance(r.lease.Instance, "test")
		time.Sleep(time.Second)
		if p := b.pool.Provisioned(v.ID()); p.Available != 3 || p.Served != 1 {
			t.Errorf("after its instance was lost: %+v", p)
		}
		time.Sleep(24 * time.Hour)
		if p := b.pool.Provisioned(v.ID()); p.Available != 3 {
			t.Errorf("a day later: %+v", p)
		}
		if err := b.pool.Provision(v, "", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if n := len(b.pool.AllProvisioned()); n != 0 || b.pool.pinned.Load() != nil {
			t.Errorf("%d promises are left", n)
		}
		v.MemoryMiB = kiln.MaxMemoryMiB
		if err := b.pool.Provision(v, "", 1); kiln.KindOf(err) != kiln.KindInvalid {
			t.Error(err)
		}
		if err := b.pool.Provision(v, "", -1); kiln.KindOf(err) != kiln.KindInvalid {
			t.Error(err)
		}
	})
}

// A promise is kept by the fleet its function's owner names, and requests of the version go there; it stays there whatever is
// named later, until it is taken back. // R36 R56
func TestProvisionInAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := twoFleets(t, fake.Config{}, nil)
		defer b.stop()
		b.pool.config.Route = func(n Need) FleetID { return FleetID{Name: n.Fleet} }
		v := b.version("a", "one")
		v.Number = "1"
		provision := func(fleet string, count int, kept string) {
			t.Helper()
			if err := b.pool.Provision(v, fleet, count); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if p := b.pool.Provisioned(v.ID()); p.Fleet != kept || p.Available != count {
				t.Errorf("%d put for %s: %+v", count, fleet, p)
			}
		}
		provision(high.Name, 2, high.Name)
		if r := b.invoke(v); r.err != nil || r.lease.Fleet != high.Name || !r.lease.Provisioned {
			t.Errorf("%v, %+v", r.err, r.lease)
		}
		provision(kiln.FleetLowVolume, 3, high.Name)
		provision(kiln.FleetLowVolume, 0, "")
		provision(kiln.FleetLowVolume, 1, kiln.FleetLowVolume)
	})
}
