package code

import (
	"archive/zip"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"

	"kiln"
)

// Limits bound what a package may hold. The zero value of a field means its default.
type Limits struct {
	// MaxBytes bounds the unpacked files together, in bytes. kiln.MaxPackageUnpackedBytes by default.
	MaxBytes int64
	// MaxEntries bounds files, links and folders together, also those that are only implied by a path. 100,000 by default.
	MaxEntries int
}

const (
	// DefaultMaxEntries bounds a package's entries: files, links and folders.
	DefaultMaxEntries = 100_000
	// MaxPathBytes bounds an entry's path, in bytes.
	MaxPathBytes = 1024
	// MaxPathDepth bounds the folders an entry lies in.
	MaxPathDepth = 64
	// MaxRatio bounds how much larger a package may be unpacked. Deflate itself cannot do better than 1,032 to 1, so more
	// means that entries share their bytes: a bomb.
	MaxRatio = 1100
	// maxNameBytes is what Linux takes for one name, in bytes.
	maxNameBytes = 255
	// maxLinkBytes bounds a symbolic link's target, in bytes.
	maxLinkBytes = 1024
	// maxLinkHops bounds the links followed to see where one leads, as Linux does.
	maxLinkHops = 40
	// maxDirectoryBytes bounds what is read of a zip's own table of contents, in bytes: some 150 for each entry. It keeps
	// the memory for a table that lies about its length near 100 MB.
	maxDirectoryBytes = 16 << 20
)

// Texts of AWS Lambda for a package it does not take.
const (
	textNotZip = "Could not unzip uploaded file. Please check your file, then try to upload again."
	textEmpty  = "Uploaded file must be a non-empty zip"
	textLarge  = "Unzipped size must be smaller than %d bytes"
)

// Contents is what a sound package holds.
type Contents struct {
	// Bytes is the sum of all files, in bytes.
	Bytes int64
	// Files counts files and links.
	Files int
}

// CheckZip reads a package whole and says whether it can be unpacked safely. It writes nothing. Blocks for the disk.
// Kinds: KindInvalid with a text for the caller (AWS's, where AWS would refuse too), KindUnavailable (ctx ended).
func CheckZip(ctx context.Context, file *os.File, limits Limits) (Contents, error) {
	const op = "code: check package"
	info, err := file.Stat()
	if err != nil {
		return Contents{}, diskError(op, err)
	}
	p, err := newPlan(file, info.Size(), limits)
	if err != nil {
		return Contents{}, err
	}
	for i := range p.files {
		if err := p.files[i].copyTo(ctx, io.Discard); err != nil {
			return Contents{}, diskError(op, err)
		}
	}
	return p.Contents, nil
}

// plan is everything a zip asks for, looked at before anything is written. It trusts the table of contents for names and
// for the sizes it then holds the bodies to.
type plan struct {
	Contents
	limits Limits
	dirs   []string // parents before children
	files  []planFile
	links  []planLink
	// kinds tells what stands at each cleaned path.
	kinds map[string]entryKind
	// targets is where each link points, by the link's path.
	targets map[string]string
	// diskBytes is what the package takes on disk, roughly: whole blocks, and one for each folder and link.
	diskBytes int64
}

type planFile struct {
	name string
	exec bool
	zip  *zip.File
}

type planLink struct{ name, target string }

type entryKind uint8

const (
	entryDir entryKind = iota + 1
	entryFile
	entryLink
)

// newPlan reads a zip's table of contents. Errors are KindInvalid.
func newPlan(r io.ReaderAt, size int64, limits Limits) (*plan, error) {
	if limits.MaxBytes == 0 {
		limits.MaxBytes = kiln.MaxPackageUnpackedBytes
	}
	if limits.MaxEntries == 0 {
		limits.MaxEntries = DefaultMaxEntries
	}
	if size == 0 {
		return nil, invalid(nil, textEmpty)
	}
	metered := &meteredReaderAt{r: r, left: maxDirectoryBytes}
	z, err := zip.NewReader(metered, size)
	if errors.Is(err, errDirectory) || err == nil && len(z.File) > limits.MaxEntries {
		return nil, invalid(err, "The package has more than %d entries.", limits.MaxEntries)
	}
	if err != nil {
		return nil, notZip(err)
	}
	metered.left = math.MaxInt64
	if len(z.File) == 0 {
		return nil, invalid(nil, textEmpty)
	}
	p := &plan{limits: limits, kinds: make(map[string]entryKind, len(z.File)), targets: make(map[string]string)}
	for _, f := range z.File {
		if err := p.add(f); err != nil {
			return nil, err
		}
	}
	if p.Bytes > size*MaxRatio {
		return nil, invalid(nil, "The package unpacks to more than %d times its size.", MaxRatio)
	}
	for _, l := range p.links {
		if !p.inside(l) {
			return nil, invalid(nil, "The package's link %q leads out of it.", l.name)
		}
	}
	return p, nil
}

// add takes one entry into the plan.
func (p *plan) add(f *zip.File) error {
	name, err := cleanName(f.Name)
	if err != nil {
		return err
	}
	mode := f.Mode()
	if strings.HasSuffix(f.Name, "/") || mode.IsDir() {
		return p.addDir(name)
	}
	if name == "." {
		return invalid(nil, "The package's entry %q has no name.", f.Name)
	}
	if f.Flags&1 != 0 || f.Method != zip.Store && f.Method != zip.Deflate {
		return notZip(fmt.Errorf("entry %q: flags %#x, method %d", f.Name, f.Flags, f.Method))
	}
	if err := p.addDir(path.Dir(name)); err != nil {
		return err
	}
	if p.kinds[name] != 0 {
		return invalid(nil, "The package has more than one entry %q.", name)
	}
	p.Files++
	switch mode.Type() {
	case 0:
		p.kinds[name] = entryFile
		p.files = append(p.files, planFile{name: name, exec: executable(f, name, mode), zip: f})
	case fs.ModeSymlink:
		p.kinds[name] = entryLink
		if err := p.addLink(name, f); err != nil {
			return err
		}
	default:
		return invalid(nil, "The package's entry %q is neither a file nor a folder nor a link.", name)
	}
	return p.count(f.UncompressedSize64)
}

// addDir takes a folder and all it lies in. A folder may be named often; a file or a link in its place is refused, so
// that nothing is ever written through a link.
func (p *plan) addDir(name string) error {
	switch p.kinds[name] {
	case entryDir:
		return nil
	case entryFile, entryLink:
		return invalid(nil, "The package has %q as a folder and as something else.", name)
	}
	if name == "." {
		return nil
	}
	if err := p.addDir(path.Dir(name)); err != nil {
		return err
	}
	p.kinds[name] = entryDir
	p.dirs = append(p.dirs, name)
	return p.count(0)
}

func (p *plan) addLink(name string, f *zip.File) error {
	if f.UncompressedSize64 == 0 || f.UncompressedSize64 > maxLinkBytes {
		return invalid(nil, "The package's link %q has a target of %d bytes.", name, f.UncompressedSize64)
	}
	var target strings.Builder
	pf := planFile{name: name, zip: f}
	if err := pf.copyTo(context.Background(), &target); err != nil {
		return err
	}
	if strings.IndexByte(target.String(), 0) >= 0 {
		return invalid(nil, "The package's link %q has a broken target.", name)
	}
	p.targets[name] = target.String()
	p.links = append(p.links, planLink{name: name, target: target.String()})
	return nil
}

// count adds one entry of size bytes to the sums and holds them to the limits.
func (p *plan) count(size uint64) error {
	if len(p.kinds) > p.limits.MaxEntries {
		return invalid(nil, "The package has more than %d entries.", p.limits.MaxEntries)
	}
	if size > uint64(p.limits.MaxBytes) || p.Bytes+int64(size) > p.limits.MaxBytes {
		return invalid(nil, textLarge, p.limits.MaxBytes)
	}
	p.Bytes += int64(size)
	p.diskBytes += (int64(size)/4096 + 1) * 4096
	return nil
}

// inside says whether a link leads to a place inside the package. It walks as the kernel would, through other links: a
// path that looks harmless as text may climb out through a link that leads to a shallower folder.
func (p *plan) inside(l planLink) bool {
	at := splitPath(path.Dir(l.name))
	todo := splitPath(l.target)
	if strings.HasPrefix(l.target, "/") {
		return false
	}
	for hops := 1; len(todo) > 0; {
		step := todo[0]
		todo = todo[1:]
		if step == ".." {
			if len(at) == 0 {
				return false
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at[:len(at):len(at)], step)
		target, isLink := p.targets[strings.Join(at, "/")]
		if !isLink {
			continue
		}
		if hops++; hops > maxLinkHops || strings.HasPrefix(target, "/") {
			return false
		}
		at = at[:len(at)-1]
		todo = append(splitPath(target), todo...)
	}
	return true
}

// splitPath gives the steps of a path, without the empty ones and ".".
func splitPath(s string) []string {
	var steps []string
	for step := range strings.SplitSeq(s, "/") {
		if step != "" && step != "." {
			steps = append(steps, step)
		}
	}
	return steps
}

// cleanName gives an entry's path without "." and doubled slashes, or refuses it.
func cleanName(name string) (string, error) {
	if name == "" || len(name) > MaxPathBytes || strings.HasPrefix(name, "/") || strings.IndexByte(name, 0) >= 0 {
		return "", invalid(nil, "The package's entry %.64q has a path that is empty, absolute or longer than %d bytes.",
			name, MaxPathBytes)
	}
	steps := splitPath(name)
	if len(steps) > MaxPathDepth {
		return "", invalid(nil, "The package's entry %.64q lies deeper than %d folders.", name, MaxPathDepth)
	}
	for _, step := range steps {
		if step == ".." {
			return "", invalid(nil, "The package's entry %.64q leads out of it.", name)
		}
		if len(step) > maxNameBytes {
			return "", invalid(nil, "The package's entry %.64q has a name longer than %d bytes.", name, maxNameBytes)
		}
	}
	if len(steps) == 0 {
		return ".", nil
	}
	return strings.Join(steps, "/"), nil
}

// executable says whether a file gets its executable bits: when the zip says so for anyone, and for the bootstrap of a zip
// that says nothing, as those made on Windows do.
func executable(f *zip.File, name string, mode fs.FileMode) bool {
	const creatorUnix, creatorDarwin = 3, 19
	creator := f.CreatorVersion >> 8
	hasMode := (creator == creatorUnix || creator == creatorDarwin) && f.ExternalAttrs>>16 != 0
	if !hasMode {
		return name == "bootstrap"
	}
	return mode&0o111 != 0
}

// copyTo writes a file's bytes to w and holds them to the size and the checksum the table of contents declares.
func (f *planFile) copyTo(ctx context.Context, w io.Writer) error {
	raw, err := f.zip.OpenRaw()
	if err != nil {
		return notZip(err)
	}
	body := raw
	if f.zip.Method == zip.Deflate {
		inflate := flate.NewReader(raw)
		defer inflate.Close()
		body = inflate
	}
	declared := int64(f.zip.UncompressedSize64) // within limits.MaxBytes: count saw it
	sum := crc32.NewIEEE()
	buf := make([]byte, min(copyBytes, declared+1))
	var size int64
	for {
		if err := context.Cause(ctx); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, "code: unpack package", "The unpacking was cut short.", err)
		}
		n, err := body.Read(buf)
		if size += int64(n); size > declared {
			return notZip(fmt.Errorf("entry %q is longer than it says", f.name))
		}
		sum.Write(buf[:n])
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return notZip(err)
		}
	}
	if size != declared || sum.Sum32() != f.zip.CRC32 {
		return notZip(fmt.Errorf("entry %q has a wrong size or checksum", f.name))
	}
	return nil
}

var errDirectory = errors.New("table of contents is too long")

// meteredReaderAt gives at most left bytes altogether. Used by one goroutine.
type meteredReaderAt struct {
	r    io.ReaderAt
	left int64
}

func (m *meteredReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, errDirectory
	}
	return m.r.ReadAt(p, off)
}

func notZip(cause error) error { return invalid(cause, textNotZip) }

func invalid(cause error, format string, args ...any) error {
	return &kiln.Error{Kind: kiln.KindInvalid, Op: "code: check package", Message: fmt.Sprintf(format, args...),
		Reason: "InvalidParameterValueException", Cause: cause}
}
