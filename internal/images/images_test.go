package images

import (
	"os"
	"path/filepath"
	"testing"

	"kiln"
)

// An identifier is served by its own interpreter, by the nearest of its language, or refused with what to do. R6
func TestLookup(t *testing.T) {
	i := &Images{found: []found{
		{"nodejs", 18, 0, kiln.Runtime{Name: "nodejs18"}}, {"nodejs", 22, 0, kiln.Runtime{Name: "nodejs22"}},
		{"provided", 0, 0, kiln.Runtime{Name: "provided"}}, {"python", 3, 11, kiln.Runtime{Name: "python3.11"}},
	}}
	for _, c := range []struct {
		aws   string
		mode  Mode
		name  string
		exact bool
		kind  kiln.Kind
	}{
		{"python3.11", Strict, "python3.11", true, 0}, {"python3.12", Nearest, "python3.11", false, 0}, {"python3.9", Nearest, "python3.11", false, 0},
		{"python3.12", Strict, "", false, kiln.KindUnsupported}, {"nodejs20.x", Nearest, "nodejs22", false, 0}, {"nodejs24.x", Nearest, "nodejs22", false, 0},
		{"nodejs18.x", Nearest, "nodejs18", true, 0}, {"provided.al2023", Strict, "provided", true, 0}, {"provided.al2", Nearest, "provided", true, 0},
		{"java21", Nearest, "", false, kiln.KindUnsupported}, {"dotnet8", Nearest, "", false, kiln.KindUnsupported}, {"ruby3.4", Nearest, "", false, kiln.KindUnsupported},
		{"cobol", Nearest, "", false, kiln.KindInvalid}, {"", Nearest, "", false, kiln.KindInvalid}, {"python2.7", Nearest, "", false, kiln.KindInvalid},
	} {
		r, exact, err := i.Lookup(c.aws, c.mode)
		if r.Name != c.name || exact != c.exact || (err != nil) != (c.name == "") || err != nil && kiln.KindOf(err) != c.kind {
			t.Errorf("%s %s: %s %v %v", c.aws, c.mode, r.Name, exact, err)
		}
	}
	if _, _, err := (&Images{}).Lookup("nodejs20.x", Nearest); kiln.KindOf(err) != kiln.KindUnsupported {
		t.Error(err)
	}
}

// Bootstraps are written once, readable by all, mended when damaged; what is no interpreter is left out.
func TestFind(t *testing.T) {
	dir, fake := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(fake, "python3.99"), []byte("#!/bin/sh\necho Python 3.99.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	i, err := Find(t.Context(), Config{Dir: dir, Folders: []string{fake, "/nonexistent"}})
	if err != nil {
		t.Fatal(err)
	}
	list := i.List()
	if len(list) != 1 || list[0].Name != "provided" || list[0].Kind != kiln.RuntimeProvided {
		t.Fatalf("found %+v", list)
	}
	file := filepath.Join(list[0].BootstrapDir, "bootstrap.py")
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(list[0].BootstrapDir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("folder: %v %v", info, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), Config{Dir: dir, Folders: []string{fake}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
		t.Errorf("not mended: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left %v", entries)
	}
}
