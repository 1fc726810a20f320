package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kiln"
	"kiln/internal/driver/fake"
)

// The fake driver keeps the contract.
var _ Driver = (*fake.Driver)(nil)

// shelf is a cache that counts.
type shelf struct {
	mu      sync.Mutex
	fetches int
	held    int
	bytes   int64 // of each package
	bound   int64 // of what is held
	err     error
}

func (s *shelf) Over() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, int64(s.held)*s.bytes-s.bound)
}

func (s *shelf) Acquire(_ context.Context, digest kiln.Digest) (Package, error) {
	time.Sleep(10 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Package{}, s.err
	}
	s.fetches++
	s.held++
	return Package{Dir: "/packages/" + string(digest), Bytes: s.bytes, Fetched: s.fetches == 1, Release: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held--
	}}, nil
}

type fixture struct {
	*Node
	shelf  *shelf
	driver *fake.Driver

	mu     sync.Mutex
	events []kiln.Event
}

func newFixture(config fake.Config) *fixture {
	f := &fixture{shelf: &shelf{bound: 1 << 60}, driver: fake.New(config)}
	f.Node = New(Config{
		ID: "n", Region: "eu-central-1", Driver: f.driver, Cache: f.shelf, Rand: rand.Reader,
		Runtimes: func(name string) (kiln.Runtime, bool) {
			kind := kiln.RuntimeManaged
			if name == "provided" {
				kind = kiln.RuntimeProvided
			}
			return kiln.Runtime{Name: name, Kind: kind}, name != "cobol"
		},
		Emit: func(e kiln.Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, e)
		},
	})
	return f
}

var version = &kiln.Version{
	Account: "000000000000", Function: "hello", Number: kiln.Latest, Revision: "1", Package: "p", Runtime: "python3.12",
	Handler: "app.handler", Environment: map[string]string{"COLOUR": "red", "TZ": "Europe/Berlin"},
}

// Many containers bound at once in one instance bring the package once; a second instance attaches it without a fetch;
// when the instances are gone the cache holds nothing for them (R24 R32).
func TestBindOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(fake.Config{})
		ctx := t.Context()
		var ids []kiln.InstanceID
		for range 2 {
			id := f.NewInstanceID()
			ids = append(ids, id)
			if _, err := f.BootInstance(ctx, Boot{ID: id}); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					c := f.NewContainerID()
					if _, err := f.PrepareContainer(ctx, Prepare{ID: c, Instance: id, Runtime: "python3.11"}); err != nil {
						t.Error(err)
					}
					if r, err := f.BindContainer(ctx, Bind{Container: c, Instance: id, Runtime: "python3.11", Version: version}); err != nil || r.Failure != nil {
						t.Error(err, r.Failure)
					}
				})
			}
			wg.Wait()
		}
		var kinds []kiln.EventKind
		for _, e := range f.events {
			if e.Kind != kiln.EventContainerBind {
				kinds = append(kinds, e.Kind)
			}
		}
		if fmt.Sprint(kinds) != fmt.Sprint([]kiln.EventKind{kiln.EventCodeFetch, kiln.EventCodeAttach, kiln.EventCodeAttach}) {
			t.Errorf("events %v", kinds)
		}
		if got := f.Packages(ids[0]); len(got) != 1 || got[0] != "p" {
			t.Errorf("code cache %v", got)
		}
		for _, id := range ids {
			if err := errors.Join(f.DeleteInstance(ctx, id), f.DeleteInstance(ctx, id)); err != nil {
				t.Error(err)
			}
		}
		if f.shelf.held != 0 {
			t.Errorf("package is held %d times after the instances are gone", f.shelf.held)
		}
	})
}

// A failed fetch is told to all who waited for it and tried again by the next; nothing is attached.
func TestFetchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(fake.Config{})
		ctx := t.Context()
		if _, err := f.BootInstance(ctx, Boot{ID: "i"}); err != nil {
			t.Fatal(err)
		}
		f.shelf.err = kiln.Errorf(kiln.KindCorrupt, "test", "not what it says")
		for range 2 {
			if _, err := f.PrepareContainer(ctx, Prepare{ID: "c", Instance: "i", Runtime: "python3.11", Fresh: &Bind{Instance: "i", Version: version}}); kiln.KindOf(err) != kiln.KindCorrupt {
				t.Errorf("prepared afresh: %v", err)
			}
		}
		f.shelf.err = nil
		if _, err := f.PrepareContainer(ctx, Prepare{ID: "c", Instance: "i", Runtime: "python3.11", Fresh: &Bind{Instance: "i", Version: version}}); err != nil {
			t.Error(err)
		}
		if r, err := f.BindContainer(ctx, Bind{Container: "c", Instance: "i", Version: version}); err != nil || r.Failure != nil {
			t.Error("a fresh container is bound with what it was started for:", err, r)
		}
		if _, err := f.PrepareContainer(ctx, Prepare{ID: "d", Instance: "i", Runtime: "cobol"}); kiln.KindOf(err) != kiln.KindNotFound {
			t.Errorf("unknown runtime: %v", err)
		}
		if _, err := f.BindContainer(ctx, Bind{Container: "d", Instance: "none", Runtime: "python3.11", Version: version}); kiln.KindOf(err) != kiln.KindNotFound {
			t.Errorf("unknown instance: %v", err)
		}
	})
}

// The environment is AWS's, with the user's variables on top, and GOMAXPROCS by the share for compiled code.
func TestEnvironment(t *testing.T) {
	f := newFixture(fake.Config{})
	b := &Bind{Version: version, Amounts: kiln.Amounts{MemoryMiB: 256, MilliCPUs: 1200}}
	managed := f.environment(kiln.Runtime{Kind: kiln.RuntimeManaged}, b, time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC))
	for key, want := range map[string]string{
		"_HANDLER": "app.handler", "AWS_LAMBDA_FUNCTION_NAME": "hello", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/hello", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12",
		"LAMBDA_TASK_ROOT": "/var/task", "COLOUR": "red", "TZ": "Europe/Berlin", "GOMAXPROCS": "",
	} {
		if managed[key] != want {
			t.Errorf("%s is %q, want %q", key, managed[key], want)
		}
	}
	if s := managed["AWS_LAMBDA_LOG_STREAM_NAME"]; len(s) != len("2026/05/04/[$LATEST]")+32 || s[:20] != "2026/05/04/[$LATEST]" {
		t.Errorf("log stream %q", s)
	}
	provided := f.environment(kiln.Runtime{Kind: kiln.RuntimeProvided}, b, time.Now())
	if _, ok := provided["AWS_EXECUTION_ENV"]; ok || provided["GOMAXPROCS"] != "2" {
		t.Errorf("provided: %v", provided)
	}
}

// Urgent starts go before others, hastened ones with them; the others are not starved for ever; who gives up leaves no
// trace.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		var order []string
		var wg sync.WaitGroup
		start := func(id string, urgent bool) {
			wg.Go(func() {
				leave, err := g.enter(t.Context(), id, urgent)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, id)
				time.Sleep(10 * time.Millisecond)
				leave()
			})
			synctest.Wait()
		}
		start("first", false)
		start("refill", false)
		start("claimed", false)
		start("urgent", true)
		g.hasten("claimed")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if _, err := g.enter(ctx, "impatient", true); kiln.KindOf(err) != kiln.KindUnavailable {
			t.Errorf("gave up: %v", err)
		}
		wg.Wait()
		if got := fmt.Sprint(order); got != "[first urgent claimed refill]" {
			t.Errorf("order %s", got)
		}
		if g.slots != 1 || g.urgent != 0 || g.ordinary != 0 {
			t.Errorf("left: %+v", g)
		}

		g = newGate(4)
		g.begin() // a bind that does not end
		began := time.Now()
		order = nil
		start("refill", false)
		wg.Wait()
		if waited := time.Since(began); waited != yieldMax+10*time.Millisecond {
			t.Errorf("a refill waited %s beside a bind", waited)
		}
		g.end()

		// Binds with moments between them, as a burst has: the refill comes when they are over.
		g = newGate(4)
		var binding bool
		wg.Go(func() {
			for range 8 {
				g.begin()
				binding = true
				time.Sleep(10 * time.Millisecond)
				g.end()
				time.Sleep(10 * time.Millisecond)
			}
			binding = false
		})
		synctest.Wait()
		began = time.Now()
		wg.Go(func() {
			leave, err := g.enter(t.Context(), "refill", false)
			if waited := time.Since(began); err != nil || binding || waited > 8*20*time.Millisecond+2*calmAfter {
				t.Errorf("a refill began after %s, between binds: %v, %v", waited, binding, err)
			}
			leave()
		})
		wg.Wait()
	})
}

// Packages no container uses are detached, the longest unused first, as soon as there are more of them than an instance
// may keep; those in use stay, however many they are (R24).
func TestUnusedPackagesAreDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(fake.Config{})
		ctx := t.Context()
		if _, err := f.BootInstance(ctx, Boot{ID: "i"}); err != nil {
			t.Fatal(err)
		}
		var used []kiln.ContainerID
		for n := range 2*UnusedPackages + 5 {
			used = append(used, f.bound(t, "i", kiln.Digest(fmt.Sprintf("p%02d", n))))
		}
		if got := len(f.Packages("i")); got != len(used) {
			t.Fatalf("%d packages of %d in use", got, len(used))
		}
		for _, id := range used {
			if err := f.DeleteContainer(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		got := f.driver.Attached("i")
		if len(got) != UnusedPackages || got[0] != kiln.Digest(fmt.Sprintf("p%02d", UnusedPackages+5)) || f.shelf.held != UnusedPackages {
			t.Errorf("kept %v, %d held", got, f.shelf.held)
		}
		f.bound(t, "i", got[0]) // in use again, so that it is not the next to go
		f.DeleteContainer(ctx, f.bound(t, "i", "another"))
		if now := f.driver.Attached("i"); now[0] != "another" || now[1] != got[0] {
			t.Errorf("after one more: %v", now)
		}
	})
}

// While the node's cache is beyond its bound no instance keeps a package it does not use, whosever that is, so that one
// account's packages do not take the room of another's; a large one goes by its bytes (R24).
func TestUnusedPackagesMakeRoomOnTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(fake.Config{})
		f.shelf.bytes, f.shelf.bound = 100, 350
		ctx := t.Context()
		for _, id := range []kiln.InstanceID{"mine", "yours"} {
			if _, err := f.BootInstance(ctx, Boot{ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		var used []kiln.ContainerID
		for _, digest := range []kiln.Digest{"a", "b", "c"} {
			used = append(used, f.bound(t, "mine", digest))
		}
		for _, id := range used[:2] {
			f.DeleteContainer(ctx, id)
		}
		f.bound(t, "yours", "d")
		if mine, yours := fmt.Sprint(f.driver.Attached("mine")), fmt.Sprint(f.driver.Attached("yours")); mine != "[b c]" || yours != "[d]" {
			t.Errorf("mine %s, yours %s", mine, yours)
		}
		for _, digest := range []kiln.Digest{"e", "f"} {
			f.bound(t, "yours", digest)
		}
		if mine := fmt.Sprint(f.driver.Attached("mine")); mine != "[c]" || f.shelf.held != 4 {
			t.Errorf("mine %s, %d held", mine, f.shelf.held)
		}
		f.shelf.bytes, f.shelf.bound = UnusedBytes+1, 100*UnusedBytes
		f.DeleteContainer(ctx, f.bound(t, "yours", "large"))
		if yours := fmt.Sprint(f.driver.Attached("yours")); yours != "[d e f]" {
			t.Errorf("yours %s", yours)
		}
	})
}

// Starts and ends of many containers with few packages, while the cache is always too full: what a container is bound to is
// never detached (the driver panics), and nothing is held at the end.
func TestDetachUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(fake.Config{})
		f.shelf.bytes, f.shelf.bound = 1, 0
		ctx := t.Context()
		if _, err := f.BootInstance(ctx, Boot{ID: "i"}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for n := range 50 {
					id := f.bound(t, "i", kiln.Digest(fmt.Sprint("p", (g*n)%3)))
					time.Sleep(time.Duration(g+n%7) * time.Millisecond)
					if err := f.DeleteContainer(ctx, id); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if f.shelf.held != 0 || len(f.driver.Attached("i")) != 0 || len(f.places) != 0 {
			t.Errorf("%d held, attached %v, %d containers known", f.shelf.held, f.driver.Attached("i"), len(f.places))
		}
	})
}

// bound makes a container bound to a package.
func (f *fixture) bound(t *testing.T, instance kiln.InstanceID, digest kiln.Digest) kiln.ContainerID {
	t.Helper()
	id := f.NewContainerID()
	if _, err := f.PrepareContainer(t.Context(), Prepare{ID: id, Instance: instance, Runtime: "python3.11"}); err != nil {
		t.Error(err)
	}
	v := *version
	v.Package = digest
	if r, err := f.BindContainer(t.Context(), Bind{Container: id, Instance: instance, Runtime: "python3.11", Version: &v}); err != nil || r.Failure != nil {
		t.Error(err, r.Failure)
	}
	return id
}
