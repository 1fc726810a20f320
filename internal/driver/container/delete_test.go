//go:build linux

package container

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"kiln"
)

// A deletion that fails is not forgotten: the container keeps its place and its range of user ids, each further attempt
// says so, of the instance too, and the first that can succeed leaves nothing (R44).
func TestDeletionIsRetried(t *testing.T) {
	h := newHarness(t, t.TempDir())
	i := h.newInstance(t)
	spec := newContainer(i.ID)
	if _, err := h.CreateContainer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	stuck := filepath.Join(h.stage.Bundle(spec.ID), "busy") // a folder that cannot be removed
	if err := os.Mkdir(stuck, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", stuck, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	for attempt := range 3 {
		if err := h.DeleteContainer(t.Context(), spec.ID); err == nil {
			t.Errorf("attempt %d: a container of which something is left counts as deleted", attempt)
		}
	}
	if err := h.DeleteInstance(t.Context(), i.ID); err == nil || h.container(spec.ID) == nil || h.instance(i.ID) == nil {
		t.Errorf("an instance with such a container counts as deleted: %v", err)
	}
	if err := unix.Unmount(stuck, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteInstance(t.Context(), i.ID); err != nil {
		t.Error(err)
	}
	if h.container(spec.ID) != nil || h.instance(i.ID) != nil {
		t.Error("what is deleted is still known")
	}
}

// Packages attached while their instance ends leave no mount, and no error but that it is gone.
func TestAttachAsItEnds(t *testing.T) {
	h := newHarness(t, t.TempDir())
	dir := packageDir(t)
	for range 20 {
		i := h.newInstance(t)
		var group sync.WaitGroup
		for n := range 200 {
			group.Go(func() {
				if err := h.AttachPackage(t.Context(), i.ID, kiln.Digest("d"+itoa(n)), dir); err != nil && kiln.KindOf(err) != kiln.KindNotFound {
					t.Error(err)
				}
			})
		}
		group.Go(func() {
			if err := h.DeleteInstance(t.Context(), i.ID); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		if _, err := os.Stat(filepath.Join(h.stage.Dir, "instances", string(i.ID))); err == nil {
			t.Fatal("the folder of the instance is left")
		}
	}
}
