package provisioning

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"kiln"
	"kiln/internal/capacity"
	"kiln/internal/engine"
	"kiln/internal/manager"
	"kiln/internal/pool"
	"kiln/internal/registry"
)

const owner = kiln.AccountID("000000000000")

// house is a Provisioning over a registry, with pools and executions the test makes up.
type house struct {
	*Provisioning
	t         *testing.T
	registry  *registry.Registry
	told      map[string]int
	ready     map[string]Ready
	executing map[string]int
	fleets    map[pool.FleetID]*manager.Settings
	instances map[string]int // of the fleets, by name
	removed   chan pool.FleetID
	refuse    bool // the pools take no promise
}

func warm(runtime string) manager.WarmingTarget {
	return manager.WarmingTarget{Configuration: kiln.Configuration{Driver: "fake", Runtime: runtime, Shape: kiln.Shape{MemoryMiB: 2048, CPUs: 2}},
		Bounds: capacity.Bounds{Minimum: 2, Maximum: 8}}
}

func open(t *testing.T) *house {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	h := &house{t: t, told: map[string]int{}, ready: map[string]Ready{}, executing: map[string]int{},
		fleets: map[pool.FleetID]*manager.Settings{}, instances: map[string]int{}, removed: make(chan pool.FleetID, 1)}
	h.registry, err = registry.Open(t.Context(), e, registry.Config{
		ProvidersMax: 8, Verify: func(context.Context, kiln.Digest) error { return nil }, Logger: slog.New(slog.DiscardHandler),
		Promised: func() {
			if h.Provisioning != nil {
				h.Changed()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[kiln.VersionID]string{}
	h.Provisioning = New(Config{
		Registry: h.registry, Logger: slog.New(slog.DiscardHandler),
		Promise: func(v *kiln.Version, n int) error {
			if h.refuse {
				return kiln.Errorf(kiln.KindUnavailable, "test", "no fleet")
			}
			numbers[v.ID()] = v.Number
			if h.told[v.Number] = n; n == 0 {
				delete(h.told, v.Number)
			}
			return nil
		},
		Promised:  func(id kiln.VersionID) Ready { return h.ready[numbers[id]] },
		Executing: func(_ kiln.AccountID, _, number string) int { return h.executing[number] },
		Settings: func() manager.Settings {
			return manager.Settings{
				InstancesMax: 32, ConsolidationUtilisation: 0.5, Shapes: []kiln.Shape{{MemoryMiB: 2048, CPUs: 2}, {MemoryMiB: 10240, CPUs: 6}},
				Warming: []manager.WarmingTarget{warm("python3.11"), warm("nodejs20")},
			}
		},
		Runtime:           func(identifier string) (string, bool) { return identifier, true },
		ProviderInstances: 8,
		Fleets: Fleets{
			Add: func(c pool.FleetConfig) error {
				h.fleets[pool.FleetID{Account: c.Account, Name: c.Name}] = &c.Settings
				return nil
			},
			Change: func(id pool.FleetID, change func(*manager.Settings)) error { change(h.fleets[id]); return nil },
			Remove: func(_ context.Context, id pool.FleetID) error { h.removed <- id; return nil },
			List: func() (list []pool.Fleet) {
				for id := range h.fleets {
					list = append(list, pool.Fleet{Account: id.Account, Name: id.Name, Instances: h.instances[id.Name]})
				}
				return list
			},
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.registry.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return h
}

// publish makes a version of a function, which is made when there is none, and gives its number.
func (h *house) publish(code string) string {
	h.t.Helper()
	ctx := h.t.Context()
	digest := kiln.Digest(fmt.Sprintf("%064s", code))
	if _, err := h.registry.Get(owner, "f", ""); err != nil {
		_, err = h.registry.Create(ctx, registry.CreateInput{Version: kiln.Version{Account: owner, Function: "f", Package: digest,
			Runtime: "python3.11", Handler: "a.b", MemoryMiB: 128, TimeoutMillis: 3000}})
		if err != nil {
			h.t.Fatal(err)
		}
	} else if _, err := h.registry.UpdateCode(ctx, owner, "f", registry.CodeUpdate{Package: digest}); err != nil {
		h.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		made, err := h.registry.PublishVersion(ctx, owner, "f", registry.PublishInput{})
		if err == nil {
			return made.Version.Number
		}
		if kiln.KindOf(err) != kiln.KindConflict || time.Now().After(deadline) {
			h.t.Fatal(err)
		}
		<-time.After(time.Millisecond)
	}
}

func (h *house) is(when, want string) {
	h.t.Helper()
	if got := fmt.Sprint(h.told); got != want {
		h.t.Errorf("%s: the pools are to keep %s, want %s", when, got, want)
	}
}

// The pools are told of what is put, of what an alias moves to before what it leaves, and of what is taken away; how it
// stands is what the pools count. // R36
func TestPromisesAreKept(t *testing.T) {
	h := open(t)
	ctx, now := t.Context(), time.Now()
	one, two := h.publish("a"), h.publish("b")
	if _, err := h.registry.CreateAlias(ctx, owner, "f", registry.Alias{Name: "live", Version: one}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.registry.Provision(ctx, owner, "f", "live", 3); err != nil {
		t.Fatal(err)
	}
	h.refuse = true
	h.keep(ctx, now)
	h.is("not taken", "map[]")
	if c, _ := h.registry.ProvisionedConfig(owner, "f", "live"); h.Standing(c).State != Failed || h.Standing(c).Reason != "no fleet" {
		t.Errorf("not taken: %+v", h.Standing(c))
	}
	h.refuse = false
	h.keep(ctx, now)
	h.is("put", "map[1:3]")
	standing := func() Standing {
		c, err := h.registry.ProvisionedConfig(owner, "f", "live")
		if err != nil {
			t.Fatal(err)
		}
		return h.Standing(c)
	}
	h.ready[one] = Ready{Allocated: 3, Available: 1}
	if s := standing(); s != (Standing{Allocated: 3, Available: 1, State: InProgress}) {
		t.Errorf("one ready: %+v", s)
	}
	h.ready[one] = Ready{Allocated: 5, Available: 5}
	if s := standing(); s != (Standing{Allocated: 3, Available: 3, State: AllReady}) {
		t.Errorf("all ready: %+v", s)
	}
	h.ready[one] = Ready{Allocated: 3, Available: 2}
	if s := standing(); s.State != InProgress || s.Available != 2 {
		t.Errorf("one lost: %+v", s)
	}
	if _, err := h.registry.UpdateAlias(ctx, owner, "f", "live", registry.AliasUpdate{Version: &two}); err != nil {
		t.Fatal(err)
	}
	h.keep(ctx, now)
	h.is("moved", "map[1:3 2:3]")
	h.ready[two] = Ready{Allocated: 3, Failure: "FUNCTION_ERROR_INIT_FAILURE"}
	if s := standing(); s.State != Failed || s.Reason != "FUNCTION_ERROR_INIT_FAILURE" {
		t.Errorf("the new one fails: %+v", s)
	}
	h.ready[two] = Ready{Allocated: 3, Available: 3}
	h.keep(ctx, now.Add(time.Second))
	h.is("the new one is ready", "map[2:3]")
	if err := h.registry.Unprovision(ctx, owner, "f", "live"); err != nil {
		t.Error(err)
	}
	h.keep(ctx, now.Add(2*time.Second))
	h.is("taken away", "map[]")
}

// Tags change provisioned concurrency at their time and with its use, through the account's limits as a put does. // R36
func TestSettingsAct(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	one := h.publish("a")
	if _, err := h.registry.Provision(ctx, owner, "f", one, 3); err != nil {
		t.Fatal(err)
	}
	midnight := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	tags := map[string]string{"kiln:provisioned-schedule": "1: daily 00:00=7 / daily 06:00=2000"}
	if err := h.registry.SetTags(ctx, owner, "f", tags); err != nil {
		t.Fatal(err)
	}
	h.keep(ctx, time.Now())
	h.is("before the first moment", "map[1:3]")
	h.keep(ctx, midnight.Add(time.Minute))
	h.is("after it", "map[1:7]")
	h.keep(ctx, midnight.Add(7*time.Hour))
	h.is("asked for more than the account has", "map[1:7]")
	c, err := h.registry.ProvisionedConfig(owner, "f", one)
	if err != nil || h.Standing(c).Reason == "" {
		t.Errorf("says nothing of what was refused: %+v, %v", h.Standing(c), err)
	}
	if err := h.registry.RemoveTags(ctx, owner, "f", []string{"kiln:provisioned-schedule"}); err != nil {
		t.Fatal(err)
	}
	if err := h.registry.SetTags(ctx, owner, "f", map[string]string{"kiln:provisioned-target": "1: 0.5 1-20"}); err != nil {
		t.Fatal(err)
	}
	h.executing[one] = 6
	for at := range 120 {
		h.keep(ctx, midnight.Add(8*time.Hour+time.Duration(at)*time.Second))
	}
	h.is("six executions at a half", "map[1:12]")
}

// Each capacity provider has a fleet of the shapes and the size it asks for, with the interpreters of its functions warm;
// together they have what the operator gives and no more, even while one has more than its part; a deleted one's fleet goes,
// and then it.
func TestProvidersHaveFleets(t *testing.T) {
	h := open(t)
	ctx, now := t.Context(), time.Now()
	create := func(name string, p registry.Provider) pool.FleetID {
		p.Account, p.Name = owner, name
		if _, err := h.registry.CreateProvider(ctx, p); err != nil {
			t.Fatal(err)
		}
		return pool.FleetID{Account: owner, Name: name}
	}
	is := func(when string, id pool.FleetID, most int, shapes, warm string) {
		t.Helper()
		s := h.fleets[id]
		if s == nil {
			t.Fatalf("%s: no fleet %s", when, id)
		}
		var runtimes []string
		for _, w := range s.Warming {
			runtimes = append(runtimes, w.Configuration.Runtime)
		}
		if s.InstancesMax != most || fmt.Sprint(s.Shapes) != shapes || fmt.Sprint(runtimes) != warm {
			t.Errorf("%s: at most %d of %v, %v warm; want %d of %s, %s", when, s.InstancesMax, s.Shapes, runtimes, most, shapes, warm)
		}
	}
	const both, small = "[2048MiB/2cpu 10240MiB/6cpu]", "[2048MiB/2cpu]"
	big := create("big", registry.Provider{})
	h.keep(ctx, now)
	is("alone", big, 8, both, "[]")
	h.instances["big"] = 7
	web := create("web", registry.Provider{MaxCPUs: 5, Shapes: []int{2048}, Utilisation: 0.7})
	h.keep(ctx, now)
	is("with more than its part", big, 6, both, "[]")
	is("beside it", web, 1, small, "[]")
	h.instances["big"] = 3
	_, err := h.registry.Create(ctx, registry.CreateInput{Version: kiln.Version{Account: owner, Function: "f", Package: kiln.Digest(fmt.Sprintf("%064s", "a")),
		Runtime: "python3.11", Handler: "a.b", MemoryMiB: 128, TimeoutMillis: 3000, Provider: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	h.keep(ctx, now)
	is("shrunk", big, 6, both, "[]")
	is("grown", web, 2, small, "[python3.11]")
	least := manager.Settings{}
	h.set(&least, asked{max: 4, runtimes: []string{"nodejs20", "python3.11"}, provider: &registry.Provider{}})
	if w := least.Warming; len(w) != 2 || w[0].Minimum != 2 || w[1].Minimum != 1 {
		t.Errorf("of 4 instances %+v are kept warm; want 2 and 1, and one left", w)
	}
	if b, w := h.fleets[big].ConsolidationUtilisation, h.fleets[web].ConsolidationUtilisation; b != 0.5 || w != 0.7 {
		t.Errorf("consolidated below %g and %g", b, w)
	}
	if p, _ := h.registry.Provider(owner, "web"); !h.ProviderReady(p) {
		t.Error("not ready")
	}
	if got := FleetOf(&kiln.Version{Account: owner, Provider: "web"}); got != web {
		t.Errorf("served by %s", got)
	}
	if _, err := h.registry.DeleteProvider(ctx, owner, "big"); err != nil {
		t.Fatal(err)
	}
	life, stop := context.WithCancel(ctx)
	defer stop()
	ended := running(func() { _ = h.Run(life) })
	if id := <-h.removed; id != big {
		t.Errorf("removed %s", id)
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(time.Millisecond) {
		if _, err := h.registry.Provider(owner, "big"); kiln.KindOf(err) == kiln.KindNotFound && err != nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("still there")
		}
	}
	stop()
	<-ended
}

// running runs something and gives a channel that is closed when it has ended.
func running(run func()) <-chan struct{} {
	ended := make(chan struct{})
	go func() { defer close(ended); run() }()
	return ended
}
