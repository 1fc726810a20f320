package code

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of what is unpacked. The guest runs as another user and sees the folder through a read-only mount, so the owner's
// write bit gives it nothing; but code that copies a file from its package to /tmp, mode and all, must be able to write
// the copy, as on AWS.
const (
	modeFile = 0o644
	modeExec = 0o755
	modeDir  = 0o755
)

// unpack carries the plan out in an empty folder. Nothing is written outside of it, whatever the zip holds. After an error
// the folder may hold a part, for the caller to remove. With seal the write bits are taken away at the end. Blocks for the
// disk; nothing is synced. Kinds: KindUnavailable (disk full, or ctx ended), KindInternal.
func (p *plan) unpack(ctx context.Context, into *os.Root, seal bool) error {
	const op = "code: unpack package"
	for _, dir := range p.dirs {
		if err := into.Mkdir(dir, 0o700); err != nil {
			return diskError(op, err)
		}
	}
	for i := range p.files {
		if err := p.files[i].write(ctx, into, seal); err != nil {
			return diskError(op, err)
		}
	}
	for _, l := range p.links {
		if err := into.Symlink(l.target, l.name); err != nil {
			return diskError(op, err)
		}
	}
	mode := sealed(modeDir, seal)
	for i := len(p.dirs) - 1; i >= 0; i-- { // children first: a sealed folder takes no change below it
		if err := into.Chmod(p.dirs[i], mode); err != nil {
			return diskError(op, err)
		}
	}
	if err := into.Chmod(".", mode); err != nil {
		return diskError(op, err)
	}
	return nil
}

// write makes one file. O_EXCL, since the plan knows of no two entries of one name, and a folder that is not empty is a
// mistake of the caller.
func (f *planFile) write(ctx context.Context, into *os.Root, seal bool) error {
	out, err := into.OpenFile(f.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.copyTo(ctx, out)
	if err == nil {
		mode := fs.FileMode(modeFile)
		if f.exec {
			mode = modeExec
		}
		err = out.Chmod(sealed(mode, seal)) // not at open: the umask would have its say
	}
	err = errors.Join(err, out.Close())
	if err == nil && f.exec {
		return settle(ctx, into, f.name)
	}
	return err
}

func sealed(mode fs.FileMode, seal bool) fs.FileMode {
	if seal {
		return mode &^ 0o222
	}
	return mode
}

// removeTree removes a folder also when its folders are sealed.
func removeTree(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
