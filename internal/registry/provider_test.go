package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"kiln"
)

// onProvider makes a function on a capacity provider, active and with nothing published.
func (h *house) onProvider(name, provider string, d kiln.Digest) {
	h.t.Helper()
	in := input(name, d)
	in.Version.Provider, in.Version.Concurrency = provider, 4
	if _, err := h.Create(h.t.Context(), in); err != nil {
		h.t.Fatal(err)
	}
	h.settleNow()
}

// A capacity provider is made, changed and there after a restart as it was put; one in use is not deleted, and one that is
// deleted is Deleting, over a restart too, until it is removed.
func TestProviders(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	ctx := t.Context()
	h.cfg.ProvidersMax = 2
	kept := map[string]json.RawMessage{"VpcConfig": json.RawMessage(`{"SubnetIds":["subnet-1"]}`)}
	create := func(account kiln.AccountID, name string) error {
		_, err := h.CreateProvider(ctx, Provider{Account: account, Name: name, Kept: kept, MaxCPUs: 8})
		return err
	}
	if err := create(owner, "web"); err != nil {
		t.Fatal(err)
	}
	wants(t, create(owner, "web"), kiln.KindConflict, "already exists")
	if err := create(stranger, "web"); err != nil {
		t.Error("of the same name, of another account:", err)
	}
	wants(t, create(owner, "more"), kiln.KindLimit, "providers.instances.max")
	if _, err := h.UpdateProvider(ctx, owner, "web", func(p *Provider) error { p.MaxCPUs = 4; return nil }); err != nil {
		t.Fatal(err)
	}
	h.onProvider("f", "web", digest("a"))
	in := input("g", digest("a"))
	in.Version.Provider = "absent"
	_, err := h.Create(ctx, in)
	wants(t, err, kiln.KindInvalid, "does not exist")
	h.engine.Close()
	h = open(t, dir)
	if p, err := h.Provider(owner, "web"); err != nil || p.MaxCPUs != 4 || string(p.Kept["VpcConfig"]) != string(kept["VpcConfig"]) {
		t.Errorf("%+v, %v after a restart", p, err)
	}
	_, err = h.DeleteProvider(ctx, owner, "web")
	wants(t, err, kiln.KindConflict, "in use by the function "+arn+"f:$LATEST")
	if err := h.Delete(ctx, owner, "f", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.DeleteProvider(ctx, owner, "web"); err != nil {
		t.Fatal(err)
	}
	_, err = h.DeleteProvider(ctx, owner, "web")
	wants(t, err, kiln.KindConflict, "Deleting")
	h.engine.Close()
	h = open(t, dir)
	if p, err := h.Provider(owner, "web"); err != nil || !p.Deleting {
		t.Errorf("%+v, %v after a restart", p, err)
	}
	in.Version.Provider = "web"
	_, err = h.Create(ctx, in)
	wants(t, err, kiln.KindConflict, "is being deleted")
	if err := h.RemoveProvider(ctx, owner, "web"); err != nil {
		t.Error(err)
	}
	_, err = h.Provider(owner, "web")
	wants(t, err, kiln.KindNotFound, "Capacity provider not found: arn:aws:lambda:us-east-1:000000000000:capacity-provider:web")
}

// Of a function on a capacity provider what is published is invoked: $LATEST never, $LATEST.PUBLISHED without a qualifier,
// replaced by each publishing to it once its package is good, and the old one until then. // R70
func TestLatestPublished(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	ctx := t.Context()
	h.cfg.ProvidersMax = 1
	if _, err := h.CreateProvider(ctx, Provider{Account: owner, Name: "web"}); err != nil {
		t.Fatal(err)
	}
	h.onProvider("f", "web", digest("a"))
	runs := func(qualifier string) string {
		r, err := h.Resolve(owner, "f", qualifier)
		if err != nil {
			return err.Error()
		}
		return r.Version.Number + " " + string(r.Version.Package[:1])
	}
	_, err := h.Resolve(owner, "f", "")
	wants(t, err, kiln.KindInvalid, "has no published version to invoke")
	_, err = h.Resolve(owner, "f", kiln.Latest)
	wants(t, err, kiln.KindConflict, "ActiveNonInvocable")
	if c, err := h.Get(owner, "f", ""); err != nil || c.State != StateNonInvocable {
		t.Errorf("%+v, %v", c.Status, err)
	}
	publish := func() {
		t.Helper()
		c, err := h.PublishVersion(ctx, owner, "f", PublishInput{Latest: true})
		if err != nil || c.Version.Number != kiln.LatestPublished || c.State != StateActive {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	publish()
	if got := runs(""); got != "$LATEST.PUBLISHED a" {
		t.Error(got)
	}
	if _, err := h.UpdateCode(ctx, owner, "f", CodeUpdate{Package: digest("b"), PublishLatest: true}); err != nil {
		t.Fatal(err)
	}
	if got := runs(""); got != "$LATEST.PUBLISHED a" {
		t.Error("before the new one is good:", got)
	}
	h.settleNow()
	if got := runs(kiln.LatestPublished); got != "$LATEST.PUBLISHED b" {
		t.Error("after:", got)
	}
	h.verdict[digest("c")] = kiln.Errorf(kiln.KindCorrupt, "test", "bad")
	if _, err := h.UpdateCode(ctx, owner, "f", CodeUpdate{Package: digest("c"), PublishLatest: true}); err != nil {
		t.Fatal(err)
	}
	h.settleNow()
	if got := runs(""); got != "$LATEST.PUBLISHED b" {
		t.Error("the new one is bad:", got)
	}
	h.engine.Close()
	h = open(t, dir)
	if got := runs(""); got != "$LATEST.PUBLISHED b" {
		t.Error("after a restart:", got)
	}
	list, _, err := h.Versions(owner, "f", Page{})
	if err != nil || len(list) != 2 || list[1].Version.Number != kiln.LatestPublished {
		t.Errorf("%d versions, %v", len(list), err)
	}
	page, next, err := h.ProviderVersions(owner, "web", Page{})
	if err != nil || next != "" || len(page) != 1 || page[0].Version.Number != kiln.LatestPublished {
		t.Errorf("on the provider: %+v, %q, %v", page, next, err)
	}
	h.create("plain", digest("a"))
	_, err = h.PublishVersion(ctx, owner, "plain", PublishInput{Latest: true})
	wants(t, err, kiln.KindInvalid, "on a capacity provider only")
	_, err = h.UpdateConfiguration(ctx, owner, "plain", "", func(v *kiln.Version) error { v.Provider = "web"; return nil })
	wants(t, err, kiln.KindInvalid, "cannot move")
	if err := h.Delete(ctx, owner, "f", kiln.LatestPublished); err != nil {
		t.Error(err)
	}
	_, err = h.Resolve(owner, "f", "")
	wants(t, err, kiln.KindInvalid, "has no published version")
}

// Scaling bounds a version's containers: the least is promised, the most held by admission, and none makes it Deactivated;
// of a function that is on no capacity provider it is refused. // R36
func TestScaling(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	ctx := t.Context()
	h.cfg.ProvidersMax = 1
	if _, err := h.CreateProvider(ctx, Provider{Account: owner, Name: "web"}); err != nil {
		t.Fatal(err)
	}
	h.onProvider("f", "web", digest("a"))
	h.publish("f")
	put := func(least, most int) (State, error) {
		return h.PutScaling(ctx, owner, "f", "1", Scaling{Min: &least, Max: &most})
	}
	if s, err := put(2, 3); err != nil || s != StateActive {
		t.Fatal(s, err)
	}
	terms := func() string {
		for r := range h.Reservations() {
			return fmt.Sprint(r.Terms.Most)
		}
		return "none"
	}
	if got := fmt.Sprintf("%v %v", h.promised("f"), terms()); got != "map[1:2] map[1:12]" {
		t.Error("promised and most, of four executions a container:", got)
	}
	h.engine.Close()
	h = open(t, dir)
	if got := fmt.Sprintf("%v %v", h.promised("f"), terms()); got != "map[1:2] map[1:12]" {
		t.Error("after a restart:", got)
	}
	_, err := put(4, 3)
	wants(t, err, kiln.KindInvalid, "must not be greater")
	if s, err := put(0, 0); err != nil || s != StateDeactivated {
		t.Error(s, err)
	}
	_, err = h.Resolve(owner, "f", "1")
	wants(t, err, kiln.KindConflict, "Deactivated")
	if s, err := put(0, 1); err != nil || s != StateActive {
		t.Error(s, err)
	}
	if _, err := h.Provision(ctx, owner, "f", "1", 1); kiln.KindOf(err) != kiln.KindInvalid {
		t.Errorf("provisioned concurrency on a capacity provider: %v", err)
	}
	h.create("plain", digest("a"))
	h.publish("plain")
	_, err = h.PutScaling(ctx, owner, "plain", "1", Scaling{})
	wants(t, err, kiln.KindInvalid, "not on a capacity provider")
	_, err = h.PutScaling(ctx, owner, "f", "7", Scaling{})
	wants(t, err, kiln.KindNotFound, "Function not found: "+arn+"f:7")
}

// Publishing on a capacity provider waits for whoever changes providers, and is given up with its request; elsewhere it does
// not wait.
func TestPublishingHoldsOthersOff(t *testing.T) {
	h := open(t, t.TempDir())
	h.cfg.ProvidersMax = 1
	if _, err := h.CreateProvider(t.Context(), Provider{Account: owner, Name: "web"}); err != nil {
		t.Fatal(err)
	}
	h.onProvider("f", "web", digest("a"))
	h.create("g", digest("a"))
	h.settleNow()
	unlock, err := h.alone(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, latest := range []bool{false, true} {
		_, err = h.PublishVersion(ctx, owner, "f", PublishInput{Latest: latest})
		wants(t, err, kiln.KindUnavailable, "the request was given up")
	}
	if _, err := h.PublishVersion(t.Context(), owner, "g", PublishInput{}); err != nil {
		t.Error(err)
	}
}
