package registry

import (
	"fmt"
	"maps"
	"testing"

	"kiln"
)

// promised gives what was promised of a function, by version.
func (h *house) promised(name string) map[string]int {
	got := map[string]int{}
	for f, list := range h.Promising() {
		for _, p := range list {
			if f.Function == name {
				got[p.Version.Number] = p.Containers
			}
		}
	}
	return got
}

// Provisioned concurrency is put on versions and aliases with AWS's refusals, follows its alias, is shared by weights, goes
// with what has it, and is there after a restart. // R36
func TestProvisioned(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.create("f", digest("a"))
	h.publish("f")
	h.update("f", digest("b"))
	h.publish("f")
	ctx := t.Context()
	put := func(qualifier string, n int) error {
		_, err := h.Provision(ctx, owner, "f", qualifier, n)
		return err
	}
	is := func(when, want string) {
		t.Helper()
		if got := fmt.Sprint(h.promised("f")); got != want {
			t.Errorf("%s: promised %s, want %s", when, got, want)
		}
	}
	if _, err := h.CreateAlias(ctx, owner, "f", Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	wants(t, put(kiln.Latest, 1), kiln.KindInvalid, "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	wants(t, put("9", 1), kiln.KindNotFound, "Function not found: "+arn+"f:9")
	wants(t, put("beta", 1), kiln.KindNotFound, "Cannot find alias arn: "+arn+"f:beta")
	_, err := h.ProvisionedConfig(owner, "f", "live")
	wants(t, err, kiln.KindNotFound, "No Provisioned Concurrency Config found for this function")
	if err := put("live", 4); err != nil {
		t.Fatal(err)
	}
	is("on an alias", "map[1:4]")
	wants(t, put("1", 1), kiln.KindConflict, "Version is pointed by a Provisioned Concurrency alias")
	if err := put("2", 3); err != nil {
		t.Fatal(err)
	}
	is("on a version too", "map[1:4 2:3]")
	move := func(version string, weights map[string]float64) error {
		_, err := h.UpdateAlias(ctx, owner, "f", "live", AliasUpdate{Version: &version, Weights: weights})
		return err
	}
	wants(t, move("2", nil), kiln.KindConflict, "already Provisioned version")
	wants(t, move(kiln.Latest, nil), kiln.KindInvalid, "unpublished")
	if err := h.Unprovision(ctx, owner, "f", "2"); err != nil {
		t.Error(err)
	}
	if err := move("1", map[string]float64{"2": 0.3}); err != nil {
		t.Error(err)
	}
	is("shared by weights", "map[1:3 2:1]")
	if err := move("2", map[string]float64{}); err != nil {
		t.Error(err)
	}
	is("moved", "map[2:4]")
	h.engine.Close()
	h = open(t, dir)
	is("after a restart", "map[2:4]")
	if c, err := h.ProvisionedConfig(owner, "f", "live"); err != nil || c.Executions != 4 || !maps.Equal(c.Versions, map[string]int{"2": 4}) {
		t.Errorf("%+v, %v", c, err)
	}
	if err := h.DeleteAlias(ctx, owner, "f", "live"); err != nil {
		t.Error(err)
	}
	is("its alias deleted", "map[]")
	if h.reserved(owner) != 0 {
		t.Errorf("%d is still kept", h.reserved(owner))
	}
}

// What is provisioned comes out of the reservation, or out of what the account has unreserved, and either is refused what
// the other needs. // R36
func TestProvisionedCounts(t *testing.T) {
	h := open(t, t.TempDir())
	ctx := t.Context()
	for _, name := range []string{"f", "g"} {
		h.create(name, digest("a"))
		h.publish(name)
	}
	provision := func(name string, n int) error {
		_, err := h.Provision(ctx, owner, name, "1", n)
		return err
	}
	if err := provision("f", 500); err != nil || h.Unreserved(owner) != 500 {
		t.Errorf("%v, %d unreserved", err, h.Unreserved(owner))
	}
	wants(t, provision("g", 401), kiln.KindInvalid, "below its minimum value of [100]")
	wants(t, h.Reserve(ctx, owner, "g", 401), kiln.KindInvalid, "below its minimum value of [100]")
	wants(t, h.Reserve(ctx, owner, "f", 499), kiln.KindInvalid, "should not be lower than function's total provisioned concurrency [500]")
	if err := h.Reserve(ctx, owner, "f", 600); err != nil || h.Unreserved(owner) != 400 {
		t.Errorf("%v, %d unreserved", err, h.Unreserved(owner))
	}
	wants(t, provision("f", 601), kiln.KindInvalid, "greater than the reservedConcurrentExecution")
	if err := h.Rescale(ctx, owner, "f", "1", 601); err != nil {
		t.Error(err)
	}
	if c, _ := h.ProvisionedConfig(owner, "f", "1"); c.Executions != 500 || c.Refused == "" {
		t.Errorf("settings that ask for too much: %+v", c)
	}
	if err := h.Rescale(ctx, owner, "f", "1", 0); err != nil {
		t.Error(err)
	}
	if c, _ := h.ProvisionedConfig(owner, "f", "1"); c.Executions != 0 || c.Refused != "" || len(h.promised("f")) != 0 {
		t.Errorf("settings that ask for nothing: %+v", c)
	}
	if err := h.Rescale(ctx, owner, "f", "7", 1); err != nil {
		t.Error("of what has none:", err)
	}
	if err := h.SetTags(ctx, owner, "f", map[string]string{"kiln:provisioned-target": "1: 70% 1-5"}); kiln.KindOf(err) != kiln.KindInvalid {
		t.Errorf("a tag that cannot be read: %v", err)
	}
	if err := h.Delete(ctx, owner, "f", ""); err != nil || h.Unreserved(owner) != 1000 {
		t.Errorf("%v, %d unreserved after delete", err, h.Unreserved(owner))
	}
}
