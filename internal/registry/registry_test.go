package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
	"kiln/internal/engine"
	"kiln/internal/fleet"
)

const (
	owner    = kiln.AccountID("000000000000")
	stranger = kiln.AccountID("111111111111")
	arn      = "arn:aws:lambda:us-east-1:000000000000:function:"
)

// digest gives a package's digest for tests.
func digest(c string) kiln.Digest { return kiln.Digest(strings.Repeat(c, 64)) }

// house is a registry over an engine, with a verifier the test controls.
type house struct {
	*Registry
	t      testing.TB
	engine *engine.Engine

	mu      sync.Mutex
	verdict map[kiln.Digest]error // guarded by mu: nil when absent
	gone    []Gone                // guarded by mu
	chance  float64
}

func openEngine(t testing.TB, dir string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// open opens a registry; settle runs it.
func open(t testing.TB, dir string) *house {
	t.Helper()
	h := &house{t: t, engine: openEngine(t, dir), verdict: map[kiln.Digest]error{}}
	r, err := Open(t.Context(), h.engine, Config{
		Verify: func(_ context.Context, d kiln.Digest) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.verdict[d]
		},
		Changed: func(g Gone) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.gone = append(h.gone, g)
		},
		Chance: func() float64 { return h.chance },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Registry = r
	return h
}

// settleNow settles all functions that wait, as Run does.
func (h *house) settleNow() {
	h.t.Helper()
	for {
		f, ok := h.nextUnsettled()
		if !ok {
			return
		}
		if err := h.settle(h.t.Context(), f, true); err != nil {
			h.t.Fatal(err)
		}
	}
}

// create makes a function that is active.
func (h *house) create(name string, d kiln.Digest) Configuration {
	h.t.Helper()
	c, err := h.Create(h.t.Context(), input(name, d))
	if err != nil {
		h.t.Fatal(err)
	}
	h.settleNow()
	return c
}

func input(name string, d kiln.Digest) CreateInput {
	return CreateInput{Version: kiln.Version{Account: owner, Function: name, Package: d, PackageBytes: 100, Runtime: "python3.11",
		Handler: "a.b", MemoryMiB: 128, TimeoutMillis: 3000}}
}

// publish publishes a version and gives its number.
func (h *house) publish(name string) string {
	h.t.Helper()
	c, err := h.PublishVersion(h.t.Context(), owner, name, PublishInput{})
	if err != nil {
		h.t.Fatal(err)
	}
	return c.Version.Number
}

// update gives a function new code that is active.
func (h *house) update(name string, d kiln.Digest) {
	h.t.Helper()
	if _, err := h.UpdateCode(h.t.Context(), owner, name, CodeUpdate{Package: d, PackageBytes: 100}); err != nil {
		h.t.Fatal(err)
	}
	h.settleNow()
}

// wants fails the test unless an error is of a kind and says a text.
func wants(t testing.TB, err error, kind kiln.Kind, text string) {
	t.Helper()
	e, ok := errors.AsType[*kiln.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Message, text) {
		t.Fatalf("got %v, want %s %q", err, kind, text)
	}
}

// eventually waits until something is so, and fails the test after ten seconds.
func eventually(t testing.TB, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come about")
		}
	}
}

// A name resolves to its version only once its package is verified, in its own account only, with AWS's texts for all that
// does not. R1
func TestCreateAndResolve(t *testing.T) {
	h := open(t, t.TempDir())
	made, err := h.Create(t.Context(), input("f", digest("a")))
	if err != nil || made.State != StatePending || made.Version.Number != kiln.Latest || made.Version.Revision == "" {
		t.Fatal(made, err)
	}
	_, err = h.Resolve(owner, "f", "")
	wants(t, err, kiln.KindConflict,
		"The operation cannot be performed at this time. The function is currently in the following state: Pending")
	h.settleNow()
	for _, qualifier := range []string{"", kiln.Latest} {
		got, err := h.Resolve(owner, "f", qualifier)
		if err != nil || got.Version.Package != digest("a") || got.Alias != "" {
			t.Fatal(got, err)
		}
	}
	_, err = h.Resolve(owner, "g", "")
	wants(t, err, kiln.KindNotFound, "Function not found: "+arn+"g")
	_, err = h.Resolve(owner, "f", "7")
	wants(t, err, kiln.KindNotFound, "Function not found: "+arn+"f:7")
	_, err = h.Resolve(stranger, "f", "")
	wants(t, err, kiln.KindNotFound, "Function not found: arn:aws:lambda:us-east-1:111111111111:function:f")
	_, err = h.Create(t.Context(), input("f", digest("b")))
	wants(t, err, kiln.KindConflict, "Function already exist: f")
	if _, _, err := h.Versions(stranger, "f", Page{}); kiln.KindOf(err) != kiln.KindNotFound {
		t.Fatal(err)
	}
	if list, _, _ := h.List(stranger, true, Page{}); len(list) != 0 {
		t.Fatal(list)
	}
}

// An update runs only once its package is verified; one that fails keeps the old code and says why; while one is under way
// there is no other, and no version.
func TestUpdate(t *testing.T) {
	h := open(t, t.TempDir())
	first := h.create("f", digest("a"))
	h.verdict[digest("b")] = kiln.Errorf(kiln.KindCorrupt, "code: verify", "the package is damaged")
	c, err := h.UpdateCode(t.Context(), owner, "f", CodeUpdate{Package: digest("b"), Revision: first.Version.Revision})
	if err != nil || c.LastUpdate != UpdateInProgress || c.State != StateActive || c.Version.Package != digest("b") {
		t.Fatal(c, err)
	}
	runs := func(want kiln.Digest) {
		t.Helper()
		if got, err := h.Resolve(owner, "f", ""); err != nil || got.Version.Package != want {
			t.Fatal(got, err)
		}
	}
	runs(digest("a"))
	_, err = h.UpdateCode(t.Context(), owner, "f", CodeUpdate{Package: digest("c")})
	wants(t, err, kiln.KindConflict, "An update is in progress for resource: "+arn+"f")
	_, err = h.PublishVersion(t.Context(), owner, "f", PublishInput{})
	wants(t, err, kiln.KindConflict, "An update is in progress")
	h.settleNow()
	runs(digest("a"))
	if c, _ := h.Get(owner, "f", ""); c.LastUpdate != UpdateFailed || c.LastUpdateReason != "the package is damaged" ||
		c.Version.Revision != first.Version.Revision {
		t.Fatal(c)
	}
	if h.References(digest("b")) {
		t.Fatal("a failed update is still referenced")
	}
	h.update("f", digest("c"))
	runs(digest("c"))
	c, err = h.UpdateConfiguration(t.Context(), owner, "f", "", func(v *kiln.Version) error {
		v.MemoryMiB, v.Environment = 256, map[string]string{"A": "1"}
		v.Account = stranger // is put back
		return nil
	})
	if err != nil || c.Version.MemoryMiB != 256 || c.Version.Account != owner {
		t.Fatal(c, err)
	}
	h.settleNow()
	_, err = h.UpdateCode(t.Context(), owner, "f", CodeUpdate{Package: digest("d"), Revision: first.Version.Revision})
	wants(t, err, kiln.KindPrecondition, "Revision Id")
	if c, err := h.UpdateCode(t.Context(), owner, "f", CodeUpdate{Package: digest("d"), DryRun: true}); err != nil ||
		c.Version.Package != digest("d") {
		t.Fatal(c, err)
	}
	runs(digest("c"))
	if got, _ := h.Resolve(owner, "f", ""); got.Version.MemoryMiB != 256 || got.Version.Environment["A"] != "1" {
		t.Fatal(got)
	}
}

// What was hashed while it was stored is not read again: a function is active with the write that makes it, new code runs
// with the write that gives it, and so do versions published with either.
func TestStoredIsNotVerifiedAgain(t *testing.T) {
	h := open(t, t.TempDir())
	for _, d := range []kiln.Digest{digest("a"), digest("b")} {
		h.verdict[d] = kiln.Errorf(kiln.KindCorrupt, "code: verify", "it was read again")
	}
	in := input("f", digest("a"))
	in.Publish, in.Stored = true, true
	c, err := h.Create(t.Context(), in)
	if err != nil || c.State != StateActive || c.LastUpdate != UpdateSuccessful || c.Version.Number != "1" {
		t.Fatal(c, err)
	}
	c, err = h.UpdateCode(t.Context(), owner, "f", CodeUpdate{Package: digest("b"), PackageBytes: 100, Publish: true, Stored: true})
	if err != nil || c.State != StateActive || c.LastUpdate != UpdateSuccessful || c.Version.Number != "2" {
		t.Fatal(c, err)
	}
	if f, ok := h.nextUnsettled(); ok {
		t.Errorf("%v waits", f)
	}
	for qualifier, want := range map[string]kiln.Digest{"": digest("b"), "1": digest("a"), "2": digest("b")} {
		if got, err := h.Resolve(owner, "f", qualifier); err != nil || got.Version.Package != want {
			t.Errorf("%q is %v, %v", qualifier, got, err)
		}
	}
}

// A new function whose package is bad fails for good, says so, and can be mended by new code.
func TestFailedFunction(t *testing.T) {
	h := open(t, t.TempDir())
	h.verdict[digest("a")] = kiln.Errorf(kiln.KindCorrupt, "code: verify", "the package is damaged")
	in := input("f", digest("a"))
	in.Publish = true
	if c, err := h.Create(t.Context(), in); err != nil || c.Version.Number != "1" || c.State != StatePending {
		t.Fatal(c, err)
	}
	h.settleNow()
	for _, qualifier := range []string{"", "1"} {
		_, err := h.Resolve(owner, "f", qualifier)
		wants(t, err, kiln.KindConflict, "currently in the following state: Failed")
		if c, err := h.Get(owner, "f", qualifier); err != nil || c.State != StateFailed || c.StateReason != "the package is damaged" {
			t.Fatal(c, err)
		}
	}
	h.update("f", digest("b"))
	if _, err := h.Resolve(owner, "f", ""); err != nil {
		t.Fatal(err)
	}
	_, err := h.Resolve(owner, "f", "1")
	wants(t, err, kiln.KindConflict, "Failed")
}

// Versions keep what they were published from, get rising numbers that are not used again, and are made only when something
// has changed; preconditions are held.
func TestPublish(t *testing.T) {
	h := open(t, t.TempDir())
	c := h.create("f", digest("a"))
	_, err := h.PublishVersion(t.Context(), owner, "f", PublishInput{Revision: "other"})
	wants(t, err, kiln.KindPrecondition, "")
	_, err = h.PublishVersion(t.Context(), owner, "f", PublishInput{CodeSHA256: "other"})
	wants(t, err, kiln.KindInvalid, "CodeSHA256 (other) is different from current CodeSHA256 in $LATEST")
	v, err := h.PublishVersion(t.Context(), owner, "f", PublishInput{Description: "one", Revision: c.Version.Revision,
		CodeSHA256: CodeSHA256(digest("a"))})
	if err != nil || v.Version.Number != "1" || v.Version.Description != "one" || v.State != StateActive {
		t.Fatal(v, err)
	}
	if number := h.publish("f"); number != "1" {
		t.Fatalf("nothing changed, and there is version %s", number)
	}
	h.update("f", digest("a")) // the same code again
	if number := h.publish("f"); number != "1" {
		t.Fatalf("nothing differs, and there is version %s", number)
	}
	h.update("f", digest("b"))
	if number := h.publish("f"); number != "2" {
		t.Fatal(number)
	}
	if got, err := h.Resolve(owner, "f", "1"); err != nil || got.Version.Package != digest("a") {
		t.Fatal(got, err)
	}
	if err := h.Delete(t.Context(), owner, "f", "2"); err != nil {
		t.Fatal(err)
	}
	_, err = h.Resolve(owner, "f", "2")
	wants(t, err, kiln.KindNotFound, "")
	if number := h.publish("f"); number != "3" {
		t.Fatalf("version %s", number)
	}
	c, err = h.UpdateCode(t.Context(), owner, "f", CodeUpdate{Package: digest("c"), Publish: true})
	if err != nil || c.Version.Number != "4" {
		t.Fatal(c, err)
	}
	_, err = h.Resolve(owner, "f", "4")
	wants(t, err, kiln.KindConflict, "Pending")
	h.settleNow()
	if got, err := h.Resolve(owner, "f", "4"); err != nil || got.Version.Package != digest("c") {
		t.Fatal(got, err)
	}
}

// An alias resolves to its version, or by chance to another in its share; it holds its versions; its own rules are kept.
func TestAliases(t *testing.T) {
	h := open(t, t.TempDir())
	h.create("f", digest("a"))
	h.publish("f")
	h.update("f", digest("b"))
	h.publish("f")
	ctx := t.Context()
	made, err := h.CreateAlias(ctx, owner, "f", Alias{Name: "live", Version: "1"})
	if err != nil || made.Revision == "" {
		t.Fatal(made, err)
	}
	_, err = h.CreateAlias(ctx, owner, "f", Alias{Name: "live", Version: "1"})
	wants(t, err, kiln.KindConflict, "Alias already exists: "+arn+"f:live")
	_, err = h.CreateAlias(ctx, owner, "f", Alias{Name: "x", Version: "9"})
	wants(t, err, kiln.KindNotFound, "Function not found: "+arn+"f:9")
	_, err = h.Alias(owner, "f", "x")
	wants(t, err, kiln.KindNotFound, "Cannot find alias arn: "+arn+"f:x")
	for text, weights := range map[string]map[string]float64{
		"cannot be greater than 1": {"2": 0.1, "3": 0.1},
		"$LATEST":                  {kiln.Latest: 0.5},
		"already included":         {"1": 0.5},
		"between":                  {"2": 1.5},
	} {
		_, err := h.UpdateAlias(ctx, owner, "f", "live", AliasUpdate{Weights: weights})
		wants(t, err, kiln.KindInvalid, text)
	}
	_, err = h.UpdateAlias(ctx, owner, "f", "live", AliasUpdate{Weights: map[string]float64{"2": 0.25}, Revision: "other"})
	wants(t, err, kiln.KindPrecondition, "GetAlias")
	if _, err := h.UpdateAlias(ctx, owner, "f", "live", AliasUpdate{Weights: map[string]float64{"2": 0.25},
		Revision: made.Revision}); err != nil {
		t.Fatal(err)
	}
	for chance, number := range map[float64]string{0: "2", 0.24: "2", 0.25: "1", 0.99: "1"} {
		h.chance = chance
		if got, err := h.Resolve(owner, "f", "live"); err != nil || got.Version.Number != number || got.Alias != "live" {
			t.Fatal(chance, got, err)
		}
	}
	for _, number := range []string{"1", "2"} {
		wants(t, h.Delete(ctx, owner, "f", number), kiln.KindConflict,
			"Unable to delete version because the following aliases reference it: [live]")
		if list, _, err := h.Aliases(owner, "f", number, Page{}); err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
	}
	wants(t, h.Delete(ctx, owner, "f", "live"), kiln.KindInvalid, "aliases")
	wants(t, h.Delete(ctx, owner, "f", kiln.Latest), kiln.KindInvalid, "$LATEST version cannot be deleted")
	wants(t, h.Delete(ctx, owner, "f", "9"), kiln.KindNotFound, arn+"f:9")
	for range 2 { // the second time there is nothing to delete
		if err := h.DeleteAlias(ctx, owner, "f", "live"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Delete(ctx, owner, "f", "1"); err != nil {
		t.Fatal(err)
	}
}

// Whoever keeps things by version or package hears of each version that is gone, and whether its package is still in use.
func TestGone(t *testing.T) {
	h := open(t, t.TempDir())
	h.create("f", digest("a"))
	h.publish("f") // the version holds package a
	check := func(want ...string) {
		t.Helper()
		h.mu.Lock()
		defer h.mu.Unlock()
		var got []string
		for _, g := range h.gone {
			got = append(got, fmt.Sprintf("%s %.1s %t", g.Version.Number, g.Version.Package, g.Unreferenced))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		h.gone = nil
	}
	h.update("f", digest("b"))
	check("$LATEST a false")
	if err := h.Delete(t.Context(), owner, "f", "1"); err != nil {
		t.Fatal(err)
	}
	check("1 a true")
	if h.References(digest("a")) || !h.References(digest("b")) {
		t.Fatal("references are wrong")
	}
	if u := h.Usage(owner); u != (Usage{Functions: 1, CodeBytes: 100}) {
		t.Fatal(u)
	}
	if err := h.Delete(t.Context(), owner, "f", ""); err != nil {
		t.Fatal(err)
	}
	check("$LATEST b true")
	wants(t, h.Delete(t.Context(), owner, "f", ""), kiln.KindNotFound, arn+"f")
	if u := h.Usage(owner); u != (Usage{}) {
		t.Fatal(u)
	}
}

// Everything is there after a restart; what was not yet verified is settled by the next Run; versions that no function lists
// are removed. R1
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.create("f", digest("a"))
	h.publish("f")
	if _, err := h.CreateAlias(t.Context(), owner, "f", Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Create(t.Context(), input("g", digest("b"))); err != nil {
		t.Fatal(err)
	}
	orphan := versionKey(owner, "f", "orphan")
	if _, err := h.docs.Create(t.Context(), orphan, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Close(); err != nil {
		t.Fatal(err)
	}
	h = open(t, dir)
	if got, err := h.Resolve(owner, "f", "live"); err != nil || got.Version.Package != digest("a") {
		t.Fatal(got, err)
	}
	if _, there := h.docs.Get(orphan); there {
		t.Fatal("the orphan is still there")
	}
	_, err := h.Resolve(owner, "g", "")
	wants(t, err, kiln.KindConflict, "Pending")
	h.settleNow()
	if _, err := h.Resolve(owner, "g", ""); err != nil {
		t.Fatal(err)
	}
}

// What verifying says of one function is not taken for another that has its name by then.
func TestVerdictOfAnotherFunction(t *testing.T) {
	var r *Registry
	var open bool
	r, err := Open(t.Context(), openEngine(t, t.TempDir()), Config{Logger: slog.New(slog.DiscardHandler),
		Verify: func(ctx context.Context, _ kiln.Digest) error {
			if open {
				return nil
			}
			open = true
			if err := r.Delete(ctx, owner, "f", ""); err != nil {
				t.Error(err)
			}
			_, err := r.Create(ctx, input("f", digest("b")))
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), input("f", digest("a"))); err != nil {
		t.Fatal(err)
	}
	h := &house{Registry: r, t: t}
	first, _ := r.nextUnsettled()
	if err := r.settle(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	_, err = r.Resolve(owner, "f", "")
	wants(t, err, kiln.KindConflict, "Pending")
	h.settleNow()
	if got, err := r.Resolve(owner, "f", ""); err != nil || got.Version.Package != digest("b") {
		t.Fatal(got, err)
	}
}

// Run makes functions active by itself, tries again what is out of reach for the moment, and ends with its context.
func TestRun(t *testing.T) {
	e := openEngine(t, t.TempDir())
	tries := make(chan int, 10)
	n := 0
	r, err := Open(t.Context(), e, Config{Logger: slog.New(slog.DiscardHandler),
		Verify: func(context.Context, kiln.Digest) error {
			n++ // one function: one call at a time
			tries <- n
			if n == 1 {
				return kiln.Errorf(kiln.KindUnavailable, "code: verify", "not now")
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.Create(t.Context(), input("f", digest("a"))); err != nil {
		t.Fatal(err)
	}
	<-tries
	<-tries
	eventually(t, func() bool {
		_, err := r.Resolve(owner, "f", "")
		return err == nil
	})
	stop()
	run.Wait()
}

// Sixteen callers change one function at once and none of their changes is lost.
func TestConcurrentChanges(t *testing.T) {
	h := open(t, t.TempDir())
	h.create("f", digest("a"))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := h.SetTags(t.Context(), owner, "f", map[string]string{fmt.Sprint(i): "x"}); err != nil {
				t.Error(err)
			}
			if _, err := h.CreateAlias(t.Context(), owner, "f", Alias{Name: fmt.Sprint("a", i), Version: kiln.Latest}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tags, _ := h.Tags(owner, "f")
	aliases, _, _ := h.Aliases(owner, "f", "", Page{})
	if len(tags) != 16 || len(aliases) != 16 {
		t.Fatal(len(tags), len(aliases))
	}
	if err := h.RemoveTags(t.Context(), owner, "f", []string{"0", "1", "none"}); err != nil {
		t.Fatal(err)
	}
	if tags, _ := h.Tags(owner, "f"); len(tags) != 14 {
		t.Fatal(tags)
	}
}

// Lists come in pages, in order, each thing once; a marker nobody gave is refused.
func TestPages(t *testing.T) {
	h := open(t, t.TempDir())
	for _, name := range []string{"c", "a", "e", "b", "d"} {
		h.create(name, digest("a"))
	}
	for i := range 11 {
		h.update("a", digest(fmt.Sprintf("%x", i)))
		h.publish("a")
	}
	walk := func(list func(Page) ([]Configuration, string, error)) (got []string) {
		t.Helper()
		for page := (Page{Limit: 2}); ; {
			items, next, err := list(page)
			if err != nil || len(items) > 2 {
				t.Fatal(items, err)
			}
			for _, c := range items {
				got = append(got, c.Version.Function+":"+c.Version.Number)
			}
			if next == "" {
				return got
			}
			page.Marker = next
		}
	}
	got := walk(func(p Page) ([]Configuration, string, error) { return h.List(owner, false, p) })
	if want := "[a:$LATEST b:$LATEST c:$LATEST d:$LATEST e:$LATEST]"; fmt.Sprint(got) != want {
		t.Fatalf("got %v", got)
	}
	got = walk(func(p Page) ([]Configuration, string, error) { return h.Versions(owner, "a", p) })
	if want := "[a:$LATEST a:1 a:2 a:3 a:4 a:5 a:6 a:7 a:8 a:9 a:10 a:11]"; fmt.Sprint(got) != want {
		t.Fatalf("got %v", got)
	}
	got = walk(func(p Page) ([]Configuration, string, error) { return h.List(owner, true, p) })
	if len(got) != 5+11 || got[11] != "a:11" || got[12] != "b:$LATEST" {
		t.Fatalf("got %v", got)
	}
	_, _, err := h.List(owner, false, Page{Marker: "!"})
	wants(t, err, kiln.KindInvalid, "Marker")
}

// What is over a bound is refused, by AWS's code where it has one.
func TestLimits(t *testing.T) {
	h := open(t, t.TempDir())
	in := input("f", digest("a"))
	in.Version.Environment = map[string]string{"A": strings.Repeat("x", MaxEnvironmentBytes)}
	_, err := h.Create(t.Context(), in)
	wants(t, err, kiln.KindInvalid, "exceeded the 4KB limit")
	in.Version.Environment = map[string]string{"AWS_REGION": "x", "_HANDLER": "y"}
	_, err = h.Create(t.Context(), in)
	wants(t, err, kiln.KindInvalid, "Reserved keys used in this request: AWS_REGION, _HANDLER")
	in.Version.Environment = nil
	in.Tags = map[string]string{}
	for i := range MaxTags + 1 {
		in.Tags[fmt.Sprint(i)] = ""
	}
	_, err = h.Create(t.Context(), in)
	wants(t, err, kiln.KindInvalid, "tags")
	in.Tags = nil
	in.Version.PackageBytes = MaxCodeBytes
	if _, err := h.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, err = h.Create(t.Context(), input("g", digest("b")))
	wants(t, err, kiln.KindLimit, "Code storage limit exceeded.")
	h.settleNow()
	_, err = h.PublishVersion(t.Context(), owner, "f", PublishInput{})
	wants(t, err, kiln.KindLimit, "Code storage limit exceeded.")
	f := &Function{Versions: make([]Published, MaxVersions), Latest: &kiln.Version{}}
	_, err = h.Registry.publish("op", f, "")
	wants(t, err, kiln.KindLimit, "versions")
}

// Resolving allocates nothing, weighted aliases included.
func TestResolveDoesNotAllocate(t *testing.T) {
	h := open(t, t.TempDir())
	h.create("f", digest("a"))
	h.publish("f")
	if _, err := h.CreateAlias(t.Context(), owner, "f", Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	for _, qualifier := range []string{"", "1", "live"} {
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := h.Resolve(owner, "f", qualifier); err != nil {
				t.Fatal(err)
			}
		}); n >= 1 {
			t.Errorf("%q: %v allocations", qualifier, n)
		}
	}
}

// BenchmarkResolve measures the hot path.
func BenchmarkResolve(b *testing.B) {
	h := open(b, b.TempDir())
	h.create("f", digest("a"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Resolve(owner, "f", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// The tag kiln:fleet pins a function to one of the two fleets; what names none is refused at the creation and later, and
// changes nothing. // R56
func TestFleetTag(t *testing.T) {
	h := open(t, t.TempDir())
	bad := input("bad", digest("a"))
	bad.Tags = map[string]string{TagFleet: "fast"}
	_, err := h.Create(t.Context(), bad)
	wants(t, err, kiln.KindInvalid, kiln.FleetHighVolume)
	good := input("f", digest("a"))
	good.Tags = map[string]string{TagFleet: kiln.FleetHighVolume}
	if _, err := h.Create(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	wants(t, h.SetTags(t.Context(), owner, "f", map[string]string{TagFleet: ""}), kiln.KindInvalid, TagFleet)
	if pin, ok := h.Pin(owner, "f"); !ok || pin != fleet.PinHigh {
		t.Errorf("pin %v", pin)
	}
	if err := h.RemoveTags(t.Context(), owner, "f", []string{TagFleet}); err != nil {
		t.Fatal(err)
	}
	if pin, ok := h.Pin(owner, "f"); !ok || pin != fleet.Free {
		t.Errorf("pin %v after the tag was removed", pin)
	}
	h.cfg.ProvidersMax = 1
	if _, err := h.CreateProvider(t.Context(), Provider{Account: owner, Name: "web"}); err != nil {
		t.Fatal(err)
	}
	on := input("on", digest("a"))
	on.Version.Provider, on.Version.Concurrency = "web", 4
	on.Tags = map[string]string{TagFleet: kiln.FleetHighVolume}
	if _, err := h.Create(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	if pin, ok := h.Pin(owner, "on"); !ok || pin != fleet.PinProvider {
		t.Errorf("pin %v of a function on a capacity provider", pin)
	}
	if _, ok := h.Pin(owner, "none"); ok {
		t.Error("a function that is not there has a pin")
	}
}
