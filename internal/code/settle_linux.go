package code

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

// settleLimit bounds the wait for other processes to let go of a file they never meant to hold.
const settleLimit = 5 * time.Second

// settle waits until nobody holds a file open for writing. A process that is started while the file is being written
// inherits our descriptor until its own exec closes it, and while it does, the kernel refuses to execute the file
// (ETXTBSY). A read lease is granted only when there is no writer, so being granted one says so.
func settle(ctx context.Context, into *os.Root, name string) error {
	f, err := into.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
		if err == nil {
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
			return err
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil // a file system without leases: the wait is for what it can tell
		}
		select {
		case <-ctx.Done():
			return kiln.Wrap(kiln.KindUnavailable, "code: unpack package", "An unpacked program is held open by another process.", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
