package pool

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
	"kiln/internal/manager"
)

// While a container cannot be deleted its memory is nobody else's: its instance takes no more work and is ended as soon as
// its other executions are, an event tells it, and the deletion is tried again until it succeeds (R30 R44 R46).
func TestDeletionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		b := newBench(t, fake.Config{Delete: func(kiln.InstanceID, kiln.ContainerID) error {
			if broken.Load() {
				return errors.New("a process hangs")
			}
			return nil
		}}, func(s *manager.Settings) { s.Warming, s.InstancesMax = nil, 2 })
		defer b.stop()
		v := b.version("a", "one")
		first := b.invoke(v)
		broken.Store(true)
		if err := b.pool.DeleteContainer(first.lease.Container); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if fails := b.kinds(kiln.EventContainerFail); fails == 0 {
			t.Error("no event tells of the deletion that failed")
		}
		second := b.invoke(v)
		if second.err != nil || second.lease.Instance == first.lease.Instance {
			t.Errorf("placed on %s beside what could not be deleted on %s: %v", second.lease.Instance, first.lease.Instance, second.err)
		}
		if instances, containers, _ := b.driver.Alive(); instances != 2 || containers < 2 {
			t.Errorf("%d instances and %d containers are there: the first was forgotten", instances, containers)
		}
		if third := b.invoke(b.version("b", "two")); kiln.KindOf(third.err) != kiln.KindThrottled {
			t.Errorf("a third instance under a limit of two: %v %v", third.err, third.lease.Instance)
		}
		broken.Store(false)
		time.Sleep(2 * time.Minute)
		if instances, containers, _ := b.driver.Alive(); instances+containers > 0 {
			t.Errorf("%d instances and %d containers are there after their deletion can succeed", instances, containers)
		}
	})
}

// What nothing can delete does not hold up the end, and the end says so.
func TestStopTellsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{Delete: func(kiln.InstanceID, kiln.ContainerID) error { return errors.New("a process hangs") }}, nil)
		<-b.pool.Ready()
		began := time.Now()
		if err := b.end(); kiln.KindOf(err) != kiln.KindInternal || !strings.Contains(err.Error(), "2 instances") {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(began); took > StopMax/2 {
			t.Errorf("the end took %s", took)
		}
	})
}

// lines is a log's text, written by many.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A container given up while it was prepared, because its instance is deleted, is no warning.
func TestDeletedSpareIsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		b := newLoggedBench(t, slog.New(slog.NewTextHandler(&log, nil)),
			fake.Config{StartTime: func(kiln.ContainerSpec) time.Duration { return 5 * time.Second }}, nil)
		defer b.stop()
		time.Sleep(time.Second) // booted; the prepared container is on its way
		for _, in := range b.pool.Instances() {
			if err := b.pool.DeleteInstance(in.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		if log.String() != "" {
			t.Errorf("logged: %s", log.String())
		}
	})
}

// A package that its instance had to let go is no longer in that instance's code cache, for the choice and for whoever
// looks; its next container brings it back (R24 R25).
func TestDetachedPackage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fake.Config{}, nil)
		defer b.stop()
		v := b.version("a", "one")
		first := b.invoke(v)
		b.store.over.Store(1)
		if err := b.pool.DeleteContainer(first.lease.Container); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if held := b.store.holds(v.Package); held != 0 || b.kinds(kiln.EventCodeDetach) != 1 {
			t.Errorf("held %d times, %d times detached, where no container uses it and the node is full", held, b.kinds(kiln.EventCodeDetach))
		}
		for _, in := range b.pool.Instances() {
			if len(in.CodeCache) > 0 {
				t.Errorf("code cache of %s: %v", in.ID, in.CodeCache)
			}
		}
		again := b.invoke(v)
		if again.err != nil || again.lease.Path != kiln.PathAccountInstance || again.lease.Instance != first.lease.Instance {
			t.Errorf("again by %s on %s: %v", again.lease.Path, again.lease.Instance, again.err)
		}
		if held := b.store.holds(v.Package); held != 1 {
			t.Errorf("held %d times while a container uses it", held)
		}
	})
}
