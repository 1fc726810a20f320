package registry

import (
	"testing"

	"kiln"
)

// The tag kiln:concurrency declares executions at once in one container: at creation, later, and no more when it is taken
// away; each time in a revision of its own, which $LATEST has at once. Published versions keep what they were published
// with, other tags change nothing, and what is no number in the bounds is refused. // R43 R45
func TestConcurrencyIsDeclaredByTag(t *testing.T) {
	h := open(t, t.TempDir())
	in := input("f", digest("a"))
	in.Tags = map[string]string{TagConcurrency: "4"}
	if _, err := h.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	h.settleNow()
	revisions := map[string]bool{}
	latest := func(want int) {
		t.Helper()
		eventually(t, func() bool {
			v, err := h.Resolve(owner, "f", "")
			if err != nil || v.Version.Concurrency != want {
				return false
			}
			revisions[v.Version.Revision] = true
			return true
		})
	}
	latest(4)
	if _, err := h.PublishVersion(t.Context(), owner, "f", PublishInput{}); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "0", "-1", "65", "2.5", "many"} {
		wants(t, h.SetTags(t.Context(), owner, "f", map[string]string{TagConcurrency: wrong}), kiln.KindInvalid, TagConcurrency)
		in := input("g", digest("a"))
		in.Tags = map[string]string{TagConcurrency: wrong}
		_, err := h.Create(t.Context(), in)
		wants(t, err, kiln.KindInvalid, TagConcurrency)
	}
	if err := h.SetTags(t.Context(), owner, "f", map[string]string{"other": "x"}); err != nil {
		t.Fatal(err)
	}
	latest(4)
	if len(revisions) != 1 {
		t.Errorf("another tag made a revision: %v", revisions)
	}
	if err := h.SetTags(t.Context(), owner, "f", map[string]string{TagConcurrency: "9"}); err != nil {
		t.Fatal(err)
	}
	latest(9)
	if err := h.RemoveTags(t.Context(), owner, "f", []string{TagConcurrency}); err != nil {
		t.Fatal(err)
	}
	latest(0)
	if len(revisions) != 3 {
		t.Errorf("%d revisions of three declarations", len(revisions))
	}
	h.cfg.ProvidersMax = 1
	if _, err := h.CreateProvider(t.Context(), Provider{Account: owner, Name: "p"}); err != nil {
		t.Fatal(err)
	}
	h.onProvider("provided", "p", digest("a")) // with 4
	if err := h.SetTags(t.Context(), owner, "provided", map[string]string{TagConcurrency: "3"}); err != nil {
		t.Fatal(err)
	}
	if v, err := h.Get(owner, "provided", ""); err != nil || v.Version.Concurrency != 4 {
		t.Errorf("on a capacity provider: %+v, %v", v, err)
	}
	if v, err := h.Resolve(owner, "f", "1"); err != nil || v.Version.Concurrency != 4 {
		t.Errorf("the published version: %+v, %v", v, err)
	}
}
