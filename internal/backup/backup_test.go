package backup

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"kiln"
)

// made makes a backup of files named "f0", "f1" and so on.
func made(t testing.TB, form int, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Head{Form: form, Data: 1, Version: "v", Made: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i, text := range files {
		if err := w.Add(fmt.Sprintf("a/f%d", i), int64(len(text)), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	totals, err := w.Finish()
	if err != nil || totals.Files != len(files) {
		t.Fatalf("%+v %v", totals, err)
	}
	return out.Bytes()
}

func read(t testing.TB, b []byte) (map[string]string, error) {
	t.Helper()
	got := map[string]string{}
	_, _, err := Read(t.Context(), bytes.NewReader(b), nil, func(name string, _ int64, r io.Reader) error {
		text, err := io.ReadAll(r)
		got[name] = string(text)
		return err
	})
	return got, err
}

// What goes in comes out, the empty file too.
func TestRoundTrip(t *testing.T) {
	got, err := read(t, made(t, Form, "one", "", strings.Repeat("x", 3<<20)))
	if err != nil || len(got) != 3 || got["a/f0"] != "one" || got["a/f1"] != "" || len(got["a/f2"]) != 3<<20 {
		t.Fatalf("%d files, %v", len(got), err)
	}
}

// A backup cut off anywhere, or with any bit turned, is refused as damaged; one of a form to come says so; anything else
// is no backup.
func TestDamage(t *testing.T) {
	whole := made(t, Form, "one", "two", strings.Repeat("x", 2000))
	for cut := 0; cut < len(whole)-1024-512; cut += 97 { // what follows the manifest is tar's empty blocks
		if _, err := read(t, whole[:cut]); kiln.KindOf(err) != kiln.KindCorrupt {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for _, text := range []string{"one", "two", "xxxx"} {
		turned := bytes.Replace(whole, []byte(text), []byte(strings.ToUpper(text)), 1)
		if _, err := read(t, turned); kiln.KindOf(err) != kiln.KindCorrupt || !strings.Contains(err.Error(), "a/f") {
			t.Errorf("%s turned: %v", text, err)
		}
	}
	if _, err := read(t, made(t, Form+1)); kiln.KindOf(err) != kiln.KindUnsupported {
		t.Errorf("a form to come: %v", err)
	}
	if _, err := read(t, []byte("PK\x03\x04 something else")); kiln.KindOf(err) != kiln.KindCorrupt {
		t.Errorf("something else: %v", err)
	}
}

// Whatever stands in a file, reading it ends, and what it calls a file has a name that stays below a folder.
func FuzzRead(f *testing.F) {
	f.Add(made(f, Form, "one", "two"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = Read(t.Context(), bytes.NewReader(b), nil, func(name string, _ int64, r io.Reader) error {
			if strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") {
				t.Errorf("a file is called %q", name)
			}
			_, err := io.Copy(io.Discard, r)
			return err
		})
	})
}
