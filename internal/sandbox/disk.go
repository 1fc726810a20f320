//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"kiln"
)

// loopTries bounds the attempts to get a free loop device: others may take the one the kernel named.
const loopTries = 64

// loopMajor is the device number of loop devices (Documentation/admin-guide/devices.txt).
const loopMajor = 7

// inodesPerMiB is how many files fit into one MiB of a private disk.
const inodesPerMiB = 128

// Disks makes private disks: ext4 images on loop devices. A template is formatted once for each size; a disk is a sparse
// copy of it. An image is unlinked as soon as its loop device has it open and the device clears itself with its last
// user, so that nothing is left when the node dies.
type Disks struct {
	dir    string
	format string // mkfs.ext4

	mu sync.Mutex // guards the making of templates
}

// OpenDisks prepares to make disks with their images in dir. Kinds: KindUnavailable where there are no loop devices or
// no mkfs.ext4.
func OpenDisks(dir string) (*Disks, error) {
	const op = "sandbox: open disks"
	format, err := lookPath("mkfs.ext4")
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "mkfs.ext4 is not installed; install e2fsprogs", err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "there are no loop devices; load the kernel module loop", err)
	}
	_ = control.Close() // only probed
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot make the folder for disk images", err)
	}
	return &Disks{dir: dir, format: format}, nil
}

// lookPath finds a system program also where PATH lacks the folders for them.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	return path, err
}

// Make gives a new, empty disk of sizeMiB, mounted nowhere yet, its top writable for everyone.
func (d *Disks) Make(ctx context.Context, sizeMiB int) (*Detached, error) {
	const op = "sandbox: make disk"
	template, err := d.template(ctx, sizeMiB)
	if err != nil {
		return nil, err
	}
	image, err := os.CreateTemp(d.dir, "disk-")
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot make a disk image", err)
	}
	defer image.Close()
	defer os.Remove(image.Name())
	if err := copySparse(image, template); err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot copy a disk image; is the disk full?", err)
	}
	loop, err := attach(image)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot attach a disk image to a loop device", err)
	}
	defer loop.Close()
	disk, err := mountDetached("ext4", loop.Name())
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot mount a disk image", err)
	}
	return disk, nil
}

// template gives the path of the formatted image of a size, made on first use.
func (d *Disks) template(ctx context.Context, sizeMiB int) (string, error) {
	const op = "sandbox: format disk template"
	path := filepath.Join(d.dir, fmt.Sprintf("template-%dmib", sizeMiB))
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	temporary := path + ".new"
	defer os.Remove(temporary) // gone by its rename when all went well
	if err := formatImage(ctx, d.format, temporary, sizeMiB); err != nil {
		return "", kiln.Wrap(kiln.KindUnavailable, op, "cannot format a disk image", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", kiln.Wrap(kiln.KindUnavailable, op, "cannot keep a disk image", err)
	}
	return path, nil
}

func formatImage(ctx context.Context, format, path string, sizeMiB int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(int64(sizeMiB)<<20), f.Close())
	if err != nil {
		return err
	}
	// No journal and no reserve: the disk never outlives its container. Its top is open to the container's user, whose id
	// on the node is not known yet.
	cmd := exec.CommandContext(ctx, format, "-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-N", strconv.Itoa(sizeMiB*inodesPerMiB), path)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return openTop(path)
}

// openTop mounts a fresh image once to make its top folder writable for everyone and to take lost+found away.
func openTop(path string) error {
	image, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	loop, err := attach(image)
	if err != nil {
		return err
	}
	defer loop.Close()
	disk, err := mountDetached("ext4", loop.Name())
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := unix.Unlinkat(int(disk.file.Fd()), "lost+found", unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove lost+found: %w", err)
	}
	top, err := unix.Openat(int(disk.file.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	if err := unix.Fchmod(top, unix.S_ISVTX|0o777); err != nil {
		return err
	}
	return unix.Syncfs(top)
}

// attach gives a loop device on an image, which clears itself when its last user is gone.
func attach(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range loopTries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := openLoop(number)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		copy(config.Info.File_name[:], image.Name())
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		_ = loop.Close() // not ours
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("configure %s: %w", loop.Name(), err)
		}
	}
	return nil, errors.New("no loop device is free")
}

// openLoop opens a loop device, also where /dev is not the kernel's own and lacks the file of a new one.
func openLoop(number int) (*os.File, error) {
	path := fmt.Sprintf("/dev/loop%d", number)
	loop, err := os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return loop, err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// mountDetached mounts a block device nowhere yet.
func mountDetached(kind, device string) (*Detached, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return nil, fmt.Errorf("set source: %w", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("mount %s: %w", device, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", err)
	}
	return &Detached{os.NewFile(uintptr(fd), device)}, nil
}

// copySparse makes image the template's double: shared blocks where the file system can, otherwise only what is not a
// hole.
func copySparse(image *os.File, template string) error {
	from, err := os.Open(template)
	if err != nil {
		return err
	}
	defer from.Close()
	if unix.IoctlFileClone(int(image.Fd()), int(from.Fd())) == nil {
		return nil
	}
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := image.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // holes to the end
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(image, data), io.NewSectionReader(from, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

// fullBytes is what a disk has left, in bytes, when it is as good as full.
const fullBytes = 1 << 20

// Full reports whether the disk at a mount point of a process has no room left, for bytes or for files.
func Full(p *Process, target string) bool {
	var fs unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root%s", p.Pid, target), &fs); err != nil {
		return false // the process has ended, and its disk with it
	}
	return int64(fs.Bavail)*int64(fs.Bsize) < fullBytes || fs.Files > 0 && fs.Ffree == 0
}

// MakeMemoryDisk gives a disk of sizeMiB in memory, for machines that have no loop devices: what is written to it counts
// to the memory of the container that writes.
func MakeMemoryDisk(sizeMiB int) (*Detached, error) {
	const op = "sandbox: make memory disk"
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot make a tmpfs", err)
	}
	defer unix.Close(fs)
	err = errors.Join(unix.FsconfigSetString(fs, "size", fmt.Sprintf("%dm", sizeMiB)), unix.FsconfigSetString(fs, "mode", "1777"), unix.FsconfigCreate(fs))
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot make a tmpfs", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindUnavailable, op, "cannot mount a tmpfs", err)
	}
	return &Detached{os.NewFile(uintptr(fd), "tmpfs")}, nil
}
