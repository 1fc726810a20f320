package registry

import (
	"testing"

	"kiln"
)

// A URL is found by its id as long as it, its alias and its function are there, after a restart too, and never leads to
// another function. // R7
func TestURLs(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.create("f", digest("a"))
	h.settleNow()
	h.publish("f")
	if _, err := h.CreateAlias(t.Context(), owner, "f", Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	_, err := h.CreateURL(t.Context(), owner, "f", "absent", URLAuthNone, nil)
	wants(t, err, kiln.KindNotFound, "Function not found: "+arn+"f:absent")
	own, err := h.CreateURL(t.Context(), owner, "f", "", URLAuthIAM, &CORS{Origins: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	live, err := h.CreateURL(t.Context(), owner, "f", "live", URLAuthNone, nil)
	if err != nil || len(live.ID) != 32 || live.ID == own.ID {
		t.Fatalf("%+v %v", live, err)
	}
	_, err = h.CreateURL(t.Context(), owner, "f", "", URLAuthNone, nil)
	wants(t, err, kiln.KindConflict, "Failed to create function url config for [functionArn = "+arn+"f]. Error message:  FunctionUrlConfig exists for this Lambda function")
	if u, err := h.UpdateURL(t.Context(), owner, "f", "", URLUpdate{Auth: URLAuthNone}); err != nil || u.Auth != URLAuthNone || u.CORS == nil || u.ID != own.ID {
		t.Errorf("changed to %+v (%v)", u, err)
	}
	list, next, err := h.FunctionURLs(owner, "f", Page{Limit: 1})
	if err != nil || len(list) != 1 || next == "" || list[0].Qualifier != "" {
		t.Errorf("first page %+v %q %v", list, next, err)
	}
	if list, next, err = h.FunctionURLs(owner, "f", Page{Limit: 1, Marker: next}); err != nil || len(list) != 1 || next != "" || list[0].Qualifier != "live" {
		t.Errorf("second page %+v %q %v", list, next, err)
	}
	h.engine.Close()
	h = open(t, dir)
	if u, ok := h.URL(live.ID); !ok || u.Function != "f" || u.Qualifier != "live" || u.Account != owner {
		t.Errorf("after a restart: %+v %v", u, ok)
	}
	if err := h.DeleteAlias(t.Context(), owner, "f", "live"); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.URL(live.ID); ok {
		t.Error("the URL of a deleted alias is found")
	}
	if err := h.Delete(t.Context(), owner, "f", ""); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.URL(own.ID); ok || len(h.urls) != 0 {
		t.Error("the URL of a deleted function is found")
	}
	_, err = h.UpdateURL(t.Context(), owner, "f", "", URLUpdate{})
	wants(t, err, kiln.KindNotFound, "")
	wants(t, h.DeleteURL(t.Context(), owner, "f", ""), kiln.KindNotFound, "")
}
