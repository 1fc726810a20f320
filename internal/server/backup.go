package server

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln"
	"kiln/internal/backup"
	"kiln/internal/client"
	"kiln/internal/engine"
)

// What a backup holds of a data directory: everything that is not a cache. Documents go as documents/BUCKET, a line of JSON
// each; the rest as it lies there.
const (
	documentsFolder = "documents"
	packagesFolder  = "packages"
	ledgerFolder    = "ledger"
	engineFolder    = "engine"
	// restoring stands in the format file while a restore is under way, so that no server starts on half of it.
	restoring = "restoring"

	// maxDocumentLine bounds a line of documents/BUCKET, in bytes: a value in base64, a key, the rest.
	maxDocumentLine = 2 * engine.MaxValueBytes
)

// backupLine is one document as a backup holds it.
type backupLine struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Backup writes a backup of a data directory no server uses. KindConflict when one does: then it must be asked for it.
func Backup(ctx context.Context, data string, log *slog.Logger, w io.Writer) error {
	const op = "server: back up"
	if _, err := os.Stat(filepath.Join(data, formatFile)); err != nil {
		return kiln.Wrap(kiln.KindNotFound, op, "there is no data directory of Kiln at "+data+"; name it with --data", err)
	}
	dir, err := openDataDir(data)
	if err != nil {
		return err
	}
	defer dir.close()
	e, err := engine.Open(ctx, engine.Config{Dir: dir.in(engineFolder), Logger: log})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	buckets, err := e.Buckets(ctx)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if _, err := e.Documents(ctx, bucket, nil); err != nil {
			return err
		}
	}
	return writeBackup(ctx, dir, e, w)
}

// backup writes a backup while the server runs. No package is collected meanwhile.
func (s *server) backup(ctx context.Context, w io.Writer) error {
	s.backups.Add(1)
	defer s.backups.Add(-1)
	if err := s.ledger.Sync(ctx); err != nil {
		return err
	}
	return writeBackup(ctx, s.dir, s.engine, w)
}

// writeBackup writes the documents as they are at one instant, then what they refer to: packages are written once and
// never changed, and what is in the ledger only grows at its end.
func writeBackup(ctx context.Context, dir *dataDir, e *engine.Engine, w io.Writer) error {
	snapshot := e.Snapshot()
	bw, err := backup.NewWriter(w, backup.Head{Form: backup.Form, Data: formatVersion, Version: Version(), Made: time.Now().UTC()})
	if err != nil {
		return err
	}
	defer bw.Close()
	for _, s := range snapshot {
		if err := addDocuments(bw, &s); err != nil {
			return err
		}
	}
	for _, name := range []string{nodeFile, client.CredentialsFile} {
		if err := addFile(bw, dir, name); err != nil {
			return err
		}
	}
	for _, folder := range []string{packagesFolder, ledgerFolder} {
		if err := addFolder(ctx, bw, dir, folder); err != nil {
			return err
		}
	}
	_, err = bw.Finish()
	return err
}

// addDocuments adds a bucket. Its lines are made twice, once for their length: nothing is held but one line.
func addDocuments(bw *backup.Writer, s *engine.Snapshot) error {
	lines := func(w io.Writer) error {
		for i, key := range s.Keys {
			b, err := json.Marshal(backupLine{key, s.Documents[i].Value})
			if err != nil {
				return kiln.Wrap(kiln.KindInternal, "server: back up", "a document cannot be written", err)
			}
			if _, err := w.Write(append(b, '\n')); err != nil {
				return err
			}
		}
		return nil
	}
	var size counted
	if err := lines(&size); err != nil {
		return err
	}
	r, w := io.Pipe()
	var writing errgroup.Group
	writing.Go(func() error { return w.CloseWithError(lines(w)) })
	err := bw.Add(documentsFolder+"/"+s.Bucket, int64(size), r)
	_ = r.Close()
	_ = writing.Wait() // its error is Add's
	return err
}

// counted counts what is written.
type counted int64

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	*c += counted(len(b))
	return len(b), nil
}

// addFolder adds what lies in a folder. A file that goes meanwhile was the ledger's oldest or nobody's package.
func addFolder(ctx context.Context, bw *backup.Writer, dir *dataDir, folder string) error {
	err := filepath.WalkDir(dir.in(folder), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), ".temporary-")) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return kiln.Wrap(kiln.KindUnavailable, "server: back up", "the backup was broken off", context.Cause(ctx))
		}
		name, err := filepath.Rel(dir.path, path)
		if err != nil {
			return err
		}
		return addFile(bw, dir, filepath.ToSlash(name))
	})
	return ours("server: back up", "cannot read "+dir.in(folder), err)
}

// addFile adds a file as long as it is now; it may grow meanwhile. A package must be what its name says.
func addFile(bw *backup.Writer, dir *dataDir, name string) error {
	const op = "server: back up"
	f, err := os.Open(dir.in(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read "+dir.in(name), err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read "+dir.in(name), err)
	}
	sum := sha256.New()
	if err := bw.Add(name, info.Size(), io.TeeReader(f, sum)); err != nil {
		return err
	}
	digest, isPackage := strings.CutPrefix(name, packagesFolder+"/")
	if isPackage && hex.EncodeToString(sum.Sum(nil)) != digest {
		return kiln.Errorf(kiln.KindCorrupt, op, "the package %s is damaged on disk; deploy the functions that use it anew, or delete them, then back up again", digest)
	}
	return nil
}

// Restore makes a data directory of a backup. The folder must be missing or empty; when it fails it is empty again.
// Kinds: KindConflict (not empty), KindCorrupt (the backup), KindUnsupported (its form), KindUnavailable (the disk).
func Restore(ctx context.Context, data string, log *slog.Logger, r io.Reader) (backup.Head, backup.Totals, error) {
	const op = "server: restore"
	none := func(err error) (backup.Head, backup.Totals, error) { return backup.Head{}, backup.Totals{}, err }
	if err := os.MkdirAll(data, 0o700); err != nil {
		return none(kiln.Wrap(kiln.KindUnavailable, op, "cannot make "+data+"; name another folder with --data", err))
	}
	if err := mustBeEmpty(data); err != nil {
		return none(err)
	}
	if err := os.Chmod(data, 0o700); err != nil {
		return none(kiln.Wrap(kiln.KindUnavailable, op, "cannot close "+data+" to others", err))
	}
	root, err := os.OpenRoot(data)
	if err != nil {
		return none(kiln.Wrap(kiln.KindUnavailable, op, "cannot open "+data, err))
	}
	defer root.Close()
	head, totals, err := restore(ctx, data, root, log, r)
	if err != nil {
		return head, totals, errors.Join(err, emptyAgain(root))
	}
	return head, totals, nil
}

// mustBeEmpty refuses a folder with anything in it but what a file system makes itself.
func mustBeEmpty(data string) error {
	entries, err := os.ReadDir(data)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "server: restore", "cannot read "+data, err)
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return kiln.Errorf(kiln.KindConflict, "server: restore", "%s is not empty (it has %s); a backup is restored only into an empty folder, so name another with --data", data, e.Name())
		}
	}
	return nil
}

// emptyAgain removes what a restore that failed has made.
func emptyAgain(root *os.Root) error {
	for _, name := range []string{documentsFolder, packagesFolder, ledgerFolder, engineFolder, nodeFile, client.CredentialsFile, lockFile, formatFile} {
		if err := root.RemoveAll(name); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, "server: restore", "what was restored so far cannot be removed", err)
		}
	}
	return nil
}

func restore(ctx context.Context, data string, root *os.Root, log *slog.Logger, r io.Reader) (backup.Head, backup.Totals, error) {
	if err := writeFile(filepath.Join(data, formatFile), []byte(restoring+"\n"), 0o600); err != nil {
		return backup.Head{}, backup.Totals{}, err
	}
	accept := func(h backup.Head) error {
		if h.Data < 1 || h.Data > formatVersion {
			return kiln.Errorf(kiln.KindUnsupported, "server: restore", "the backup is of a data directory of format %d, by Kiln %.40q, and this Kiln knows %d; use the Kiln that wrote it", h.Data, h.Version, formatVersion)
		}
		return nil
	}
	head, totals, err := backup.Read(ctx, r, accept, func(name string, _ int64, r io.Reader) error { return keepFile(root, name, r) })
	if err != nil {
		return head, totals, err
	}
	if err := restoreDocuments(ctx, data, root, log); err != nil {
		return head, totals, err
	}
	if err := root.RemoveAll(documentsFolder); err != nil {
		return head, totals, kiln.Wrap(kiln.KindUnavailable, "server: restore", "cannot remove "+documentsFolder, err)
	}
	return head, totals, writeFile(filepath.Join(data, formatFile), []byte(strconv.Itoa(head.Data)+"\n"), 0o600)
}

// keepFile writes one file of a backup, synced. Only what a backup holds has a place.
func keepFile(root *os.Root, name string, r io.Reader) error {
	const op = "server: restore"
	first, _, below := strings.Cut(name, "/")
	mode := fs.FileMode(0o600)
	switch {
	case below && first == packagesFolder:
		mode = 0o444
	case below && (first == documentsFolder || first == ledgerFolder), name == nodeFile, name == client.CredentialsFile:
	default:
		return kiln.Errorf(kiln.KindCorrupt, op, "the backup is damaged: there is no place for %.100q in a data directory", name)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot write "+name, err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot write "+name, err)
	}
	_, err = io.Copy(f, r)
	return ours(op, "cannot write "+name, errors.Join(err, f.Sync(), f.Close()))
}

// restoreDocuments writes the documents into an engine of their own.
func restoreDocuments(ctx context.Context, data string, root *os.Root, log *slog.Logger) (err error) {
	const op = "server: restore"
	e, err := engine.Open(ctx, engine.Config{Dir: filepath.Join(data, engineFolder), Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	buckets, err := fs.ReadDir(root.FS(), documentsFolder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read what was restored", err)
	}
	for _, bucket := range buckets {
		docs, err := e.Documents(ctx, bucket.Name(), nil)
		if err != nil {
			return err
		}
		f, err := root.Open(documentsFolder + "/" + bucket.Name())
		if err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot read what was restored", err)
		}
		err = createAll(ctx, docs, f)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// createAll writes the documents of one bucket one after the other: a document comes after those it refers to.
func createAll(ctx context.Context, docs *engine.Documents, r io.Reader) error {
	const op = "server: restore"
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxDocumentLine)
	for lines.Scan() {
		var line backupLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return kiln.Wrap(kiln.KindCorrupt, op, "the backup is damaged: a document cannot be read", err)
		}
		if _, err := docs.Create(ctx, line.Key, line.Value); err != nil {
			return err
		}
	}
	return ours(op, "the backup is damaged: a document cannot be read", lines.Err())
}

// ours gives an error of ours as it is and wraps any other.
func ours(op, message string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*kiln.Error](err); ok {
		return e
	}
	return kiln.Wrap(kiln.KindUnavailable, op, message, err)
}
