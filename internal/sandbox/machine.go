//go:build linux

package sandbox

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"kiln"
)

// inotifyLimit is what RaiseLimits lifts the machine's bounds for one user to.
const inotifyLimit = 1 << 24

// RaiseLimits lifts the bounds on inotify that all containers would share. The kernel counts what is made in a user
// namespace to the one who made the namespace as well, which is root for all of them: 128 instances on the whole machine,
// so that one guest could keep every other from watching a folder. Each instance and each watch is counted to the memory
// limit of who makes it, and that is the bound that stays. What is lifted is not put back: other servers may use it.
func RaiseLimits() error {
	var failed error
	for _, path := range []string{"/proc/sys/fs/inotify/max_user_instances", "/proc/sys/fs/inotify/max_user_watches"} {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without inotify has nothing to share
		}
		if err == nil && number(bytes.TrimSpace(b)) < inotifyLimit {
			err = os.WriteFile(path, []byte(strconv.Itoa(inotifyLimit)), 0)
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return kiln.Wrap(kiln.KindUnavailable, "sandbox: raise limits", "cannot raise fs.inotify.max_user_instances and max_user_watches", failed)
	}
	return nil
}
