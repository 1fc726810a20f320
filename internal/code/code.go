// Package code keeps deployment packages: the zips themselves in a Store addressed by digest, and a Cache of them
// unpacked, shared read-only by every container of the node.
//
// It is the source of truth for package bytes and nothing else: which function uses which package is registry's, and
// putting an unpacked package into an instance is the driver's. frontend puts packages in (CheckZip, then Put), registry
// asks whether they are sound (Verify), node unpacks them (Cache.Acquire).
//
// Everything here may be called from many goroutines at once. Locks: Store.change before Store.mu; Cache.mu and
// folderSync.mu stand alone and are never held over I/O.
package code

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"kiln"
)

// DefaultStoreBytes bounds all packages of a store together, in bytes: AWS's code storage quota, 75 GB.
const DefaultStoreBytes = 75 << 30

// MaxPackages bounds the number of packages in a store; each costs some 60 bytes of memory.
const MaxPackages = 1_000_000

// copyBytes is the unit in which bodies are read, hashed and written; a cancelled context is noticed after each.
const copyBytes = 128 << 10

// temporary begins the name of every file and folder that is not finished.
const temporary = ".temporary-"

// Config says how a store behaves.
type Config struct {
	// MaxBytes bounds all packages together, in bytes. DefaultStoreBytes when zero.
	MaxBytes int64
	// Logger is told about leftovers found and removed. Must be set.
	Logger *slog.Logger
}

// Store keeps packages in one folder, one file each, named by digest. A file under its final name is whole: it was
// written beside it, synced and renamed. What the disk made of it since is checked on the way out.
type Store struct {
	dir    string
	config Config
	folder *folderSync // of dir

	// change is held while a name appears or vanishes, so that the folder and sizes agree. Never over a body.
	change sync.Mutex

	mu    sync.Mutex
	sizes map[[sha256.Size]byte]int64 // guarded by mu
	used  int64                       // bytes of packages and of bodies now being written; guarded by mu
}

// OpenStore opens the store in dir, makes it if it is missing, and removes what an earlier process left unfinished.
// Kinds: KindUnavailable (disk full), KindInternal.
func OpenStore(dir string, config Config) (*Store, error) {
	const op = "code: open store"
	if config.MaxBytes == 0 {
		config.MaxBytes = DefaultStoreBytes
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, diskError(op, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, diskError(op, err)
	}
	s := &Store{dir: dir, config: config, folder: newFolderSync(func() error { return syncDir(dir) }), sizes: make(map[[sha256.Size]byte]int64)}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporary) {
			config.Logger.Info("unfinished package removed", "file", e.Name())
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, diskError(op, err)
			}
			continue
		}
		key, ok := parseDigest(kiln.Digest(e.Name()))
		if !ok || !e.Type().IsRegular() {
			config.Logger.Warn("strange file in package store", "file", e.Name())
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, diskError(op, err)
		}
		s.sizes[key] = info.Size()
		s.used += info.Size()
	}
	return s, nil
}

// Put keeps what r gives, at most limit bytes, and gives its digest and size. When it returns the package is on disk,
// synced. Putting the same bytes again is no error and heals a damaged file. Blocks for r and the disk.
// Kinds: KindTooLarge, KindLimit (the store is full), KindUnavailable (disk full, r broke off, or ctx ended), KindInternal.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (kiln.Digest, int64, error) {
	const op = "code: put package"
	f, err := os.CreateTemp(s.dir, temporary+"*")
	if err != nil {
		return "", 0, diskError(op, err)
	}
	sum := sha256.New()
	size, err := s.receive(ctx, f, sum, r, limit)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	key := [sha256.Size]byte(sum.Sum(nil))
	if err == nil {
		err = s.publish(f.Name(), key, size)
	}
	if err != nil {
		os.Remove(f.Name()) // best effort: the next open removes it too
		s.giveBack(size)
		return "", 0, diskError(op, err)
	}
	return kiln.Digest(hex.EncodeToString(key[:])), size, nil
}

// receive copies r into f, counting each piece against the store's bound before it is written. The bytes counted are
// given also with an error, so that they can be given back.
func (s *Store) receive(ctx context.Context, f *os.File, sum hash.Hash, r io.Reader, limit int64) (size int64, err error) {
	const op = "code: put package"
	buf := make([]byte, copyBytes)
	for {
		if err := context.Cause(ctx); err != nil {
			return size, kiln.Wrap(kiln.KindUnavailable, op, "The upload was cut short.", err)
		}
		n, readErr := r.Read(buf)
		if size+int64(n) > limit {
			return size, kiln.Errorf(kiln.KindTooLarge, op, "The package is larger than %d bytes.", limit)
		}
		if err := s.take(int64(n)); err != nil {
			return size, err
		}
		size += int64(n)
		sum.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return size, err
		}
		if readErr == io.EOF {
			return size, nil
		}
		if readErr != nil {
			return size, readError(op, readErr)
		}
	}
}

// take counts n more bytes against the bound.
func (s *Store) take(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+n > s.config.MaxBytes || len(s.sizes) >= MaxPackages {
		e := kiln.Errorf(kiln.KindLimit, "code: put package", "Code storage limit exceeded.")
		e.Reason = "CodeStorageExceededException"
		return e
	}
	s.used += n
	return nil
}

func (s *Store) giveBack(n int64) {
	s.mu.Lock()
	s.used -= n
	s.mu.Unlock()
}

// publish gives a finished file its final name and makes the name durable.
func (s *Store) publish(from string, key [sha256.Size]byte, size int64) error {
	if err := os.Chmod(from, 0o444); err != nil {
		return err
	}
	s.change.Lock()
	err := os.Rename(from, s.path(key))
	if err == nil {
		s.mu.Lock()
		s.used -= s.sizes[key] // the same package, put before, is counted once
		s.sizes[key] = size
		s.mu.Unlock()
	}
	s.change.Unlock()
	if err != nil {
		return err
	}
	if err := s.folder.wait(); err != nil {
		// The name is there and may be lost with the power: the caller must not rely on it, so neither do we.
		s.remove(key)
		s.mu.Lock()
		s.used += size // Put gives it back
		s.mu.Unlock()
		return err
	}
	return nil
}

// Open opens a package for reading and gives its size. Only its size is checked; bytes are checked by OpenChecked and
// Verify. The caller closes the file. Kinds: KindNotFound, KindCorrupt (the size is not what was put), KindInternal.
func (s *Store) Open(digest kiln.Digest) (*os.File, int64, error) {
	const op = "code: open package"
	key, ok := parseDigest(digest)
	if !ok {
		return nil, 0, kiln.Errorf(kiln.KindNotFound, op, "There is no package %q.", digest)
	}
	s.mu.Lock()
	size, known := s.sizes[key]
	s.mu.Unlock()
	f, err := os.Open(s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, kiln.Errorf(kiln.KindNotFound, op, "There is no package %s.", digest)
	}
	if err != nil {
		return nil, 0, diskError(op, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, diskError(op, err)
	}
	if known && info.Size() != size {
		f.Close()
		return nil, 0, corrupt(op, digest)
	}
	return f, info.Size(), nil
}

// OpenChecked opens a package for one reading from beginning to end: the reader gives KindCorrupt in place of io.EOF
// when the bytes were not what the digest says. ctx ends the reading. The caller closes it. Kinds: as Open.
func (s *Store) OpenChecked(ctx context.Context, digest kiln.Digest) (io.ReadCloser, error) {
	f, _, err := s.Open(digest)
	if err != nil {
		return nil, err
	}
	return &checkedReader{ctx: ctx, r: f, c: f, digest: digest, sum: sha256.New()}, nil
}

// Verify reads a package whole. Blocks for the disk. Kinds: KindNotFound, KindCorrupt, KindUnavailable (ctx ended),
// KindInternal.
func (s *Store) Verify(ctx context.Context, digest kiln.Digest) error {
	r, err := s.OpenChecked(ctx, digest)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, copyBytes)); err != nil {
		return diskError("code: verify package", err)
	}
	return nil
}

// Delete removes a package. Readers that have it open keep it. Removing one that is not there is no error. The caller
// sees to it that nobody is about to use it. Kinds: KindInternal.
func (s *Store) Delete(digest kiln.Digest) error {
	key, ok := parseDigest(digest)
	if !ok {
		return nil
	}
	if err := s.remove(key); err != nil {
		return diskError("code: delete package", err)
	}
	return nil
}

func (s *Store) remove(key [sha256.Size]byte) error {
	s.change.Lock()
	defer s.change.Unlock()
	return s.removeLocked(key)
}

// removeLocked removes a package. change is held.
func (s *Store) removeLocked(key [sha256.Size]byte) error {
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.used -= s.sizes[key]
	delete(s.sizes, key)
	s.mu.Unlock()
	return nil
}

func (s *Store) path(key [sha256.Size]byte) string {
	return filepath.Join(s.dir, hex.EncodeToString(key[:]))
}

// checkedReader reads r to its end and compares the digest there.
type checkedReader struct {
	ctx    context.Context // of the one reading this is
	r      io.Reader
	c      io.Closer
	digest kiln.Digest
	sum    hash.Hash
}

func (r *checkedReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, kiln.Wrap(kiln.KindUnavailable, "code: read package", "The reading was cut short.", err)
	}
	n, err := r.r.Read(p)
	r.sum.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(r.sum.Sum(nil)) != string(r.digest) {
		return n, corrupt("code: read package", r.digest)
	}
	if err != nil && err != io.EOF {
		err = readError("code: read package", err)
	}
	return n, err
}

func (r *checkedReader) Close() error { return r.c.Close() }

// parseDigest reads 64 lower-case hexadecimal digits. Nothing else ever becomes a file name.
func parseDigest(d kiln.Digest) (key [sha256.Size]byte, ok bool) {
	if len(d) != 2*sha256.Size || strings.ToLower(string(d)) != string(d) {
		return key, false
	}
	_, err := hex.Decode(key[:], []byte(d))
	return key, err == nil
}

func corrupt(op string, digest kiln.Digest) error {
	return kiln.Errorf(kiln.KindCorrupt, op, "The stored package %s is damaged.", digest)
}

// diskError gives an error of ours as it is, and one of the system its kind.
func diskError(op string, err error) error {
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return kiln.Wrap(kiln.KindUnavailable, op, "The disk is full.", err)
	}
	return kiln.Wrap(kiln.KindInternal, op, "The file system failed.", err)
}

// readError gives an error of ours as it is, and one of whoever the bytes come from as KindUnavailable.
func readError(op string, err error) error {
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return e
	}
	return kiln.Wrap(kiln.KindUnavailable, op, "The package could not be read to its end.", err)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
