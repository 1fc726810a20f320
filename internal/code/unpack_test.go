package code_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/code"
)

// file is one entry of a zip made for a test. mode 0 makes an entry as Windows does, without a mode.
type file struct {
	name, body string
	mode       fs.FileMode
}

func makeZip(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		if f.mode != 0 {
			h.SetMode(f.mode)
		}
		out, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(f.body)); err != nil && f.body != "" {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// patchDirectory changes the table of contents' record of the first entry at an offset within it.
func patchDirectory(b []byte, offset int, value uint32) []byte {
	b = bytes.Clone(b)
	at := bytes.Index(b, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(b[at+offset:], value)
	return b
}

const (
	offsetCRC          = 16
	offsetUncompressed = 24
)

// unpack unpacks into a fresh folder that lies in another one, so that an escape can be seen.
func unpack(t testing.TB, b []byte, limits code.Limits) (dir string, contents code.Contents, err error) {
	t.Helper()
	outer := t.TempDir()
	dir = filepath.Join(outer, "in", "it")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	contents, err = code.Unpack(t.Context(), bytes.NewReader(b), int64(len(b)), root, limits)
	for _, name := range []string{outer, filepath.Join(outer, "in")} {
		if names := fileNames(t, name); len(names) != 1 {
			t.Errorf("unpacked outside: %q", names)
		}
	}
	return dir, contents, err
}

func checkZip(t testing.TB, b []byte, limits code.Limits) (code.Contents, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "zip")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return code.CheckZip(t.Context(), f, limits)
}

func manyEntries(t testing.TB, n int) []byte {
	var files []file
	for i := range n {
		files = append(files, file{name: fmt.Sprintf("f%d", i)})
	}
	return makeZip(t, files...)
}

// overlapping makes a zip whose entries all share one body, as the known bombs do.
func overlapping(t testing.TB, entries int) []byte {
	b := makeZip(t, file{name: "f000", body: strings.Repeat("\x00", 1<<20)})
	at := bytes.Index(b, []byte("PK\x01\x02"))
	end := bytes.Index(b, []byte("PK\x05\x06"))
	head, record, tail := b[:at], b[at:end], bytes.Clone(b[end:])
	out := bytes.Clone(head)
	for i := range entries {
		one := bytes.Clone(record)
		copy(one[46:], fmt.Sprintf("f%03d", i))
		out = append(out, one...)
	}
	binary.LittleEndian.PutUint16(tail[8:], uint16(entries))
	binary.LittleEndian.PutUint16(tail[10:], uint16(entries))
	binary.LittleEndian.PutUint32(tail[12:], uint32(entries*len(record)))
	return append(out, tail...)
}

const notZip = "Could not unzip uploaded file. Please check your file, then try to upload again."

// Every hostile package is refused before it is stored and again when it is unpacked, with a text for its maker, and
// writes nothing outside its folder.
// R17
func TestHostilePackages(t *testing.T) {
	link := fs.ModeSymlink | 0o777
	sound := makeZip(t, file{name: "a", body: "hello", mode: 0o644})
	for name, c := range map[string]struct {
		zip    []byte
		limits code.Limits
		text   string
	}{
		"empty file":            {zip: nil, text: "Uploaded file must be a non-empty zip"},
		"no entries":            {zip: makeZip(t), text: "Uploaded file must be a non-empty zip"},
		"not a zip":             {zip: []byte("#!/bin/sh\necho hello\n"), text: notZip},
		"truncated end":         {zip: sound[:len(sound)-10], text: notZip},
		"truncated start":       {zip: sound[20:], text: notZip},
		"wrong checksum":        {zip: patchDirectory(sound, offsetCRC, 12345), text: notZip},
		"checksum of nothing":   {zip: patchDirectory(sound, offsetCRC, 0), text: notZip},
		"declares less":         {zip: patchDirectory(sound, offsetUncompressed, 3), text: notZip},
		"declares more":         {zip: patchDirectory(sound, offsetUncompressed, 7), text: notZip},
		"declares huge":         {zip: patchDirectory(sound, offsetUncompressed, 1<<31), text: "Unzipped size must be smaller than 262144000 bytes"},
		"over the size":         {zip: sound, limits: code.Limits{MaxBytes: 4}, text: "Unzipped size must be smaller than 4 bytes"},
		"shared bodies":         {zip: overlapping(t, 50), text: "The package unpacks to more than 1100 times its size."},
		"many shared bodies":    {zip: overlapping(t, 400), text: "Unzipped size must be smaller than 262144000 bytes"},
		"too many entries":      {zip: manyEntries(t, 11), limits: code.Limits{MaxEntries: 10}, text: "The package has more than 10 entries."},
		"too many folders":      {zip: makeZip(t, file{name: "a/b/c/d/e/f"}), limits: code.Limits{MaxEntries: 5}, text: "The package has more than 5 entries."},
		"too deep":              {zip: makeZip(t, file{name: strings.Repeat("d/", 70) + "f"}), text: "deeper"},
		"path too long":         {zip: makeZip(t, file{name: strings.Repeat("d/", 600) + "f"}), text: "longer"},
		"name too long":         {zip: makeZip(t, file{name: strings.Repeat("n", 256)}), text: "longer"},
		"parent":                {zip: makeZip(t, file{name: "../evil", body: "x"}), text: "leads out"},
		"parent in the middle":  {zip: makeZip(t, file{name: "a/../../evil", body: "x"}), text: "leads out"},
		"absolute":              {zip: makeZip(t, file{name: "/etc/evil", body: "x"}), text: "absolute"},
		"zero in the name":      {zip: makeZip(t, file{name: "a\x00b", body: "x"}), text: "path"},
		"twice":                 {zip: makeZip(t, file{name: "a", body: "1"}, file{name: "a", body: "2"}), text: "more than one"},
		"twice, written other":  {zip: makeZip(t, file{name: "a", body: "1"}, file{name: "./a", body: "2"}), text: "more than one"},
		"file then folder":      {zip: makeZip(t, file{name: "a", body: "1"}, file{name: "a/b", body: "2"}), text: "folder"},
		"folder then file":      {zip: makeZip(t, file{name: "a/b", body: "2"}, file{name: "a", body: "1"}), text: "more than one"},
		"device":                {zip: makeZip(t, file{name: "null", mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}), text: "neither"},
		"pipe":                  {zip: makeZip(t, file{name: "p", mode: fs.ModeNamedPipe | 0o666}), text: "neither"},
		"socket":                {zip: makeZip(t, file{name: "s", mode: fs.ModeSocket | 0o666}), text: "neither"},
		"link, absolute":        {zip: makeZip(t, file{name: "l", body: "/etc/passwd", mode: link}), text: "leads out"},
		"link, out":             {zip: makeZip(t, file{name: "d/l", body: "../../evil", mode: link}), text: "leads out"},
		"link through a link":   {zip: makeZip(t, file{name: "a/b/up", body: "../..", mode: link}, file{name: "l", body: "a/b/up/../evil", mode: link}), text: "leads out"},
		"link round":            {zip: makeZip(t, file{name: "l", body: "l", mode: link}), text: "leads out"},
		"link without target":   {zip: makeZip(t, file{name: "l", mode: link}), text: "target"},
		"file through a link":   {zip: makeZip(t, file{name: "l", body: "d", mode: link}, file{name: "l/f", body: "x"}), text: "folder"},
		"file replaces link":    {zip: makeZip(t, file{name: "l", body: "d", mode: link}, file{name: "l", body: "x"}), text: "more than one"},
		"table lies about more": {zip: overlapping(t, 3)[:60], text: notZip},
	} {
		t.Run(name, func(t *testing.T) {
			_, checked := checkZip(t, c.zip, c.limits)
			_, _, unpacked := unpack(t, c.zip, c.limits)
			for _, err := range []error{checked, unpacked} {
				wantKind(t, err, kiln.KindInvalid)
				if e := err.(*kiln.Error); !strings.Contains(e.Message, c.text) || e.Reason != "InvalidParameterValueException" {
					t.Errorf("text %q, want %q; reason %q", e.Message, c.text, e.Reason)
				}
			}
		})
	}
}

// A sound package comes out as it went in: bytes, links, executables; special bits do not.
// R17
func TestUnpack(t *testing.T) {
	b := makeZip(t,
		file{name: "dir/", mode: fs.ModeDir | 0o700},
		file{name: "dir/", mode: fs.ModeDir | 0o700},
		file{name: "./dir/lib.so", body: "lib", mode: 0o600},
		file{name: "dir//tool", body: "tool", mode: 0o700 | fs.ModeSetuid},
		file{name: "lib.so.1", body: "dir/lib.so", mode: fs.ModeSymlink | 0o777},
		file{name: "dir/up", body: "../lib.so.1", mode: fs.ModeSymlink | 0o777},
		file{name: "dangling", body: "nowhere/at/all", mode: fs.ModeSymlink | 0o777},
		file{name: "bootstrap", body: "boot"},
		file{name: "sub/bootstrap", body: "boot"},
		file{name: "unicode-é", body: strings.Repeat("x", 300_000), mode: 0o444},
	)
	contents, err := checkZip(t, b, code.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	dir, unpacked, err := unpack(t, b, code.Limits{})
	if err != nil || contents != unpacked || contents.Files != 8 {
		t.Fatalf("%+v %+v %v", contents, unpacked, err)
	}
	for name, mode := range map[string]fs.FileMode{
		".": fs.ModeDir | 0o755, "dir": fs.ModeDir | 0o755, "dir/lib.so": 0o644, "dir/tool": 0o755, "bootstrap": 0o755,
		"sub": fs.ModeDir | 0o755, "sub/bootstrap": 0o644, "unicode-é": 0o644} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "dir/up")); err != nil || string(b) != "lib" {
		t.Errorf("through two links: %q %v", b, err)
	}
}

// Unpacking ends soon after its context does.
func TestUnpackEndsWithContext(t *testing.T) {
	b := makeZip(t, file{name: "a", body: "hello"})
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = code.Unpack(ctx, bytes.NewReader(b), int64(len(b)), root, code.Limits{})
	wantKind(t, err, kiln.KindUnavailable)
}

// Whatever the bytes, unpacking neither panics nor writes outside, and what it takes CheckZip takes too.
func FuzzUnpack(f *testing.F) {
	link := fs.ModeSymlink | 0o777
	f.Add(makeZip(f, file{name: "a", body: "hello", mode: 0o644}, file{name: "d/b", body: "x"}))
	f.Add(makeZip(f, file{name: "../a", body: "hello"}))
	f.Add(makeZip(f, file{name: "a/b/up", body: "../..", mode: link}, file{name: "l", body: "a/b/up/../evil", mode: link}))
	f.Add(makeZip(f, file{name: "l", body: "..", mode: link}, file{name: "l/x", body: "y"}))
	f.Add(overlapping(f, 3))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		limits := code.Limits{MaxBytes: 1 << 20, MaxEntries: 100}
		dir, _, err := unpack(t, b, limits)
		if _, checked := checkZip(t, b, limits); (checked == nil) != (err == nil) {
			t.Fatalf("checked: %v, unpacked: %v", checked, err)
		}
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, _ error) error {
			if d.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
				t.Errorf("%s is a %v", name, d.Type())
			}
			if d.Type() == fs.ModeSymlink {
				if to, err := filepath.EvalSymlinks(name); err == nil && to != dir && !strings.HasPrefix(to, dir+"/") {
					t.Errorf("%s leads to %s", name, to)
				}
			}
			return nil
		})
	})
}
