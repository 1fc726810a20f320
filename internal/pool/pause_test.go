package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
)

// pausing is a driver whose code counts seconds in the background.
func pausing(ticks *atomic.Int64) fake.Config {
	return fake.Config{
		Capabilities: kiln.Capabilities{Pause: true},
		Handle: func(_ context.Context, g *fake.Guest, d *kiln.Delivery) ([]byte, *kiln.Failure) {
			if g.Executions == 1 {
				go func() {
					for g.Runs() {
						ticks.Add(1)
						time.Sleep(time.Second)
					}
				}()
			}
			return d.Payload, nil
		},
	}
}

// stopped ends a bench, and lets what runs in the background of its containers see that.
func stopped(b *bench) {
	b.stop()
	time.Sleep(2 * time.Second)
}

func pauseAfter(s *manager.Settings) { s.PauseAfter = 5 * time.Second }

// What a function left running stands still while its container is paused, and goes on when it is used; the same container
// serves, by the path of an idle one. R23
func TestPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ticks atomic.Int64
		b := newBench(t, pausing(&ticks), pauseAfter)
		defer stopped(b)
		v := b.version("a", "one")
		first := b.invoke(v)
		time.Sleep(time.Minute)
		if n := ticks.Load(); n < 4 || n > 7 {
			t.Errorf("%d seconds in the background, paused after 5", n)
		}
		if s := b.pool.Containers()[0].State; s != kiln.ContainerPaused || !b.driver.Paused(first.lease.Container) {
			t.Errorf("container is %s", s)
		}
		before := ticks.Load()
		r := b.invoke(v)
		if r.answer.Failure != nil || r.lease.Container != first.lease.Container || r.lease.Path != kiln.PathContainer {
			t.Errorf("%+v %+v", r.lease, r.answer.Failure)
		}
		time.Sleep(time.Minute)
		if n := ticks.Load() - before; n < 4 || n > 7 {
			t.Errorf("%d seconds in the background after it was used again", n)
		}
	})
}

// Requests that come just as their container is to be paused are served, whichever is first: the fake ends the test when a
// paused container is asked to execute, or a busy one to pause.
func TestPauseRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ticks atomic.Int64
		b := newBench(t, pausing(&ticks), pauseAfter)
		defer stopped(b)
		v := b.version("a", "one")
		for range 200 {
			var both sync.WaitGroup
			for range 3 {
				both.Go(func() {
					if r := b.invoke(v); r.err != nil || r.answer.Failure != nil {
						t.Error(r.err, r.answer.Failure)
					}
				})
			}
			both.Wait()
			time.Sleep(5 * time.Second) // the timers of requests and of pauses fire at the same instant
		}
	})
}

// A container that cannot be resumed gets no request: it is deleted, and another serves. A driver that cannot pause is not
// asked to.
func TestPauseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ticks atomic.Int64
		config := pausing(&ticks)
		var stuck atomic.Pointer[kiln.ContainerID]
		config.Resume = func(id kiln.ContainerID) error {
			if s := stuck.Load(); s != nil && *s == id {
				return kiln.Errorf(kiln.KindInternal, "test", "stuck")
			}
			return nil
		}
		b := newBench(t, config, pauseAfter)
		defer stopped(b)
		v := b.version("a", "one")
		first := b.invoke(v)
		time.Sleep(10 * time.Second)
		stuck.Store(&first.lease.Container)
		if r := b.invoke(v); r.err != nil || r.answer.Failure != nil || r.lease.Container == first.lease.Container {
			t.Errorf("%v %+v in %s", r.err, r.answer.Failure, r.lease.Container)
		}
		time.Sleep(time.Second)
		for _, c := range b.pool.Containers() {
			if c.ID == first.lease.Container {
				t.Errorf("%s is still %s", c.ID, c.State)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Pause: func(kiln.ContainerID) error { panic("asked to pause") }}, pauseAfter)
		defer b.stop()
		b.invoke(b.version("a", "one"))
		time.Sleep(time.Minute)
	})
}
