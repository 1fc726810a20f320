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
		if err := b.pool.Provision(v, 3); err != nil {
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
		if err := b.pool.Provision(v, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if n := len(b.pool.AllProvisioned()); n != 0 || b.pool.pinned.Load() != nil {
			t.Errorf("%d promises are left", n)
		}
		v.MemoryMiB = kiln.MaxMemoryMiB
		if err := b.pool.Provision(v, 1); kiln.KindOf(err) != kiln.KindInvalid {
			t.Error(err)
		}
		if err := b.pool.Provision(v, -1); kiln.KindOf(err) != kiln.KindInvalid {
			t.Error(err)
		}
	})
}
