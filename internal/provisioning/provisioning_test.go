package provisioning

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"kiln"
	"kiln/internal/engine"
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
}

func open(t *testing.T) *house {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	h := &house{t: t, told: map[string]int{}, ready: map[string]Ready{}, executing: map[string]int{}}
	h.registry, err = registry.Open(t.Context(), e, registry.Config{
		Verify: func(context.Context, kiln.Digest) error { return nil }, Logger: slog.New(slog.DiscardHandler),
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
		Promise: func(v *kiln.Version, n int) {
			numbers[v.ID()] = v.Number
			if h.told[v.Number] = n; n == 0 {
				delete(h.told, v.Number)
			}
		},
		Promised:  func(id kiln.VersionID) Ready { return h.ready[numbers[id]] },
		Executing: func(_ kiln.AccountID, _, number string) int { return h.executing[number] },
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
