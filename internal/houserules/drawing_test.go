package houserules

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write docs/house.svg anew")

// TestDrawing shows that docs/house.svg is the house as it is.
func TestDrawing(t *testing.T) {
	root := repository(t)
	want, err := Draw(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "docs", "house.svg")
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/house.svg is not the house as it is (%v); run: go test ./internal/houserules -run TestDrawing -update", err)
	}
}

// TestDrawingOfAHouse shows that what follows from other imports is left out, that tests' imports are none, and that the
// drawing is XML and always the same.
func TestDrawingOfAHouse(t *testing.T) {
	files := fstest.MapFS{}
	put := func(name string, imports ...string) {
		var b strings.Builder
		b.WriteString(pkgDoc("x") + "package " + filepath.Base(filepath.Dir(name)) + "\n")
		for _, i := range imports {
			b.WriteString("import _ \"kiln/" + i + "\"\n")
		}
		files[name] = &fstest.MapFile{Data: []byte(b.String())}
	}
	put("internal/server/server.go", "internal/pool", "internal/node", "internal/engine")
	put("internal/pool/pool.go", "internal/node")
	put("internal/pool/pool_test.go", "internal/engine")
	put("internal/node/node.go")
	put("internal/engine/engine.go")
	packages, _, err := read(files)
	if err != nil {
		t.Fatal(err)
	}
	imports := reduced(importsOf(packages))
	if got := strings.Join(imports["internal/server"], " "); got != "internal/engine internal/pool" {
		t.Errorf("server imports %q", got)
	}
	if got := imports["internal/pool"]; len(got) != 1 {
		t.Errorf("pool imports %q", got)
	}
	first, err := Draw(files)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Draw(files); !bytes.Equal(first, again) {
		t.Error("drawn twice it is two drawings")
	}
	for d := xml.NewDecoder(bytes.NewReader(first)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
