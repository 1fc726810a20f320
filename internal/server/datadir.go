package server

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/client"
)

// formatVersion is the form of the data directory this Kiln reads and writes. It grows when an older Kiln could no
// longer read what is written.
const formatVersion = 1

// The data directory's own files and folders; docs/data-directory.md tells what each holds.
const (
	formatFile = "format"
	lockFile   = "lock"
	nodeFile   = "node"
)

// dataDir is the data directory, held by this process alone.
type dataDir struct {
	path string
	lock *os.File
	node kiln.NodeID
}

// openDataDir makes the folder if it is missing, takes it for this process and checks its form. One of a form it does not
// know is left just as it is: not even a lock is put in it.
func openDataDir(path string) (*dataDir, error) {
	const op = "server: open data directory"
	if _, err := readFormat(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot make "+path+"; name another folder with --data", err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInternal, op, "cannot find "+path, err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot write in "+path+"; run as its owner or name another folder with --data", err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, kiln.Wrap(kiln.KindConflict, op, "another Kiln runs with the data directory "+path+"; stop it, or give this one another with --data", err)
	}
	d.sweep()
	if err := d.markFormat(); err != nil {
		d.close()
		return nil, err
	}
	if err := d.readNode(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// sweep removes the files that writeFile had not renamed when the process before was killed. Only space is lost when it
// cannot.
func (d *dataDir) sweep() {
	cut, err := filepath.Glob(d.in(".*-*"))
	if err != nil {
		return
	}
	for _, path := range cut {
		_ = os.Remove(path)
	}
}

// markFormat writes the form into a new directory. The form of another is looked at again: it may have been restored into
// between the first look and the lock.
func (d *dataDir) markFormat() error {
	n, err := readFormat(d.path)
	if err != nil || n != 0 {
		return err
	}
	return writeFile(d.in(formatFile), []byte(strconv.Itoa(formatVersion)+"\n"), 0o600)
}

// readFormat gives the form of a directory, 0 for a new one, and refuses one that this Kiln does not know.
func readFormat(path string) (int, error) {
	const op = "server: check data directory"
	b, err := os.ReadFile(filepath.Join(path, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(path, engineFolder)); err == nil {
			return 0, kiln.Errorf(kiln.KindUnsupported, op, "the data directory %s has lost its file %s, so nobody knows what wrote it; restore it from a backup, or name another folder with --data", path, formatFile)
		}
		return 0, nil
	}
	if err != nil {
		return 0, kiln.Wrap(kiln.KindUnavailable, op, "cannot read "+filepath.Join(path, formatFile), err)
	}
	text := strings.TrimSpace(string(b))
	if text == restoring {
		return 0, kiln.Errorf(kiln.KindUnsupported, op, "the data directory %s was not restored to its end; empty it and restore again", path)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n != formatVersion {
		return 0, kiln.Errorf(kiln.KindUnsupported, op, "the data directory %s has the format %.20q and this Kiln knows %d; run the Kiln that wrote it, or name another folder with --data", path, text, formatVersion)
	}
	return n, nil
}

// readNode gives the node the name it had before, or makes one.
func (d *dataDir) readNode() error {
	b, err := os.ReadFile(d.in(nodeFile))
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		d.node = kiln.NodeID(strings.TrimSpace(string(b)))
		return nil
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	d.node = kiln.NodeID("n-" + hex.EncodeToString(random))
	return writeFile(d.in(nodeFile), []byte(d.node+"\n"), 0o600)
}

// in gives the path of something in the data directory.
func (d *dataDir) in(name string) string { return filepath.Join(d.path, name) }

// announce tells those who may read the data directory where the server is.
func (d *dataDir) announce(endpoint string) error {
	return d.writeJSON(client.AddressFile, client.Address{Endpoint: endpoint, PID: os.Getpid()})
}

func (d *dataDir) writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, "server: write "+name, "cannot be written", err)
	}
	return writeFile(d.in(name), append(b, '\n'), 0o600)
}

// close withdraws the announcement and gives the folder back.
func (d *dataDir) close() {
	_ = os.Remove(d.in(client.AddressFile))
	_ = d.lock.Close()
}

// writeFile replaces a file as a whole: a reader sees the old or the new, also after a crash.
func writeFile(path string, b []byte, mode os.FileMode) error {
	const op = "server: write file"
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot write "+path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot write "+path, err)
	}
	return nil
}

// room refuses when less disk is free than the reserve: what exists must be able to go on.
func (d *dataDir) room(reserveMiB int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.path, &fs); err != nil {
		return kiln.Wrap(kiln.KindInternal, "server: look at disk", "cannot tell how much disk is free", err)
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) >> 20
	if free < reserveMiB {
		return kiln.Errorf(kiln.KindUnavailable, "server: look at disk", "%s; free some disk or lower disk.reserve", fmt.Sprintf("only %d MiB of disk are free under %s and disk.reserve keeps %d", free, d.path, reserveMiB))
	}
	return nil
}
