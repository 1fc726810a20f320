//go:build linux

// Package stage is what the drivers of containers on this machine have in common: the folder and the name they claim, the
// stage they build containers from, the root file system all of them show, what a container prints, and how the stub of a
// provided runtime becomes the package's bootstrap.
//
// It launches nothing and knows no boundary: drivers call it, and nobody else. The kernel's own things (cgroups, namespaces,
// mounts, disks) are package sandbox's.
//
// A Stage is safe concurrently; its one lock guards the list of folders shown. An Output is read by its own goroutine (Run)
// and by whoever drains it; its lock keeps the order and is held while the sink is called.
package stage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/sandbox"
)

// stageMiB bounds the memory file system that holds the root's skeleton and the bundles of live containers.
const stageMiB = 256

// Stage is a driver's claim on its folder in the data directory, and the folder from which its containers are built. That
// one is in memory, and not in the data directory, because the users of guests must be able to reach it, which they cannot
// below a private home.
type Stage struct {
	// Name is unique to the data directory and kept in it: what carries it is this driver's to remove.
	Name string
	// Dir is the stage, a folder guests' users can reach. It is there after Mount.
	Dir  string
	lock *os.File

	mu    sync.Mutex
	shown map[string]func() (string, error) // guarded by mu; by the folder shown
}

// Claim takes a driver's folder for this process and finds the name that is its own: random, and bound to this very folder,
// so that a copied data directory is another. Kinds: KindConflict when another process uses it, KindUnavailable.
func Claim(dir string) (*Stage, error) {
	const op = "stage: claim folder"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot make the driver's folder", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "name"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot open the driver's folder", err)
	}
	s := &Stage{lock: lock, shown: map[string]func() (string, error){}}
	if err := s.claim(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.Dir = filepath.Join("/run", s.Name)
	return s, nil
}

func (s *Stage) claim(dir string) error {
	const op = "stage: claim folder"
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return kiln.Wrap(kiln.KindConflict, op, "another process uses "+dir, err)
	}
	info, err := s.lock.Stat()
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot look at the driver's folder", err)
	}
	inode := fmt.Sprintf("-%x", info.Sys().(*syscall.Stat_t).Ino)
	kept, err := os.ReadFile(s.lock.Name())
	if err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot read the driver's name", err)
	}
	if name := string(kept); validName(name) && strings.HasSuffix(name, inode) {
		s.Name = name
		return nil
	}
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	s.Name = "kiln-" + hex.EncodeToString(random[:]) + inode
	if err := errors.Join(s.lock.Truncate(0), writeAt(s.lock, s.Name), s.lock.Sync()); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot keep the driver's name", err)
	}
	return nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// validName tells a whole name from one whose writing was cut off: "kiln-", twelve hexadecimal digits, "-" and more.
func validName(name string) bool {
	random, inode, ok := strings.Cut(strings.TrimPrefix(name, "kiln-"), "-")
	if _, err := hex.DecodeString(random); err != nil || len(random) != 12 {
		return false
	}
	return ok && inode != "" && strings.HasPrefix(name, "kiln-") && strings.Trim(inode, "0123456789abcdef") == ""
}

// Mount makes the stage with its folders. Kinds: KindUnavailable.
func (s *Stage) Mount() error {
	const op = "stage: make stage"
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot make a folder in /run", err)
	}
	if err := unix.Mount("tmpfs", s.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=755,size=%dm", stageMiB)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, op, "cannot mount a tmpfs; the process needs CAP_SYS_ADMIN", err)
	}
	for _, dir := range []string{"root", "oci", "instances", "containers", "runtimes"} {
		if err := os.Mkdir(filepath.Join(s.Dir, dir), 0o755); err != nil {
			return kiln.Wrap(kiln.KindUnavailable, op, "cannot make a folder on the stage", err)
		}
	}
	return nil
}

// Drop takes the stage away with all that is mounted on it. No stage is no error.
func (s *Stage) Drop() error {
	if err := sandbox.UnmountBelow(s.Dir); err != nil {
		return err
	}
	if err := os.Remove(s.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return kiln.Wrap(kiln.KindInternal, "stage: drop stage", "cannot remove "+s.Dir, err)
	}
	return nil
}

// Close ends the claim.
func (s *Stage) Close() { _ = s.lock.Close() }

// Root is the folder of the root file system that containers share, OCI the launcher's own records.
func (s *Stage) Root() string { return filepath.Join(s.Dir, "root") }
func (s *Stage) OCI() string  { return filepath.Join(s.Dir, "oci") }

// Bundle is where a container's configuration lies.
func (s *Stage) Bundle(id kiln.ContainerID) string {
	return filepath.Join(s.Dir, "containers", string(id))
}

// Instance is an instance's folder.
func (s *Stage) Instance(id kiln.InstanceID) string {
	return filepath.Join(s.Dir, "instances", string(id))
}

// Show shows a folder of the node on the stage, read-only, where guests' users can reach it; once for each folder. An empty
// one gives an empty path.
func (s *Stage) Show(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	s.mu.Lock()
	show := s.shown[dir]
	if show == nil {
		target := filepath.Join(s.Dir, "runtimes", strconv.Itoa(len(s.shown)))
		show = sync.OnceValues(func() (string, error) {
			if err := os.Mkdir(target, 0o755); err != nil {
				return "", kiln.Wrap(kiln.KindUnavailable, "stage: show folder", "cannot make a folder on the stage", err)
			}
			return target, sandbox.BindReadOnly(dir, target)
		})
		s.shown[dir] = show
	}
	s.mu.Unlock()
	return show()
}
