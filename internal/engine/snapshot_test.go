package engine

import (
	"slices"
	"testing"
)

// A snapshot has the documents in the order they were written last, whatever their keys: a head after its versions.
func TestSnapshotOrder(t *testing.T) {
	e := open(t, t.TempDir())
	d := documents(t, e, "things", nil)
	first, err := d.Create(t.Context(), "head/f", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), "version/f/1", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Update(t.Context(), "head/f", []byte("2"), first); err != nil {
		t.Fatal(err)
	}
	s := e.Snapshot()
	if len(s) != 1 || !slices.Equal(s[0].Keys, []string{"version/f/1", "head/f"}) || string(s[0].Documents[1].Value) != "2" {
		t.Errorf("%+v", s)
	}
}
