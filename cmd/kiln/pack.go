package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln"
)

// maxPackageFiles bounds the files in a package.
const maxPackageFiles = 100_000

// maxSourceBytes bounds what is read of a source file to find its handler.
const maxSourceBytes = 1 << 20

// packed is a package ready to be sent, with what there is to guess its runtime from.
type packed struct {
	zip  []byte
	name string // from the path, without its ending
	// told is that name before what a function's may not have was replaced.
	told string
	// files holds the names in the package; source gives the start of one.
	files  []string
	source func(name string) []byte
	// architecture is AWS's word for the machine the package's bootstrap is built for; empty when it tells none.
	architecture string
}

// pack makes a package of a folder, a zip or a single file. The same content gives the same bytes: entries are sorted,
// times fixed, modes reduced to whether a file can be executed.
func pack(from string) (*packed, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, mistake("cannot read the code: %s", err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, mistake("%s is no file or folder", from)
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(abs)
	var p *packed
	switch {
	case info.IsDir():
		p, err = packDir(from)
	case strings.HasSuffix(base, ".zip"):
		base = strings.TrimSuffix(base, ".zip")
		p, err = packZip(from, info.Size())
	default:
		p, err = packFile(from, base)
		base = strings.TrimSuffix(base, path.Ext(base))
	}
	if err != nil {
		return nil, err
	}
	if len(p.zip) > kiln.MaxPackageZipBytes {
		return nil, mistake("%s is %d bytes as a zip, more than the %d a package may have; leave out what the function does not need",
			from, len(p.zip), kiln.MaxPackageZipBytes)
	}
	p.name, p.told = functionName(base), base
	p.architecture = architectureOf(p.source("bootstrap"))
	return p, nil
}

// functionName makes a permitted name of a file's.
func functionName(base string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, base)
	return strings.Trim(name[:min(len(name), 64)], "-")
}

// skipped tells what of a folder is left out of the package: what tools leave behind and no function needs.
func skipped(name string) bool {
	return slices.Contains([]string{".git", "__pycache__", ".DS_Store", ".venv", ".pytest_cache"}, name)
}

func packDir(dir string) (*packed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, mistake("cannot read the code: %s", err)
	}
	defer root.Close()
	content := map[string]entry{}
	var total int64
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return mistake("cannot read the code: %s", err)
		}
		if name != "." && skipped(d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		e, err := readEntry(root, name, total)
		if err != nil {
			return err
		}
		total += int64(len(e.data))
		content[name] = e
		if len(content) > maxPackageFiles {
			return mistake("%s has more than %d files; leave out what the function does not need", dir, maxPackageFiles)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, mistake("%s holds no files; give the folder with the function's code", dir)
	}
	return zipped(content)
}

// entry is one file of a package.
type entry struct {
	data       []byte
	executable bool
}

// readEntry reads one file, through a link if that stays inside the folder. so far is the size of those before it.
func readEntry(root *os.Root, name string, soFar int64) (entry, error) {
	info, err := root.Stat(name) // before it is opened, which would wait for the other end of a pipe
	if err != nil {
		return entry{}, mistake("cannot pack %s: %s (links out of the folder are refused)", name, err)
	}
	if !info.Mode().IsRegular() {
		return entry{}, mistake("cannot pack %s: it is no file (links to folders are not followed)", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return entry{}, mistake("cannot pack %s: %s", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, kiln.MaxPackageUnpackedBytes-soFar+1))
	if err != nil {
		return entry{}, mistake("cannot pack %s: %s", name, err)
	}
	if soFar+int64(len(data)) > kiln.MaxPackageUnpackedBytes {
		return entry{}, mistake("the code has more than %d bytes, the most a package may have; leave out what the function does not need", kiln.MaxPackageUnpackedBytes)
	}
	return entry{data: data, executable: info.Mode()&0o111 != 0}, nil
}

// packFile packs a single file: a compiled program or a script with #! becomes bootstrap, anything else keeps its name.
func packFile(from, base string) (*packed, error) {
	root, err := os.OpenRoot(filepath.Dir(from))
	if err != nil {
		return nil, mistake("cannot read the code: %s", err)
	}
	defer root.Close()
	e, err := readEntry(root, base, 0)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(e.data, []byte("\x7fELF")) || (bytes.HasPrefix(e.data, []byte("#!")) && family(base) == "") {
		base, e.executable = "bootstrap", true
	}
	return zipped(map[string]entry{base: e})
}

// zipped writes the zip.
func zipped(content map[string]entry) (*packed, error) {
	p := &packed{source: func(name string) []byte {
		data := content[name].data
		return data[:min(len(data), maxSourceBytes)]
	}}
	for name := range content {
		p.files = append(p.files, name)
	}
	slices.Sort(p.files)
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range p.files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		mode := fs.FileMode(0o644)
		if e := content[name]; e.executable || name == "bootstrap" {
			mode = 0o755
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		if _, err := f.Write(content[name].data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	p.zip = b.Bytes()
	return p, nil
}

// packZip takes a zip as it is.
func packZip(from string, size int64) (*packed, error) {
	if size > kiln.MaxPackageZipBytes {
		return nil, mistake("%s is %d bytes, more than the %d a package may have", from, size, kiln.MaxPackageZipBytes)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return nil, mistake("cannot read the code: %s", err)
	}
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, mistake("%s is no zip: %s", from, err)
	}
	p := &packed{zip: b, source: func(name string) []byte {
		f, err := r.Open(name)
		if err != nil {
			return nil
		}
		defer f.Close()
		data, _ := io.ReadAll(io.LimitReader(f, maxSourceBytes)) // what cannot be read has no handler to find
		return data
	}}
	for _, f := range r.File {
		if !strings.HasSuffix(f.Name, "/") {
			p.files = append(p.files, f.Name)
		}
	}
	return p, nil
}

// architectureOf gives AWS's word for the machine a program is built for, by the start of its file; empty when it is none.
func architectureOf(start []byte) string {
	if len(start) < 20 || !bytes.HasPrefix(start, []byte("\x7fELF")) {
		return ""
	}
	return map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "arm64"}[elf.Machine(uint16(start[18])|uint16(start[19])<<8)]
}
