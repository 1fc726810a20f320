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
	err     error
}

func (s *shelf) Acquire(_ context.Context, digest kiln.Digest) (string, bool, func(), error) {
	time.Sleep(10 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", false, nil, s.err
	}
	s.fetches++
	s.held++
	return "/packages/" + string(digest), s.fetches == 1, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held--
	}, nil
}

type fixture struct {
	*Node
	shelf *shelf

	mu     sync.Mutex
	events []kiln.Event
}

func newFixture(config fake.Config) *fixture {
	f := &fixture{shelf: &shelf{}}
	f.Node = New(Config{
		ID: "n", Region: "eu-central-1", Driver: fake.New(config), Cache: f.shelf, Rand: rand.Reader,
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
	})
}
