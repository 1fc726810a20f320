// Package backup is the form of a backup: a tar that begins with what it is, holds files, and ends with a manifest of
// their sizes and digests. Both ways pass over it once and hold none of it in memory.
//
// It does not know what a Kiln keeps: server says which files go in and where they come out, cmd/kiln checks a backup
// while it receives it. A Writer belongs to one goroutine. There are no locks.
package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"time"

	"kiln"
)

// Form is the form of backups this Kiln writes, and the newest it reads.
const Form = 1

// The entries that are not files of the backup.
const (
	headName     = "kiln-backup"
	manifestName = "manifest"
)

// Bounds of reading.
const (
	// maxHeadBytes bounds the first entry, in bytes.
	maxHeadBytes = 64 << 10
	// MaxFiles bounds the files of a backup: the packages and logs of the largest store.
	MaxFiles = 8_000_000
)

// Head says what a backup is. It is the first entry.
type Head struct {
	// Form is the backup's own form, Data the form of the data directory it was made of.
	Form int `json:"form"`
	Data int `json:"data"`
	// Version is the Kiln that wrote it.
	Version string    `json:"version"`
	Made    time.Time `json:"made"`
}

// Totals counts what a backup holds.
type Totals struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Writer writes a backup.
type Writer struct {
	tar    *tar.Writer
	list   list
	totals Totals
	made   time.Time
}

// NewWriter begins a backup. Close must be called, whatever happens; only Finish makes the backup whole.
func NewWriter(w io.Writer, head Head) (*Writer, error) {
	b, err := json.Marshal(head)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, "backup: begin", "the backup's head cannot be written", err)
	}
	bw := &Writer{tar: tar.NewWriter(w), made: head.Made}
	if err := bw.list.open(); err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return bw, bw.entry(headName, int64(len(b)), bytes.NewReader(b))
}

// Add writes a file of just size bytes. Kinds: KindUnavailable (w or r failed), KindInternal.
func (w *Writer) Add(name string, size int64, r io.Reader) error {
	sum := sha256.New()
	if err := w.entry(name, size, io.TeeReader(r, sum)); err != nil {
		return err
	}
	w.totals.Files++
	w.totals.Bytes += size
	return w.list.add(sum, size, name)
}

// Finish writes the manifest, which makes the backup whole.
func (w *Writer) Finish() (Totals, error) {
	r, size, err := w.list.all()
	if err != nil {
		return w.totals, err
	}
	if err := w.entry(manifestName, size, r); err != nil {
		return w.totals, err
	}
	if err := w.tar.Close(); err != nil {
		return w.totals, kiln.Wrap(kiln.KindUnavailable, "backup: finish", "the backup cannot be written", err)
	}
	return w.totals, nil
}

// Close gives back what the Writer holds.
func (w *Writer) Close() { w.list.close() }

func (w *Writer) entry(name string, size int64, r io.Reader) error {
	const op = "backup: write"
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: w.made, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(head); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "the backup cannot be written", err)
	}
	n, err := io.Copy(w.tar, io.LimitReader(r, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		if e, ok := errors.AsType[*kiln.Error](err); ok {
			return e
		}
		return kiln.Wrap(kiln.KindUnavailable, op, "the backup cannot be written: "+name, err)
	}
	return nil
}

// Read reads a backup to its end, gives each file to keep, which must read all of it and may not use the reader later,
// and checks everything against the manifest. What keep was given counts for nothing when Read fails. accept looks at
// the head before any file. Kinds: KindUnsupported (another form), KindCorrupt (not a backup, damaged or cut off), and
// what accept and keep give.
func Read(ctx context.Context, r io.Reader, accept func(Head) error, keep func(name string, size int64, r io.Reader) error) (Head, Totals, error) {
	var totals Totals
	tr := tar.NewReader(bufio.NewReaderSize(r, 256<<10))
	head, err := readHead(tr)
	if err == nil && accept != nil {
		err = accept(head)
	}
	if err != nil {
		return head, totals, err
	}
	var seen list
	if err := seen.open(); err != nil {
		return head, totals, err
	}
	defer seen.close()
	for {
		entry, err := next(ctx, tr)
		if err != nil {
			return head, totals, err
		}
		if entry.Name == manifestName {
			return head, totals, seen.compare(tr, entry.Size)
		}
		if totals.Files == MaxFiles || !fs.ValidPath(entry.Name) || entry.Name == headName {
			return head, totals, damaged("the file %.100q does not belong in a backup", entry.Name)
		}
		sum := sha256.New()
		counted := &counter{r: io.TeeReader(tr, sum)}
		if err := keep(entry.Name, entry.Size, counted); err != nil {
			return head, totals, err
		}
		if counted.n != entry.Size {
			return head, totals, damaged("it ends within %s", entry.Name)
		}
		totals.Files++
		totals.Bytes += entry.Size
		if err := seen.add(sum, entry.Size, entry.Name); err != nil {
			return head, totals, err
		}
	}
}

// next gives the next entry, which must be a plain file.
func next(ctx context.Context, tr *tar.Reader) (*tar.Header, error) {
	if ctx.Err() != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, "backup: read", "the reading was broken off", context.Cause(ctx))
	}
	entry, err := tr.Next()
	if errors.Is(err, io.EOF) {
		return nil, damaged("it is cut off: the manifest at its end is missing")
	}
	if err != nil {
		return nil, broken(err)
	}
	if entry.Typeflag != tar.TypeReg {
		return nil, damaged("%.100q is no plain file", entry.Name)
	}
	return entry, nil
}

func readHead(tr *tar.Reader) (Head, error) {
	var head Head
	entry, err := tr.Next()
	if err != nil || entry.Name != headName || entry.Size > maxHeadBytes {
		return head, kiln.Wrap(kiln.KindCorrupt, "backup: read", "this is no backup of Kiln", err)
	}
	b, err := io.ReadAll(tr)
	if err != nil || json.Unmarshal(b, &head) != nil {
		return head, kiln.Wrap(kiln.KindCorrupt, "backup: read", "the backup is damaged: its head cannot be read", err)
	}
	if head.Form < 1 || head.Form > Form {
		return head, kiln.Errorf(kiln.KindUnsupported, "backup: read", "the backup has the form %d, written by Kiln %.40q, and this Kiln knows forms up to %d; use a newer Kiln", head.Form, head.Version, Form)
	}
	return head, nil
}

func damaged(format string, args ...any) error {
	return kiln.Errorf(kiln.KindCorrupt, "backup: read", "the backup is damaged: %s", fmt.Sprintf(format, args...))
}

// broken tells a backup that ends too early from a reader that failed with an error of ours.
func broken(err error) error {
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return e
	}
	return kiln.Wrap(kiln.KindCorrupt, "backup: read", "the backup is damaged or cut off", err)
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = broken(err)
	}
	return n, err
}

// list is the manifest's text, a line for each file. It is kept in a file without a name: a store has a million packages.
type list struct {
	file *os.File
	out  *bufio.Writer
	size int64
}

func (l *list) open() error {
	f, err := os.CreateTemp("", "kiln-backup-")
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "backup: keep the manifest", "no temporary file can be made", err)
	}
	_ = os.Remove(f.Name()) // it lives as long as it is open
	l.file, l.out = f, bufio.NewWriter(f)
	return nil
}

func (l *list) close() { _ = l.file.Close() }

func (l *list) add(sum hash.Hash, size int64, name string) error {
	n, err := fmt.Fprintf(l.out, "%s %d %s\n", hex.EncodeToString(sum.Sum(nil)), size, name)
	l.size += int64(n)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "backup: keep the manifest", "the temporary folder is full", err)
	}
	return nil
}

// all gives the text from its beginning.
func (l *list) all() (io.Reader, int64, error) {
	err := l.out.Flush()
	if err == nil {
		_, err = l.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, kiln.Wrap(kiln.KindUnavailable, "backup: keep the manifest", "the temporary folder is full", err)
	}
	return l.file, l.size, nil
}

// compare holds the manifest of a backup against what was seen.
func (l *list) compare(manifest io.Reader, size int64) error {
	seen, seenSize, err := l.all()
	if err != nil {
		return err
	}
	ours, theirs := bufio.NewScanner(seen), bufio.NewScanner(manifest)
	for ours.Scan() {
		if !theirs.Scan() {
			return damaged("its manifest ends too early")
		}
		if !bytes.Equal(ours.Bytes(), theirs.Bytes()) {
			_, name, _ := bytes.Cut(ours.Bytes(), []byte(" "))
			_, name, _ = bytes.Cut(name, []byte(" "))
			return damaged("%s is not what its manifest says", name)
		}
	}
	if err := errors.Join(ours.Err(), theirs.Err()); err != nil {
		return broken(err)
	}
	if theirs.Scan() || seenSize != size {
		return damaged("its manifest names files that are not there")
	}
	return nil
}
